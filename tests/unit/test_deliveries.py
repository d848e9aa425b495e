"""What the delivery ledger refuses."""

from __future__ import annotations

import pytest

from broker_jobs.broker import port
from broker_jobs.core.deliveries import DeliveryLedger, Tag
from broker_jobs.errors import IllegalTransition


def test_a_tag_of_an_older_connection_names_nothing() -> None:
    ledger = DeliveryLedger()
    ledger.connected(1)
    ledger.received(Tag(1, 5))
    ledger.connected(2)
    ledger.received(Tag(2, 5))
    assert not ledger.settle(Tag(1, 5))
    assert ledger.owed() == (Tag(2, 5),)
    assert ledger.settle(Tag(2, 5))
    assert not ledger.settle(Tag(2, 5))
    assert not ledger.settle(Tag(2, 6))


def test_generations_grow() -> None:
    ledger = DeliveryLedger()
    ledger.connected(3)
    for generation in (3, 2):
        with pytest.raises(IllegalTransition, match=f"connection {generation} cannot follow connection 3"):
            ledger.connected(generation)


def test_a_delivery_belongs_to_the_present_connection_and_comes_once() -> None:
    ledger = DeliveryLedger()
    with pytest.raises(IllegalTransition, match="a delivery of connection 1 cannot come on connection 0"):
        ledger.received(Tag(1, 1))
    ledger.connected(1)
    ledger.received(Tag(1, 1))
    with pytest.raises(IllegalTransition, match="delivery 1 of connection 1 came twice"):
        ledger.received(Tag(1, 1))


def test_the_port_speaks_of_the_same_tags() -> None:
    assert port.Tag is Tag
