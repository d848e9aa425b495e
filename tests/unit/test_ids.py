"""Names of jobs."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.ids import MOST_PARTITIONS, is_job_id, made_ms, new_job_id, new_name, partition_of, reference, short, uuid7, uuid8


def test_a_job_id_is_a_uuid7_that_carries_its_time() -> None:
    text = uuid7(0x0123456789AB, bytes(range(10)))
    assert text == "0123456789ab7001" + "8203040506070809"
    assert (uuid.UUID(text).version, uuid.UUID(text).variant) == (7, uuid.RFC_4122)
    assert uuid7(1, b"\xff" * 10) < uuid7(2, b"\x00" * 10)


def test_fresh_names_differ() -> None:
    assert new_job_id() != new_job_id()
    assert uuid.UUID(new_job_id()).version == 7
    assert new_name("client").startswith("client-")
    assert new_name("client") != new_name("client")


def test_the_short_form_comes_from_the_random_end() -> None:
    job = "0" * 24 + "3f9a2c41"
    assert short(job) == reference(job) == "3f9a2c41"
    elsewhere = new_job_id(1)
    assert reference(elsewhere) == elsewhere, "else it would be looked for in the wrong ledger"


def test_a_job_id_of_another_partition_is_a_uuid8_that_says_so() -> None:
    text = uuid8(0x0123456789AB, 0x2A, bytes(range(10)))
    assert text == "0123456789ab802a" + "8203040506070809"
    assert (uuid.UUID(text).version, uuid.UUID(text).variant) == (8, uuid.RFC_4122)
    assert uuid.UUID(new_job_id(3)).version == 8


@given(st.integers(0, MOST_PARTITIONS - 1), st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_the_partition_of_an_id_is_that_for_which_it_was_made(partition: int, unix_ms: int, noise: bytes) -> None:
    text = uuid8(unix_ms, partition, noise)
    assert is_job_id(text)
    assert (partition_of(text), made_ms(text)) == (partition, unix_ms)
    assert partition_of(new_job_id(partition)) == partition
    assert text < uuid8(unix_ms + 1, 0, bytes(10)) or unix_ms == 2**48 - 1
    assert partition_of(uuid7(unix_ms, noise)) == 0, "those that there have always been"


@given(st.uuids().map(lambda one: one.hex) | st.text(max_size=40) | st.sampled_from(["last", "3f9a2c41", "key:x", ""]))
def test_every_other_name_is_of_the_first_partition(text: str) -> None:
    assert partition_of(text) == (int(text[13:16], 16) if is_job_id(text) and uuid.UUID(text).version == 8 else 0)
