"""Programs that were written for HyperQueue: its names, signatures and defaults over real workers.

What is asked here is what HyperQueue's own tests of its Python interface ask, said anew.
"""

from __future__ import annotations

import datetime
import os
import random
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs.compat.hyperqueue import (
    FailedJobsException,
    Job,
    LocalCluster,
    PythonEnv,
    ResourceRequest,
    StdioDef,
    ValidationException,
    WorkerConfig,
    get_version,
    visualize_job,
)
from broker_jobs.errors import ValidationError
from broker_jobs.wire.signing import new_key
from tests.support.daemons import until
from tests.support.hyperqueue import Site, state, states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs.compat.hyperqueue import Client
    from tests.support.rabbitmq import RabbitMQ


@pytest.fixture(scope="module", params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.long)])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A coordinator and a worker with one processor and some other resources."""
    folder = tmp_path_factory.mktemp("site")
    if request.param == "embedded":
        found = Site(folder)
    else:
        rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq")
        found = Site(folder, rabbitmq.fresh_vhost(), new_key())
    try:
        found.start_worker("--cpus", "1", "--gpus", "2", "--resource", "fairy=1000")
        yield found
    finally:
        found.close()


@pytest.fixture
def client(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client of the site, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return site.client()


# --- jobs of programs ---


def test_a_job_without_tasks_is_refused(client: Client) -> None:
    with pytest.raises(ValidationError, match="Submitted job must have at least a single task"):
        client.submit(Job())


def test_a_program_runs_with_its_folder_environment_input_and_files(client: Client, tmp_path: Path) -> None:
    job = Job(name="Foo")
    script = 'cat; echo "$FOO-$BAR"; pwd; echo problem >&2'
    job.program(
        ["sh", "-c", script], env={"FOO": "1", "BAR": "2 3"}, cwd=tmp_path / "made", stdin=b"given\n", stdout="out", stderr=tmp_path / "err"
    )
    submitted = client.submit(job)
    assert client.wait_for_jobs([submitted])
    assert (tmp_path / "made" / "out").read_text(encoding="utf-8") == f"given\n1-2 3\n{tmp_path}/made\n"
    assert (tmp_path / "err").read_text(encoding="utf-8") == "problem\n"
    assert submitted.native is not None
    assert submitted.native.info().name == "Foo"


def test_ids_are_integers(client: Client) -> None:
    job = Job()
    job.program("true")
    submitted = client.submit(job)
    assert isinstance(submitted.id, int)
    assert submitted.native is not None
    assert client.native.job(submitted.id).id == submitted.native.id
    assert client.wait_for_jobs([submitted])


def test_output_lies_in_the_folder_of_the_task_under_its_number(client: Client, tmp_path: Path) -> None:
    job = Job()
    job.program(["echo", "zero"])
    job.function(print, args=("one",), stderr=None)
    job.program(["echo", "two"], stdout=None, stderr=None)
    client.wait_for_jobs([client.submit(job)])
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {
        "0.stdout": "zero\n", "0.stderr": "", "1.stdout": "one\n",
    }  # fmt: skip


def test_files_may_go_when_the_task_has_succeeded(client: Client, tmp_path: Path) -> None:
    job = Job(max_fails=None)
    for code in (0, 1):
        job.program(
            ["sh", "-c", f"echo out; echo err >&2; exit {code}"],
            stdout=StdioDef.remove_if_finished(),
            stderr=StdioDef.remove_if_finished("err-%{TASK_ID}"),
        )
    submitted = client.submit(job)
    client.wait_for_jobs([submitted], raise_on_error=False)
    assert {path.name for path in tmp_path.iterdir()} == {"1.stdout", "err-1"}
    assert client.get_failed_tasks(submitted)[1].stderr == f"{tmp_path}/err-1"


def test_a_failing_job_raises_and_a_good_one_does_not(client: Client) -> None:
    good, bad = Job(), Job()
    good.program(["true"])
    bad.program(["false"])
    first, second = client.submit(good), client.submit(bad)
    assert client.wait_for_jobs([first]) is True
    with pytest.raises(FailedJobsException) as caught:
        client.wait_for_jobs([first, second])
    assert set(caught.value.failed_tasks) == {second.id}


def test_failed_tasks_are_named_with_error_and_files(client: Client, tmp_path: Path) -> None:
    job = Job(max_fails=None)
    job.program(["true"])
    job.program(["sh", "-c", "exit 1"], name="the bad one")
    job.program(["true"])
    submitted = client.submit(job)
    assert client.wait_for_jobs([submitted], raise_on_error=False) is False
    failed = client.get_failed_tasks(submitted)
    assert list(failed) == [1]
    assert failed[1].error == "Program terminated with exit code 1."
    assert (failed[1].cwd, failed[1].stdout, failed[1].stderr) == (str(tmp_path), f"{tmp_path}/1.stdout", f"{tmp_path}/1.stderr")
    with pytest.raises(FailedJobsException, match="the bad one"):
        client.wait_for_jobs([submitted])


def test_a_job_is_forgotten_once_it_has_ended(client: Client) -> None:
    job = Job()
    job.program(["sleep", "60"])
    running = client.submit(job)
    with pytest.raises(RuntimeError, match=f"Cannot forget job {running.id}"):
        client.forget(running)
    assert running.native is not None
    running.native.cancel()
    client.wait_for_jobs([running], raise_on_error=False)
    client.forget(running.id)
    with pytest.raises(RuntimeError, match="Cannot forget job"):
        client.forget(running)


# --- functions ---


def _work(folder: str, *, text: str) -> None:
    Path(folder, "written").write_text(text, encoding="utf-8")
    print("printed")


class MyError(Exception):
    pass


def test_a_function_gets_its_arguments_and_prints_into_its_file(client: Client, tmp_path: Path) -> None:
    job = Job()
    task = job.function(_work, args=(str(tmp_path),), kwargs={"text": "x"})
    assert (task.label, task.task_id) == ("_work/0", 0)
    client.wait_for_jobs([client.submit(job)])
    assert (tmp_path / "written").read_text(encoding="utf-8") == "x"
    assert (tmp_path / "0.stdout").read_text(encoding="utf-8") == "printed\n"


def test_a_prologue_runs_before_the_interpreter_of_functions(site: Site, tmp_path: Path) -> None:
    (tmp_path / "init.sh").write_text("export FROM_PROLOGUE=hello\n")
    client = site.client(PythonEnv(python_bin=sys.executable, prologue=f"source {tmp_path}/init.sh"))
    job = Job(tmp_path)
    job.function(lambda: print(os.environ["FROM_PROLOGUE"], sys.executable), stdout="out")
    client.wait_for_jobs([client.submit(job)])
    assert (tmp_path / "out").read_text() == f"hello {sys.executable}\n"


def test_a_prologue_prepares_the_interpreter(site: Site, client: Client, tmp_path: Path) -> None:
    (tmp_path / "init.sh").write_text("export FOO=from-init\n", encoding="utf-8")
    job = Job()
    job.program(["true"])
    job.function(lambda: print(os.environ["FOO"]))
    prepared = site.client(PythonEnv(prologue="source init.sh"))
    prepared.wait_for_jobs([prepared.submit(job)])
    assert (tmp_path / "1.stdout").read_text(encoding="utf-8") == "from-init\n"
    with pytest.raises(ValidationException, match="run by bash"):
        PythonEnv(shell="zsh")


def test_the_error_of_a_function_is_its_whole_traceback(client: Client) -> None:
    def fail() -> None:
        raise MyError("x" * 5000)

    job = Job()
    job.function(fail)
    submitted = client.submit(job)
    with pytest.raises(FailedJobsException, match="fail/0"):
        client.wait_for_jobs([submitted])
    error = client.get_failed_tasks(submitted)[0].error
    assert error.startswith("Traceback")
    assert error.rstrip().endswith("MyError: " + "x" * 5000)


def test_defaults_of_a_job_hold_for_its_tasks_unless_they_have_their_own(client: Client, tmp_path: Path) -> None:
    job = Job(default_workdir=tmp_path / "work", default_env={"A": "job", "B": "job"})
    job.program(["sh", "-c", 'echo "$A $B $C"'], env={"B": "task", "C": "task"})
    job.function(lambda: print(Path.cwd()))
    client.wait_for_jobs([client.submit(job)])
    assert (tmp_path / "work" / "0.stdout").read_text(encoding="utf-8") == "job task task\n"
    assert (tmp_path / "work" / "1.stdout").read_text(encoding="utf-8") == f"{tmp_path}/work\n"


# --- dependencies ---


def test_what_depends_on_a_failed_task_is_aborted_and_the_rest_goes_on(client: Client) -> None:
    job = Job()
    bad = job.program(["false"])
    second = job.program(["true"], deps=[bad])
    job.program(["true"], deps=[second])
    job.program(["true"])
    submitted = client.submit(job)
    assert client.wait_for_jobs([submitted], raise_on_error=False) is False
    assert states(submitted) == ["failed", "aborted", "aborted", "succeeded"]
    assert state(submitted) == "failed"


def test_chains_and_pairs(client: Client) -> None:
    job = Job()
    task = job.function(int, stdout=None, stderr=None)
    for _ in range(50):
        task = job.function(int, deps=[task], stdout=None, stderr=None)
    for _ in range(150):
        job.function(int, deps=[job.function(int, stdout=None, stderr=None)], stdout=None, stderr=None)
    assert client.wait_for_jobs([client.submit(job)])


def test_dependencies_may_lie_in_lists_and_must_be_of_this_job(client: Client) -> None:
    job, other = Job(), Job()
    tasks = [job.program(["true"]), job.program(["true"])]
    job.program(["true"], deps=[tasks])  # type: ignore[list-item]
    assert client.wait_for_jobs([client.submit(job)])
    job.program(["true"], deps=[other.program(["true"])])
    with pytest.raises(ValidationError, match="neither an earlier task"):
        client.submit(job)


# --- limits and resources ---


@pytest.mark.parametrize(("max_fails", "failed"), [(0, 1), (1, 2), (3, 4)])
def test_more_failures_than_max_fails_abort_the_rest(client: Client, max_fails: int, failed: int) -> None:
    job = Job(max_fails=max_fails)
    for _ in range(10):
        job.program(["false"], stdout=None, stderr=None)
    submitted = client.submit(job)
    assert client.wait_for_jobs([submitted], raise_on_error=False) is False
    found = states(submitted)
    assert found.count("failed") >= failed  # those that were on their way with the last one have failed, too
    assert found.count("failed") + found.count("aborted") == 10


def test_one_failure_of_many_is_borne_by_default(client: Client) -> None:
    job = Job()
    for number in range(200):
        job.function(divmod, args=(1, number), stdout=None, stderr=None)
    submitted = client.submit(job)
    client.wait_for_jobs([submitted], raise_on_error=False)
    assert states(submitted) == ["failed"] + ["succeeded"] * 199


def test_what_asks_for_too_much_waits_and_the_rest_runs(client: Client) -> None:
    job = Job()
    requests = [{"gpus": 1}, {"gpus": 4}, {"gpus": 2}, {"gpus": 1, "fairy": 2000}]
    tasks = [
        job.program(["true"], stdout=None, stderr=None, resources=ResourceRequest(cpus=1, resources=dict(wanted))) for wanted in requests
    ]
    job.tasks[2].dependencies = [tasks[0]]
    too_many = job.program(["true"], resources=ResourceRequest(cpus="2"))
    submitted = client.submit(job)
    until(lambda: states(submitted).count("succeeded") == 2, "what fits has run")
    assert states(submitted) == ["succeeded", "queued", "succeeded", "queued", "queued"]
    assert too_many.task_id == 4
    assert submitted.native is not None
    submitted.native.cancel()


def test_of_several_requests_the_first_that_can_be_met_is_taken(client: Client) -> None:
    job = Job()
    wanted = [ResourceRequest(resources={"gpus": 8}), ResourceRequest(cpus=1, resources={"fairy": 100.5})]
    job.program(["true"], resources=wanted)
    job.function(int, resources=tuple(wanted))
    assert client.wait_for_jobs([client.submit(job)])


def test_what_was_asked_for_is_kept_to_the_last_digit(client: Client) -> None:
    job = Job()
    minute = datetime.timedelta(seconds=42)
    wanted = {"res0": 1, "res1": 105.1}
    job.program(["true"], priority=-7, resources=ResourceRequest(cpus=2, resources=wanted, min_time=minute))
    job.function(int, resources=[ResourceRequest(resources={"res0": 1}), ResourceRequest(cpus=4)])
    submitted = client.submit(job)
    assert submitted.native is not None
    first, second = (task.options for task in submitted.native.tasks([0, 1]))
    assert first is not None
    assert second is not None
    [variant] = first.resources.alternatives
    assert {need.name: need.amount for need in variant.needs} == {"cpus": 20_000, "res0": 10_000, "res1": 1_051_000}
    assert (variant.min_time, first.priority) == (42_000, -7)
    assert len(second.resources.alternatives) == 2
    submitted.native.cancel()


def test_whole_nodes(client: Client) -> None:
    job = Job()
    job.program(["sh", "-c", "cat $BROKER_JOBS_NODE_FILE"], resources=ResourceRequest(n_nodes=1))
    job.program(["true"], resources=ResourceRequest(n_nodes=9))
    submitted = client.submit(job)
    until(lambda: states(submitted) == ["succeeded", "queued"], "one node is enough for the first")
    assert submitted.native is not None
    assert Path("0.stdout").read_text(encoding="utf-8").splitlines() == [socket.gethostname().partition(".")[0]]
    submitted.native.cancel()


def test_all_processors(client: Client) -> None:
    job = Job()
    for cpus in (1, "1", "all", "0.5", "1 compact!"):
        job.function(int, resources=ResourceRequest(cpus=cpus))
    assert client.wait_for_jobs([client.submit(job)])


def test_a_request_keeps_the_mapping_that_it_was_given() -> None:
    wanted: dict[str, float | str] = {"gpus": 1, "mem": 512}
    request = ResourceRequest(cpus=2, resources=wanted)
    assert wanted == {"gpus": 1, "mem": 512}
    native = request.native()
    assert (native.cpus, native.gpus, native.memory) == (2, 1, 512 * 2**20)
    assert ResourceRequest(min_time=datetime.timedelta(seconds=42)).native().min_time == datetime.timedelta(seconds=42)


def test_priorities_decide_what_starts_first(client: Client, tmp_path: Path) -> None:
    order = list(range(40))
    random.Random(7).shuffle(order)
    job = Job()
    gate = job.program(["sleep", "0.3"], stdout=None, stderr=None)
    for number in order:
        job.program(["sh", "-c", f"echo {number} >> log"], priority=number, deps=[gate], stdout=None, stderr=None)
    client.wait_for_jobs([client.submit(job)])
    assert (tmp_path / "log").read_text(encoding="utf-8").split() == [str(number) for number in sorted(order, reverse=True)]


# --- misuse ---


def test_wrong_arguments_are_refused_at_once() -> None:
    with pytest.raises(ValidationException, match="must be texts, not 5"):
        Job().program(["sleep", 5])  # type: ignore[list-item]
    with pytest.raises(ValidationException, match="stdout must be a path"):
        Job().program(["true"], stdout=5)  # type: ignore[arg-type]


# --- clusters, pictures ---


def test_a_cluster_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with LocalCluster() as cluster:
        client = cluster.client()
        job = Job()
        job.program(["sh", "-c", "echo there"], resources=ResourceRequest(cpus=3))
        submitted = client.submit(job)
        cluster.start_worker(WorkerConfig(cores=4))
        assert client.wait_for_jobs([submitted])
        assert (tmp_path / "0.stdout").read_text(encoding="utf-8") == "there\n"
        [worker] = client.native.cluster().workers
        assert "cpus" in str(worker.resources)
        client.connection.stop_server()
        with pytest.raises(RuntimeError, match="was stopped"):
            cluster.stop()


def test_a_job_as_a_picture(tmp_path: Path) -> None:
    job = Job()
    first = job.program(["true"], name='a "b"')
    left, right = job.function(print, deps=[first]), job.program(["true"], deps=[first])
    job.program(["true"], deps=[left, right], name="end")
    visualize_job(job, tmp_path / "job.dot")
    assert (tmp_path / "job.dot").read_text(encoding="utf-8").split("\n") == [
        "digraph job {", '0 [label="a \\"b\\""];', '1 [label="print/1"];', '2 [label="2"];', '3 [label="end"];',
        "0 -> 1;", "0 -> 2;", "1 -> 3;", "2 -> 3;", "}", "",
    ]  # fmt: skip


def test_small_things() -> None:
    job = Job(default_workdir="x/../y")
    task = job.program("true")
    assert (job.max_fails, job.default_workdir, job.task_by_id(0), job.task_by_id(1)) == (1, Path("y").resolve(), task, None)
    assert (job.tasks, job.task_map) == ([task], {0: task})
    assert StdioDef.from_path("a") == StdioDef("a", "none")
    assert StdioDef.remove_if_finished() == StdioDef(None, "rm-if-finished")
    assert PythonEnv().python_bin == "python3"
    assert get_version()
