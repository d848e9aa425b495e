"""The snippets of pinexQ's page about jobs run here: other imports, the same names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs import LocalCluster
from broker_jobs.compat.pinexq import Job, JobStates, ProcessingStep
from broker_jobs.errors import JobNotFound
from tests.support import served_pinexq

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs import Client

PAGE = Path(__file__).parents[2].parent / "shared" / "seeds" / "pinexq-starting-a-job.txt"
CODE = re.compile(r"from pinexq|# |\w+ = |\w+=|\)|\.\w+\(|job\.\w+\(|[\w.]*\(?$", re.ASCII)
"""How a line of code begins; prose has a word and a blank there."""


@pytest.fixture(scope="module")
def client(url: str | None) -> Iterator[Client]:
    with LocalCluster(workers=1, cpus=2, url=url, steps=[served_pinexq]) as cluster, cluster.client() as found:
        yield found


def _snippets() -> list[str]:
    """Lines of code that follow each other, with our import, and with the parentheses that a chain needs."""
    found: list[list[str]] = [[]]
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line and CODE.match(line):
            found[-1].append(line.replace("pinexq.client.job_management", "broker_jobs.compat.pinexq"))
        elif found[-1]:
            found.append([])
    snippets = []
    for lines in filter(None, found):
        chain = [number for number, line in enumerate(lines) if line.startswith(".")]
        if chain:
            lines[chain[0] - 1] = lines[chain[0] - 1].replace("= ", "= (", 1)
            lines[chain[-1]] += ")"
        snippets.append("\n".join(lines) + "\n")
    return snippets


@pytest.mark.skipif(not PAGE.exists(), reason="pinexQ's page is not beside this repository")
def test_the_snippets_of_pinexqs_page_run_one_after_the_other(client: Client) -> None:
    snippets = _snippets()
    assert [len(snippet.splitlines()) for snippet in snippets] == [3, 7, 1, 2, 2, 1, 2, 1, 4, 9, 11], "every line of code"
    create, select, tag, configure, start, wait, result, delete, delete_all, chain, rapid = snippets
    instance = ProcessingStep.from_name(client, "my_function", "1.0.0")
    names: dict[str, Any] = {"client": client, "ps_instance": instance, "ps_url": instance.self_link()}

    def run(*parts: str) -> Job:
        for part in parts:
            exec(compile(part, "snippet", "exec"), names)
        job = names["job"]
        assert isinstance(job, Job)
        return job

    assert run(create).get_name() == "MyJob"
    assert run(select, tag).get_state() is JobStates.ready_for_processing
    assert run(configure).tags == ["test", "my_function"]
    native = run(start).native
    assert run(wait).get_state() is JobStates.completed
    assert (run(result).result, names["result"]) == ('{"square": 25}', {"square": 25})
    run(delete)
    with pytest.raises(JobNotFound):
        client.job(native.id)
    again = run(create, select, start, wait).native
    run(delete_all)
    with pytest.raises(JobNotFound):
        client.job(again.id)
    names.pop("result")
    run(chain)
    assert names["result"] == {"square": 25}
    assert run(rapid).wait_for_completion(60.0).get_result() == {"square": 1}
    assert names["job"].tags == ["test", "my_function"]


def test_a_job_is_described_as_on_that_page_in_our_words(client: Client) -> None:
    step = ProcessingStep.from_name(client=client, step_name="my_function", version="1.0.0")
    job = Job(client).create(name="ours")
    assert job.get_state() is JobStates.created
    for selected in (
        {"function_name": "my_function", "version": "1.0.0"},
        {"processing_step_instance": step},
        {"processing_step_link": step.self_link()},
    ):
        assert job.select_processing(**selected) is job  # type: ignore[arg-type]
        assert job.get_state() is JobStates.ready_for_processing
    job.set_tags(["ours"]).configure_parameters(x=7).start()
    assert job.get_state() in {JobStates.pending, JobStates.processing, JobStates.completed}
    assert job.wait_for_completion(timeout_s=60.0).get_result() == {"square": 49}
    job.delete()
    chained = (
        Job(client)
        .create("chained")
        .select_processing(function_name="my_function", function_version="1.0.0")
        .configure_parameters(x=3)
        .start()
        .wait_for_completion(timeout_s=60.0)
    )
    assert chained.get_result() == {"square": 9}
    chained.delete_with_associated(delete_output_workdata=True, delete_input_workdata=False, delete_subjobs_with_data=True)
    rapid = Job(client=client).create_and_configure_rapidly(name="rapid", processing_step_instance=step, tags=["ours"], start=True)
    assert rapid.wait_for_completion(60).get_result() == {"square": 1}
