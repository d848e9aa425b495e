"""Jobs in batch systems: what follows from what is seen of them, and how they are described."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker_jobs.core import batch_options
from broker_jobs.errors import ValidationError
from broker_jobs_worker.executors.batch import watch
from broker_jobs_worker.executors.batch.htcondor import description, lines
from broker_jobs_worker.executors.batch.port import BatchJob, Ended, JobRefused, JobState, Running, SchedulerSilent, Stuck, Waiting
from broker_jobs_worker.executors.batch.sge import directives, listed
from tests.support import fake_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

STATES = st.sampled_from([None, Waiting("qw"), Running(), Stuck("held"), Ended("removed")])
NAMES = st.from_regex(r"[A-Za-z_+][A-Za-z0-9_.+-]{0,9}", fullmatch=True)
LINES = st.text(st.characters(exclude_characters="\0\r\n", codec="utf-8"), max_size=20)


@given(looks=st.lists(st.tuples(STATES, st.none() | st.integers(0, 255)), max_size=12), condemned_at=st.integers(0, 12))
@example(looks=[(None, None), (Running(), None), (None, None)], condemned_at=12)
def test_a_job_goes_one_way(looks: Sequence[tuple[JobState | None, int | None]], condemned_at: int) -> None:
    missing = unknown = 0
    for number, (state, code) in enumerate(looks):
        condemned = number >= condemned_at
        finding = watch.judge(state, code, missing, condemned=condemned)
        gone = state is None or isinstance(state, Ended)
        unknown = unknown + 1 if gone else 0
        assert isinstance(finding, watch.Exited) == (code is not None), "an exit code is the truth, whatever else is said"
        if code is not None:
            assert finding == watch.Exited(code)
            return
        assert isinstance(finding, watch.Over) == (condemned and gone), "what is to end has ended when nothing is left"
        assert isinstance(finding, watch.Cancel) == (condemned and not gone)
        assert isinstance(finding, watch.Hopeless) == (isinstance(state, Stuck) and not condemned)
        assert isinstance(finding, watch.Lost) == (not condemned and unknown >= watch.LOST_AFTER), "it is lost after so many polls in a row"
        if isinstance(finding, watch.Lost):
            assert finding.reason == ("removed" if state is not None else "")
        if isinstance(finding, watch.Lost | watch.Over):
            return
        if isinstance(finding, watch.GoesOn):
            missing = finding.missing
            assert missing == unknown
            assert finding.runs == isinstance(state, Running)
        else:
            missing = 0


@given(folder=st.text(st.characters(exclude_characters="\0/"), min_size=1, max_size=20), file=st.text("ab$(){}.,", min_size=1, max_size=9))
@example(folder="a $(touch X)", file="$(DOLLAR)")
@example(folder="trailing ", file="a")
@example(folder="\\", file="x\\")
def test_a_submit_description_names_the_very_files(folder: str, file: str) -> None:
    job = BatchJob("bj-1", f"/{folder}/run.sh", f"/{folder}", (f"/{folder}/{file}",), {"Request_Memory": ("2GB",), "+Group": ('"x"',)})
    try:
        text = description(job)
    except JobRefused:
        odd = set(folder + file) & set(",\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
        assert odd or folder != folder.strip() or folder.endswith("\\") or file.endswith("\\") or file.strip() != file
        return
    told = fake_batch.description(text)
    assert told["executable"] == job.script
    assert told["initialdir"] == job.folder
    assert told["transfer_input_files"] == job.files[0]
    assert (told["request_memory"], told["+group"]) == ("2GB", '"x"')


@given(values=st.lists(st.lists(LINES.filter(lambda text: not text.startswith("-") or text == "-5"), min_size=1, max_size=3), max_size=4))
def test_each_value_is_a_directive_of_its_own(values: list[list[str]]) -> None:
    found = directives({"sge_l": tuple(shlex.join(words) for words in values)})
    assert found == [word for words in values for word in ("-l", *words)] if values else ["-l"]


@given(text=st.text(max_size=60) | st.sampled_from(["", "<a/>", "<job_info/>", "<job_info><job_list/></job_info>"]))
def test_any_list_is_read_or_refused(text: str) -> None:
    try:
        assert listed(text) == {}
    except SchedulerSilent:
        assert text != "<job_info/>"


@given(options=st.dictionaries(NAMES, st.just(True) | LINES | st.lists(LINES, min_size=1, max_size=3), max_size=4))
def test_options_of_a_command_line_are_those_of_a_task(options: dict[str, object]) -> None:
    frozen = dict(batch_options.frozen(options))
    texts = [f"{name}={value}" for name, values in frozen.items() for value in values]
    flags = [name for name, values in frozen.items() if not values]
    assert batch_options.parsed([*texts, *flags]) == frozen


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"a b": "1"}, "cannot be an option of a batch system"),
        ({"-q": "1"}, "cannot be an option of a batch system"),
        ({3: "1"}, "cannot be an option of a batch system"),
        ({"q": "a\nb"}, "is one line"),
        ({"q": ["a", "b\0"]}, "is one line"),
        ({"q": None}, "takes a text, a list of texts, or True"),
        ({"q": False}, "takes a text, a list of texts, or True"),
        ({"q": {"a": 1}}, "takes a text, a list of texts, or True"),
        ({"q": []}, "has no value"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        batch_options.frozen(options)


def test_options_that_would_change_what_a_job_is_are_refused() -> None:
    for name in ("t", "sge_t", "sync", "S"):
        with pytest.raises(JobRefused, match="is set by broker-jobs"):
            directives({name: ("1",)})
    with pytest.raises(JobRefused, match="cannot be read"):
        directives({"N": ("it's",)})
    for name in ("Executable", "condor_queue", "arguments"):
        with pytest.raises(JobRefused, match="is set by broker-jobs"):
            lines({name: ("1",)})
    with pytest.raises(JobRefused, match="one value"):
        lines({"requirements": ("1", "2")})
    with pytest.raises(JobRefused, match="backslash"):
        lines({"requirements": ("a \\ ",)})


def test_files_of_users_come_after_ours() -> None:
    assert lines({"Transfer_Input_Files": ("a", "b")}, ["/x"]) == ["transfer_input_files = /x, a, b"]
    assert lines({"transfer_output_files": ("out.csv",)}) == ["transfer_output_files = exit, started, stdout, stderr, out.csv"]
