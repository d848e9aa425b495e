"""The snippets of xqute's page run here: other imports, the same names."""

from __future__ import annotations

import ast
import asyncio
import re
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.compat.xqute import Job, JobStatus, Scheduler, Xqute, plugin
from tests.support.xqute import place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.batches import FakeBatch

PAGE = Path(__file__).parents[2].parent / "shared" / "seeds" / "xqute.md"

SNIPPETS = ("install", "toy", "producer", "push", "sge", "directives", "manager", "hook", "scheduler", "job")
INSTALL, TOY, PRODUCER, PUSH, SGE, DIRECTIVES, MANAGER, HOOK, SCHEDULER, JOB = range(len(SNIPPETS))

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the page of xqute is not beside this repository")


@pytest.fixture(scope="module", params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.long)], autouse=True)
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A place to run."""
    with place(request.param, request, tmp_path_factory.mktemp("place")):
        yield


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a snippet."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def snippet(number: int) -> str:
    """One of the snippets of the page, counted from 0; imports are ours."""
    found = re.findall(r"^```\w*\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(found) == len(SNIPPETS), "every snippet has a name, and a test that runs it"
    return re.sub(r"^from (xqute|simplug) import", "from broker_jobs.compat.xqute import", found[number], flags=re.MULTILINE)


def perform(code: str, names: dict[str, Any]) -> None:
    """Run it as a module of its own."""
    exec(compile(code, "snippet", "exec", dont_inherit=True), names)


async def run(code: str, names: dict[str, Any]) -> None:
    """Run it where ``await`` may stand outside of functions."""
    compiled = compile(code, "snippet", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    awaited = eval(compiled, names)
    if awaited is not None:
        await awaited


def test_it_is_installed_already() -> None:
    assert snippet(INSTALL) == "pip install xqute\n", "there is nothing else to install"


def test_the_toy_example(folder: Path) -> None:
    perform(snippet(TOY), {"__name__": "__main__"})
    for index in (0, 1):
        metadir = folder / ".xqute" / str(index)
        assert (metadir / "job.stdout").read_text() == f"{index + 1}\n"
        assert ((metadir / "job.rc").read_text(), (metadir / "job.status").read_text()) == ("0", str(int(JobStatus.FINISHED)))


def test_a_producer_and_a_push(folder: Path) -> None:
    async def story() -> None:
        names: dict[str, Any] = {"Xqute": Xqute}
        await run(snippet(PRODUCER).replace("...", ""), names)
        await run(snippet(PUSH), names)
        await names["xqute"].run_until_complete()

    asyncio.run(story())
    assert (folder / ".xqute" / "0" / "job.stdout").read_text() == "1\n"


def test_grid_engine_and_its_options(folder: Path, fake: FakeBatch) -> None:
    qsub = folder / "qsub"  # this Grid Engine calls the queue of the page otherwise
    qsub.write_text(f'#!/bin/bash\nexec {fake.sge["qsub"][0]} "${{@/1-day/all.q}}"\n')
    qsub.chmod(0o755)
    code = re.sub(r",\s*\.\.\.\)", ")", snippet(SGE))
    code = code.replace("path to qsub", str(qsub))
    for command in ("qdel", "qstat"):
        code = code.replace(f"path to {command}", fake.sge[command][0])
    [options] = re.findall(r"`(sge_l=\[.*?\])`", PAGE.read_text())
    expanded = re.findall(r"^#\$ (.*)$", snippet(DIRECTIVES), re.MULTILINE)
    code = code.replace("sge_q=", f"{options}, sge_q=")

    async def story() -> None:
        names: dict[str, Any] = {"Xqute": Xqute}
        await run(code, names)
        await names["xqute"].push(["echo", 1])
        await names["xqute"].run_until_complete()

    asyncio.run(story())
    assert (folder / ".xqute" / "0" / "job.stdout").read_text() == "1\n"
    given = fake.facts(1)["options"]
    assert [f"-l {value}" for value in given["-l"]] == expanded
    assert given["-q"] == ["all.q"]


def test_a_plugin(folder: Path) -> None:
    names: dict[str, Any] = {}
    perform(snippet(MANAGER), names)
    assert names["pm"] is names["Simplug"]("xqute")
    code = snippet(HOOK)
    perform(code.replace("...", "begun.append(scheduler.name)"), names)
    names["begun"] = []
    module = types.SimpleNamespace(**names)

    async def story() -> None:
        xqute = Xqute()
        await xqute.push(["true"])
        await xqute.run_until_complete()

    names["pm"].register(module)
    try:
        asyncio.run(story())
    finally:
        plugin.unregister(module)
    assert names["begun"] == ["local"]


def test_a_scheduler_and_a_job_of_ones_own(folder: Path) -> None:
    names: dict[str, Any] = {}
    perform(snippet(JOB), names)
    perform(snippet(SCHEDULER).replace("Scheduer", "Scheduler"), names)
    scheduler, job = names["MyScheduler"], names["MyJob"]
    assert issubclass(scheduler, Scheduler)
    assert issubclass(job, Job)
    assert scheduler.job_class is job

    async def story() -> Job:
        xqute = Xqute(scheduler)
        await xqute.push(["echo", 1])
        await xqute.run_until_complete()
        [found] = xqute.jobs
        return found

    found = asyncio.run(story())
    assert type(found) is job
    assert found.now is JobStatus.FAILED, "its methods are empty, so nothing has run"
