"""Steps called on real workers, on both brokers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from broker_jobs import AsyncClient, Client, Job, LocalCluster, ResourceRequest, Retry, StepState, TaskCanceled, TaskFailed, ValidationError
from broker_jobs.core.states import TaskState
from broker_jobs.errors import AmbiguousStep, FailedJobsError, StepNotFound, WrongStatus
from broker_jobs.wire.signing import new_key
from tests.support import served
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.rabbitmq import RabbitMQ

PATIENCE = 60.0


@pytest.fixture(scope="module")
def cluster(url: str | None) -> Iterator[LocalCluster]:
    with LocalCluster(workers=1, cpus=3, url=url, steps=[served]) as found:
        yield found


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Client:
    return cluster.client()


def test_a_step_is_configured_started_and_waited_for_in_one_chain(client: Client) -> None:
    run = client.step("simulate", version="~1.2").configure(x=5.0).tags(["test", "project=alpha"]).named("mine").start().wait(PATIENCE)
    assert (run.state, run.result(), run.error) == (StepState.succeeded, {"y": 10.0, "parts": 0}, None)
    assert (run.job.name, client.job(run.id).stdout(0)) == ("mine", b"simulating 5\n")
    assert [job.id for job in client.jobs(tags=["project=alpha", "test"])] == [run.id]
    info = run.info()
    assert (info.kind, info.state, info.resource_class.startswith("simulate_1_2_0-cpus1-")) == ("step", TaskState.succeeded, True)


def test_it_is_created_then_ready_and_each_change_is_checked(client: Client) -> None:
    run = client.step("simulate", "1.2.0")
    assert run.state is StepState.created
    assert run.configure(n=3).state is StepState.created
    assert run.configure(x=1).state is StepState.ready
    with pytest.raises(ValidationError, match=r"wrong parameters of simulate 1\.2\.0: parts\[1\]: 7 is not of type 'string'"):
        run.configure(parts=["a", 7])
    with pytest.raises(ValidationError, match="y: there is no such parameter, but x, n, parts"):
        run.configure(y=1)
    with pytest.raises(ValidationError, match="x: -1 is less than the minimum of 0"):
        run.configure(x=-1)
    assert run.parameters == {"n": 3, "x": 1}
    with pytest.raises(WrongStatus, match="was not started: call start"):
        run.result()
    assert run.start().result(timeout=PATIENCE) == {"y": 3.0, "parts": 0}
    for again in (run.start, lambda: run.configure(x=2), lambda: run.tags(["a"])):
        with pytest.raises(WrongStatus, match="was started already"):
            again()
    with pytest.raises(WrongStatus, match="x: it is missing"):
        client.step("simulate", "1.2.0").start()


def test_none_and_several_are_errors_that_list_what_there_is(client: Client) -> None:
    with pytest.raises(AmbiguousStep, match=r"'simulate' has several versions: 1\.10\.0, 1\.2\.0; name one, or a range such as"):
        client.step("simulate")
    with pytest.raises(StepNotFound, match=r"no version that fits '\^2'; there are: 1\.10\.0, 1\.2\.0"):
        client.step("simulate", "^2")
    with pytest.raises(StepNotFound, match="there are: simulate"):
        client.step("simulat")
    assert client.step("simulate", "*").configure(x=4).start().result(timeout=PATIENCE) == {"y": -4.0}
    assert str(client.step("later").spec) == "later 1.0.0"


@pytest.mark.parametrize(
    ("what", "cause", "message"),
    [
        ("raise", "error", "ArithmeticError: no such number"),
        ("exit", "exit code", "sys.exit(3)"),
        ("result", "error", "fail 1.0.0: the result is not as annotated: Input should be a valid integer"),
    ],
)
def test_a_failure_says_what_happened(client: Client, what: str, cause: str, message: str) -> None:
    run = client.step("fail").configure(what=what).start().wait(PATIENCE)
    assert run.state is StepState.failed
    assert run.error is not None
    assert (run.error.cause.value, message in run.error.message) == (cause, True), run.error
    with pytest.raises(TaskFailed) as caught:
        run.result()
    if what == "raise":
        assert "in fail\n    raise ArithmeticError" in run.error.traceback
        assert isinstance(caught.value.__cause__, ArithmeticError)


def test_a_started_call_is_had_again_by_its_job(client: Client, cluster: LocalCluster, tmp_path: Path) -> None:
    run = (
        client.step("until_told")
        .configure(started=str(tmp_path / "started"), go=str(tmp_path / "go"))
        .tags(["again"])
        .named("mine")
        .start()
    )
    run.job.wait_for_start(PATIENCE)
    with pytest.raises(TimeoutError, match="has not ended within"):
        run.wait(0.01)
    again = cluster.client().step_run(run.id)
    assert (again.spec, again.parameters, again.state, again.id) == (run.spec, run.parameters, StepState.running, run.id)
    with pytest.raises(WrongStatus, match="was started already, and cannot be configured"):
        again.configure(go="elsewhere")
    (tmp_path / "go").touch()
    assert again.wait(PATIENCE).result() == "done"
    again.job.wait_for_start(PATIENCE)
    assert client.step_run(run.job).result() == "done"
    several, program = Job("several"), Job("program")
    for _ in range(2):
        several.step(run.spec, run.parameters)
    program.program(["true"])
    for other in (client.submit(several), client.submit(program)):
        assert other.wait(PATIENCE)
        with pytest.raises(ValidationError, match="is no call of a step"):
            client.step_run(other)


def test_progress_is_told_and_a_cancel_ends_the_wait(client: Client, tmp_path: Path) -> None:
    run = client.step("until_told").configure(started=str(tmp_path / "started"), go=str(tmp_path / "go")).start()
    until(lambda: run.progress == (0.25, "a quarter"), "its progress is told")
    assert run.state is StepState.running
    assert run.cancel("enough").while_running == 1
    assert run.wait(PATIENCE).state is StepState.canceled
    with pytest.raises(TaskCanceled, match="enough"):
        run.result()


def test_events_are_told_to_the_end(client: Client) -> None:
    run = client.step("later").configure(seconds=0).start()
    states = [event.state for event in run.events() if hasattr(event, "task")]
    assert states[-1] is TaskState.succeeded
    assert run.result() == "attempt 1 of later"


def test_many_are_started_with_one_call(client: Client) -> None:
    runs = client.step("simulate", "1.2.0").configure(n=3).tags(["many"]).start_each({"x": x} for x in range(200))
    assert [run.result(timeout=PATIENCE)["y"] for run in runs] == [3.0 * x for x in range(200)]
    assert len({run.id for run in runs}) == 200
    assert len(client.jobs(tags=["many"], limit=None)) == 200
    with pytest.raises(ValidationError, match=r"row 1: wrong parameters of simulate 1\.2\.0: x: it is missing"):
        client.step("simulate", "1.2.0").tags(["none of them"]).start_each([{"x": 1}, {}])
    assert client.jobs(tags=["none of them"]) == []


def test_options_of_the_client_hold_for_its_steps(client: Client) -> None:
    chosen = client.options(retry=Retry(max_attempts=2, backoff=0), resources=ResourceRequest(cpus=2), time_limit=30)
    run = chosen.step("fail").configure(what="raise").start().wait(PATIENCE)
    assert (run.info().attempt, run.info().resource_class.startswith("fail_1_0_0-cpus2-")) == (2, True)
    with pytest.raises(ValidationError, match="python= says nothing"):
        client.options(python="python3").step("fail").configure(what="").start()


def test_steps_and_functions_give_each_other_values(client: Client) -> None:
    job = Job("graph")
    spec = client.find_step("simulate", "1.2.0").spec
    first = job.step(spec, {"x": 1})
    second = job.step(spec, {"x": first.output["y"], "n": 5}, name="second")
    listed = job.function(lambda found: [found["y"], 0.5], args=(second.output,))
    end = job.step(client.find_step("total").spec, {"values": listed.output, "offset": first.output})
    several = job.map(abs, range(3))
    other = job.step(client.find_step("total").spec, {"values": several.output, "offset": first.output})
    submitted = client.submit(job)
    assert (submitted.result(end, timeout=PATIENCE), submitted.result(other, timeout=PATIENCE)) == (12.5, 5.0)
    with pytest.raises(ValidationError, match="offset: it is missing; z: there is no such parameter, but values, offset"):
        Job("wrong").step(client.find_step("total").spec, {"values": [], "z": submitted.task(0).output})
    later = Job("later")
    again = later.step(spec, {"x": submitted.task(end).output})
    assert client.submit(later).result(again, timeout=PATIENCE) == {"y": 25.0, "parts": 0}
    wrong = Job("wrong")
    task = wrong.step(spec, {"x": wrong.function(str, args=("no number",)).output})
    failed = client.submit(wrong)
    with pytest.raises(TaskFailed, match=r"wrong parameters of simulate 1\.2\.0: x: Input should be a valid number"):
        failed.result(task, timeout=PATIENCE)


def test_a_step_starts_jobs_below_its_own(client: Client) -> None:
    run = client.options(resources=ResourceRequest(cpus=0.5)).step("divide").configure(parts=3).start()
    assert run.result(timeout=PATIENCE) == [0.0, 2.0, 4.0]
    assert [(job.name, job.info().parent, job.info().tags) for job in run.sub_jobs()] == [("simulate", run.id, ("part",))] * 3
    assert client.jobs(parent=run.job, state="failed") == []
    assert run.job.wait_for_sub_jobs(PATIENCE)
    poisoned = client.step("divide").configure(parts=0, poison=True).start().wait(PATIENCE)
    assert poisoned.error is not None
    assert "ArithmeticError: no such number" in poisoned.error.message
    assert [job.state for job in poisoned.sub_jobs()] == ["failed"]
    assert not poisoned.job.wait_for_sub_jobs(PATIENCE, raise_on_error=False)
    with pytest.raises(FailedJobsError, match=r"'fail' failed: .*\n.*ArithmeticError: no such number"):
        poisoned.job.wait_for_sub_jobs(PATIENCE)
    assert run.info().state is TaskState.succeeded
    assert client.job(run.id).info().parent is None


def test_jobs_inside_are_waited_for_after_the_job_itself(client: Client, tmp_path: Path) -> None:
    run = client.step("leave").configure(started=str(tmp_path / "started"), go=str(tmp_path / "go")).start().wait(PATIENCE)
    with pytest.raises(TimeoutError, match=r"the jobs inside job \w+ have not ended within 0\.05 s"):
        run.job.wait_for_sub_jobs(0.05)
    (tmp_path / "go").touch()
    assert run.job.wait_for_sub_jobs(PATIENCE)
    assert client.job(run.result()).info().state == "succeeded"


def test_the_asynchronous_client_calls_steps_too(cluster: LocalCluster) -> None:
    async def main() -> None:
        async with AsyncClient(cluster.url, namespace=cluster.namespace, signing_key=cluster.key) as client:
            run = await (await client.step("simulate", "1.2.0")).configure(x=2).tags(["async"]).named("its name").start()
            assert await (await run.wait(PATIENCE)).result() == {"y": 4.0, "parts": 0}
            assert (await run.state(), await run.error(), run.job.name) == (StepState.succeeded, None, "its name")
            many = await (await client.step("simulate", "1.2.0")).start_each([{"x": 1}, {"x": 2}])
            assert [(await each.result())["y"] for each in many] == [2.0, 4.0]
            assert [event async for event in run.events()]
            assert await run.sub_jobs() == []
            assert await run.job.wait_for_sub_jobs(PATIENCE)
            await run.job.wait_for_start(PATIENCE)
            for job in (run.job, run.id):
                assert (await (await client.step_run(job)).result()) == {"y": 4.0, "parts": 0}
            failed = await (await client.step("fail")).configure(what="raise").start()
            with pytest.raises(TaskFailed):
                await failed.result()
            assert (await failed.cancel()).ended_already == 1

    asyncio.run(main())


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.long)])
def daemons(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemons]:
    if request.param == "embedded":
        url = f"sqlite:///{tmp_path / 'queue.db'}"
    else:
        rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq")
        url = rabbitmq.fresh_vhost()
    with Daemons(tmp_path, {"BROKER_JOBS_URL": url, "BROKER_JOBS_SIGNING_KEY": new_key()}) as daemons:
        yield daemons


STEPS = """
from broker_jobs import step

@step(version="{version}")
def answer(x: int) -> str:
    return "{version}"
"""


def test_a_call_that_nobody_serves_waits_is_shown_and_is_never_lost(daemons: Daemons, tmp_path: Path) -> None:
    def serving(version: str) -> Callable[[], None]:
        folder = tmp_path / version
        folder.mkdir()
        (folder / "answers.py").write_text(STEPS.format(version=version))
        worker = daemons.start("worker", "start", "--name", f"v{version[0]}", "--cpus", "1", "--path", str(folder), "--steps", "answers")
        until(lambda: any(f"v{version[0]}" in known.workers for known in client.steps("answer")), lambda: f"it serves\n{daemons.logs()}")

        def end() -> None:
            worker.terminate()
            worker.wait(PATIENCE)

        return end

    coordinator = daemons.start("coordinator", "start", "--store", f"sqlite:///{tmp_path / 'ledger.db'}")
    with Client(daemons.env["BROKER_JOBS_URL"], signing_key=daemons.env["BROKER_JOBS_SIGNING_KEY"]) as client:
        end_first = serving("1.0.0")
        assert client.step("answer").configure(x=1).start().result(timeout=PATIENCE) == "1.0.0"
        end_first()
        serving("2.0.0")
        waiting = client.step("answer", "1.0.0").configure(x=1).start()
        assert client.step("answer", "2.0.0").configure(x=1).start().result(timeout=PATIENCE) == "2.0.0"
        assert waiting.state is StepState.queued
        until(lambda: waiting.job.info().notes, "the ledger says why it waits")
        assert waiting.job.info().notes == ("no worker seen so far could meet the request cpus=1 (step answer 1.0.0)",)
        told = daemons.run("task", "explain", waiting.id, "0").stdout
        assert "no worker that is there could ever run it" in told
        assert "step answer 1.0.0: it is not served there" in told
        daemons.kill(coordinator)
        daemons.start("coordinator", "start", "--store", f"sqlite:///{tmp_path / 'ledger.db'}")
        (tmp_path / "1.0.0").rename(tmp_path / "gone")
        serving("1.0.0")
        assert waiting.result(timeout=PATIENCE) == "1.0.0"
        assert waiting.info().worker == "v1"
