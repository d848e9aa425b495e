"""Data through the slots of steps and the folders of programs, on both brokers."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs import AsyncClient, Client, Job, LocalCluster, StepState, ValidationError
from broker_jobs.errors import DataNotFound, InUse, JobNotFound, ValueStoreError, WrongStatus
from tests.support import served, served_data
from tests.support.daemons import until

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60.0


@pytest.fixture(scope="module")
def cluster(url: str | None) -> Iterator[LocalCluster]:
    with LocalCluster(workers=1, cpus=2, url=url, steps=[served, served_data]) as found:
        yield found


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Client:
    return cluster.client()


def test_data_is_made_of_files_bytes_streams_and_json(client: Client, tmp_path: Path) -> None:
    (tmp_path / "mesh.csv").write_bytes(b"1,2\n" * 1000)
    of_file = client.add_data(tmp_path / "mesh.csv", tags=["kept", "a=b"])
    of_bytes = client.add_data(b"", name="nothing")
    of_stream = client.add_data(io.BytesIO(b"x" * 3_000_000), name="large.bin")
    of_json = client.add_data(json={"a": [1, None, "é"]}, name="parameters.json")
    found = [(each.name, each.media_type, each.size) for each in (of_file, of_bytes, of_stream, of_json)]
    assert found == [
        ("mesh.csv", "text/csv", 4000),
        ("nothing", "application/octet-stream", 0),
        ("large.bin", "application/octet-stream", 3_000_000),
        ("parameters.json", "application/json", 22),
    ]
    assert of_file.sha256 == hashlib.sha256(b"1,2\n" * 1000).hexdigest()
    assert (of_json.json(), of_bytes.read(), of_file.text()[:4]) == ({"a": [1, None, "é"]}, b"", "1,2\n")
    assert of_stream.download(tmp_path) == tmp_path / "large.bin"
    assert (tmp_path / "large.bin").read_bytes() == b"x" * 3_000_000
    assert [each.id for each in client.datasets(tags=["a=b", "kept"])] == [of_file.id] == [client.data(of_file.id[-8:]).id]
    assert of_file.set_tags(["other"]).tags == ("other",) == client.data(of_file.id).tags
    of_bytes.delete()
    with pytest.raises(DataNotFound):
        client.data(of_bytes.id)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"content": "a text", "name": "x"}, "as bytes, as a path"),
        ({"content": b"x"}, "data needs a name"),
        ({"content": b"x", "name": "a/b"}, "cannot be the name of data"),
        ({"content": b"x", "name": "x", "media_type": "csv"}, "is no media type"),
        ({"content": b"x", "name": "x", "tags": "one"}, "a list of texts"),
        ({"content": b"x", "name": "x", "tags": [" a"]}, "without blanks"),
        ({"content": io.StringIO("x"), "name": "x"}, "open it in binary mode"),
        ({"json": {"x": {1}}, "name": "x"}, "x: set is no plain data"),
        ({"name": "x"}, "content or json="),
    ],
)
def test_what_cannot_be_data_is_refused_and_leaves_nothing(
    client: Client, cluster: LocalCluster, arguments: dict[str, object], told: str
) -> None:
    before = set((cluster.folder / "values").rglob("*/*/*/*"))
    with pytest.raises(ValidationError, match=told):
        client.add_data(**arguments)  # type: ignore[arg-type]
    # What other tests have deleted may go at this moment.
    assert not set((cluster.folder / "values").rglob("*/*/*/*")) - before


def test_slots_are_filled_checked_and_read_afterwards(client: Client) -> None:
    mesh = client.add_data(b"1\n2\n3\n", name="mesh.csv")
    run = client.step("split")
    assert run.state is StepState.created
    with pytest.raises(ValidationError, match=r"split 1\.0\.0: the slot 'text' takes text/\*, and 'p\.json' is application/json"):
        run.inputs(text=client.add_data(json=1, name="p.json"))
    with pytest.raises(ValidationError, match="takes one piece of data, not a list"):
        run.inputs(text=[mesh])
    with pytest.raises(ValidationError, match="has no input slot 'mesh'; there are: text"):
        run.inputs(mesh=mesh)
    with pytest.raises(WrongStatus, match="text: it is missing"):
        run.start()
    assert run.inputs(text=mesh).state is StepState.ready
    made = run.start().wait(PATIENCE).outputs()
    assert [(part.name, part.read(), part.media_type) for part in made["parts"]] == [
        (f"part{number}.txt", str(number + 1).encode(), "text/plain") for number in range(3)
    ]
    assert (made["nothing"].size, made["nothing"].name) == (0, "nothing"), "what nobody wrote is there, and empty"
    assert client.step("split").inputs(text=mesh).inputs(text=None).state is StepState.created, "None empties a slot"

    spec = client.find_step("split").spec
    assert [(slot.name, slot.title, slot.media_type, slot.collection) for slot in spec.inputs] == [("text", "The text", "text/*", False)]
    ordered = client.add_data(b"".join(f"{number}\n".encode() for number in range(12)), name="x.txt")
    many = client.step("split").inputs(text=ordered).start().wait(PATIENCE).outputs()["parts"]
    assert [part.read() for part in many] == [str(number).encode() for number in range(12)], "in the order in which they were made"
    too_many = client.step("split").inputs(text=client.add_data(b"1\n" * 13, name="x.txt")).start().wait(PATIENCE)
    assert too_many.error is not None
    assert "split 1.0.0: the slot 'parts' takes 1 to 12, not 13" in too_many.error.message
    assert too_many.outputs() == {}


def test_the_command_line_shows_slots(cluster: LocalCluster) -> None:
    env = {**os.environ, "BROKER_JOBS_CONFIG": str(cluster.folder / "broker-jobs.toml")}

    def told(*more: str) -> str:
        command = [sys.executable, "-m", "broker_jobs", "step", "info", "split", *more]
        return subprocess.run(command, env=env, cwd=cluster.folder, capture_output=True, text=True, timeout=60, check=True).stdout

    shown = " ".join(told().split())
    assert "input media type how many what" in shown
    for row in ("text text/* 1 The text", "parts text/plain 1 to 12", "nothing */* 1"):
        assert row in shown
    found = json.loads(told("--output", "json"))
    assert [(slot["name"], slot["least"], slot["most"]) for slot in found["outputs"]] == [("parts", 1, 12), ("nothing", 1, 1)]


def test_collections_keep_their_order_and_optional_slots_may_be_empty(client: Client) -> None:
    mesh = client.add_data(b"1\n2\n3\n", name="mesh.csv")
    others = [client.add_data(f",{number}".encode(), name=f"{number}.txt") for number in (2, 0, 1)]
    spec = client.find_step("count", "1.2.0").spec
    job = Job("two")
    plain = job.step(spec, {"x": 1.5}, inputs={"mesh": mesh, "more": others})
    noted = job.step(spec, {"x": 2}, inputs={"mesh": mesh, "note": others[0]})
    submitted = client.submit(job)
    call = client.step("count", "1.2.0").configure(x=2).inputs(mesh=mesh, more=others, note=None).start().wait(PATIENCE)
    again = client.step_run(call.id)
    held = again.slots["more"]
    assert isinstance(held, list)
    assert ([each.id for each in held], again.slots.keys()) == ([each.id for each in others], {"mesh", "more"})
    assert again.outputs().keys() == call.outputs().keys()
    assert submitted.result(plain, timeout=PATIENCE) == {"lines": 3, "noted": 0}
    assert submitted.result(noted, timeout=PATIENCE) == {"lines": 3, "noted": 1}
    assert submitted.wait(PATIENCE)
    until(lambda: len(client.datasets(job=submitted)) == 2, "the ledger knows what was made")
    by_task = {each.info.task: each for each in client.datasets(job=submitted)}
    assert (by_task[0].read(), by_task[0].tags, by_task[0].name) == (b"1.5,3,2,0,1", ("made",), "result.csv")
    lineage = by_task[0].lineage()
    assert (lineage.step, lineage.parameters, lineage.task) == ("count 1.2.0", {"x": 1.5}, 0)
    assert [(slot, each.data.id) for slot, each in lineage.inputs] == [("mesh", mesh.id), *[("more", each.id) for each in others]]
    assert all(each.job is None for _, each in lineage.inputs)


def test_what_is_written_can_be_read_while_the_step_runs(client: Client, tmp_path: Path) -> None:
    run = client.step("slow").configure(go=str(tmp_path / "go")).start()
    until(lambda: (partly := run.outputs().get("out")) is not None and partly.read() == b"so far", "what was written so far can be read")
    assert client.datasets(job=run.job) == [], "it does not count yet"
    (tmp_path / "go").touch()
    assert run.wait(PATIENCE).outputs()["out"].read() == b"so far, and the rest"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", "ValueError: no"),
        ("name", "spoil 1.0.0: '../etc/passwd' cannot be the name of data"),
        ("type", "spoil 1.0.0: 'nonsense' is no media type"),
        ("tags", "spoil 1.0.0: tags are at most"),
    ],
)
def test_a_step_that_fails_has_made_nothing(client: Client, cluster: LocalCluster, how: str, message: str) -> None:
    run = client.step("spoil").configure(how=how).start().wait(PATIENCE)
    assert run.error is not None
    assert message in run.error.message
    assert run.outputs() == {}
    assert [path for path in (cluster.folder / "values" / "data" / "jobs" / run.id).rglob("*") if path.is_file()] == []


def test_what_is_made_must_be_as_the_slot_says(client: Client) -> None:
    right, wrong = (client.step("picture").configure(kind=kind).start().wait(PATIENCE) for kind in ("image/png", "text/csv"))
    assert right.outputs()["out"].media_type == "image/png"
    assert wrong.error is not None
    assert "the slot 'out' takes image/png, and 'out' is text/csv" in wrong.error.message


def test_files_of_programs_are_put_in_and_collected(client: Client) -> None:
    mesh = client.add_data(b"3\n1\n2\n", name="mesh.csv")
    job = Job("programs")
    making = "sort in/mesh.csv > sorted.txt; mkdir -p plots/deep; echo 1 > plots/a.png; echo 2 > plots/deep/b.png"
    script = f"{making}; ln -s /etc/hostname out.png; pwd"
    task = job.program(["sh", "-c", script], inputs={"in/mesh.csv": mesh}, outputs=["sorted.txt", "plots/**/*.png", "*.png"])
    missing = job.program(["true"], outputs=["report.txt"])
    submitted = client.submit(job)
    assert submitted.result(task, timeout=PATIENCE) == 0
    assert not submitted.wait(PATIENCE)
    assert "has not made 'report.txt'" in submitted.errors()[missing.number].message
    until(lambda: len(client.datasets(job=submitted)) == 3, "the ledger knows what was made")
    made = {each.info.slot: (each.name, each.read(), each.media_type) for each in client.datasets(job=submitted)}
    assert made == {
        "sorted.txt": ("sorted.txt", b"1\n2\n3\n", "text/plain"),
        "plots/a.png": ("a.png", b"1\n", "image/png"),
        "plots/deep/b.png": ("b.png", b"2\n", "image/png"),
    }
    assert not Path(submitted.stdout(task).decode().strip()).exists(), "a folder of its own, which is gone"
    [sorted_] = client.datasets(job=submitted, name="sorted.txt")
    lineage = sorted_.lineage()
    assert lineage.parameters == {"argv": ["sh", "-c", script]}
    assert [(slot, each.data.id) for slot, each in lineage.inputs] == [("in/mesh.csv", mesh.id)]
    for wrong in ("/etc/passwd", "../x", "a//b", ""):
        with pytest.raises(ValidationError, match="a relative path that stays below its folder"):
            job.program(["true"], outputs=[wrong])
        with pytest.raises(ValidationError, match="a relative path that stays below its folder"):
            job.program(["true"], inputs={wrong: mesh})


def test_data_that_is_not_what_was_written_is_refused_everywhere(client: Client, tmp_path: Path) -> None:
    data = client.add_data(b"right", name="x.txt")
    place = Path(data.info.data.store) / data.info.data.key
    place.write_bytes(b"wrong")
    with pytest.raises(ValueStoreError, match="is not what was written there"):
        data.read()
    with pytest.raises(ValueStoreError, match="is not what was written there"):
        data.download(tmp_path / "x.txt")
    assert list(tmp_path.iterdir()) == []
    run = client.step("split").inputs(text=data).start().wait(PATIENCE)
    assert run.error is not None
    assert "is not what was written there" in run.error.message
    job = Job()
    job.program(["cat", "x.txt"], inputs={"x.txt": data})
    submitted = client.submit(job)
    assert not submitted.wait(PATIENCE)
    assert "is not what was written there" in submitted.errors()[0].message
    place.unlink()
    gone = client.step("split").inputs(text=data).start().wait(PATIENCE)
    assert gone.error is not None
    assert "cannot be read on this host" in gone.error.message


def test_rules_of_deletion_and_the_log_that_stays(client: Client) -> None:
    mesh = client.add_data(b"1\n", name="mesh.csv", tags=["deleted"])
    first = client.step("split").inputs(text=mesh).start().wait(PATIENCE)
    [part] = first.outputs()["parts"]
    second = client.step("split").inputs(text=part).start().wait(PATIENCE)
    with pytest.raises(InUse, match="has made 2 pieces of data") as caught:
        first.job.forget()
    assert set(caught.value.objects) == {part.id, first.outputs()["nothing"].id}
    with pytest.raises(InUse, match=f"is the input of job {second.id[-8:]}: delete it first"):
        part.delete()
    assert part.used_by() == [second.id]
    kept = first.job.delete_with_associated()
    assert not kept.complete
    assert [(part.kind, "is the input of job" in part.reason or "has made" in part.reason) for part in kept.kept] == [
        ("data", True),
        ("job", True),
    ]
    done = second.job.delete_with_associated(delete_input_data=True)
    assert done.complete
    assert [part.kind for part in done.parts] == ["data", "data", "job", "data"], "what it made, then itself, then what it took"
    with pytest.raises(JobNotFound):
        client.job(second.id)
    report = first.job.delete_with_associated(delete_input_data=True)
    assert report.complete
    assert [part.kind for part in report.parts] == ["job", "data"], "the rest went before"
    assert client.datasets(tags=["deleted"]) == []
    log = client.log(first.id)
    assert log[0].kind.value == "job deleted"
    assert {entry.kind.value for entry in client.log(mesh.id)} == {"data added", "data deleted"}
    until(lambda: not Path(mesh.info.data.store, mesh.info.data.key).exists(), "its bytes are gone")
    until(lambda: not Path(mesh.info.data.store, "data", "jobs", first.id).exists(), "and those that the job has made")


def test_what_is_in_use_is_left_out_when_many_jobs_are_forgotten(client: Client, cluster: LocalCluster) -> None:
    first = client.step("split").tags(["swept"]).inputs(text=client.add_data(b"1\n", name="mesh.csv")).start().wait(PATIENCE)
    parent = client.step("divide").configure(parts=2).tags(["swept"]).start().wait(PATIENCE)
    alone = client.step("simulate", "*").configure(x=1.0).tags(["swept"]).start().wait(PATIENCE)
    env = {**os.environ, "BROKER_JOBS_CONFIG": str(cluster.folder / "broker-jobs.toml")}

    def forget(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "broker_jobs", "job", "forget", *more]
        return subprocess.run(command, env=env, cwd=cluster.folder, capture_output=True, text=True, timeout=60, check=False)

    named = forget(first.id, alone.id)
    assert named.returncode == 2, "who names a job wants it gone, or hears that nothing went"
    swept = forget("--tag", "swept")
    assert swept.returncode == 0, swept.stderr
    assert swept.stdout == f"{alone.id[-8:]}: forgotten\n"
    assert sorted(line.split(":")[0] for line in swept.stderr.splitlines()) == ["left", "left"]
    for part in ("has made 2 pieces of data", f"were submitted inside job {parent.id[-8:]}"):
        assert part in swept.stderr
    assert {job.id for job in client.jobs(tags=["swept"])} == {first.id, parent.id}


def test_a_job_with_jobs_inside_is_deleted_bottom_up(client: Client) -> None:
    run = client.step("divide").configure(parts=2).start()
    assert run.result(timeout=PATIENCE) == [0.0, 2.0]
    with pytest.raises(InUse, match="were submitted inside job"):
        run.job.forget()
    report = run.job.delete_with_associated(delete_subjobs_with_data=False)
    assert [part.kind for part in report.kept] == ["job"]
    report = run.job.delete_with_associated()
    assert report.complete
    assert [part.name for part in report.parts] == ["simulate", "simulate", "divide"]


def test_the_asynchronous_client_handles_data_too(cluster: LocalCluster, tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncClient(cluster.url, namespace=cluster.namespace, signing_key=cluster.key) as client:
            sync = await client._sync()  # noqa: SLF001 (it has no store of its own on RabbitMQ)
            sync.settings = cluster.client().settings
            data = await client.add_data(b"1\n2\n", name="mesh.txt", tags=["async"])
            assert (await data.read(), await data.text(), (await client.data(data.id)).id) == (b"1\n2\n", "1\n2\n", data.id)
            run = await (await client.step("split")).inputs(text=data).start()
            made = await (await run.wait(PATIENCE)).outputs()
            assert [await part.read() for part in made["parts"]] == [b"1", b"2"]
            assert await data.used_by() == [run.id]
            assert (await (await data.set_tags(["b"])).download(tmp_path)).read_bytes() == b"1\n2\n"
            assert [each.id for each in await client.datasets(tags=["b"])] == [data.id]
            assert (await made["nothing"].lineage()).step == "split 1.0.0"
            assert (await run.job.delete_with_associated(delete_input_data=True)).complete
            assert (await client.log(run.id))[0].kind.value in {"data deleted", "job deleted"}
            other = await client.add_data(json=[1], name="x.json")
            assert await other.json() == [1]
            await other.delete()

    asyncio.run(main())


def test_a_client_without_a_store_says_so(cluster: LocalCluster) -> None:
    client = cluster.client()
    client.settings = dataclasses.replace(client.settings, value_store=None)
    with pytest.raises(ValueStoreError, match=r"value_store in broker-jobs\.toml"):
        client.add_data(b"x", name="x")
    run = client.step("spoil").configure(how="").start().wait(PATIENCE)
    assert run.error is not None
    assert "there is no store for data" in run.error.message
