"""``./scripts/bench [name…]``: run the cases, ours and the peers in alternation, and show what was measured."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks import machine, report
from benchmarks.cases import CASES
from benchmarks.run import TOP, Runner
from tests.support.rabbitmq import NoRabbitMQ, RabbitMQNode

DEFAULTS: Final = {"rounds": 3, "scale": 1.0, "tasks": None, "hurry": 1.0}


def main() -> None:
    """Measure, print the tables, and write the files where all cases were run."""
    arguments = _arguments()
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)  # before minutes of work depend on it
    # One name may stand for several cases, such as those of all faces.
    chosen = [case for case in CASES if not arguments.names or {case.name, case.name.split("_")[0]} & set(arguments.names)]
    console = Console(soft_wrap=True)
    begun = time.monotonic()
    results = []
    try:
        node = RabbitMQNode()
    except NoRabbitMQ as missing:
        sys.exit(str(missing))
    with contextlib.ExitStack() as closing:
        closing.callback(node.remove)
        status = closing.enter_context(console.status("RabbitMQ"))
        node.start()
        facts = machine.described(node)

        def say(title: str, outcome: str) -> None:
            status.update(title)
            if outcome:
                console.print(f"{time.monotonic() - begun:6.0f} s  {title}: {outcome}", highlight=False, markup=False)

        pythons = (sys.executable, os.environ["BROKER_JOBS_PEERS_PYTHON"])
        runner = Runner(pythons, node, arguments.scale, arguments.tasks, arguments.hurry, say)
        for case in chosen:
            load = machine.load()
            results.append(report.Result(case, runner.run(case, arguments.rounds), load))
            console.print()
            console.print(report.terminal(results[-1]), highlight=False)
            console.print("\n".join(report.notes(results[-1])), "\n", highlight=False, markup=False)
    console.print("\n".join(f"{name}: {value}" for name, value in facts.items()), highlight=False, markup=False)
    folder = arguments.output or (None if arguments.names else TOP / "benchmarks")
    if folder:
        report.write(folder, facts, results, _command(arguments))


def _command(arguments: argparse.Namespace) -> str:
    """How to measure the same again; without the folder, which is this machine's."""
    names = ("rounds", "scale", "tasks", "hurry")
    options = [f"--{name} {getattr(arguments, name):g}" for name in names if getattr(arguments, name) != DEFAULTS[name]]
    return " ".join(["./scripts/bench", *arguments.names, *options])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./scripts/bench",
        description="Measure broker-jobs beside other systems, on a private RabbitMQ. Cases: "
        + ", ".join(case.name for case in CASES)
        + ".",
    )
    parser.add_argument("names", nargs="*", metavar="name", help="cases (default: all)")
    parser.add_argument(
        "--rounds",
        type=int,
        default=DEFAULTS["rounds"],
        metavar="N",
        help="of each case but the long ones, ours and the peers in alternation (default: 3)",
    )
    parser.add_argument(
        "--scale", type=float, default=DEFAULTS["scale"], metavar="PART", help="part of the tasks of each case (default: 1)"
    )
    parser.add_argument("--tasks", type=int, metavar="N", help="so many tasks instead")
    parser.add_argument(
        "--hurry",
        type=float,
        default=DEFAULTS["hurry"],
        metavar="PART",
        help="of the time for a measurement, so that slow systems do fewer tasks (default: 1)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="for results.json and RESULTS.md (default: benchmarks, where all cases are run)"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    return arguments


if __name__ == "__main__":
    main()
