"""Which work a worker runs that does not run all."""

from __future__ import annotations

import pytest

from broker_jobs.core.spec import TaskOptions
from broker_jobs.core.value import Encoding, Inline, Stored
from broker_jobs.core.versions import Version
from broker_jobs.errors import ValidationError
from broker_jobs.wire.messages import Call, Origin, Program, StepCall, Work
from broker_jobs_worker.accepting import Accepted
from broker_jobs_worker.executors.port import Execution

PLAIN = Inline(Encoding.msgpack, b"\x80")
PICKLED = Inline(Encoding.pickle, b"\x80")
KEPT = Stored(Encoding.pickle, "/store", "j/aa", b"", 1)

PROGRAM = Program((b"true",))
CALL = Call("f", PLAIN)
FIT = StepCall("fit", Version(1, 0, 0), PLAIN, ("7",))
TRAIN = StepCall("train", Version(1, 0, 0), PLAIN)


def execution(work: Work, **values: Inline | Stored) -> Execution:
    return Execution("e", "0" * 32, 0, 1, work, TaskOptions(), Origin("h", "p", "v"), values=values)


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        (["programs"], [PROGRAM]),
        (["functions"], [CALL]),
        (["steps"], [FIT, TRAIN]),
        (["step:fit"], [FIT]),
        (["step:fit", "step:train", "programs"], [FIT, TRAIN, PROGRAM]),
        (["programs", "functions", "steps"], [PROGRAM, CALL, FIT, TRAIN]),
    ],
)
def test_what_is_named_runs_and_nothing_else(words: list[str], runs: list[Work]) -> None:
    accepted = Accepted.parse(words)
    for work in (PROGRAM, CALL, FIT, TRAIN):
        assert (accepted.refusal(execution(work)) is None) == (work in runs), work


@pytest.mark.parametrize("value", [PICKLED, KEPT])
def test_a_worker_without_functions_unpickles_nothing(value: Inline | Stored) -> None:
    given = execution(FIT, a=PLAIN, b=value)
    assert "unpickles nothing" in (Accepted.parse(["steps"]).refusal(given) or "")
    assert Accepted.parse(["steps"]).refusal(execution(FIT, a=PLAIN)) is None
    assert Accepted.parse(["steps", "functions"]).refusal(given) is None


def test_the_reason_names_both() -> None:
    accepted = Accepted.parse(["programs", "step:train", "step:fit"])
    assert accepted.refusal(execution(CALL)) == "this is a function, and the worker accepts only programs, the step fit and the step train"


@pytest.mark.parametrize("word", ["program", "step:", "step", "all", "", "step:a:b"])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(ValidationError, match="programs, functions, steps"):
        Accepted.parse(["programs", word])
