"""Names of jobs."""

from __future__ import annotations

import uuid

from broker_jobs.ids import new_job_id, new_name, partition_of, short, uuid7


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


def test_the_short_form_and_the_partition_come_from_the_random_end() -> None:
    job = "0" * 24 + "3f9a2c41"
    assert short(job) == "3f9a2c41"
    assert partition_of(job, 7) == 0x3F9A2C41 % 7
