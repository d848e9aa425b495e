"""Plugins of real clients and coordinators, on either broker: what they are told of tasks that succeed, fail, retry and are canceled."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs import AsyncClient, Client, Job, LocalCluster, Retry, current
from broker_jobs.errors import BrokerUnavailable, ClientClosed, SubmitUnknown, Vetoed
from broker_jobs.hooks import JobNow, TaskNow, impl
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.rabbitmq import RabbitMQ

PATIENCE = 60.0


class Recorder:
    """Remembers all that it is told; may refuse tasks by their name."""

    def __init__(self, *, refuses: str = "", keeps: str = "") -> None:
        self.refuses = refuses
        self.keeps = keeps
        self.calls: list[tuple[str, TaskNow]] = []
        self.jobs: list[JobNow] = []
        self.ended = threading.Event()

    @impl
    def on_task_init(self, task: TaskNow) -> None:
        self.calls.append(("init", task))

    @impl
    async def on_task_queued(self, task: TaskNow) -> None:
        self.calls.append(("queued", task))

    @impl
    async def on_task_submitting(self, task: TaskNow) -> bool:
        self.calls.append(("submitting", task))
        return not self.refuses or task.name != self.refuses

    @impl
    def on_task_submitted(self, task: TaskNow) -> None:
        self.calls.append(("submitted", task))

    @impl
    async def on_task_started(self, task: TaskNow) -> None:
        self.calls.append(("started", task))

    @impl
    def on_task_polling(self, task: TaskNow) -> None:
        self.calls.append(("polling", task))

    @impl
    def on_task_killing(self, task: TaskNow) -> bool:
        self.calls.append(("killing", task))
        return not self.keeps or task.name != self.keeps

    @impl
    async def on_task_killed(self, task: TaskNow) -> None:
        self.calls.append(("killed", task))

    @impl
    def on_task_failed(self, task: TaskNow) -> None:
        self.calls.append(("failed", task))

    @impl
    def on_task_succeeded(self, task: TaskNow) -> None:
        self.calls.append(("succeeded", task))

    @impl
    def on_complete(self, job: JobNow) -> None:
        self.jobs.append(job)
        self.ended.set()

    def of(self, name: str) -> list[str]:
        """What it was told of the task of this name."""
        return [hook for hook, task in self.calls if task.name == name]

    def last(self, name: str) -> TaskNow:
        """The last that it was told of the task of this name."""
        return [task for _, task in self.calls if task.name == name][-1]


BEFORE = ["init", "queued", "submitting", "submitted"]


@pytest.fixture(scope="module", params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.long)])
def url(request: pytest.FixtureRequest) -> str | None:
    """As for the other files, with RabbitMQ where there is time."""
    if request.param == "embedded":
        return None
    node: RabbitMQ = request.getfixturevalue("rabbitmq")
    return node.fresh_vhost()


@pytest.fixture(scope="module")
def cluster(url: str | None) -> Iterator[LocalCluster]:
    with LocalCluster(cpus=2, url=url) as found:
        yield found


def fail_once() -> int:
    if current.attempt == 1:
        raise ValueError("not yet")
    return current.attempt


def fail() -> None:
    raise ValueError("never")


def halfway() -> None:
    current.progress(0.5, "half of it")


def long_one() -> None:
    time.sleep(PATIENCE)


def test_every_moment_of_every_task_comes_once_and_in_order(cluster: LocalCluster) -> None:
    recorder = Recorder()
    job = Job("moments")
    fine = job.program(["true"], name="fine")
    job.function(fail_once, name="again", retry=Retry(2, backoff=0.05), deps=[fine])
    broken = job.function(fail, name="broken")
    job.program(["true"], name="aborted", deps=[broken])
    job.function(halfway, name="halfway")
    with cluster.client(plugins=[recorder]) as client:
        submitted = client.submit(job)
        assert not submitted.wait(PATIENCE)
    assert recorder.of("fine") == [*BEFORE, "started", "succeeded"]
    again = recorder.of("again")
    assert again[:5] == [*BEFORE, "started"]
    assert again[-1] == "succeeded"
    assert set(again[5:-1]) == {"polling"}
    assert recorder.last("again").attempt == 2
    assert recorder.of("broken") == [*BEFORE, "started", "failed"]
    assert "never" in recorder.last("broken").reason
    assert recorder.of("aborted") == [*BEFORE, "killed"]
    assert recorder.last("aborted").state == "aborted"
    assert recorder.of("halfway")[4] == "started"
    assert recorder.of("halfway")[-1] == "succeeded"
    assert [(found.id, found.state, found.counts) for found in recorder.jobs] == [
        (submitted.id, "failed", {"succeeded": 3, "failed": 1, "aborted": 1})
    ]
    assert client.hook_failures() == {}


def test_progress_and_retries_are_told_while_a_task_goes_on(cluster: LocalCluster) -> None:
    recorder = Recorder()
    polled = threading.Event()

    class Waits:
        @impl
        def on_task_polling(self, task: TaskNow) -> None:
            if task.progress == 0.5:
                polled.set()

    job = Job()
    job.function(halfway_and_wait, name="long")
    with cluster.client(plugins=[recorder, Waits()]) as client:
        submitted = client.submit(job)
        assert polled.wait(PATIENCE)
        submitted.cancel("enough")
        assert not submitted.wait(PATIENCE)
    told = recorder.of("long")
    assert told[:5] == [*BEFORE, "started"]
    assert told[-1] == "killed"
    assert told.count("killing") == 1
    assert (recorder.last("long").state, recorder.last("long").reason) == ("canceled", "enough")
    halves = [task for hook, task in recorder.calls if hook == "polling" and task.progress == 0.5]
    assert halves[0].progress_text == "half of it"
    assert recorder.jobs[0].state == "canceled"


def halfway_and_wait() -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        halfway()  # again and again: a process drops what comes within a tenth of a second, and the task before may have said something
        time.sleep(0.15)


def test_a_plugin_keeps_tasks_from_being_canceled(cluster: LocalCluster) -> None:
    recorder = Recorder(keeps="dear")
    job = Job()
    gate = job.function(long_one, name="gate")
    job.program(["true"], name="dear")
    job.program(["true"], name="waits", deps=[gate])
    with cluster.client(plugins=[recorder]) as client, cluster.client() as stranger:
        submitted = client.submit(job)
        assert submitted.cancel(tasks=["dear"]).before_start == 0
        submitted.cancel()
        assert not submitted.wait(PATIENCE)
        assert recorder.ended.wait(PATIENCE)
        assert recorder.of("dear")[-1] == "succeeded"
        assert recorder.of("gate")[-1] == recorder.of("waits")[-1] == "killed"
        other = stranger.submit(job)
        assert client.cancel([client.job(other.id)]).unknown == 0, "also of a job that it did not submit"
        assert not other.wait(PATIENCE)
        assert {task.name for task in other.tasks() if task.state == "succeeded"} == {"dear"}


def test_what_runs_again_is_told_of_again(cluster: LocalCluster) -> None:
    recorder = Recorder()
    job = Job()
    fine = job.program(["true"], name="fine")
    job.function(fail, name="broken", deps=[fine])
    job.program(["true"], name="other")
    with cluster.client(plugins=[recorder]) as client:
        submitted = client.submit(job)
        assert not submitted.wait(PATIENCE)
        assert recorder.ended.wait(PATIENCE)
        recorder.calls.clear()
        again = submitted.resubmit()
        assert not again.wait(PATIENCE)
        assert recorder.of("broken")[:4] == BEFORE
        recorder.refuses = "broken"
        with pytest.raises(Vetoed):
            again.resubmit()
    told = [hook for hook, task in recorder.calls if task.job == again.id]
    assert told == [*BEFORE, "started", "failed"]
    assert recorder.of("fine") == recorder.of("other") == []
    assert [(found.id, found.counts) for found in recorder.jobs] == [(one.id, {"succeeded": 2, "failed": 1}) for one in (submitted, again)]


def test_a_job_that_a_plugin_refuses_is_not_sent(cluster: LocalCluster) -> None:
    recorder = Recorder(refuses="bad")
    job = Job("refused")
    job.program(["true"], name="good")
    job.program(["true"], name="bad")
    with cluster.client(plugins=[recorder]) as client:
        with pytest.raises(Vetoed, match=r"'Recorder' would not have task 1 'bad'; nothing was sent") as caught:
            client.submit(job)
        opened = client.open("open")
        with pytest.raises(Vetoed):
            client.submit(job, to=opened)
        assert client.jobs(name="refused") == []
        assert opened.info().total == 0
        opened.close()
    assert (caught.value.plugin, caught.value.tasks) == ("Recorder", (1,))
    assert recorder.of("good") == ["init", "queued", "submitting"] * 2


def test_of_a_job_that_could_not_be_sent_no_more_is_told(cluster: LocalCluster) -> None:
    recorder = Recorder()
    job = Job()
    job.program(["true"], name="fine")
    with cluster.client(plugins=[recorder]) as client:
        with pytest.raises((BrokerUnavailable, SubmitUnknown)):
            client.submit(job, timeout=0)
        assert client.submit(job).wait(PATIENCE)
    assert recorder.of("fine") == [*BEFORE[:-1], *BEFORE, "started", "succeeded"]


def test_tasks_of_an_open_job_are_told_of_by_whoever_submits_them(cluster: LocalCluster) -> None:
    recorder, other = Recorder(), Recorder()
    with cluster.client(plugins=[recorder]) as client, cluster.client(plugins=[other]) as second:
        opened = client.open("open")
        for name, submitter in (("a", client), ("b", second), ("c", client)):
            job = Job()
            job.program(["true"], name=name)
            submitter.submit(job, to=opened.id)
        opened.close()
        assert opened.wait(PATIENCE)
        assert recorder.ended.wait(PATIENCE)
        assert other.ended.wait(PATIENCE)
    assert {name: recorder.of(name) for name in "abc"} == {
        "a": [*BEFORE, "started", "succeeded"],
        "b": [],
        "c": [*BEFORE, "started", "succeeded"],
    }
    assert other.of("b") == [*BEFORE, "started", "succeeded"]
    assert recorder.last("c").number == 2
    assert len(recorder.jobs) == len(other.jobs) == 1


def test_many_tasks(cluster: LocalCluster) -> None:
    recorder = Recorder()
    job = Job()
    job.map(abs, range(1000))
    with cluster.client(plugins=[recorder]) as client:
        assert client.submit(job).wait(PATIENCE)
    told: dict[int, list[str]] = defaultdict(list)
    for hook, task in recorder.calls:
        told[task.number].append(hook)
    assert sorted(told) == list(range(1000))
    assert all([hook for hook in hooks if hook != "polling"] == [*BEFORE, "started", "succeeded"] for hooks in told.values())


def test_plugins_of_an_asynchronous_client(cluster: LocalCluster) -> None:
    recorder = Recorder()

    async def story() -> dict[str, int]:
        async with AsyncClient(cluster.url, namespace=cluster.namespace, signing_key=cluster.key, plugins=[recorder]) as client:
            job = Job()
            job.program(["true"], name="fine")
            assert await (await client.submit(job)).results(timeout=PATIENCE) is not None
            return await client.hook_failures()

    assert asyncio.run(story()) == {}
    assert recorder.of("fine") == [*BEFORE, "started", "succeeded"]


def test_a_plugin_submits_and_cannot_block_the_client(cluster: LocalCluster) -> None:
    done = threading.Event()

    class Reacts:
        @impl
        def on_task_failed(self, client: Client, task: TaskNow) -> None:
            follow_up = Job()
            follow_up.program(["true"], name=f"after {task.name}")
            client.submit(follow_up)

        @impl
        async def on_task_started(self, client: Client) -> None:
            client.call(abs, -1)  # on the client's own loop: refused, where it would hang

        @impl
        def on_task_succeeded(self, task: TaskNow) -> None:
            if task.name == "after broken":
                done.set()

    job = Job()
    job.function(fail, name="broken")
    with cluster.client(plugins=[Reacts()]) as client:
        client.submit(job)
        assert done.wait(PATIENCE)
        assert client.hook_failures() == {f"{Reacts.__qualname__}.on_task_started": 2}


def test_a_veto_at_the_end_keeps_calls(cluster: LocalCluster, tmp_path: Path) -> None:
    class Keeps:
        @impl
        def on_shutdown(self) -> bool:
            return False

    ran = tmp_path / "ran"
    with cluster.client() as stranger:
        job = Job()
        blockers = job.map(wait_for, [str(tmp_path / "go")] * 2)
        blocking = stranger.submit(job)
        client = cluster.client(plugins=[Keeps()])
        with client.executor() as pool:
            future = pool.submit(ran.touch)
            client.close()
            with pytest.raises(ClientClosed):
                future.result(PATIENCE)
        (tmp_path / "go").touch()
        assert blocking.wait(PATIENCE)
        assert len(blockers) == 2
        deadline = time.monotonic() + PATIENCE
        while not ran.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.05)


def test_after_a_cut_connection_nothing_is_missed(rabbitmq: RabbitMQ) -> None:
    recorder = Recorder()

    async def story(cluster: LocalCluster) -> None:
        async with Proxy(cluster.url) as proxy:
            client = await asyncio.to_thread(Client, proxy.url, namespace=cluster.namespace, signing_key=cluster.key, plugins=[recorder])
            client.runtime.reports_left_work = False
            job = Job()
            job.map(nap, range(60), name="nap")
            try:
                submitted = await asyncio.to_thread(client.submit, job)
                for _ in range(3):
                    await proxy.cut()
                    await asyncio.sleep(0.3)  # away for a while: what workers say meanwhile is lost
                    await proxy.mend()
                    await asyncio.sleep(0.3)
                assert await asyncio.to_thread(submitted.wait, PATIENCE)
                assert await asyncio.to_thread(recorder.ended.wait, PATIENCE)
            finally:
                await asyncio.to_thread(client.close)

    with LocalCluster(cpus=2, url=rabbitmq.fresh_vhost()) as cluster:
        asyncio.run(asyncio.wait_for(story(cluster), 100))
    told: dict[int, list[str]] = defaultdict(list)
    for hook, task in recorder.calls:
        told[task.number].append(hook)
    assert len(told) == 60
    assert all([hook for hook in hooks if hook != "polling"] == [*BEFORE, "started", "succeeded"] for hooks in told.values())


def nap(_number: int) -> None:
    time.sleep(0.05)


# --- what is installed ---

INSTALLED = """
    import os
    from pathlib import Path

    from broker_jobs.hooks import impl

    NOTES = Path(os.environ["HOOK_NOTES"])

    def note(*words):
        with NOTES.open("a") as file:
            file.write(" ".join(map(str, words)) + "\\n")

    note("loaded", os.getpid())

    @impl
    def on_init(): note("init")

    @impl
    async def on_task_started(task): note("started", task.name)

    @impl
    async def on_task_succeeded(task): note("succeeded", task.name)

    @impl
    def on_task_failed(task):
        note("failed", task.name, task.reason)
        raise RuntimeError("of the plugin")

    @impl
    def on_task_killed(task): note("killed", task.name, task.state)

    @impl
    def on_complete(job): note("complete", job.name, job.state, *(f"{state}={count}" for state, count in sorted(job.counts.items())))

    @impl
    def on_shutdown(): note("shutdown")
"""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a plugin writes that can be installed in this folder, which is on the import path of new processes."""
    (tmp_path / "noting.py").write_text(textwrap.dedent(INSTALLED), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("HOOK_NOTES", str(tmp_path / "notes"))
    return tmp_path / "notes"


@pytest.fixture
def environ(notes: Path) -> dict[str, str]:
    """Of a script that submits a job."""
    (notes.parent / "script.py").write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(notes.parent), "HOOK_NOTES": str(notes)}


def install(folder: Path, group: str) -> None:
    info = folder / "noting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: noting\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{group}]\nnoting = noting\n", encoding="utf-8")


def three_tasks() -> Job:
    job = Job("three")
    job.program(["true"], name="fine")
    broken = job.function(fail, name="broken")
    job.program(["true"], name="aborted", deps=[broken])
    return job


def until(notes: Path, text: str) -> list[str]:
    deadline = time.monotonic() + PATIENCE
    while not notes.exists() or text not in notes.read_text():
        assert time.monotonic() < deadline, notes.read_text() if notes.exists() else "no notes"
        time.sleep(0.05)
    return notes.read_text().splitlines()


def test_a_coordinator_tells_what_was_recorded(notes: Path, url: str | None) -> None:
    install(notes.parent, "broker_jobs.coordinator")
    with LocalCluster(cpus=2, url=url) as cluster, cluster.client() as client:
        assert client.call(abs, -1) == 1
        assert not client.submit(three_tasks()).wait(PATIENCE)
        until(notes, "complete")
        job = Job("canceled")
        job.map(long_one_of, range(50), name="many")
        submitted = client.submit(job)
        submitted.cancel()
        assert not submitted.wait(PATIENCE)
        lines = until(notes, "complete canceled")
        log = cluster.logs()
    loaded = [line for line in lines if line.startswith("loaded")]
    assert len(loaded) == 1, "in one process alone, which is the coordinator's"
    assert lines[1] == "init"
    first = lines[2 : lines.index(next(line for line in lines if line.startswith("complete three"))) + 1]
    assert sorted(first) == [
        "complete three failed aborted=1 failed=1 succeeded=1",
        "failed broken ValueError: never",
        "killed aborted aborted",
        "started broken",
        "started fine",
        "succeeded fine",
    ]
    assert first.index("started broken") < first.index("failed broken ValueError: never")
    assert first[-1].startswith("complete")
    assert {f"killed many[{number}] canceled" for number in range(50)} <= set(lines)
    assert "on_task_failed has failed" in log
    assert lines[-1].startswith("complete canceled")


def long_one_of(_number: int) -> None:
    long_one()


SCRIPT = """
    import sys
    from broker_jobs import Client, Job

    with Client(plugins=sys.argv[1:]) as client:
        job = Job("script")
        job.program(["true"], name="fine")
        assert client.submit(job).wait(60)
        print(client.hook_failures())
"""


def run_script(environ: dict[str, str], *plugins: str) -> None:
    script = [sys.executable, str(Path(environ["PYTHONPATH"]) / "script.py"), *plugins]
    done = subprocess.run(script, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "{}\n"), done.stderr


def test_an_installed_plugin_of_clients_runs_in_them_alone(notes: Path, environ: dict[str, str]) -> None:
    install(notes.parent, "broker_jobs")
    with LocalCluster(cpus=1) as cluster:
        there = {
            "BROKER_JOBS_URL": cluster.url,
            "BROKER_JOBS_NAMESPACE": cluster.namespace,
            "BROKER_JOBS_SIGNING_KEY": cluster.key,
            "BROKER_JOBS_HOME": str(cluster.folder),
        }
        run_script({**environ, **there}, "no:noting")
        assert not notes.exists()
        run_script({**environ, **there})
    lines = notes.read_text().splitlines()
    assert lines[0].startswith("loaded")
    assert lines[1:] == ["init", "started fine", "succeeded fine", "complete script succeeded succeeded=1", "shutdown"]


def test_no_plugin_runs_in_a_node(notes: Path, environ: dict[str, str]) -> None:
    install(notes.parent, "broker_jobs.coordinator")
    environ["BROKER_JOBS_HOME"] = str(notes.parent / "home")
    try:
        run_script(environ)
    finally:
        subprocess.run([sys.executable, "-m", "broker_jobs", "down"], env=environ, check=True, timeout=60)
    assert not notes.exists()
