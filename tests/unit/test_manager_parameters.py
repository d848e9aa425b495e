"""What a job may be given: plain data, programs and workflows, functions by their paths; and where its workspace may lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker_jobs.core.batch_options import frozen
from broker_jobs.core.request import canonical
from broker_jobs.core.spec import Retry
from broker_jobs.errors import CycleError, ValidationError, WorkspaceError
from broker_jobs.manager.functions import function, path_of
from broker_jobs.manager.kinds import kind_of
from broker_jobs.manager.parameters import plain, read, text
from broker_jobs.manager.programs import condor_job, parents_of, program_job, workflow_job
from broker_jobs.manager.record import JobRecord
from broker_jobs.manager.statuses import Statuses
from broker_jobs.manager.workspaces import Workspaces, folder_name
from tests.support import managed

HERE = "tests.support.managed"


def record(kind: str = "program", /, **parameters: Any) -> JobRecord:
    return JobRecord("0" * 32, "app", "job", "ann", "t", kind, "/w", 1000, parameters=parameters)


# --- plain data ---


def test_what_json_can_say_is_kept() -> None:
    given = {"a": (1, 2.5, None), "b": {"c": [True, Path("/x")]}}
    assert read(given, Statuses()).parameters == {"a": [1, 2.5, None], "b": {"c": [True, "/x"]}}


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"a": {1, 2}}, "a cannot"),
        ({"a": [{"b": b"x"}]}, r"a\[0\]\.b cannot"),
        ({"a": float("nan")}, "a cannot"),
        ({"a": {1: 2}}, "a has the key 1"),
    ],
)
def test_what_json_cannot_say_is_refused_with_its_place(given: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError, match=place):
        read(given, Statuses())


def test_settings_of_the_job_are_not_for_its_work() -> None:
    given = read(
        {
            "argv": ["a"],
            "description": "d",
            "extended_properties": {"x": (1,)},
            "callbacks": {"Complete": managed.note, "Meshing": f"{HERE}.note"},
        },
        Statuses(),
    )
    assert given.parameters == {"argv": ["a"]}
    callbacks = {"COM": f"{HERE}.note", "Meshing": f"{HERE}.note"}
    assert given.settings == {"description": "d", "extended_properties": {"x": [1]}, "callbacks": callbacks}


@pytest.mark.parametrize(
    "given",
    [
        {"description": 3},
        {"description": "x" * 2001},
        {"extended_properties": []},
        {"callbacks": ["COM"]},
        {"callbacks": {"COM": 3}},
        {"callbacks": {"": managed.note}},
        {"process_results": "no path"},
        {"process_results": "nodots"},
        {"process_results": lambda job: None},
        {"process_results": managed.NO_FUNCTION},
    ],
)
def test_wrong_settings_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read(given, Statuses())


@pytest.mark.parametrize("value", ["", None, 3, "a\0b", "\udce4", "x" * 256])
def test_names_are_what_databases_take(value: Any) -> None:
    with pytest.raises(ValidationError, match="the user must be a text"):
        text(value, "the user")


def test_a_value_that_is_plain_already_stays() -> None:
    assert plain([1, {"a": "b"}], "x") == [1, {"a": "b"}]


# --- functions ---


@pytest.mark.parametrize(("path", "expected"), [(f"{HERE}.note", managed.note), (f"{HERE}.Holder.inner", managed.Holder.inner)])
def test_a_function_is_found_again_by_its_path(path: str, expected: Any) -> None:
    assert path_of(expected, "it") == path_of(path, "it") == path
    assert function(path) is expected


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("no_such_package.process", "there is no module no_such_package"),
        (f"{HERE}.none", "has no function none"),
        (f"{HERE}.NO_FUNCTION", "has no function NO_FUNCTION"),
        (f"{HERE}.Holder.none", "has no function Holder.none"),
    ],
)
def test_a_function_that_is_not_there(path: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        function(path)


@pytest.mark.parametrize(
    ("code", "said"), [("import no_such_thing_at_all", "no_such_thing_at_all"), ("1 / 0", "ZeroDivisionError"), ("x = ", "SyntaxError")]
)
def test_a_module_that_cannot_be_imported(code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"broken_{said.lower()}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValidationError, match=f"cannot be imported here: .*{said}"):
        function(f"{name}.process")


# --- programs ---


@pytest.mark.parametrize("given", [{"argv": ["sort", "-n", "in.txt"]}, {"executable": "sort", "arguments": ["-n", "in.txt"]}])
def test_a_program_runs_in_its_workspace(given: dict[str, Any]) -> None:
    job = program_job(record(**given))
    (entry,) = job.entries
    assert [bytes(part) for part in entry.work.argv] == [b"sort", b"-n", b"in.txt"]
    assert (entry.options.cwd, job.name, list(job.tags)) == ("/w", "job", [f"managed={'0' * 32}"])


def test_options_of_a_program() -> None:
    job = program_job(
        record(
            argv=["a"],
            cwd="sub",
            env={"N": 3},
            stdin="in",
            resources=[{"cpus": 2}, {"cpus": 1}],
            retry=2,
            time_limit="1h",
            memory_limit="1 GiB",
        )
    )
    (entry,) = job.entries
    options = entry.options
    assert (options.cwd, options.env, options.time_limit, options.memory_limit) == ("/w/sub", (("N", "3"),), 3_600_000, 2**30)
    assert options.retry == Retry(max_attempts=3)
    assert len(options.resources.variants) == 2
    assert options.resources != canonical(None)
    assert program_job(record(argv=["a"], retry={"max_attempts": 5, "backoff": 0})).entries[0].options.retry == Retry(5, 0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give either argv"),
        ({"argv": ["a"], "executable": "a"}, "give either argv"),
        ({"argv": ["a"], "arguments": ["a"]}, "give either argv"),
        ({"argv": "ls -l"}, "argv must be a list"),
        ({"argv": []}, "argv is empty"),
        ({"argv": ["a", None]}, r"argv\[1\]"),
        ({"executable": "a", "arguments": "b"}, "arguments must be a list"),
        ({"argv": ["a"], "cwd": 3}, "cwd must be"),
        ({"argv": ["a"], "env": ["A"]}, "env must be"),
        ({"argv": ["a"], "stdin": 3}, "stdin must be"),
        ({"argv": ["a"], "retry": -1}, "retry must not be negative"),
        ({"argv": ["a"], "retry": True}, "retry must be"),
        ({"argv": ["a"], "retry": {"attempts": 3}}, "retry must be .*attempts"),
        ({"argv": ["a"], "resources": 3}, "resources must be"),
        ({"argv": ["a"], "resources": {"cpu": 3}}, "resources must be .*cpu"),
        ({"argv": ["a"], "time_limit": "soon"}, "time_limit"),
        ({"argv": ["a"], "time_limits": 3}, "did you mean 'time_limit'"),
        ({"argv": ["a"], "scheduler": "x"}, "no parameter 'scheduler'; it takes"),
    ],
)
def test_a_wrong_parameter_of_a_program_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        program_job(record(**given))


# --- workflows ---


def test_nodes_wait_for_their_parents_in_whatever_order_they_are_written() -> None:
    nodes = [
        {"name": "plot", "argv": ["plot"], "parents": ["left", "right"]},
        {"name": "left", "argv": ["l"], "parents": ["mesh"], "retry": 1},
        {"name": "right", "argv": ["r"], "parents": ["mesh"], "cwd": "r"},
        {"name": "mesh", "argv": ["m"]},
    ]
    given = record("workflow", nodes=nodes)
    job = workflow_job(given)
    found = {entry.name: entry for entry in job.entries}
    names = {entry.first: entry.name for entry in job.entries}
    deps = {name: sorted(names[number] for number in entry.deps) for name, entry in found.items()}
    assert deps == {"plot": ["left", "right"], "left": ["mesh"], "right": ["mesh"], "mesh": []}
    assert found["right"].options.cwd == "/w/r"
    assert parents_of(given) == {"plot": ("left", "right"), "left": ("mesh",), "right": ("mesh",), "mesh": ()}
    assert parents_of(record()) == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "needs nodes"),
        ({"nodes": []}, "needs nodes"),
        ({"nodes": ["a"]}, "needs nodes"),
        ({"node": []}, "did you mean 'nodes'"),
        ({"nodes": [{"argv": ["a"]}]}, "node 0 needs a name"),
        ({"nodes": [{"name": "a", "argv": ["a"]}, {"name": "a", "argv": ["a"]}]}, "node 1 needs a name of its own"),
        ({"nodes": [{"name": "a", "argv": ["a"], "parents": ["b"]}]}, "has the parent 'b', and there are 'a'"),
        ({"nodes": [{"name": "a", "argv": ["a"], "parents": "a"}]}, "parents must be a list"),
        ({"nodes": [{"name": "a", "argv": ["a"], "parent": ["b"]}]}, "node 0 has no parameter 'parent'; did you mean 'parents'"),
        ({"nodes": [{"name": "a", "argv": "a"}]}, "node 'a': argv must be"),
    ],
)
def test_a_wrong_node_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        workflow_job(record("workflow", **given))


def test_a_circle_is_named_with_its_way() -> None:
    nodes = [{"name": "a", "argv": ["a"], "parents": ["b"]}, {"name": "b", "argv": ["a"], "parents": ["a"]}]
    with pytest.raises(CycleError, match="a → b → a"):
        workflow_job(record("workflow", nodes=nodes))


def test_an_unknown_type_lists_those_that_there_are() -> None:
    with pytest.raises(ValidationError, match="there are basic, program, workflow, step, condor"):
        kind_of("cloud")


# --- workspaces ---


@pytest.mark.parametrize("user", ["..", ".", "../../etc", "/etc/passwd", "a/b", "~root", "a\nb", "ünï", "x" * 255, "é" * 255, "C:\\x"])
def test_no_name_leads_out_of_the_workspaces(user: str, tmp_path: Path) -> None:
    folder = Workspaces(tmp_path, "app").user(user)
    assert folder.is_dir()
    assert folder.resolve().parent == tmp_path.resolve() / "app" / "users"


def test_names_that_differ_have_folders_that_differ() -> None:
    names = ["a", "A", "a.", ".a", "%2Ea", "..", "%2E.", "a b", "a+b", "x" * 250, "x" * 251, "é" * 100, "é" * 101]
    assert len({folder_name(name) for name in names}) == len(names)


def test_a_workspace_is_removed_and_what_it_links_to_is_not(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    workspaces = Workspaces(tmp_path / "root", "app")
    workspaces.make("1")
    (workspaces.job("1") / "deep").mkdir()
    (workspaces.job("1") / "deep" / "link").symlink_to(kept)
    workspaces.remove("1")
    assert not workspaces.job("1").exists()
    workspaces.job("2").symlink_to(kept)
    workspaces.remove("2")
    workspaces.remove("2")
    assert not workspaces.job("2").is_symlink()
    assert (kept / "file").read_text() == "x"


def test_a_workspace_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "app").write_text("in the way")
    with pytest.raises(WorkspaceError, match="cannot be made: Not a directory"):
        Workspaces(tmp_path, "app").app()


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({}, "needs step: its name"),
        ({"step": 3}, "needs step: its name"),
        ({"step": "fit", "version": 1}, "and version: one, or a range"),
        ({"step": "fit", "parameter": {}}, "did you mean 'parameters'"),
        ({"step": "fit", "parameters": []}, "parameters of a step job must be a dictionary"),
        ({"step": "fit", "inputs": "mesh"}, "inputs of a step job must be a dictionary"),
        ({"step": "fit", "retry": -1}, "retry must not be negative"),
        ({"step": "fit", "env": ["A"]}, "env must be a dictionary"),
    ],
)
def test_wrong_parameters_of_a_step_are_refused_before_it_is_looked_for(parameters: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        kind_of("step").check(record("step", **parameters))


def test_a_condor_job_is_a_program_with_attributes_for_htcondor() -> None:
    attributes = {"request_memory": "2GB", "transfer_input_files": ["a", "b"], "+Project": True}
    job = condor_job(record("condor", executable="run.py", arguments=["it's"], attributes=attributes))
    [entry] = job.entries
    assert entry.options.executor_options == frozen(attributes)
    assert entry.options.resources.demands("executor htcondor")
    other = condor_job(record("condor", argv=["run.py"], executor="pool"))
    assert other.entries[0].options.resources.demands("executor pool")
    for parameters, told in [
        ({"argv": ["a"], "attributes": ["a"]}, "attributes of a condor job must be a dictionary"),
        ({"argv": ["a"], "executor_options": {}}, "a condor job has no parameter 'executor_options'"),
        ({"attributes": {}}, "give either argv"),
    ]:
        with pytest.raises(ValidationError, match=told):
            kind_of("condor").check(record("condor", **parameters))
