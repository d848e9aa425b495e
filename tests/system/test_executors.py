"""Workers that run programs in a batch system, from a client to the program and back; the batch system is a fake."""

from __future__ import annotations

import os
import re
import signal
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job, TaskState, ValidationError
from broker_jobs.manager import JobManager
from broker_jobs.templates import JobTemplate
from broker_jobs.wire.signing import new_key
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.support.batches import FakeBatch
    from tests.support.rabbitmq import RabbitMQ

SHOW = "import os, sys; sys.stdout.buffer.write(b'|'.join(os.fsencode(each) for each in sys.argv[1:]))"


class Site:
    """A coordinator, a client, a fake batch system, and workers that are started at will."""

    def __init__(self, daemons: Daemons, client: Client, fake: FakeBatch) -> None:
        self.daemons, self.client, self.fake = daemons, client, fake

    def work(self, system: str = "sge", *options: str, name: str | None = "w") -> subprocess.Popen[bytes]:
        """Start a worker over the batch system; returns when it is there."""
        commands = [f"--executor-option={option}={path}" for option, (path,) in getattr(self.fake, system).items()]
        named = [] if name is None else ["--name", name]
        before = self.present()
        worker = self.daemons.start("worker", "start", "--cpus", "4", "--executor", system, *commands, *named, *options)
        until(lambda: self.present() - before or worker.poll() is not None, lambda: f"a worker\n{self.daemons.logs()}")
        return worker

    def present(self) -> set[tuple[str, int]]:
        """Workers that are there, and their processes."""
        return {(worker.worker, worker.pid) for worker in self.client.cluster().workers if worker.state == "active"}

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """As a power failure does."""
        worker.send_signal(signal.SIGKILL)
        worker.wait(20)


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.long)])
def site(request: pytest.FixtureRequest, tmp_path: Path, fake: FakeBatch) -> Iterator[Site]:
    """A place to work, on each broker."""
    if request.param == "embedded":
        url = f"sqlite:///{tmp_path / 'queue.db'}"
    else:
        rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq")
        url = rabbitmq.fresh_vhost()
    key = new_key()
    with Daemons(tmp_path, {"BROKER_JOBS_URL": url, "BROKER_JOBS_SIGNING_KEY": key}) as daemons:
        daemons.start("coordinator", "start", "--store", f"sqlite:///{tmp_path / 'ledger.db'}")
        with Client(url, signing_key=key) as client:
            client.runtime.reports_left_work = False
            yield Site(daemons, client, fake)


def test_programs_run_in_the_batch_system_and_functions_do_not(site: Site) -> None:
    site.work("sge", "--executor-option", "l=h_vmem=2G", "--executor-option", "l=gpu=1", "--executor-option", "V")
    job = Job()
    nasty = ["$(touch X)", 'it\'s "quoted"', b"\xff"]
    shown = job.program([sys.executable, "-c", SHOW, *nasty], executor="sge")
    chosen = job.program(["true"], executor="sge", executor_options={"q": "all.q", "l": ["h_rt=60"]})
    refused = job.program(["true"], executor="sge", executor_options={"q": "1-day"})
    for wrong in (lambda: job.function(len, args=([],), executor="sge"), lambda: site.client.options(executor="sge")):
        with pytest.raises(ValidationError, match="functions and steps run in processes of a worker"):
            wrong()
    with pytest.raises(ValidationError, match="say which, with executor="):
        job.program(["true"], executor_options={"q": "1-day"})
    submitted = site.client.submit(job)
    site.client.wait_for_jobs([submitted], timeout=60, raise_on_error=False, progress=False)
    tasks = submitted.tasks()
    assert [tasks[task.number].state for task in (shown, chosen)] == [TaskState.succeeded] * 2, site.daemons.logs()
    assert 'sge refuses the job: Job was rejected because job requests unknown queue "1-day"' in tasks[refused.number].reason
    assert submitted.stdout(shown) == b'$(touch X)|it\'s "quoted"|\xff'
    options = [site.fake.facts(number)["options"] for number in (1, 2)]
    assert {tuple(each["-l"]) for each in options} == {("h_vmem=2G", "gpu=1"), ("h_rt=60",)}
    assert all("-V" in each for each in options)
    done = site.daemons.run(
        "submit", "--wait", "--executor", "sge", "--executor-option", "l=a=1", "--executor-option", "l=b=2", "--", "echo", "it's"
    )
    assert done.stdout.strip() == "it's"
    assert site.fake.facts(3)["options"]["-l"] == ["a=1", "b=2"]
    assert "l=a=1 l=b=2" in site.daemons.run("task", "info", "last", "0").stdout


def test_tasks_come_to_the_batch_system_that_they_name_and_others_to_others(site: Site) -> None:
    site.work("htcondor", name="pool")
    job = Job()
    there = job.program(["true"], executor="htcondor", executor_options={"request_gpus": 1})
    here = job.function(len, args=([],))
    elsewhere = job.program(["true"], executor="sge")
    plain = job.program(["true"], executor="local")
    submitted = site.client.submit(job)
    assert submitted.result(there, timeout=60) == 0, site.daemons.logs()
    told = site.daemons.run("task", "explain", submitted.id, str(here.number)).stdout
    assert "it takes tasks with executor htcondor alone" in told
    assert "executor sge: it is not served there" in site.daemons.run("task", "explain", submitted.id, str(elsewhere.number)).stdout
    site.daemons.start("worker", "start", "--cpus", "1", "--name", "here")
    assert (submitted.result(here, timeout=60), submitted.result(plain, timeout=60)) == (0, 0), site.daemons.logs()
    assert [submitted.tasks()[task.number].worker for task in (there, here, plain)] == ["pool", "here", "here"]
    assert site.fake.facts(1)["options"]["request_gpus"] == "1"
    assert submitted.tasks()[elsewhere.number].state is TaskState.queued, "it waits for a worker with Grid Engine"


def test_a_condor_job_of_the_manager_runs_in_htcondor(site: Site, tmp_path: Path) -> None:
    site.work("htcondor", name="pool")
    templates = [
        JobTemplate(
            "count", "condor", {"executable": "wc", "arguments": ["-l", "$(JOB_WORKSPACE)/names"], "attributes": {"request_memory": "2GB"}}
        )
    ]
    with JobManager(tmp_path / "manager.db", client=site.client, templates=templates, workspaces=tmp_path / "work") as manager:
        job = manager.create_job("first", "ann", "count")
        (job.workspace / "names").write_text("Ada\nGrace\n")
        job.execute()
        assert job.wait(60) == "Complete", (job.message, site.daemons.logs())
        assert job.submitted is not None
        assert job.submitted.stdout(0).split()[0] == b"2"
    assert site.fake.facts(1)["options"]["request_memory"] == "2GB"


@pytest.mark.usefixtures("grid_engine")
def test_jobs_of_a_real_grid_engine_go_on_when_their_worker_is_killed(site: Site, tmp_path: Path) -> None:
    def work() -> subprocess.Popen[bytes]:
        before = site.present()
        worker = site.daemons.start("worker", "start", "--cpus", "4", "--executor", "sge", "--name", "w")
        until(lambda: site.present() - before, lambda: f"a worker\n{site.daemons.logs()}")
        return worker

    site.daemons.env.update({name: value for name, value in os.environ.items() if name.startswith("SGE_")})
    worker = work()
    gate, runs = tmp_path / "gate", tmp_path / "runs"
    job = Job()
    job.program(["sh", "-c", f"echo x >> {runs}; until [ -e {gate} ]; do sleep 0.05; done; echo done"], executor="sge")
    submitted = site.client.submit(job)
    until(lambda: "running on" in submitted.tasks()[0].progress_text, lambda: f"it runs\n{site.daemons.logs()}")
    site.kill(worker)
    work()
    gate.touch()
    assert site.client.wait_for_jobs([submitted], timeout=60, progress=False), site.daemons.logs()
    assert (runs.read_text(), submitted.stdout(0)) == ("x\n", b"done\n"), (submitted.tasks(), site.daemons.logs())
    assert (submitted.tasks()[0].attempt, submitted.tasks()[0].crashes) == (1, 0)


def test_jobs_go_on_when_their_worker_is_killed_and_comes_again(site: Site, tmp_path: Path) -> None:
    worker = site.work("htcondor")
    gate, runs = tmp_path / "gate", tmp_path / "runs"
    job = Job()
    for number in range(2):
        job.program(["sh", "-c", f"echo {number} >> {runs}; until [ -e {gate} ]; do sleep 0.05; done; echo done"], executor="htcondor")
    submitted = site.client.submit(job)
    until(lambda: runs.exists() and len(runs.read_text().split()) == 2, lambda: f"both run\n{site.daemons.logs()}")
    until(lambda: all("running on" in task.progress_text for task in submitted.tasks()), "both are known to run")
    site.kill(worker)
    site.work("htcondor")
    assert site.fake.alive() == [1, 2], "they are in the batch system still"
    gate.touch()
    assert site.client.wait_for_jobs([submitted], timeout=60, progress=False), site.daemons.logs()
    assert sorted(runs.read_text().split()) == ["0", "1"], (submitted.tasks(), site.daemons.logs())
    assert [(task.attempt, task.crashes) for task in submitted.tasks()] == [(1, 0)] * 2
    assert submitted.stdout(0) == b"done\n"


def test_jobs_of_a_worker_that_never_comes_again_are_canceled(site: Site) -> None:
    """It has no name by which another process could be it: the next worker of this host ends what it left."""
    worker = site.work(name=None)
    job = Job()
    job.program(["sleep", "1000"], crash_limit="never", executor="sge")
    submitted = site.client.submit(job)
    until(lambda: "sge job 1: running on" in submitted.tasks()[0].progress_text, "it runs")
    site.kill(worker)
    site.work(name="other")
    until(lambda: 1 not in site.fake.alive(), lambda: f"its end\n{site.daemons.logs()}")


def test_a_worker_that_ends_in_order_leaves_no_jobs(site: Site) -> None:
    worker = site.work()
    job = Job()
    job.program(["sleep", "1000"], executor="sge")
    submitted = site.client.submit(job)
    until(lambda: site.fake.alive() == [1], "it runs")
    site.client.end_workers("w", stop=True, reason="a new kernel")
    until(lambda: worker.poll() is not None, lambda: f"its end\n{site.daemons.logs()}")
    assert not site.fake.alive()
    assert submitted.tasks()[0].state is TaskState.queued, "it is for others now"


def test_an_executor_that_cannot_be_is_refused_at_the_start(tmp_path: Path) -> None:
    env = {"BROKER_JOBS_URL": f"sqlite:///{tmp_path / 'queue.db'}", "BROKER_JOBS_SIGNING_KEY": new_key()}
    with Daemons(tmp_path, env) as daemons:
        done = daemons.run("worker", "start", "--cpus", "1", "--executor", "sge", "--executor-option", "t=1-3")
    assert done.returncode == 2
    assert "the executor sge does not take these options: the option t of qsub is set by broker-jobs" in done.stderr


@pytest.mark.parametrize(("executor", "command"), [("sge", "qsub"), ("htcondor", "condor_q")])
def test_an_executor_whose_commands_are_not_there_is_refused_at_the_start(
    executor: str, command: str, tmp_path: Path, fake: FakeBatch
) -> None:
    paths = {**(fake.sge if executor == "sge" else fake.htcondor), command: ("/no/such/command",)}
    options = [f"--executor-option={name}={path}" for name, (path,) in paths.items()]
    env = {"BROKER_JOBS_URL": f"sqlite:///{tmp_path / 'queue.db'}", "BROKER_JOBS_SIGNING_KEY": new_key()}
    with Daemons(tmp_path, env) as daemons:
        done = daemons.run("worker", "start", "--cpus", "1", "--executor", executor, *options)
    assert done.returncode == 2
    words = f"the executor {executor} cannot be used here: not found: /no/such/command (--executor-option {command}=PATH)"
    assert [line for line in done.stderr.splitlines() if "not found" in line] == [f"broker-jobs-worker: {words}"]


def test_the_batch_system_of_the_page_works(site: Site, tmp_path: Path) -> None:
    """The example of the page, installed as a package would be."""
    page = (Path(__file__).parents[2] / "docs" / "executors.md").read_text(encoding="utf-8")
    (example,) = (block for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL) if "class Background" in block)
    (points,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    place, info = tmp_path / "site", tmp_path / "site" / "my_package-1.0.dist-info"
    info.mkdir(parents=True)
    (place / "my_package.py").write_text(example, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n", encoding="utf-8")
    ((group, entries),) = tomllib.loads(points)["project"]["entry-points"].items()
    (info / "entry_points.txt").write_text(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items()), encoding="utf-8"
    )
    site.daemons.env["PYTHONPATH"] = str(place)
    site.daemons.start("worker", "start", "--cpus", "4", "--executor", *entries, "--name", "w", "--executor-option", "niceness=3")
    job = Job()
    (name,) = entries
    done = job.program(["sh", "-c", "nice; printf '%s' \"$1\"", "sh", "it's"], executor=name)
    failed = job.program(["sh", "-c", "exit 3"], executor=name)
    refused = job.program(["true"], executor=name, executor_options={"niceness": "much"})
    late = job.program(["sleep", "1000"], time_limit=0.5, executor=name)
    submitted = site.client.submit(job)
    site.client.wait_for_jobs([submitted], timeout=60, raise_on_error=False, progress=False)
    tasks = submitted.tasks()
    assert tasks[done.number].state is TaskState.succeeded, site.daemons.logs()
    assert submitted.stdout(done) == b"3\nit's"
    assert "exit code 3" in tasks[failed.number].reason
    assert "background refuses the job: niceness is a number, not 'much'" in tasks[refused.number].reason
    assert "time limit of 0.5 s" in tasks[late.number].reason
