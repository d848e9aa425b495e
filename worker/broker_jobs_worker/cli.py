"""The command line ``broker-jobs-worker``, and what it shares with ``broker-jobs worker start``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from broker_jobs.cmdline import conceal
from broker_jobs.core.quantities import milliseconds, size_bytes
from broker_jobs.errors import BrokerError, BrokerJobsError
from broker_jobs.wire.messages import DEFAULT_GROUP
from broker_jobs_worker.machine.state import OnBrokerLost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MISUSE: Final = 2
UNREACHABLE: Final = 3

WorkerGroupOption = Annotated[
    str, typer.Option(metavar="NAME", help="Workers that belong together: to list, drain and stop them by this name.")
]
IdleOption = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="End in order after so long without any task: seconds, or '10m'.", show_default=False),
]
LimitOption = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION", help="Stop in order after so long: seconds, or '1h30m'. What still runs is given back.", show_default=False
    ),
]
LostOption = Annotated[
    OnBrokerLost,
    typer.Option(
        help="Long tasks, when the broker stays away for 30 s: end them, since others may run them by now, or let them finish."
        " The worker tries to come back in any case."
    ),
]
SpoolOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Room for long output on this host; the oldest goes first. By default a tenth of the file system, at most 16 GiB.",
        show_default=False,
    ),
]

MaxTasksOption = Annotated[
    int | None,
    typer.Option(
        metavar="NUMBER", help="Replace a process in which functions run after so many of them; by default never.", show_default=False
    ),
]
MaxAgeOption = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Replace such a process when it is so old: seconds, or '2h'.", show_default=False)
]
MaxMemoryOption = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Replace such a process when it takes more after a function: '4 GiB'.", show_default=False),
]

PathOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="FOLDER", help="Folder with modules that tasks need; may be given several times.", show_default=False),
]
StepsOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE", help="Serve the steps of this module, such as mypkg.steps; may be given several times.", show_default=False
    ),
]

AcceptOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="WHAT",
        help="Run only this: programs, functions, steps, or step:NAME; may be given several times. What else comes fails as rejected.",
        show_default=False,
    ),
]

CpusOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="Processors to give to tasks: 8, in groups as 2x8 or '[[0,1],[2,3]]', or the ones named: '[0-3]'. "
        "By default all that this process may use.",
        show_default=False,
    ),
]
MemoryOption = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Memory to give to tasks, such as '16 GiB'; by default all.", show_default=False)
]
GpusOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="Graphics processors to give to tasks: 2, or the ones named: '[0,1]'. By default those that are found; 0 for none.",
        show_default=False,
    ),
]
ResourceOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=WHAT",
        help="Another resource: fpga=\\[a,b], slots='range(1-3)', licence=2x3, fairy='sum(1000)'. May be given several times.",
        show_default=False,
    ),
]
NoHyperThreadingOption = Annotated[
    bool, typer.Option("--no-hyper-threading", metavar="", help="Of processors that are found, take one thread of each core.")
]

ExecutorOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="Where programs run: local, or in a batch system: sge, htcondor, or one that you have written."),
]
ExecutorOptionOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="For each job of the batch system: q=all.q, l=h_vmem=2G; NAME alone for a flag. May be given several times.",
        show_default=False,
    ),
]
ExecutorFolderOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Folder that the hosts of the batch system see, too; by default in the state folder.", show_default=False
    ),
]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def run(
    *,
    url: str | None = None,
    namespace: str | None = None,
    name: str | None = None,
    resources: Mapping[str, str] | None = None,
    hyper_threading: bool = True,
    path: Sequence[Path] = (),
    steps: Sequence[str] = (),
    accept: Sequence[str] = (),
    group: str = DEFAULT_GROUP,
    idle_timeout: str | None = None,
    time_limit: str | None = None,
    on_broker_lost: OnBrokerLost = OnBrokerLost.stop,
    spool_limit: str | None = None,
    child_max_tasks: int | None = None,
    child_max_age: str | None = None,
    child_max_memory: str | None = None,
    executor: str = "local",
    executor_option: Sequence[str] = (),
    executor_folder: Path | None = None,
    metrics_host: str = "127.0.0.1",
    metrics_port: str = "0",
) -> int:
    """Run a worker until SIGTERM or SIGINT; its exit code. Logs to standard error.

    Args:
        url: address of the broker (default: as every program of broker-jobs finds it)
        namespace: prefix of every name at the broker
        name: of the worker
        resources: what to give to tasks, by name (default: what is found)
        hyper_threading: False for one thread of each core, where processors are found out
        path: folders with modules of users
        steps: modules whose steps it serves
        accept: kinds of work that it runs: ``programs``, ``functions``, ``steps``, ``step:NAME``; none for all
        group: workers that belong together
        idle_timeout: it ends when it has had no task for so long: seconds, or a text such as ``"10m"``
        time_limit: it stops after so long, and gives back what still runs
        on_broker_lost: what becomes of long tasks when the broker stays away
        spool_limit: room for long output on this host, such as ``"50 GiB"`` (default: a tenth of the file system, 16 GiB at most)
        child_max_tasks: a process in which functions run is replaced after so many
        child_max_age: or when it is so old: seconds, or a text such as ``"2h"``
        child_max_memory: or when it takes more memory after a function: bytes, or a text such as ``"4 GiB"``
        executor: where programs run: ``local``, or the name of a batch system
        executor_option: for its jobs, each ``NAME=VALUE``, or ``NAME`` for a flag
        executor_folder: folder that its hosts see, too (default: in the state folder)
        metrics_host: address of ``/metrics`` and ``/healthz``
        metrics_port: their port; 0 for none, ``auto`` for any free one

    Raises:
        ValidationError: an amount, the name or the port is wrong, or the steps cannot be read
        SigningKeyMissing: there is no key
        BrokerError: there is no connection to begin with
    """
    # The help needs neither broker nor numbers.
    from broker_jobs.collecting import collect_rarely
    from broker_jobs.config import resolve
    from broker_jobs.core.batch_options import parsed
    from broker_jobs.logs import start_logging
    from broker_jobs.metrics import parse_port
    from broker_jobs_worker.config import WorkerConfig
    from broker_jobs_worker.daemon import serve
    from broker_jobs_worker.executors.recycling import given_recycling

    start_logging()
    collect_rarely()
    settings = resolve(url, namespace)
    config = WorkerConfig(
        settings.url,
        settings.namespace,
        settings.required_key(),
        settings.home / "output",
        name=name,
        resources=resources or {},
        hyper_threading=hyper_threading,
        path=tuple(str(folder.absolute()) for folder in path),
        steps=tuple(steps),
        accept=tuple(accept),
        group=group,
        idle_timeout=None if idle_timeout is None else milliseconds(idle_timeout, "--idle-timeout") / 1000,
        time_limit=None if time_limit is None else milliseconds(time_limit, "--time-limit") / 1000,
        on_broker_lost=on_broker_lost,
        spool_limit=None if spool_limit is None else size_bytes(spool_limit, "--spool-limit"),
        recycling=given_recycling(child_max_tasks, child_max_age, child_max_memory),
        executor=executor,
        executor_options=parsed(executor_option),
        executor_folder=None if executor_folder is None else executor_folder.absolute(),
        metrics_host=metrics_host,
        metrics_port=parse_port(metrics_port),
    )
    return asyncio.run(serve(config))


@app.callback()
def _about() -> None:
    """Work on the tasks of broker-jobs."""


@app.command()
def start(
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            callback=conceal,
            help="Broker: amqp://user:password@host:5672/vhost, or sqlite:////path/queue.db."
            " Default: BROKER_JOBS_URL, broker-jobs.toml, else your own embedded one.",
            show_default=False,
        ),
    ] = None,
    namespace: Annotated[str | None, typer.Option(metavar="NAME", help="Prefix of all queues.", show_default=False)] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of this worker; by default made of host and process.", show_default=False)
    ] = None,
    cpus: CpusOption = None,
    memory: MemoryOption = None,
    gpus: GpusOption = None,
    resource: ResourceOption = None,
    no_hyper_threading: NoHyperThreadingOption = False,
    path: PathOption = None,
    steps: StepsOption = None,
    accept: AcceptOption = None,
    group: WorkerGroupOption = DEFAULT_GROUP,
    idle_timeout: IdleOption = None,
    time_limit: LimitOption = None,
    on_broker_lost: LostOption = OnBrokerLost.stop,
    spool_limit: SpoolOption = None,
    child_max_tasks: MaxTasksOption = None,
    child_max_age: MaxAgeOption = None,
    child_max_memory: MaxMemoryOption = None,
    executor: ExecutorOption = "local",
    executor_option: ExecutorOptionOption = None,
    executor_folder: ExecutorFolderOption = None,
    metrics_host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address of /metrics and /healthz.")] = "127.0.0.1",
    metrics_port: Annotated[str, typer.Option(metavar="PORT", help="Their port; 0 for none, 'auto' for any free one.")] = "0",
) -> None:
    """Run a worker in the foreground.

    SIGTERM and Ctrl-C drain it: running tasks finish, the rest is given back. A second signal gives back what runs, too.
    From afar, `broker-jobs worker drain` and `broker-jobs worker stop` do the same.
    """
    from broker_jobs_worker.hardware import given_resources

    try:
        code = run(
            url=url,
            namespace=namespace,
            name=name,
            resources=given_resources(cpus, memory, gpus, resource),
            hyper_threading=not no_hyper_threading,
            path=path or (),
            steps=steps or (),
            accept=accept or (),
            group=group,
            idle_timeout=idle_timeout,
            time_limit=time_limit,
            on_broker_lost=on_broker_lost,
            spool_limit=spool_limit,
            child_max_tasks=child_max_tasks,
            child_max_age=child_max_age,
            child_max_memory=child_max_memory,
            executor=executor,
            executor_option=executor_option or (),
            executor_folder=executor_folder,
            metrics_host=metrics_host,
            metrics_port=metrics_port,
        )
    except BrokerJobsError as error:
        print(f"broker-jobs-worker: {error}", file=sys.stderr)
        code = UNREACHABLE if isinstance(error, BrokerError) else MISUSE
    raise typer.Exit(code)


def main() -> None:
    """Run the command line."""
    app()
