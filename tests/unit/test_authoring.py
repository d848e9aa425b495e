"""Jobs as users write them: what is kept, and which mistakes are named at once."""

from __future__ import annotations

import datetime
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs import Job, ResourceRequest, Retry, Stdio
from broker_jobs.client.entries import MapWork
from broker_jobs.core.spec import Keep, Lane
from broker_jobs.errors import TaskNotFound, ValidationError
from broker_jobs.wire.messages import Program

if TYPE_CHECKING:
    from broker_jobs.core.spec import TaskOptions


async def later() -> None:
    """Cannot be a setup."""


def work(*_args: object, **_kwargs: object) -> None:
    """Anything."""


def _options(job: Job, number: int = 0) -> TaskOptions:
    return job.entry(number).options


def test_tasks_are_numbered_and_named() -> None:
    job = Job()
    first = job.function(work)
    second = job.program(["/usr/bin/env", "true"])
    third = job.function(work, name="last")
    assert [(task.number, task.name) for task in (first, second, third)] == [(0, "work"), (1, "env"), (2, "last")]
    assert len(job) == 3
    assert repr(second) == "<Task 1 'env'>"


def test_programs_without_options_have_those_that_the_job_has_at_that_time() -> None:
    job = Job(env={"A": "1"})
    for _ in range(2):
        job.program(["true"], name="one")
    assert _options(job, 0) is _options(job, 1), "they are not made for each"
    job.env["A"] = "2"
    job.program(["true"])
    job.cwd = "/data"
    job.function(work)
    job.program(["true"])
    job.program(["true"], executor="sge")
    job.program(["true"], priority=1)
    assert [dict(_options(job, number).env)["A"] for number in range(7)] == ["1", "1", *["2"] * 5]
    assert [_options(job, number).cwd for number in range(7)] == [None] * 3 + ["/data"] * 4
    assert _options(job, 3) == _options(job, 4)
    assert _options(job, 5).resources != _options(job, 4).resources
    assert _options(job, 6).priority == 1


def test_options_are_frozen_in_integers() -> None:
    job = Job(cwd="/data", env={"A": "1", "B": "2"}, lane="high")
    job.function(
        work,
        resources=ResourceRequest(cpus=2, memory="4 GiB"),
        retry=Retry(max_attempts=2),
        time_limit="1h30m",
        memory_limit="1 GB",
        priority=5,
        env={"B": 3, "C": Path("/c")},
        stdout="out.log",
    )
    options = _options(job)
    assert options.resources.amounts == (("cpus", 20_000), ("memory", 4 * 2**30))
    assert (options.time_limit, options.memory_limit, options.priority) == (5_400_000, 10**9, 5)
    assert dict(options.env) == {"A": "1", "B": "3", "C": "/c"}
    assert (options.cwd, options.lane, options.stdout, options.crash_limit) == ("/data", Lane.high, "out.log", 5)


def test_folders_are_absolute_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = Job()
    job.program(["ls"], cwd="sub/../data")
    assert _options(job).cwd == str(tmp_path / "data")


def test_placeholders_are_for_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = Job()
    job.program(["echo", "%{TASK_ID}"], cwd="%{SUBMIT_DIR}/%{TASK_ID}", stdout="%{CWD}/%{SUBMIT_DIR}.out")
    options = _options(job)
    assert options.cwd == f"{tmp_path}/%{{TASK_ID}}"
    assert options.stdout == f"%{{CWD}}/{tmp_path}.out"
    with pytest.raises(ValidationError, match="cannot name itself"):
        job.program(["ls"], cwd="%{CWD}/a")
    with pytest.warns(UserWarning, match=r"%\{ENTRY\} in stderr='%\{ENTRY\}.err' is no placeholder .* there are %\{JOB_ID\}"):
        job.program(["ls"], stderr="%{ENTRY}.err")
    with pytest.warns(UserWarning, match="ENTRY") as warned:
        Job(cwd="%{ENTRY}")
    assert warned[0].filename == __file__, "it names the line of the user"


def test_arrays_that_write_to_one_file_are_warned_of(recwarn: pytest.WarningsRecorder) -> None:
    job = Job()
    job.map(work, range(2), stdout="%{TASK_ID}.out", stderr=Stdio("%{TASK_ID}.err", keep="on_failure"))
    job.map(work, range(2), stdout="out", cwd="/data/%{TASK_ID}")
    job.map(work, range(1), stdout="out")
    job.program(["ls"], stdout="out")
    assert not recwarn.list
    for options in ({"stdout": "out"}, {"stdout": "/out", "cwd": "/data/%{TASK_ID}"}):
        with pytest.warns(UserWarning, match="all tasks of this array write to one file, stdout='/?out'"):
            job.map(work, range(2), **options)


def test_where_streams_go() -> None:
    job = Job()
    job.program(["ls"], stdout=Stdio("out", keep="on_failure"), stderr=Stdio(keep="never"))
    options = _options(job)
    assert (options.stdout, options.keep_stdout, options.stderr, options.keep_stderr) == ("out", Keep.on_failure, None, Keep.never)
    assert Stdio.parse("a:b") == Stdio("a:b")
    assert Stdio.parse("a:b:rm-if-finished") == Stdio("a:b", keep="on_failure")
    assert Stdio.parse(":rm-if-finished") == Stdio(keep="on_failure")
    assert Stdio.parse("none") == Stdio(keep="never")
    for wrong, text in (
        ({"path": ""}, "path of a Stdio"),
        ({"keep": "no"}, "keep must be one of"),
        ({"path": "a", "keep": "never"}, "no file"),
    ):
        with pytest.raises(ValidationError, match=text):
            Stdio(**wrong)


@pytest.mark.parametrize(("given", "kept"), [(None, None), (0, 0), ("0", 0), (datetime.timedelta(), 0), ("1m", 60_000), (0.5, 500)])
def test_graces(given: Any, kept: int | None) -> None:
    job = Job()
    job.function(work, grace=given)
    assert _options(job).grace == kept


@pytest.mark.parametrize(("given", "kept"), [("never", 1), ("unlimited", None), (3, 3)])
def test_crash_limits(given: Any, kept: int | None) -> None:
    job = Job()
    job.function(work, crash_limit=given)
    assert _options(job).crash_limit == kept


def test_arguments_of_programs_are_bytes() -> None:
    job = Job()
    job.program(["head", "-n", 3, 0.5, Path("a b"), b"\xff", "ä"], stdin="text", task_dir=True)
    assert job.entry(0).work == Program((b"head", b"-n", b"3", b"0.5", b"a b", b"\xff", "ä".encode()), b"text", task_dir=True)


def test_dependencies_are_tasks_arrays_and_lists_of_them() -> None:
    job = Job()
    tasks = [job.function(work) for _ in range(3)]
    array = job.map(work, range(2))
    job.function(work, deps=[tasks[0], [tasks[1], array], tasks[0]], after=tasks[2])
    assert job.entry(5).deps == (0, 1, 3, 4)
    assert job.entry(5).after == (2,)


def test_a_map_of_a_million_costs_nothing() -> None:
    job = Job()
    many = job.map(work, range(1_000_000))
    entry = job.entry(999_999)
    assert isinstance(entry.work, MapWork)
    assert len(job.entries) == 1
    assert len(many) == 1_000_000
    assert many[3].number == 3
    assert many[-1].name == "work[999999]"
    assert [task.number for task in many[2:4]] == [2, 3]
    assert many[7] in many
    after = job.function(work)
    assert after.number == 1_000_000
    assert after not in many


def test_the_shortest_iterable_decides() -> None:
    job = Job()
    assert len(job.map(work, range(5), iter("abc"))) == 3
    assert len(job.map(work, [])) == 0
    assert len(job) == 3


def test_parts_of_outputs_are_picked() -> None:
    job = Job()
    part = job.function(work).output["a"][0]
    assert part.path == ("a", 0)
    assert repr(part) == "<output of task 0 'work'['a'][0]>"
    with pytest.raises(TypeError):
        iter(part)


def test_outputs_of_an_array() -> None:
    job = Job()
    many = job.map(work, range(3))
    assert len(many.output) == 3
    assert many.output[1].task.number == 1
    assert [output.task.number for output in many.output] == [0, 1, 2]


def test_an_output_cannot_leave_its_job() -> None:
    job = Job()
    with pytest.raises(ValidationError, match="can only be an argument of a task"):
        pickle.dumps(job.function(work).output)


def test_the_output_of_a_program_is_no_argument() -> None:
    job = Job()
    program = job.program(["true"])
    with pytest.raises(ValidationError, match=r"is a program: its result is its exit code.*deps="):
        job.function(work, args=(program.output,))
    with pytest.raises(ValidationError, match="let a function write a file"):
        job.program(["cat", job.function(work).output])  # type: ignore[list-item]


def test_tasks_of_another_job_are_refused() -> None:
    other, job = Job("other"), Job("mine")
    foreign = other.function(work)
    waits: list[dict[str, Any]] = [{"deps": [foreign]}, {"after": foreign}, {"deps": other.map(work, range(2))}]
    for wait in waits:
        with pytest.raises(ValidationError, match=r"belongs to <Job 'other'.*put both tasks into one job"):
            job.function(work, **wait)
    with pytest.raises(ValidationError, match="cannot be an argument in <Job 'mine'"):
        job.function(work, args=(foreign.output,))
    with pytest.raises(ValidationError, match="make it again"):
        job.function(work, args=(other.value([1]),))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"time_limit": -1}, "time_limit must be a millisecond or more"),
        ({"time_limit": datetime.timedelta(0)}, "time_limit must be a millisecond or more"),
        ({"time_limit": "soon"}, "time_limit must be seconds"),
        ({"memory_limit": "much"}, "memory_limit must be bytes"),
        ({"priority": 1.5}, "priority must be an integer"),
        ({"priority": 2**40}, "priority must be an integer of 32 bits"),
        ({"crash_limit": 0}, "crash_limit must be"),
        ({"crash_limit": "often"}, "crash_limit must be"),
        ({"resources": {"cpus": 1}}, "must be a ResourceRequest"),
        ({"retry": 3}, "must be a Retry"),
        ({"env": {"A=B": "1"}}, "cannot be the name of an environment variable"),
        ({"env": {"A": None}}, "the environment variable A must be a text"),
        ({"env": {"A": "a\0b"}}, "the environment variable A cannot be"),
        ({"cwd": "a\0b"}, "cwd cannot be"),
        ({"cwd": 3}, "cwd must be a path"),
        ({"grace": -1}, "grace must be"),
        ({"grace": False}, "grace must be seconds"),
        ({"stdout": 3}, "stdout must be a path"),
        ({"stdout": ""}, "stdout cannot be"),
        ({"isolation": "cold"}, "isolation must be one of warm, fresh"),
        ({"python": 3}, "python must be a path"),
        ({"prologue": ["module load cuda"]}, "prologue must be a text for a shell"),
        ({"executor": "sge"}, "functions and steps run in processes of a worker"),
        ({"executor_options": {"q": "a"}}, "say which, with executor="),
        ({"setup": 3}, "setup must be a function without parameters"),
        ({"setup": later}, "setup cannot be a coroutine function"),
        ({"name": ""}, "the name of a task"),
        ({"deps": "abc"}, "deps takes tasks"),
        ({"deps": 3}, "deps takes tasks"),
        ({"after": [None]}, "after takes tasks"),
    ],
)
def test_wrong_options_are_named(wrong: dict[str, Any], text: str) -> None:
    job = Job()
    with pytest.raises(ValidationError, match=text):
        job.function(work, **wrong)
    assert len(job) == 0


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"executor": "no name"}, "executor must be the name of one"),
        ({"executor": 3}, "executor must be the name of one"),
        ({"executor": "sge", "executor_options": {"l": ["a\nb"]}}, "the option l is one line"),
        ({"executor": "local", "executor_options": {"q": "a"}}, "say which, with executor="),
    ],
)
def test_wrong_executors_of_programs_are_named(wrong: dict[str, Any], text: str) -> None:
    job = Job()
    with pytest.raises(ValidationError, match=text):
        job.program(["true"], **wrong)
    assert len(job) == 0


def test_options_of_functions_are_none_of_programs() -> None:
    for option in ({"setup": work}, {"isolation": "fresh"}, {"python": "python3"}, {"prologue": "true"}):
        with pytest.raises(TypeError, match="unexpected arguments"):
            Job().program(["true"], **option)  # type: ignore[arg-type]


def test_an_interpreter_is_a_path_as_seen_from_here_or_a_name() -> None:
    job = Job()
    for given in ("python3.12", "venv/bin/python", "~/venv"):
        job.function(work, python=given)
    found = [entry.options.python for entry in job.entries]
    assert found == ["python3.12", str(Path.cwd() / "venv/bin/python"), str(Path.home() / "venv")]


def test_an_output_is_no_dependency() -> None:
    job = Job()
    with pytest.raises(ValidationError, match="deps takes tasks, not their outputs"):
        job.function(work, deps=[job.function(work).output])  # type: ignore[list-item]


def test_unknown_options_are_refused_as_python_does() -> None:
    with pytest.raises(TypeError, match="unexpected arguments: timelimit"):
        Job().function(work, timelimit=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("add", "text"),
    [
        (lambda job: job.function(3), "a function is needed"),
        (lambda job: job.function(work, args="x"), r"one argument is written args=\('x',\)"),
        (lambda job: job.function(work, args=3), "args must be a tuple"),
        (lambda job: job.function(work, kwargs={1: 2}), "kwargs must have texts as keys"),
        (lambda job: job.map(work), "at least one iterable"),
        (lambda job: job.program("ls -l"), r"argv must be a list.*\['sh', '-c'"),
        (lambda job: job.program([]), "argv is empty"),
        (lambda job: job.program(["a", "b\0c"]), r"argv\[1\] holds a NUL"),
        (lambda job: job.program(["a", None]), r"argv\[1\] must be a text"),
        (lambda job: job.program(["a"], stdin=3), "stdin must be"),
    ],
)
def test_wrong_work_is_named(add: Any, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        add(Job())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"name": 3}, "the name of a job"),
        ({"tags": "nightly"}, "tags must be a list"),
        ({"tags": [1]}, "tags must be a list"),
        ({"max_fails": -1}, "max_fails must be"),
        ({"max_fails": True}, "max_fails must be"),
        ({"lane": "fast"}, "lane must be one of high, normal, low"),
    ],
)
def test_wrong_jobs_are_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Job(**wrong)


def test_a_task_that_is_not_there() -> None:
    with pytest.raises(TaskNotFound):
        Job().entry(0)


# --- arrays ---


def test_an_array_has_tasks_with_chosen_ids() -> None:
    job = Job()
    job.program(["true"])
    array = job.array(["echo", "x"], range(30, 33), entries=["a", "b", "c"], name="say")
    assert [(task.number, task.name) for task in array] == [(1, "say[30]"), (2, "say[31]"), (3, "say[32]")]
    assert [task.name for task in job.array(["/bin/echo"], [7, 3])] == ["echo[7]", "echo[3]"]


@pytest.mark.parametrize(
    ("ids", "entries", "said"),
    [
        ([1, 1], None, "different"),
        ([-1], None, "not negative"),
        ([True], None, "integers"),
        (["a"], None, "integers"),
        ([1, 2], ["a"], "one entry for each id: 1 entries for 2 ids"),
        ([1], ["a\0"], "NUL"),
        ([1], [3], "must be a text"),
    ],
)
def test_wrong_arrays_are_refused(ids: list[Any], entries: list[Any] | None, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Job().array(["true"], ids, entries=entries)


def test_the_output_of_an_array_of_programs_is_no_argument() -> None:
    job = Job()
    with pytest.raises(ValidationError, match="is a program"):
        job.function(len, args=(job.array(["true"], [1]).output,))


def test_options_of_tasks_that_are_given_none_follow_what_the_job_has_then() -> None:
    job = Job(env={"A": "1"})
    job.function(len, args=("x",))
    job.function(len, args=("x",), priority=1)
    job.env["A"] = "2"
    job.function(len, args=("x",))
    job.lane = Lane.high
    job.function(len, args=("x",))
    job.program(["true"])
    options = [entry.options for entry in job.entries]
    assert [one.env for one in options] == [(("A", "1"),), (("A", "1"),), (("A", "2"),), (("A", "2"),), (("A", "2"),)]
    assert [one.priority for one in options] == [0, 1, 0, 0, 0]
    assert [one.lane for one in options] == [Lane.normal, Lane.normal, Lane.normal, Lane.high, Lane.high]


def test_a_task_that_is_named_twice_is_waited_for_once() -> None:
    job = Job()
    first, second = job.function(len, args=("x",)), job.function(len, args=("y",))
    job.function(len, args=("z",), deps=[second, first, second], after=(first, first))
    assert (job.entries[2].deps, job.entries[2].after) == ((1, 0), (0,))
