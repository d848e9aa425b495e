"""The library as a user meets it: its names, and what importing it costs."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import broker_jobs

NAMES = {
    "AsyncClient",
    "AsyncStepRun",
    "AsyncSubmittedJob",
    "AsyncWorkData",
    "BrokerJobsError",
    "Client",
    "FailedJobsError",
    "InputData",
    "Job",
    "JobChanged",
    "JobState",
    "LocalCluster",
    "LocalWorker",
    "OutputCollection",
    "OutputData",
    "ResourceRequest",
    "Retry",
    "Slot",
    "StepRun",
    "StepState",
    "Stdio",
    "SubmittedJob",
    "Task",
    "TaskAborted",
    "TaskArray",
    "TaskCanceled",
    "TaskChanged",
    "TaskError",
    "TaskFailed",
    "TaskOutput",
    "TaskState",
    "TimeLimitReached",
    "ValidationError",
    "WorkData",
    "__version__",
    "current",
    "step",
}
HEAVY = [
    "asyncio",
    "blake3",
    "cloudpickle",
    "jsonschema",
    "msgpack",
    "pika",
    "pluggy",
    "prometheus_client",
    "psutil",
    "pydantic",
    "rich",
    "sqlalchemy",
    "typer",
]


def test_the_promised_names_are_there_and_no_others() -> None:
    assert set(broker_jobs.__all__) == NAMES


def test_every_name_can_be_used_and_is_listed() -> None:
    for name in broker_jobs.__all__:
        assert getattr(broker_jobs, name) is not None
    assert set(broker_jobs.__all__) <= set(dir(broker_jobs))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = broker_jobs.no_such_name


def test_importing_it_loads_nothing_heavy() -> None:
    code = f"import broker_jobs, sys; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("program", "arguments", "absent"),
    [
        ("cli", ["--version"], {*HEAVY, "broker_jobs.core", "broker_jobs.wire", "broker_jobs_worker"} - {"typer"}),
        ("cli", ["worker", "start", "--url", "none:"], {"broker_jobs.client", "jsonschema", "pydantic", "sqlalchemy"}),
        (
            "coordinator.__main__",
            ["--url", "none:"],
            {"broker_jobs.client", "broker_jobs_worker", "jsonschema", "psutil", "pydantic", "rich", "typer"},
        ),
    ],
    ids=["version", "worker", "coordinator"],
)
def test_a_command_loads_only_what_it_needs(program: str, arguments: list[str], absent: set[str]) -> None:
    code = f"""if True:
        import sys
        from broker_jobs.{program} import main

        sys.argv[1:] = {arguments}
        try:
            sys.exit(main())
        except SystemExit:
            print("loaded:", *(name for name in {absent} if name in sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1].split() == ["loaded:"]


def test_a_client_loads_no_plugins_that_are_not_there_and_no_bar_that_nobody_sees() -> None:
    code = """if True:
        import sys
        from broker_jobs import Job
        from broker_jobs.testing import InMemoryClient

        with InMemoryClient() as client:
            job = Job()
            job.program(["true"])
            assert client.submit(job).wait()
        names = "client.hooked", "hooks.calling", "hooks.plugins", "hooks.specs", "client.progress"
        print(*(name for name in names if f"broker_jobs.{name}" in sys.modules), *{"rich"} & sys.modules.keys())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


@pytest.mark.parametrize("package", ["broker_jobs", "broker_jobs_worker"])
def test_packages_say_what_they_are(package: str) -> None:
    assert importlib.import_module(package).__doc__
