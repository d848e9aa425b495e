"""Answers of a broker by example."""

from __future__ import annotations

import pytest

from broker_jobs.broker import port
from broker_jobs.core.confirms import Confirms, Receipt
from broker_jobs.errors import IllegalTransition

CONFIRMED, REFUSED, UNROUTABLE, UNKNOWN = Receipt.confirmed, Receipt.refused, Receipt.unroutable, Receipt.unknown


def sent(count: int) -> Confirms[str]:
    confirms: Confirms[str] = Confirms()
    assert [confirms.sent(letter) for letter in "abcdefgh"[:count]] == list(range(1, count + 1))
    return confirms


def test_one_answer_each_in_any_order() -> None:
    confirms = sent(3)
    assert confirms.acked(2) == (("b", CONFIRMED),)
    assert confirms.nacked(3) == (("c", REFUSED),)
    assert confirms.acked(2) == confirms.nacked(2) == ()
    assert confirms.acked(1) == (("a", CONFIRMED),)
    assert len(confirms) == 0


def test_a_cumulative_answer_is_for_all_below() -> None:
    confirms = sent(5)
    confirms.nacked(2)
    assert confirms.acked(3, multiple=True) == (("a", CONFIRMED), ("c", CONFIRMED))
    assert confirms.nacked(0, multiple=True) == (("d", REFUSED), ("e", REFUSED))


def test_what_came_back_is_unroutable_whatever_is_said_later() -> None:
    confirms = sent(4)
    for number in (1, 2, 4):
        confirms.returned(number)
    assert confirms.acked(1) == (("a", UNROUTABLE),)
    assert confirms.nacked(2) == (("b", UNROUTABLE),)
    assert confirms.channel_closed() == (("c", UNKNOWN), ("d", UNROUTABLE))
    assert confirms.sent("again") == 1
    assert confirms.acked(1) == (("again", CONFIRMED),)


def test_a_return_of_what_was_answered_is_forgotten() -> None:
    confirms = sent(1)
    confirms.acked(1)
    confirms.returned(1)
    confirms.check()


@pytest.mark.parametrize(("number", "multiple"), [(3, False), (3, True), (0, False), (-1, True)])
def test_an_answer_for_what_was_never_sent_is_loud(number: int, multiple: bool) -> None:
    confirms = sent(2)
    with pytest.raises(IllegalTransition, match=f"the broker answers for message {number}, but 2 were sent"):
        confirms.acked(number, multiple=multiple)
    assert len(confirms) == 2


def test_the_port_speaks_of_the_same_receipts() -> None:
    assert port.Receipt is Receipt
