"""Tasks that follow one another on a worker: what begins by itself, what the ledger is told of it, and when nothing begins."""

from __future__ import annotations

from broker_jobs.core.job import Return
from broker_jobs.core.outcome import Canceled, Cause, Failed, Succeeded
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import Need, Request, Variant
from broker_jobs.core.spec import Lane
from broker_jobs.core.value import Encoding, Inline
from broker_jobs.wire.messages import Chunk, Ended, Reply, Returned, Revocation, Revoked, Started
from broker_jobs_worker.machine.events import DrainRequested
from broker_jobs_worker.machine.state import Lifetime
from tests.support.worker_world import JOB, NODES, ONE_CPU, OWN_TEAM, TWO_CPUS, World, make_chunk

VALUE = Inline(Encoding.msgpack, b"\x07")


def _chain(*numbers: int, job: str = JOB, functions: str = "f") -> Chunk:
    return make_chunk(*numbers, job=job, functions=functions, chain=len(numbers) - 1)


def _world() -> World:
    world = World()
    world.begin(ONE_CPU, TWO_CPUS, NODES)
    return world


def _arrived(*numbers: int) -> World:
    world = _world()
    world.arrive(_chain(*numbers))
    return world


def _succeed(world: World, number: int) -> None:
    world.end(world.execution_of(number), Succeeded(VALUE))


def test_the_next_begins_at_once_with_the_value_of_the_one_before() -> None:
    world = _arrived(0, 1, 2)
    assert world.running_tasks() == [0]
    first = world.execution_of(0)
    _succeed(world, 0)
    [(name, start)] = world.executions.items()
    assert (start.execution.task, start.execution.values, start.waited) == (1, {"0": VALUE}, 0.0)
    assert name != first
    assert not world.published, "nothing is said before it is time"


def test_a_success_and_what_follows_it_are_told_together() -> None:
    world = _arrived(0, 1, 2)
    first = world.execution_of(0)
    _succeed(world, 0)
    second = world.execution_of(1)
    world.pass_time(0.11)
    [publish] = world.published.values()
    assert isinstance(publish.message, Reply)
    ended, started = publish.message.items
    assert isinstance(ended, Ended)
    assert isinstance(started, Started)
    assert (ended.task, ended.execution, ended.after) == (0, first, "")
    assert (started.task, started.attempt, started.execution, started.after) == (1, 1, second, first)


def test_what_has_ended_is_not_said_to_have_begun() -> None:
    world = _arrived(0, 1, 2)
    names = []
    for number in range(3):
        names.append(world.execution_of(number))
        _succeed(world, number)
    [publish] = world.published.values()
    assert isinstance(publish.message, Reply)
    assert [(type(item), item.task) for item in publish.message.items] == [(Ended, 0), (Ended, 1), (Ended, 2)]
    assert [item.after for item in publish.message.items if isinstance(item, Ended)] == ["", names[0], names[1]]
    world.confirm_all()
    assert not world.unacked
    assert world.machine.free == world.total


def test_the_message_is_held_until_all_that_began_is_in_the_ledger() -> None:
    world = _arrived(0, 1)
    _succeed(world, 0)
    world.pass_time(0.11)
    world.confirm_all()
    assert world.unacked
    _succeed(world, 1)
    world.pass_time(0.11)
    world.confirm_all()
    assert not world.unacked


def test_nothing_follows_a_failure() -> None:
    world = _arrived(0, 1)
    world.end(world.execution_of(0), Failed(Cause.error, "no"))
    assert not world.executions
    world.confirm_all()
    assert not world.said(1)
    assert not world.unacked


def test_nothing_follows_that_lacks_a_value() -> None:
    world = _arrived(0, 1)
    world.end(world.execution_of(0), Succeeded())
    assert not world.executions


def test_a_program_follows_without_a_value() -> None:
    world = _world()
    world.arrive(_chain(0, 1, functions=""))
    world.end(world.execution_of(0), Succeeded())
    assert world.running_tasks() == [1]


def test_a_worker_that_drains_begins_nothing_more() -> None:
    world = _arrived(0, 1)
    world.tell(DrainRequested())
    _succeed(world, 0)
    assert not world.executions
    world.confirm_all()
    assert not world.said(1), "the coordinator sends it to somebody"


def test_what_is_slow_is_followed_by_nothing() -> None:
    world = _arrived(0, 1)
    world.pass_time(0.1)
    _succeed(world, 0)
    assert not world.executions


def test_a_revocation_of_anything_of_the_job_ends_the_chain() -> None:
    world = _arrived(0, 1)
    world.tell(Revoked((Revocation(JOB, 9, 1),)))
    _succeed(world, 0)
    assert not world.executions


def test_what_was_revoked_before_does_not_follow() -> None:
    world = _world()
    world.revoked.append(Revocation(JOB, 1))
    world.tell(Revoked((Revocation(JOB, 1),)))
    world.arrive(_chain(0, 1))
    _succeed(world, 0)
    assert not world.executions


def test_what_has_run_by_itself_does_not_follow() -> None:
    world = _world()
    world.arrive(make_chunk(1))
    world.end(world.execution_of(1), Succeeded(VALUE))
    world.confirm_all()
    world.arrive(_chain(0, 1))
    _succeed(world, 0)
    assert not world.executions


def test_what_was_called_off_before_it_was_released_does_not_follow_and_may_come_by_itself() -> None:
    world = _world()
    world.tell(Revoked((Revocation(JOB, 1, 0, unstarted_only=True),)))
    world.arrive(_chain(0, 1))
    _succeed(world, 0)
    assert not world.executions
    world.confirm_all()
    world.arrive(make_chunk(1))
    assert world.running_tasks() == [1]


def test_nothing_follows_what_is_being_stopped() -> None:
    world = _arrived(0, 1)
    world.tell(Revoked((Revocation(JOB, 0, 1),)))
    _succeed(world, 0)
    assert not world.executions


def test_what_is_urgent_comes_first() -> None:
    world = _arrived(0, 1)
    world.arrive(make_chunk(5, job="0" * 31 + "2", needs=TWO_CPUS, lane=Lane.high))
    assert world.running_tasks() == [0]
    _succeed(world, 0)
    assert world.running_tasks() == [5]


def test_nothing_follows_in_a_worker_that_is_asked_into_a_team() -> None:
    world = _arrived(0, 1)
    world.ask_team(OWN_TEAM)
    _succeed(world, 0)
    assert not world.executions


def test_nothing_follows_where_a_worker_ends_too_early() -> None:
    needs = Request.of((Variant((Need("cpus", UNIT),), min_time=60_000),))
    world = World()
    world.live(Lifetime(ends_at=1060.0))
    world.begin(needs)
    world.arrive(make_chunk(0, 1, needs=needs, functions="f", chain=1))
    world.now += 0.05
    _succeed(world, 0)
    assert not world.executions


def test_nothing_follows_once_the_message_is_with_somebody_else() -> None:
    world = _arrived(0, 1)
    world.disconnect()
    _succeed(world, 0)
    assert not world.executions


def test_a_chunk_that_comes_again_gives_back_what_may_have_begun() -> None:
    world = _world()
    world.arrive(_chain(0, 1, 2), redelivered=True)
    world.confirm_all()
    assert not world.executions
    assert [[item.why for item in world.said(number) if isinstance(item, Returned)] for number in range(3)] == [[Return.redelivered]] * 3


def test_a_chunk_that_comes_again_gives_back_nothing_that_is_in_the_ledger() -> None:
    world = _arrived(0, 1, 2)
    _succeed(world, 0)
    _succeed(world, 1)
    world.end(world.execution_of(2), Failed(Cause.error, "no"))
    world.confirm_all()
    world.arrive(_chain(0, 1, 2), redelivered=True)
    world.confirm_all()
    assert [[type(item) for item in world.said(number)] for number in range(3)] == [[Ended]] * 3
    assert not world.unacked


def test_an_attempt_that_followed_another_may_come_by_itself() -> None:
    """The ledger counts another execution of the first: then the second one is to run with the value of that."""
    world = _arrived(0, 1)
    _succeed(world, 0)
    _succeed(world, 1)
    world.confirm_all()
    world.started.clear()
    world.arrive(make_chunk(1))
    assert world.running_tasks() == [1]


def test_an_attempt_of_a_chain_that_was_given_back_may_come_by_itself() -> None:
    world = _world()
    world.arrive(_chain(0, 1), redelivered=True)
    world.confirm_all()
    world.arrive(make_chunk(1))
    assert world.running_tasks() == [1]


def test_what_runs_of_a_chain_is_stopped_as_any_other() -> None:
    world = _arrived(0, 1)
    _succeed(world, 0)
    world.tell(Revoked((Revocation(JOB, 1, 1),)))
    assert world.stopping == {world.execution_of(1)}
    world.end(world.execution_of(1), Canceled("enough"))
    world.confirm_all()
    assert not world.unacked
