"""The client for users' own tests has the semantics of the real one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Job, ResourceRequest, Retry, Stdio, StepState, current
from broker_jobs.core.states import JobState, TaskState
from broker_jobs.errors import (
    FailedJobsError,
    JobNotFound,
    StepNotFound,
    TaskAborted,
    TaskFailed,
    TaskNotFound,
    UnpicklableError,
    ValidationError,
)
from broker_jobs.testing import InMemoryClient
from tests.support import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def client() -> Iterator[InMemoryClient]:
    with InMemoryClient() as found:
        yield found


def add(left: int, right: int = 0) -> int:
    print("adding")
    return left + right


def fail(text: str) -> None:
    raise ValueError(text)


def grow(values: list[int]) -> list[int]:
    values.append(len(values))
    return values


async def double(number: int) -> int:
    return 2 * number


def test_a_graph(client: InMemoryClient, tmp_path: Path) -> None:
    job = Job(name="graph", tags=["a"])
    first = job.function(add, args=(1, 2))
    many = job.map(add, range(200), deps=[first])
    total = job.function(sum, args=(many.output,))
    shared = job.value([5])
    picked = job.function(lambda shared, parts: shared[0] + parts["x"], args=(shared, {"x": total.output}))
    written = job.program(["sh", "-c", "cat > out; echo $WHO >&2"], stdin="text", cwd=tmp_path / "new", env={"WHO": "me"}, deps=[picked])
    submitted = client.submit(job)
    assert client.wait_for_jobs([submitted])
    assert submitted.state is JobState.succeeded
    assert submitted.result(picked) == 19905
    assert submitted.result(written) == 0
    assert submitted.stderr(written) == b"me\n"
    assert submitted.stdout(first) == b"adding\n"
    assert list(submitted.follow(written, "stderr")) == [b"me\n"]
    assert (tmp_path / "new" / "out").read_text() == "text"
    assert len(submitted.results()) == len(dict(submitted.as_completed())) == 204
    assert client.job(submitted.id[-8:]).result("sum") == 19900
    assert [found.name for found in client.jobs(tags=["a"])] == ["graph"]
    assert list(submitted.events())[-1].state == JobState.succeeded
    client.forget(submitted)
    with pytest.raises(JobNotFound):
        client.job(submitted.id)


def test_failures_are_those_of_the_real_thing(client: InMemoryClient, tmp_path: Path) -> None:
    job = Job(max_fails=2)
    bad = job.function(fail, args=("no luck",), retry=Retry(max_attempts=3, backoff=60))
    after = job.function(add, args=(1,), deps=[bad])
    tidy = job.program(["touch", str(tmp_path / "tidy")], after=[bad])
    wrong = job.program(["sh", "-c", "exit 7"])
    submitted = client.submit(job)
    with pytest.raises(FailedJobsError, match="ValueError: no luck"):
        client.wait_for_jobs([submitted])
    with pytest.raises(TaskFailed, match=r"(?s)no luck.*in fail") as caught:
        submitted.result(bad)
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(TaskAborted, match="task 0 failed"):
        submitted.result(after)
    assert submitted.result(tidy) == 0
    assert {number: (error.cause, error.attempt) for number, error in submitted.errors().items()} == {
        bad.number: ("error", 3),
        wrong.number: ("exit code", 1),
    }
    assert [task.state for task in submitted.tasks([1])] == [TaskState.aborted]
    with pytest.raises(TaskNotFound):
        submitted.result(17)


def test_steps() -> None:
    with InMemoryClient(steps=[served]) as client:
        assert [str(known.spec) for known in client.steps("sim*")] == ["simulate 1.10.0", "simulate 1.2.0"]
        run = client.step("simulate", "1.2.0").configure(x=3).tags(["a"]).start().wait()
        assert (run.state, run.result(), run.job.stdout(0)) == (StepState.succeeded, {"y": 6.0, "parts": 0}, b"simulating 3\n")
        assert client.step("later").configure(seconds=0).start().result() == "attempt 1 of later"
        failed = client.step("fail").configure(what="raise").start()
        with pytest.raises(TaskFailed, match="no such number"):
            failed.result()
        with pytest.raises(StepNotFound):
            client.step("nothing")
        job = Job("graph")
        first = job.step(run.spec, {"x": 1})
        end = job.step(client.find_step("total").spec, {"values": [1], "offset": first.output})
        assert client.submit(job).result(end) == 3.0


def test_calls(client: InMemoryClient) -> None:
    assert client.call(add, 1, right=2) == 3
    assert client.call(double, 4) == 8
    assert client.call(sys.exit, 0) is None
    assert client.call(os.getpid) == os.getpid()
    assert list(client.map(add, range(300))) == list(range(300))
    with client.executor() as pool:
        assert [future.result() for future in [pool.submit(add, 1), pool.submit(add, 2)]] == [1, 2]
        with pytest.raises(ValueError, match="no luck"):
            pool.submit(fail, "no luck").result()
    with pytest.raises(TaskFailed, match="no luck"):
        client.call(fail, "no luck")


def test_files_of_programs(client: InMemoryClient, tmp_path: Path) -> None:
    job = Job()
    job.program(["echo", "one"], cwd=tmp_path / "%{TASK_ID}", stdout="%{CWD}/out/%{INSTANCE_ID}", stderr=Stdio("err", keep="on_failure"))
    job.array(["sh", "-c", "echo two; exit 1"], ids=[7], cwd=tmp_path, stdout="%{TASK_ID}", stderr=Stdio(keep="never"))
    assert client.wait_for_jobs([client.submit(job)], raise_on_error=False) is False
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["0/out/1", "7"]


def test_tasks_of_earlier_jobs(client: InMemoryClient) -> None:
    earlier, later = Job(), Job()
    eight, bad = earlier.function(double, args=(4,)), earlier.function(fail, args=("no",))
    first = client.submit(earlier)
    nine = later.function(add, args=(eight.output, 1))
    also = later.function(add, args=(first.task(0).output, 2), after=[bad])
    never = later.function(double, args=(first.task(1).output,))
    second = client.submit(later)
    assert (second.result(nine), second.result(also)) == (9, 10)
    assert [task.reason for task in second.tasks([never.number])] == [f"task 1 of job {first.id[-8:]} failed"]
    with pytest.raises(ValidationError, match="never open"):
        client.open()


def test_values_are_copies_as_on_a_worker(client: InMemoryClient) -> None:
    mine = [0]
    assert client.call(grow, mine) == [0, 1]
    assert mine == [0]
    with pytest.raises(UnpicklableError):
        client.call(print, threading.Lock())


def test_a_task_knows_where_it_is(client: InMemoryClient) -> None:
    job = Job()
    task = job.function(lambda: (current.job, current.task, current.attempt))
    submitted = client.submit(job)
    assert submitted.result(task) == (submitted.id, 0, 1)
    assert not current


def test_mistakes_are_named(client: InMemoryClient) -> None:
    with pytest.raises(ValidationError, match="is empty"):
        client.submit(Job())


def test_the_fixtures_of_a_users_own_tests(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["broker_jobs.testing"]\n')
    (tmp_path / "test_mine.py").write_text(
        "def test_in_memory(broker_jobs_client):\n"
        "    assert broker_jobs_client.call(len, 'abc') == 3\n"
        "def test_for_real(broker_jobs_cluster):\n"
        "    with broker_jobs_cluster.client() as client:\n"
        "        assert client.call(len, 'abc') == 3\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def _allotted() -> tuple[str, str | None]:
    return current.allocation["BROKER_JOBS_CPUS"], os.environ.get("OMP_NUM_THREADS")


def test_a_task_is_told_what_it_asked_for(client: InMemoryClient) -> None:
    assert client.options(resources=ResourceRequest(3)).call(_allotted) == ("0,1,2", "3")
    assert client.options(resources=ResourceRequest("all", "1 GiB"), env={"OMP_NUM_THREADS": "7"}).call(_allotted) == ("0", "7")
    assert client.options(resources=ResourceRequest(0, gpus=0.5)).call(_allotted) == ("", None)
