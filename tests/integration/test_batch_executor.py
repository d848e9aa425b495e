"""Programs in batch systems that are slow, fail, lose jobs and say odd things: fakes of Grid Engine and HTCondor."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.core.outcome import Canceled, Cause, Crashed, Failed, Succeeded
from broker_jobs.core.spec import Keep, Pin
from broker_jobs_worker.executors.batch.executor import Pace
from broker_jobs_worker.executors.batch.htcondor import HTCondor
from broker_jobs_worker.executors.batch.sge import Sge
from tests.support.batches import batch_bench
from tests.support.executions import call, program

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from broker_jobs_worker.executors.port import Execution, ExecutionEnded
    from tests.support.batches import BatchBench, FakeBatch

SHOW = "import os, sys; sys.stdout.buffer.write(b'|'.join(os.fsencode(each) for each in sys.argv[1:]))"
NASTY = [b"$(touch X)", b'it\'s "quoted"', b"\n#$ -q nosuch.q\n", b"\xff\x81\x88", b"", b"a b", b"$(DOLLAR)", b"\\", b"queue 3", b"'\n"]
KINDS = {"sge": (Sge, "qsub", "qstat", "qdel"), "htcondor": (HTCondor, "condor_submit", "condor_q", "condor_rm")}


class Kind:
    """One of the two."""

    def __init__(self, name: str, fake: FakeBatch, folder: Path) -> None:
        self.name, self.fake, self.folder = name, fake, folder
        self.make, self.submit, self.poll, self.cancel = KINDS[name]

    def bench(
        self, options: dict[str, tuple[str, ...]] | None = None, patience: float = 10, **more: Any
    ) -> AbstractAsyncContextManager[BatchBench]:
        options = {**getattr(self.fake, self.name), **(options or {})}
        return batch_bench(self.make(options, patience), self.folder, options, system=self.name, **more)

    def run(self, *executions: Execution, **more: Any) -> list[ExecutionEnded]:
        async def story() -> list[ExecutionEnded]:
            async with self.bench(**more) as b:
                return await b.run(*executions)

        return asyncio.run(story())

    def run_one(self, execution: Execution, **more: Any) -> ExecutionEnded:
        return self.run(execution, **more)[0]


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest, fake: FakeBatch, tmp_path: Path) -> Kind:
    return Kind(request.param, fake, tmp_path / "it's a $(dir)")


def message(ended: ExecutionEnded) -> str:
    assert isinstance(ended.outcome, Failed | Crashed), ended
    return ended.outcome.message


def test_arguments_arrive_byte_by_byte(kind: Kind) -> None:
    ended = kind.run_one(program(sys.executable, "-c", SHOW, *NASTY))
    assert (ended.outcome, ended.stdout.tail) == (Succeeded(), b"|".join(NASTY))
    assert not list(kind.folder.rglob("X"))
    assert not (kind.folder / "worker").exists(), "nothing is left"


def test_on_a_host_that_does_not_see_the_folder(fake: FakeBatch, tmp_path: Path) -> None:
    kind = Kind("htcondor", fake, tmp_path / "here")
    fake.fate("elsewhere")
    extra = tmp_path / "table.csv"
    extra.write_text("1,2")
    script = "pwd; cat; cat table.csv; exit 3"
    one = program("sh", "-c", script, stdin=b"in\xff\n", executor_options=(("transfer_input_files", (str(extra),)),))
    ended = kind.run_one(one)
    assert isinstance(ended.outcome, Failed)
    assert ended.outcome.exit_code == 3
    assert ended.stdout.tail == f"{fake.folder}/jobs/1/scratch\n".encode() + b"in\xff\n1,2"


def test_slow_jobs_say_what_they_wait_for(kind: Kind) -> None:
    async def story() -> None:
        kind.fake.fate("wait 0.4")
        async with kind.bench() as b:
            one = program("sh", "-c", "echo begun; sleep 0.5")
            b.executor.start(one)
            await b.until(lambda: any("running on" in text for text in b.told))
            piece = await b.executor.read(one.execution, stderr=False, path=None, start=0, most=100)
            assert piece.data in {b"begun\n", b""}
            (ended,) = await b.finish(one)
            assert ended.outcome == Succeeded()
            assert any("job 1" in text and ("waiting (qw)" in text or "idle" in text) for text in b.told), b.told

    asyncio.run(story())


def test_a_job_that_is_not_listed_at_once_is_not_lost(kind: Kind) -> None:
    kind.fake.fate("unseen 0.15")
    assert kind.run_one(program("sleep", "0.3")).outcome == Succeeded()


def test_a_lost_job_is_a_crash(kind: Kind) -> None:
    kind.fake.fate("lost")
    ended = kind.run_one(program("true"), pace=Pace(look=0.02, poll=0.1, soon=0.1, reason=0.2))
    assert isinstance(ended.outcome, Crashed)
    assert "left no exit code, and says no reason" in message(ended)
    assert "never seen to start" in message(ended)


def test_what_somebody_removes_is_a_crash_with_the_reason(kind: Kind) -> None:
    async def story() -> None:
        async with kind.bench() as b:
            one = program("sleep", "1000")
            b.executor.start(one)
            await b.until(lambda: any("running on" in text for text in b.told))
            kind.fake.remove(1)
            (ended,) = await b.finish(one)
            assert isinstance(ended.outcome, Crashed)
            assert ("failed 100: assumedly after job" if kind.name == "sge" else "somebody") in message(ended)

    asyncio.run(story())


def test_a_stuck_job_is_canceled_and_fails_with_the_reason(kind: Kind) -> None:
    kind.fake.fate("stuck no such folder: /x")
    ended = kind.run_one(program("true"))
    assert isinstance(ended.outcome, Failed)
    assert f"{kind.name} does not run job 1" in message(ended)
    assert message(ended).endswith("no such folder: /x")
    assert not kind.fake.alive(), "it does not stay there"


def test_a_refusal_is_told_in_its_words(kind: Kind) -> None:
    option = ("q", ("nosuch.q",)) if kind.name == "sge" else ("requirements", ("((Memory > 1)",))
    ended = kind.run_one(program("true", executor_options=(option,)))
    assert message(ended).startswith(f"{kind.name} refuses the job: ")
    assert ("unknown queue" if kind.name == "sge" else "Parse error in expression") in message(ended)


def test_odd_answers_to_a_submission_are_asked_again(kind: Kind) -> None:
    async def story() -> None:
        kind.fake.fault(kind.submit, "error error: commlib error: Failed to connect", "print", "print Hello!\u2028", "sleep 1")
        async with kind.bench(patience=0.5, pace=Pace(look=0.02, poll=0.05, soon=0.05)) as b:
            one = program("sh", "-c", f"echo x >> {kind.fake.folder}/ran")
            (ended,) = await b.run(one)
            assert ended.outcome == Succeeded()
            assert sum("does not take the job yet" in text for text in b.told) == 4

    asyncio.run(story())
    assert (kind.fake.folder / "ran").read_text() == "x\n"


def test_a_submission_that_came_through_in_silence_runs_nothing_twice(kind: Kind) -> None:
    """The command took the job, and was killed before it could say so."""
    script = kind.fake.folder / "bin" / kind.submit
    script.write_text(script.read_text().replace("exec ", "[ -e $0.once ] || { touch $0.once; loud=1; }\n") + '[ -z "$loud" ] || sleep 5\n')
    kind.fake.fate("wait 1.5")
    one = program("sh", "-c", f"echo x >> {kind.fake.folder}/ran; sleep 1.5")
    assert kind.run_one(one, patience=1.0).outcome == Succeeded()
    assert kind.fake.submitted() == 2
    assert (kind.fake.folder / "ran").read_text() == "x\n"


def test_a_system_that_never_takes_it_is_given_up(kind: Kind) -> None:
    kind.fake.fault(kind.submit, "*error commlib error: Failed to connect to master")
    ended = kind.run_one(program("true"), pace=Pace(look=0.02, poll=0.1, soon=0.1, patience=0.5))
    assert isinstance(ended.outcome, Crashed)
    assert f"{kind.name} did not take the job" in message(ended)
    assert "commlib error" in message(ended)


def test_odd_answers_to_polls_lose_nothing(kind: Kind) -> None:
    odd = ("error cannot reach it", "print <html>502 Bad Gateway</html>", "print [{", "print [1]", "sleep 1", "print {}", "print <job_info")
    kind.fake.fault(kind.poll, *odd)

    async def story() -> None:
        gate = kind.fake.folder / "gate"
        async with kind.bench(patience=0.3, pace=Pace(look=0.02, poll=0.05, soon=0.05)) as b:
            one = program("sh", "-c", f"until [ -e {gate} ]; do sleep 0.05; done")
            b.executor.start(one)
            await b.until(lambda: any("running on" in text for text in b.told))
            gate.touch()
            (ended,) = await b.finish(one)
            assert ended.outcome == Succeeded()

    asyncio.run(story())
    assert len(kind.fake.asked(kind.poll)) > len(odd)


def test_canceling_is_repeated_until_it_works(kind: Kind) -> None:
    async def story() -> None:
        kind.fake.fault(kind.cancel, "error nobody there", "sleep 1", "print what?")
        async with kind.bench(patience=0.5) as b:
            one = program("sleep", "1000")
            b.executor.start(one)
            await b.until(lambda: any("running on" in text for text in b.told))
            b.executor.stop(one.execution, "enough")
            (ended,) = await b.finish(one)
            assert ended.outcome == Canceled("enough")
            assert not kind.fake.alive()

    asyncio.run(story())
    assert len(kind.fake.asked(kind.cancel)) >= 4


def test_canceling_what_waits_or_is_not_submitted_yet(kind: Kind) -> None:
    async def story() -> None:
        kind.fake.fate("wait 100")
        kind.fake.fault(kind.submit, "ok", "*error commlib error: Failed to connect")
        async with kind.bench() as b:
            one, other = program("touch", f"{kind.fake.folder}/ran"), program("touch", f"{kind.fake.folder}/ran")
            b.executor.start(one)
            await b.until(lambda: b.executor.jobs)
            b.executor.start(other)
            await b.until(lambda: any("does not take" in text for text in b.told))
            for each in (one, other):
                b.executor.stop(each.execution, "enough")
            assert [each.outcome for each in await b.finish(one, other)] == [Canceled("enough")] * 2

    asyncio.run(story())
    assert not kind.fake.alive()
    assert not (kind.fake.folder / "ran").exists()


def test_limits_of_time_and_output(kind: Kind) -> None:
    late, loud = kind.run(
        program("sleep", "1000", time_limit=200), program("sh", "-c", "yes | head -c 300000; sleep 1000", output_limit=1000)
    )
    assert isinstance(late.outcome, Failed)
    assert isinstance(loud.outcome, Failed)
    assert (late.outcome.cause, loud.outcome.cause) == (Cause.time_limit, Cause.output_limit)
    assert loud.stdout.size == 300_000
    assert loud.stdout.path is not None
    assert not kind.fake.alive()


def test_waiting_does_not_count_as_time(kind: Kind) -> None:
    kind.fake.fate("wait 1")
    assert kind.run_one(program("true", time_limit=500)).outcome == Succeeded()


def test_output_that_is_not_kept(kind: Kind) -> None:
    ended = kind.run_one(program("sh", "-c", "echo a; echo b >&2", keep_stdout=Keep.on_failure, keep_stderr=Keep.never))
    assert (ended.stdout.size, ended.stderr.size) == (0, 0)


@pytest.mark.parametrize(
    ("execution", "words"),
    [
        (call(len, []), "functions and steps run in processes of a worker"),
        (program("true", memory_limit=1000), "memory_limit= is not held there"),
        (program("true", pin=Pin.taskset), "pin= is for processors of the worker's host"),
        (program(), "argv is empty"),
    ],
)
def test_what_cannot_run_there_is_told(kind: Kind, execution: Execution, words: str) -> None:
    assert words in message(kind.run_one(execution))
    assert kind.fake.submitted() == 0


def test_all_jobs_are_asked_for_at_once(kind: Kind) -> None:
    ended = kind.run(*[program("sh", "-c", "sleep 0.5; echo $0", str(n)) for n in range(8)])
    assert [one.stdout.tail for one in ended] == [b"%d\n" % n for n in range(8)]
    polls = kind.fake.asked(kind.poll)
    assert len(polls) < 40
    if kind.name == "htcondor":
        assert max(len(line.split()) for line in polls) > 8, "many in one question"


def test_closing_ends_what_runs(kind: Kind) -> None:
    async def story() -> None:
        async with kind.bench() as b:
            one = program("sleep", "1000")
            b.executor.start(one)
            await b.until(lambda: any("running on" in text for text in b.told))
        assert b.ended[one.execution].outcome == Canceled("the worker stops")

    asyncio.run(story())
    assert not kind.fake.alive()
