"""How an execution's end becomes an outcome with words."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.core.outcome import Canceled, Cause, Crashed, Failed, Succeeded
from broker_jobs.core.value import Encoding, Inline
from broker_jobs.wire.messages import Call, Program
from broker_jobs_worker.executors.verdicts import MemoryUp, Stopped, TimeUp, condemned, vanished, with_last_line
from broker_jobs_worker.runners.failure import TEXT_LIMIT, described, failed_by, tail
from broker_jobs_worker.runners.program import shown
from broker_jobs_worker.runners.wording import bytes_words, exit_words, seconds_words, signal_words

CALL = Call("f", Inline(Encoding.msgpack, b""))
PROGRAM = Program((b"tool",))


@pytest.mark.parametrize("answer", [None, Succeeded(), Failed(Cause.error, "late", "where it was"), Canceled()])
def test_a_verdict_is_the_outcome_whatever_was_answered(answer: object) -> None:
    late = answer if isinstance(answer, Succeeded | Failed | Canceled) else None
    assert condemned(Stopped("why"), late) == Canceled("why")
    for verdict, cause in ((TimeUp(90), Cause.time_limit), (MemoryUp(1, 2), Cause.memory_limit)):
        outcome = condemned(verdict, late)
        assert isinstance(outcome, Failed)
        assert outcome.cause is cause
        assert outcome.traceback == ("where it was" if isinstance(answer, Failed) else "")


@given(st.integers(0, 255), st.sampled_from([1, 2, 6, 9, 11, 15, 34, 64]))
def test_any_status_of_a_vanished_child_has_words(code: int, number: int) -> None:
    left = vanished(CALL, code << 8)
    assert left == Crashed(f"the process of the function ended with {exit_words(code)} without an answer, as by os._exit")
    killed = vanished(CALL, number)
    assert killed.signal == number
    assert f"killed by signal {number} (" in killed.message
    assert vanished(CALL, None).signal is None
    assert "runner of the program" in vanished(PROGRAM, number).message


def test_the_last_line_of_a_program_is_told() -> None:
    failed = Failed(Cause.exit_code, "the program tool ended with exit code 2", exit_code=2)
    told = with_last_line(failed, b"first\n  \xff no such file \n\n")
    assert isinstance(told, Failed)
    assert told.message == "the program tool ended with exit code 2:   � no such file"
    assert with_last_line(failed, b" \n") == failed
    assert with_last_line(Succeeded(), b"warning\n") == Succeeded()


def test_words() -> None:
    assert signal_words(signal.SIGKILL).startswith("killed by signal 9 (SIGKILL: killed; by somebody, or by the kernel")
    assert signal_words(signal.SIGTERM) == "killed by signal 15 (SIGTERM: terminated)"
    assert "no name" in signal_words(50)
    assert seconds_words(1500) == "1.5 s"
    assert bytes_words(100 << 20) == "100 MiB"
    assert bytes_words(10) == "10 bytes"
    assert shown(b"a b\xff") == "'a b\\xff'"


@given(st.text(max_size=300), st.integers(1, 100))
def test_a_tail_is_the_end(text: str, limit: int) -> None:
    cut = tail(text, limit)
    assert cut.endswith(text[-limit:])
    assert (cut == text) == (len(text) <= limit)


class BrokenError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class UnlikelyError(Exception):
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.path.join, ("x",)


def test_exceptions_that_misbehave_are_told_all_the_same() -> None:
    assert described(BrokenError()) == "BrokenError: (its text cannot be made: RuntimeError)"
    assert failed_by(BrokenError()).traceback
    assert failed_by(UnlikelyError("a")).exception is None
    assert failed_by(ValueError("y" * TEXT_LIMIT * 2)).exception is None
    assert described(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_of_a_long_text_the_type_and_the_tail_are_told() -> None:
    told = failed_by(ValueError("y" * TEXT_LIMIT * 2 + "the end")).message
    assert told.startswith("ValueError: … ")
    assert told.endswith("ythe end")
    assert len(told) < TEXT_LIMIT + 100
    long_name = type("N" * 10_000, (Exception,), {})
    assert len(described(long_name("text"))) < 300
