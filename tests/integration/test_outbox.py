"""Jobs that are submitted inside transactions of an application."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from broker_jobs import Client, Job
from broker_jobs.errors import BrokerError, JobNotFound, SubmitUnknown, ValidationError
from broker_jobs.outbox import OutboxRelay, OutboxSubmitter
from tests.support.daemons import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs import LocalCluster

PATIENCE = 60.0
METADATA = sa.MetaData()
ORDERS = sa.Table("orders", METADATA, sa.Column("id", sa.Integer, primary_key=True), sa.Column("job", sa.Text))


@pytest.fixture
def engine(manager_store: str) -> Iterator[sa.Engine]:
    """The database of an application."""
    found = sa.create_engine(manager_store.replace("postgresql://", "postgresql+psycopg://"))
    METADATA.create_all(found)
    yield found
    found.dispose()


@pytest.fixture
def outbox(cluster: LocalCluster, engine: sa.Engine) -> OutboxSubmitter:
    made = OutboxSubmitter(cluster.url, namespace=cluster.namespace, signing_key=cluster.key)
    made.create_table(engine)
    made.create_table(engine)
    return made


def double(number: int) -> int:
    return 2 * number


def order(connection: sa.Connection, outbox: OutboxSubmitter, number: int) -> str:
    """A change of the application, and the job that goes with it."""
    job = Job(name="order")
    first = job.function(double, args=(number,))
    job.function(double, args=(first.output,), name="last")
    job_id = outbox.submit(connection, job)
    connection.execute(ORDERS.insert().values(id=number, job=job_id))
    return job_id


def waiting(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(sa.text("SELECT count(DISTINCT job) FROM broker_jobs_outbox")).scalar_one()


def test_a_job_exists_if_its_transaction_commits_and_only_then(client: Client, engine: sa.Engine, outbox: OutboxSubmitter) -> None:
    relay = OutboxRelay(engine, client)
    assert relay.send() == []
    with engine.begin() as connection:
        kept = order(connection, outbox, 1)
    with engine.connect() as connection:
        gone = order(connection, outbox, 2)
        connection.rollback()
    assert waiting(engine) == 1
    with pytest.raises(JobNotFound):
        client.job(kept)
    assert relay.send() == [kept]
    assert relay.send() == []
    assert client.job(kept).result("last", timeout=PATIENCE) == 4
    with pytest.raises(JobNotFound):
        client.job(gone)
    with engine.connect() as connection:
        assert connection.execute(sa.select(ORDERS.c.job)).scalars().all() == [kept]


def test_what_was_sent_and_not_removed_is_sent_again_and_changes_nothing(
    client: Client, engine: sa.Engine, outbox: OutboxSubmitter
) -> None:
    with engine.begin() as connection:
        job = order(connection, outbox, 5)
    crashed = OutboxRelay(engine, client)
    frames = crashed._table.frames(engine, job)  # noqa: SLF001 (as it does)
    client.runtime.run(lambda core: core.link.send(job, frames, PATIENCE))  # and here its process ends
    assert client.job(job).result("last", timeout=PATIENCE) == 20
    assert OutboxRelay(engine, client).send() == [job]
    found = client.job(job)
    assert found.result("last", timeout=PATIENCE) == 20
    assert {task.attempt for task in found.tasks()} == {1}


def test_what_the_broker_does_not_take_stays_and_goes_later(
    cluster: LocalCluster, client: Client, engine: sa.Engine, outbox: OutboxSubmitter
) -> None:
    with engine.begin() as connection:
        jobs = [order(connection, outbox, number) for number in range(3)]
    away = Client(cluster.url, namespace=cluster.namespace, signing_key=cluster.key)
    with pytest.raises((BrokerError, SubmitUnknown)):
        OutboxRelay(engine, away).send(timeout=0.0)
    away.close()
    assert waiting(engine) == 3
    stop = threading.Event()
    relaying = threading.Thread(target=OutboxRelay(engine, client).run, args=(stop,), kwargs={"pause": 0.05})
    relaying.start()
    try:
        until(lambda: waiting(engine) == 0, "all were sent")
        with engine.begin() as connection:
            jobs.append(order(connection, outbox, 3))
        until(lambda: waiting(engine) == 0, "what comes later is sent, too")
    finally:
        stop.set()
        relaying.join(PATIENCE)
    assert [client.job(job).result("last", timeout=PATIENCE) for job in jobs] == [0, 4, 8, 12]


def test_what_cannot_be_sent_is_found_in_the_transaction(engine: sa.Engine, outbox: OutboxSubmitter) -> None:
    job = Job()
    job.function(double, args=(threading.Lock(),))
    with engine.begin() as connection, pytest.raises(ValidationError, match="argument 1"):
        outbox.submit(connection, job)
    with engine.begin() as connection, pytest.raises(ValidationError):
        outbox.submit(connection, Job(name="nothing"))
    assert waiting(engine) == 0


def test_a_table_has_a_name(cluster: LocalCluster) -> None:
    with pytest.raises(ValidationError, match="letters, digits"):
        OutboxSubmitter(cluster.url, namespace=cluster.namespace, signing_key=cluster.key, table="x; DROP")
    metadata = sa.MetaData()
    OutboxSubmitter(cluster.url, namespace=cluster.namespace, signing_key=cluster.key, table="mine", metadata=metadata)
    assert list(metadata.tables) == ["mine"]
