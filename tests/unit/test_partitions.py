"""One of several partitions of a ledger: what its coordinator takes, what it says to workers, and what it leaves to others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from broker_jobs import Job, ResourceRequest
from broker_jobs.client.encoding import Encoder
from broker_jobs.client.link import asked_of
from broker_jobs.config import ledger_file, resolve
from broker_jobs.coordinator.admission import admit
from broker_jobs.coordinator.classes import Classes
from broker_jobs.coordinator.effects import Batch
from broker_jobs.coordinator.ledger import LATELY
from broker_jobs.coordinator.teams import REST
from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.resource_class import class_name
from broker_jobs.core.resources import Resources
from broker_jobs.core.spec import Lane, TaskOptions
from broker_jobs.errors import SecurityError, ValidationError
from broker_jobs.ids import MOST_PARTITIONS, new_job_id, uuid7, uuid8
from broker_jobs.wire import messages as m
from tests.support.cast import call, job_chunks
from tests.support.ledger_world import NAMES, SIGNER, World
from tests.support.worker_world import MEMORY, NODES, ONE_CPU

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OURS, THEIRS = uuid8(1, 1, bytes(10)), uuid7(1, bytes(10))
FOUR = Resources((("cpus", 4 * UNIT),))
TEAM = m.Team("t-1", class_name(NODES), Lane.normal, (m.Member("w", "boot-0", "host"), m.Member("v", "boot-0", "other")))


@pytest.fixture
def world() -> Iterator[World]:
    """The ledger of partition 1, which knows the worker "w"."""
    world = World(partition=1)
    world.batch(range(len(world.inbox)))
    yield world
    world.close()


def told(world: World, message: m.Message) -> list[m.Message]:
    """What the coordinator says to workers when this comes from one."""
    with world.store.transaction():
        world.ledger.begin(world.now, world.now_ms)
        world.ledger.take(admit(SIGNER.open(SIGNER.seal(message, m.Role.worker)), NAMES, NAMES.replies, "_.0", 1))
        effects = world.ledger.finish()
    return [SIGNER.open(sent.body).message for sent in effects.sends if sent.exchange == NAMES.control]


def test_a_greeting_is_answered_for_the_partition_and_about_its_jobs_alone(world: World) -> None:
    held = tuple(m.Held(job, 0, 1, taken=True) for job in (OURS, THEIRS))
    hello = m.Hello("w", "boot-0", "host", 1, "0", FOUR, FOUR, held, kept=(OURS, THEIRS))
    world.now += 10 * 86_400  # young jobs may just not have come yet
    [welcome] = told(world, hello)
    assert isinstance(welcome, m.Welcome)
    assert welcome.partition == 1
    assert welcome.forgotten == (OURS,), "what others keep is theirs to know"
    assert len(world.ledger.workers.known["w"].held) == 2, "how busy it is concerns all"


def test_a_forgotten_job_is_revoked_where_it_was(world: World) -> None:
    chunks = job_chunks([call(0)], job=OURS, ephemeral=True)
    for chunk in chunks:
        world.submit(chunk)
    world.batch(range(len(world.inbox)))
    world.ask(m.ForgetJobs((OURS,)))
    world.batch(range(len(world.inbox)))
    held = tuple(m.Held(job, 0, 1) for job in (OURS, THEIRS))
    [welcome] = told(world, m.Hello("w", "boot-0", "host", 1, "0", FOUR, FOUR, held))
    assert isinstance(welcome, m.Welcome)
    assert {revocation.job for revocation in welcome.revoked} == {OURS}


@pytest.mark.parametrize("state", m.SeatState)
def test_teams_are_left_to_the_first_partition(world: World, state: m.SeatState) -> None:
    world.now += 3600
    for message in (
        m.Hello("w", "boot-0", "host", 1, "0", FOUR, Resources(()), teams=True, seat=m.Seat(TEAM, state)),
        m.Heartbeat("w", "boot-0", Resources(()), seat=m.Seat(TEAM, state)),
    ):
        assert not [one for one in told(world, message) if isinstance(one, m.TeamAsked)], "it is asked neither in nor out"


@pytest.mark.parametrize("ago", [None, LATELY - 1, LATELY + 1])
def test_between_two_teams_workers_are_left_to_the_tasks_of_other_partitions(ago: float | None) -> None:
    world = World()
    for chunk in job_chunks([call(0), call(1)], job=THEIRS, options=TaskOptions(resources=NODES)):
        world.submit(chunk)
    for name in ("w", "v"):
        world.say(m.Hello(name, "boot-0", "host", 1, "0", FOUR, FOUR, teams=True))
    if ago is not None:
        world.say(m.Heartbeat("w", "boot-0", FOUR, held=(m.Held(OURS, 0, 1),)))
    world.batch(range(len(world.inbox)))
    root = world.ledger.workers.known["v"]
    first = world.ledger.teams.of(root)
    assert first is not None, "a team is formed"
    world.now += ago or 0.0
    for name, state in (("v", m.SeatState.ready), ("w", m.SeatState.ready), ("v", m.SeatState.working)):
        world.say(m.Heartbeat(name, "boot-0", FOUR, seat=m.Seat(first.team, state)))
    world.batch(range(len(world.inbox)))
    world.say(m.Reply(THEIRS, "v", "boot-0", (m.Ended(0, 1, "e", Succeeded(), 1, 2),), "class"))
    world.say(m.Heartbeat("v", "boot-0", FOUR))
    world.batch(range(len(world.inbox)))
    rests = ago is not None and ago < LATELY
    assert (world.ledger.teams.of(root) is None) == rests, "else the next team is formed at once"
    world.now += REST
    world.batch(())
    second = world.ledger.teams.of(root)
    assert second is not None
    assert second.team != first.team
    world.close()


@pytest.mark.parametrize("partition", [0, 1])
def test_tasks_of_several_nodes_are_rejected_elsewhere(partition: int) -> None:
    classes, batch = Classes((), partition), Batch(0.0, 0)
    refused = classes.use(batch, class_name(NODES), NODES)
    assert bool(refused) == bool(partition) == (not batch.effects.new_classes)
    assert refused.endswith("of partition 1") == bool(partition)
    assert classes.use(batch, class_name(ONE_CPU), ONE_CPU) == ""


def test_a_class_that_workers_have_tasks_of_stays_whoever_needs_it() -> None:
    classes, day, hour = Classes((), 1), 86_400_000, 3_600_000
    used, unused = class_name(ONE_CPU), class_name(MEMORY)
    classes.use(Batch(0.0, 0), used, ONE_CPU)
    classes.use(Batch(0.0, 0), unused, MEMORY)
    for now in range(0, 2 * day, hour):
        batch = Batch(0.0, now)
        classes.seen(batch, (used, "that another partition knows"))
        assert [row.name for row in batch.writes.classes] == ([used] if now else []), "written down once an hour"
        classes.retire(batch, ())
        assert batch.effects.close_classes == ([unused] if now == day else [])
    batch = Batch(0.0, 3 * day)
    classes.retire(batch, ())
    assert batch.effects.close_classes == [used]


def test_a_heartbeat_keeps_classes(world: World) -> None:
    for chunk in job_chunks([call(0)], job=OURS):
        world.submit(chunk)
    world.batch(range(len(world.inbox)))
    [before] = world.store.look.classes()
    world.now += 3600
    told(world, m.Heartbeat("w", "boot-0", FOUR, used=(before.name,)))
    assert world.store.look.classes() == [before._replace(used_ms=world.now_ms)]


def admitted(message: m.Message, partition: int, role: m.Role, exchange: str, key: str) -> m.Message:
    return admit(SIGNER.open(SIGNER.seal(message, role)), NAMES, exchange, key, partition)


def _cases() -> list[Any]:
    """Messages about a job, with who says them, and where."""
    [waiting] = job_chunks([call(0)], job=OURS)
    [direct] = job_chunks([call(0)], job=OURS, direct=True)
    reply = m.Reply(OURS, "w", "boot-0", (m.Taken(0, 1, "e"),), "class")
    assert waiting.header is not None
    opening = m.Request("q", "client-1", m.OpenJob(OURS, waiting.header), 1)
    again = m.Request("q", "client-1", m.ResubmitJob(THEIRS, OURS), 1)
    key = NAMES.task_key(direct.resource_class, direct.lane, 1)
    return [
        pytest.param(waiting, m.Role.submitter, NAMES.tasks, NAMES.ledger_key(1), id="chunk"),
        pytest.param(direct, m.Role.submitter, NAMES.tasks, key, id="direct chunk"),
        pytest.param(waiting, m.Role.coordinator, NAMES.returned, key, id="returned chunk"),
        pytest.param(reply, m.Role.worker, NAMES.replies, NAMES.reply_key("client-1", 1), id="reply"),
        pytest.param(opening, m.Role.submitter, NAMES.tasks, NAMES.ledger_key(1), id="opening"),
        pytest.param(again, m.Role.submitter, NAMES.tasks, NAMES.ledger_key(1), id="resubmission"),
    ]


@pytest.mark.parametrize(("message", "role", "exchange", "key"), _cases())
def test_what_is_of_another_partition_is_refused(message: m.Message, role: m.Role, exchange: str, key: str) -> None:
    assert admitted(message, 1, role, exchange, key) == message
    for other in (0, 2):
        # Where a chunk came to is in its key, so here that is as the ledger wants it.
        with pytest.raises(SecurityError, match=rf"job {OURS} is of partition 1 of the ledger, not of {other}"):
            admitted(message, other, role, exchange, f"{key[:-1]}{other}")


def test_a_chunk_whose_tasks_wait_for_another_partition_is_refused() -> None:
    [chunk] = job_chunks([m.Task(0, call(0).work, outside=(m.Outside(THEIRS, 0, after=True),))], job=OURS)
    with pytest.raises(SecurityError, match="is of partition 0 of the ledger, not of 1"):
        admitted(chunk, 1, m.Role.submitter, NAMES.tasks, NAMES.ledger_key(1))


def test_links_and_teams_across_partitions_are_refused_before_anything_is_sent() -> None:
    job = Job("first")
    job.program(["true"], resources=ResourceRequest(nodes=2))
    assert len(list(Encoder(new_job_id(0)).tasks(job))) == 1
    with pytest.raises(ValidationError, match=r"run in partition 0 of the ledger alone, not in 3"):
        list(Encoder(new_job_id(3)).tasks(job))


@pytest.mark.parametrize(
    ("question", "partition"),
    [
        (m.FindJob(OURS), 1),
        (m.FindJob(THEIRS), 0),
        (m.FindJob("last"), 7),
        (m.FindJob(OURS[-8:]), 7),
        (m.ListJobs(), 7),
        (m.ListJobs(parent=OURS), 1),
        (m.GetChanges(THEIRS), 0),
        (m.GetChanges("last"), 7),
        (m.ForgetJobs((OURS,)), 1),
        (m.ForgetJobs(()), 7),
        (m.CancelTasks(OURS), 1),
        (m.ListData(), 7),
        (m.ListData(made_by=OURS), 1),
        (m.ListData(used_by=THEIRS), 0),
        (m.FindData(uuid7(1, bytes(10))), 7),
        (m.ListLog(), 7),
        (m.ListLog(THEIRS), 0),
        (m.ListLog(OURS), 1),
        (m.ListLog(uuid4().hex), 7),
        (m.GetWorkers(), 7),
    ],
)
def test_a_question_goes_to_the_partition_of_the_job_that_it_names(question: m.Question, partition: int) -> None:
    assert asked_of(question, 7) == partition


def test_settings_name_a_partition(tmp_path: Path) -> None:
    file = tmp_path / "broker-jobs.toml"
    file.write_text('url = "amqp://h/"\npartition = 2\n')

    def partition(given: int | None = None, **environ: str) -> int:
        return resolve(partition=given, environ={"BROKER_JOBS_HOME": str(tmp_path), **environ}, folder=tmp_path).partition

    assert (partition(), partition(BROKER_JOBS_PARTITION="3"), partition(4, BROKER_JOBS_PARTITION="3"), partition(0)) == (2, 3, 4, 0)
    for wrong in ("x", "-1", str(MOST_PARTITIONS), "1.0", "\u0661"):
        with pytest.raises(ValidationError, match="a partition is a number from 0 to 63"):
            partition(BROKER_JOBS_PARTITION=wrong)
    file.write_text('url = "amqp://h/"\npartition = true\n')
    with pytest.raises(ValidationError, match="not True"):
        partition()
    assert [ledger_file(tmp_path, number).name for number in (0, 1)] == ["ledger.db", "ledger-1.db"]
