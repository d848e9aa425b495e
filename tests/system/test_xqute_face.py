"""Programs that were written for xqute: its names, its files and its hooks over real workers.

What is asked here is what xqute's own tests ask, and what xqute itself does not do, said anew.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.compat.xqute import Job, JobErrorStrategy, JobStatus, Scheduler, Simplug, Xqute, plugin
from broker_jobs.errors import ValidationError
from tests.support.daemons import until
from tests.support.xqute import place

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from tests.support.batches import FakeBatch
    from tests.support.gridengine import GridEngine

NASTY = ["$(touch X)", 'it\'s "quoted"', "$HOME", "`touch X`", "", "two\nlines", "ä\udcff", "*", "\\", "%{CWD}"]
SHOW = "import os, sys; sys.stdout.buffer.write(b'|'.join(os.fsencode(each) for each in sys.argv[1:]))"
SHOWN = "|".join(NASTY).encode(errors="surrogateescape")
STUBBORN = "trap '' TERM; sleep 1000 & echo $$ > pid; wait; sleep 1000"


@pytest.fixture(scope="module", params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.long)], autouse=True)
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A place to run."""
    with place(request.param, request, tmp_path_factory.mktemp("place")):
        yield


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Told:
    """A plugin that notes what it is told."""

    def __init__(self, vetoes: str = "", then: Callable[[], object] = lambda: None) -> None:
        self.heard: list[str] = []
        self.vetoes, self.then = vetoes, then

        def noting(name: str) -> Any:
            async def hook(scheduler: Scheduler, job: Job) -> bool | None:
                self.heard.append(f"{name.removeprefix('on_job_')} {job.index}")
                if name == "on_job_started":
                    self.then()
                return False if name == self.vetoes else None

            hook.__name__ = name
            return plugin.impl(hook)

        for moment in ("init", "queued", "submitting", "submitted", "started", "killing", "killed", "failed", "succeeded"):
            setattr(self, f"on_job_{moment}", noting(f"on_job_{moment}"))

    @plugin.impl
    async def on_init(self, scheduler: Scheduler) -> None:
        self.heard.append("on_init")

    @plugin.impl
    async def on_shutdown(self, scheduler: Scheduler, consumer: object) -> bool | None:
        self.heard.append("on_shutdown")
        return False if self.vetoes == "on_shutdown" else None

    @plugin.impl
    async def on_complete(self, scheduler: Scheduler) -> None:
        self.heard.append("on_complete")

    def of(self, index: int) -> list[str]:
        """What was told of one job."""
        return [text.split()[0] for text in self.heard if text.endswith(f" {index}")]


def ran(*commands: object, scheduler: Any = "local", **options: Any) -> list[Job]:
    """Run these, and return the jobs."""

    async def story() -> list[Job]:
        xqute = Xqute(scheduler, **options)
        for command in commands:
            await xqute.push(command)  # type: ignore[arg-type]
        await xqute.run_until_complete()
        return xqute.jobs

    return asyncio.run(story())


def code(job: Job) -> int:
    return int(job.rc_file.read_text())


async def cut_off() -> None:
    """End every other task of the loop, the run of an Xqute among them, as the end of a process does."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.wait(others)


# --- jobs and their folders ---


def test_jobs_run_and_leave_their_files(folder: Path) -> None:
    jobs = ran(["echo", 1], ["sh", "-c", "echo bad >&2; exit 3"], "echo $((1 + 1))", ["nosuchprogram"], forks=3)
    assert [job.now for job in jobs] == [JobStatus.FINISHED, JobStatus.FAILED, JobStatus.FINISHED, JobStatus.FAILED]
    assert [code(job) for job in jobs] == [0, 3, 0, -2]
    assert [job.stdout_file.read_text() for job in jobs[:3]] == ["1\n", "", "2\n"]
    assert jobs[1].stderr_file.read_text() == "bad\n"
    assert "nosuchprogram" in jobs[3].stderr_file.read_text()
    assert jobs[0].metadir == folder / ".xqute" / "0"
    assert jobs[0].status_file.read_text() == str(int(JobStatus.FINISHED))

    async def asked() -> tuple[object, ...]:
        return await jobs[1].status, await jobs[1].rc, await jobs[1].get_status(), await jobs[1].get_rc(), await jobs[1].get_jid()

    assert asyncio.run(asked()) == (JobStatus.FAILED, 3, JobStatus.FAILED, 3, None)


def test_arguments_of_a_list_arrive_as_those_very_bytes(folder: Path) -> None:
    [job] = ran([sys.executable, "-c", SHOW, *NASTY])
    assert job.stdout_file.read_bytes() == SHOWN
    assert not list(folder.rglob("X"))


def test_both_spellings_of_options_and_verbs(folder: Path) -> None:
    async def story() -> None:
        old = Xqute(job_metadir="old", job_error_strategy="retry", job_num_retries=1, scheduler_forks=2, cwd=folder)
        new = Xqute(workdir="new", error_strategy=JobErrorStrategy.RETRY, num_retries=1, forks=2, scheduler_opts={"cwd": folder})
        for one in (old, new):
            assert (one.scheduler.forks, one.scheduler.num_retries, one.scheduler.error_strategy) == (2, 1, "retry")
            await one.push(["true"])
            await one.put(["true"])
            await one.feed("test $A = b -a $XQUTE_JOB_INDEX = 2", {"A": "b"})
            await one.run_until_complete()
            assert [job.now for job in one.jobs] == [JobStatus.FINISHED] * 3
        assert (folder / "old" / "2").is_dir()
        assert (folder / "new" / "2").is_dir()

    asyncio.run(story())


def test_wrong_options_are_refused() -> None:
    with pytest.raises(RuntimeError, match="in an event loop"):
        Xqute()
    for options in (
        {"scheduler": "slurm"},
        {"forks": 0},
        {"error_strategy": "hope"},
        {"sge_q": "1-day"},
        {"scheduler": "sge", "qsub": "/no/qsub"},
    ):
        with pytest.raises(ValidationError):
            ran(**options)


def test_a_time_limit(folder: Path) -> None:
    slow, quick = ran(["sleep", 100], ["true"], timeout=1, forks=2)
    assert (code(slow), code(quick)) == (124, 0)
    assert slow.stderr_file.read_text() == "timed out after 1 seconds\n"


# --- forks and feeding ---


def test_forks_are_honoured_while_feeding_continues(folder: Path) -> None:
    (folder / "now").mkdir()
    script = "touch now/$$; ls now | wc -l; sleep 0.2; rm now/$$"

    async def story() -> None:
        xqute = Xqute(forks=2)
        await xqute.run_until_complete(keep_feeding=True)
        assert xqute.is_feeding()
        for _ in range(6):
            await xqute.feed(["sh", "-c", script])
        async with asyncio.timeout(30):
            while not all(job.now is JobStatus.FINISHED for job in xqute.jobs):
                await asyncio.sleep(0.05)
        await xqute.feed(["true"])
        await xqute.stop_feeding()
        assert [job.now for job in xqute.jobs] == [JobStatus.FINISHED] * 7
        counts = [int(job.stdout_file.read_text()) for job in xqute.jobs[:6]]
        assert max(counts) == 2

    asyncio.run(story())


def test_more_forks_than_processors_run_at_once(folder: Path) -> None:
    (folder / "now").mkdir()
    number = 8
    script = f"touch now/$$; while [ $(ls now | wc -l) -lt {number} ]; do sleep 0.05; done"
    jobs = ran(*[["sh", "-c", script]] * number, forks=number)
    assert [job.now for job in jobs] == [JobStatus.FINISHED] * number


def test_feeding_that_is_not_stopped_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        xqute = Xqute()
        await xqute.stop_feeding()
        await xqute.run_until_complete(keep_feeding=True)
        await cut_off()
        xqute.__del__()

    with caplog.at_level(logging.WARNING, "XQUTE"):
        asyncio.run(story())
    assert "stop_feeding() called but keep_feeding mode was not started" in caplog.text
    assert "stop_feeding() was not called" in caplog.text


# --- failures ---


def test_a_failing_job_is_tried_again_and_its_trials_are_kept_until_the_next_run(folder: Path) -> None:
    told = Told()
    command = ["sh", "-c", "echo try >> tries; wc -l < tries; exit 1"]
    [job] = ran(command, error_strategy="retry", num_retries=2, plugins=[told])
    assert (job.now, job.trial_count, code(job)) == (JobStatus.FAILED, 2, 1)
    assert [(job.retry_dir / trial / "job.stdout").read_text() for trial in "12"] == ["1\n", "2\n"]
    assert job.stdout_file.read_text() == "3\n"
    trial = ["submitting", "submitted", "started"]
    assert told.of(0) == ["init", "queued", *trial, *trial, *trial, "failed"]
    assert told.heard[0] == "init 0"
    assert told.heard[-1] == "on_complete"
    [again] = ran(["true"])
    assert not again.retry_dir.exists()
    assert again.now is JobStatus.FINISHED


def test_the_first_failure_halts_the_others(folder: Path) -> None:
    told = Told()
    jobs = ran(["sleep", 1000], ["false"], ["true"], ["true"], error_strategy="halt", forks=2, plugins=[told])
    assert [job.now for job in jobs] == [JobStatus.KILLED, JobStatus.FAILED, JobStatus.QUEUED, JobStatus.QUEUED]
    assert told.of(0)[-2:] == ["killing", "killed"]
    assert "on_shutdown" in told.heard


# --- hooks ---


def test_plugins_are_told_in_order(folder: Path) -> None:
    told = Told()
    counters: list[int] = []

    class Polled:
        @plugin.impl
        async def on_job_polling(scheduler: Scheduler, job: Job, counter: int) -> None:  # type: ignore[misc]  # noqa: N805 (as xqute)
            counters.append(counter)
            if counter == 2:
                Path("go").touch()

    plugin.register(told, Polled)
    try:
        ran("until [ -e go ]; do sleep 0.05; done")
    finally:
        plugin.unregister(told, Polled)
    assert told.heard == ["init 0", "queued 0", "on_init", "submitting 0", "submitted 0", "started 0", "succeeded 0", "on_complete"]
    assert counters[:2] == [1, 2]
    heard = list(told.heard)
    ran(["true"])
    assert told.heard == heard, "it is not registered any more"


def test_a_job_that_a_plugin_will_not_have_does_not_run(folder: Path) -> None:
    told = Told("on_job_submitting")
    [job] = ran(["touch", "here"], plugins=[told])
    assert job.now is JobStatus.KILLED
    assert not (folder / "here").exists()
    assert told.of(0) == ["init", "queued", "submitting"]


def test_hooks_that_are_plain_functions_are_warned_of_and_called(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[object] = []

    class Plain:
        with pytest.warns(UserWarning, match="on_complete should be a coroutine function"):

            @plugin.impl
            def on_complete(self, scheduler: Scheduler) -> None:
                heard.append(scheduler.name)
                raise RuntimeError("of a plugin")

        @Simplug("xqute").impl
        def on_init(self, xqute: Xqute) -> None:
            heard.append(xqute.jobs)

    [job] = ran(["true"], plugins=[Plain()])
    assert heard == [[job], "local"]
    assert "of a plugin" in caplog.text

    async def on_job_vanished(job: Job) -> None: ...

    with pytest.raises(ValidationError, match="on_job_vanished"):
        plugin.impl(on_job_vanished)


# --- the end ---


def test_a_signal_kills_what_runs_for_good(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    def ask() -> None:
        until((folder / "pid").exists, "the program runs")
        os.kill(os.getpid(), signal.SIGTERM)

    told = Told(then=ask)
    jobs = ran(["sh", "-c", STUBBORN], ["true"], plugins=[told])
    assert "Got signal SIGTERM" in caplog.text
    assert [job.now for job in jobs] == [JobStatus.KILLED, JobStatus.QUEUED]
    assert code(jobs[0]) == -9
    assert told.of(0)[-3:] == ["started", "killing", "killed"]
    assert told.heard[-1] == "on_complete"
    assert not Path("/proc", (folder / "pid").read_text().strip()).exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("veto", ["on_shutdown", "on_job_killing"])
def test_a_plugin_can_let_it_go_on(veto: str, folder: Path) -> None:
    def ask() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        (folder / "go").touch()

    told = Told(veto, ask)
    [job] = ran("until [ -e go ]; do sleep 0.05; done", plugins=[told])
    assert job.now is JobStatus.FINISHED
    assert veto.removeprefix("on_job_") in [text.split()[0] for text in told.heard]
    assert told.of(0)[-1] == "succeeded"


def test_a_job_that_still_runs_is_adopted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def begun() -> None:
        xqute = Xqute()
        await xqute.push("touch began; until [ -e go ]; do sleep 0.05; done; echo once")
        await xqute.run_until_complete(keep_feeding=True)
        async with asyncio.timeout(30):
            while not (folder / "began").exists():
                await asyncio.sleep(0.05)
        await cut_off()

    asyncio.run(begun())
    (folder / "began").unlink()

    async def again() -> Job:
        xqute = Xqute()
        await xqute.push("echo twice")
        await xqute.run_until_complete(keep_feeding=True)
        async with asyncio.timeout(30):
            while "Skip submitting" not in caplog.text:
                await asyncio.sleep(0.05)
        (folder / "go").touch()
        await xqute.stop_feeding()
        [job] = xqute.jobs
        return job

    job = asyncio.run(again())
    assert (job.now, code(job), job.stdout_file.read_text()) == (JobStatus.FINISHED, 0, "once\n")


# --- Grid Engine ---


def test_jobs_go_to_grid_engine(folder: Path, fake: FakeBatch) -> None:
    paths = {name: path for name, (path,) in fake.sge.items()}
    options = {"sge_l": ["h_vmem=2G", "gpu=1"], "V": True, **paths}
    jobs = ran([sys.executable, "-c", SHOW, *NASTY], ["sh", "-c", "exit 3"], scheduler="sge", forks=2, **options)
    assert jobs[0].stdout_file.read_bytes() == SHOWN
    assert [(job.now, code(job)) for job in jobs] == [(JobStatus.FINISHED, 0), (JobStatus.FAILED, 3)]
    given = fake.facts(1)["options"]
    assert given["-l"] == ["h_vmem=2G", "gpu=1"]
    assert "-V" in given
    [refused] = ran(["true"], scheduler="sge", workdir="other", sge_q="nosuch.q", **paths)
    assert (refused.now, code(refused)) == (JobStatus.FAILED, -2)
    assert 'unknown queue "nosuch.q"' in refused.stderr_file.read_text()


def test_a_real_grid_engine(folder: Path, grid_engine: GridEngine) -> None:
    jobs = ran(["echo", "$(touch X)"], ["false"], scheduler="sge", scheduler_forks=2, sge_q="all.q")
    assert jobs[0].stdout_file.read_text() == "$(touch X)\n"
    assert [code(job) for job in jobs] == [0, 1]
    assert not list(folder.rglob("X"))


# --- a scheduler of one's own ---


class Mine(Scheduler):
    """Scripts in the background of this process."""

    name = "mine"

    async def submit_job(self, job: Job) -> int:
        assert job.wrapped_cmd is not None
        if job.cmd[0] == "refused":
            raise OSError("no room for this")
        process = await asyncio.create_subprocess_exec(*job.wrapped_cmd, start_new_session=True)
        self.config.setdefault("processes", []).append(process)
        return process.pid

    async def kill_job(self, job: Job) -> None:
        os.killpg(int(job.lock_file.read_text()), signal.SIGKILL)

    async def job_is_running(self, job: Job) -> bool:
        return any(process.pid == int(job.lock_file.read_text()) and process.returncode is None for process in self.config["processes"])


def test_a_scheduler_of_ones_own_is_driven(folder: Path) -> None:
    told = Told()
    commands = [[sys.executable, "-c", SHOW, *NASTY], ["sh", "-c", "exit 3"], ["refused"], "kill -9 $PPID; kill -9 $$"]
    jobs = ran(*commands, scheduler=Mine, forks=4, plugins=[told])
    assert jobs[0].stdout_file.read_bytes() == SHOWN
    assert [code(job) for job in jobs] == [0, 3, -2, -3]
    assert "no room for this" in jobs[2].stderr_file.read_text()
    assert "has left no return code" in jobs[3].stderr_file.read_text()
    assert told.of(1) == ["init", "queued", "submitting", "submitted", "started", "failed"]


def test_a_scheduler_of_ones_own_kills(folder: Path) -> None:
    told = Told(then=lambda: os.kill(os.getpid(), signal.SIGTERM))
    [job] = ran(["sleep", 1000], scheduler=Mine, plugins=[told])
    assert job.now is JobStatus.KILLED
    assert told.of(0)[-2:] == ["killing", "killed"]


class Blind(Mine):
    """It runs nothing, and cannot say what runs."""

    async def submit_job(self, job: Job) -> int:
        return job.index

    async def job_is_running(self, job: Job) -> bool:
        raise OSError("nobody answers")


# --- what fails beside a run ---


def test_an_exception_of_ones_own_scheduler_ends_the_run(folder: Path) -> None:
    with pytest.raises(OSError, match="nobody answers"):
        ran(["sleep", 5], ["sleep", 5], scheduler=Blind, forks=2)


def test_an_exception_in_the_news_ends_the_run(folder: Path) -> None:
    def no_room() -> None:
        (folder / ".xqute" / "0" / "job.status").unlink()
        (folder / ".xqute" / "0" / "job.status").mkdir()

    with pytest.raises(IsADirectoryError):
        ran("until [ -d .xqute/0/job.status ]; do sleep 0.05; done", plugins=[Told(then=no_room)])


@pytest.mark.parametrize("wait", [Xqute.run_until_complete, Xqute.stop_feeding])
def test_an_exception_while_feeding_is_raised_by_the_next_wait(wait: Callable[[Xqute], Coroutine[Any, Any, None]], folder: Path) -> None:
    async def story() -> None:
        xqute = Xqute(Blind)
        await xqute.run_until_complete(keep_feeding=True)
        await xqute.feed(["sleep", 5])
        async with asyncio.timeout(30):
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0.05)
        with pytest.raises(OSError, match="nobody answers"):
            await wait(xqute)
        await xqute.run_until_complete()

    asyncio.run(story())
