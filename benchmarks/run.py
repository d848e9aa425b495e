"""Run the sides of a case in alternation, each in a process of its own that is stopped when its time is over."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from benchmarks.measure import Measure, Setting

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.case import Case, Side
    from tests.support.rabbitmq import RabbitMQNode

TOP: Final = Path(__file__).resolve().parents[1]
PATIENCE: Final = 10.0
SHOWN: Final = 200
PEERS_PART: Final = 0.3
"""Of our time; fewer tasks are enough for a rate, and there are many peers."""


class SideFailed(Exception):
    """A side did not end, or not well; the text is the reason in a line."""


@dataclass(slots=True)
class Outcome:
    """What came of a side.

    Attributes:
        measures: one a round
        trouble: why there are no more, or empty
    """

    measures: list[Measure] = field(default_factory=list)
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs cases.

    Args:
        pythons: interpreter of our environment, and of that of the peers
        node: for those that need RabbitMQ
        scale: part of the tasks of each case
        tasks: instead of what the case has, or None
        hurry: part of the time that a measurement should take
        say: told what is being run, and what came of it
    """

    pythons: tuple[str, str]
    node: RabbitMQNode
    scale: float
    tasks: int | None
    hurry: float
    say: Callable[[str, str], None]

    def run(self, case: Case, rounds: int) -> dict[str, Outcome]:
        """Outcomes by the names of the sides; one that failed is not tried again."""
        outcomes = {side.name: Outcome() for side in case.sides}
        for turn in range(1, (1 if case.once else rounds) + 1):
            for side in case.sides:
                outcome = outcomes[side.name]
                if outcome.trouble:
                    continue
                title = f"{case.name}, round {turn}: {side.name}"
                self.say(title, "")
                try:
                    outcome.measures.append(self._measure(case, side))
                except SideFailed as failed:
                    outcome.trouble = str(failed)
                self.say(title, outcome.trouble or self._shown(case, outcome.measures[-1]))
        return outcomes

    def _shown(self, case: Case, measure: Measure) -> str:
        return ", ".join(
            f"{measure.figures[figure.key]:,.{figure.digits}f} {figure.unit}" for figure in case.figures if figure.key in measure.figures
        )

    def _measure(self, case: Case, side: Side) -> Measure:
        tasks = self.tasks or max(1, round(case.tasks * self.scale))
        tasks = min(tasks, side.tasks or tasks)
        url = self.node.fresh_vhost() if side.rabbitmq else ""
        try:
            with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
                seconds = side.seconds or case.seconds * (PEERS_PART if side.peer else 1)
                return self._in_process(side, Setting(tasks, seconds * self.hurry, url, folder), case.limit)
        finally:
            if url:
                self.node.management.drop_vhost(unquote(urlsplit(url).path[1:]))

    def _in_process(self, side: Side, setting: Setting, limit: float) -> Measure:
        command = [self.pythons[side.peer], "-m", "benchmarks.side", side.entry, json.dumps(dataclasses.asdict(setting))]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_JOBS_")}
        log = Path(setting.folder, "log")
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command,
                cwd=TOP,
                env=environment | {"TMPDIR": setting.folder},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
            try:
                answer, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                raise SideFailed(f"stopped after {limit:g} s") from None
            finally:
                _end(process)
        if process.returncode:
            raise SideFailed(f"failed: {_last_line(log)}")
        return Measure(**json.loads(answer))


def _last_line(log: Path) -> str:
    """Of a traceback, as a rule."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "without a word")[:SHOWN]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a side with everything in its process group, of which it is the leader."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sent)
        except ProcessLookupError:
            return  # it ended, and so did all that it had started
        if process.returncode is None:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                continue
