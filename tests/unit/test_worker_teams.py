"""A worker in a team: what it gives up, when it is ready, what its root may take, and when it is free again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker_jobs.core.outcome import Canceled, Succeeded
from broker_jobs.core.resources import Resources
from broker_jobs.core.spec import Lane
from broker_jobs.wire.messages import Ended, Heartbeat, Hello, Returned, Revocation, Revoked, Seat, SeatState
from broker_jobs_worker.machine.events import DrainRequested, StopRequested
from broker_jobs_worker.machine.state import Lifetime
from tests.support.worker_world import NODES, ONE_CPU, OTHER_TEAM, OWN_TEAM, TOTAL, TWO_CPUS, World, make_chunk, resource_class

QUEUE = (OWN_TEAM.resource_class, OWN_TEAM.lane)


def _world() -> World:
    world = World()
    world.begin(ONE_CPU, NODES)
    return world


def _last(world: World) -> Hello | Heartbeat:
    return world.spoken[-1]


def _at_work() -> World:
    """The root of a team that has its task."""
    world = _world()
    world.ask_team(OWN_TEAM)
    world.ask_team(OWN_TEAM, complete=True)
    world.pass_time(0.1)
    world.put(make_chunk(7, needs=NODES, isolated=True))
    world.deliver(world.deliverable()[0])
    world.confirm_all()
    assert world.running_tasks() == [7]
    return world


def test_nobody_takes_a_task_of_several_nodes_by_itself() -> None:
    world = _world()
    assert QUEUE not in world.subscribed
    world.arrive(make_chunk(0, needs=NODES))
    world.confirm_all()
    assert [type(item) for item in world.said(0)] == [Returned]


def test_a_worker_that_does_nothing_is_ready_at_once() -> None:
    world = _world()
    world.ask_team(OTHER_TEAM)
    assert _last(world) == Heartbeat("w", "boot", Resources(()), seat=Seat(OTHER_TEAM, SeatState.ready))
    assert not world.subscribed


def test_what_runs_ends_first_and_what_waits_goes_back() -> None:
    world = _world()
    world.put(make_chunk(0, 1, 2, 3))
    world.deliver(world.deliverable()[0])
    assert world.running_tasks() == [0, 1]
    world.ask_team(OTHER_TEAM)
    assert _last(world).seat == Seat(OTHER_TEAM, SeatState.joining)
    world.confirm_all()
    assert [type(item) for number in (2, 3) for item in world.said(number)] == [Returned, Returned]
    world.end(world.execution_of(0), Succeeded())
    assert _last(world).seat == Seat(OTHER_TEAM, SeatState.joining)
    world.end(world.execution_of(1), Succeeded())
    assert _last(world).seat == Seat(OTHER_TEAM, SeatState.ready)
    assert not world.subscribed


def test_what_was_on_its_way_goes_back() -> None:
    world = _world()
    world.ask_team(OWN_TEAM)
    world.arrive(make_chunk(0))
    world.confirm_all()
    assert [type(item) for item in world.said(0)] == [Returned]


def test_the_root_takes_one_task_when_all_are_ready_and_leaves_when_it_has_ended() -> None:
    world = _world()
    world.ask_team(OWN_TEAM)
    assert not world.subscribed
    world.ask_team(OWN_TEAM, complete=True)
    world.pass_time(0.1)
    assert world.subscribed == {QUEUE: 1}
    world.put(make_chunk(0, needs=NODES, isolated=True))
    world.put(make_chunk(1, needs=NODES, isolated=True))
    world.deliver(world.deliverable()[0])
    assert _last(world).seat == Seat(OWN_TEAM, SeatState.working)
    world.confirm_all()
    [start] = world.executions.values()
    assert start.execution.hosts == ("host", "other")
    assert start.execution.env["BROKER_JOBS_CPUS"] == "0,1"
    world.pass_time(0.1)
    world.pass_time(0.1)
    assert not world.subscribed
    world.end(world.execution_of(0), Succeeded())
    assert _last(world) == Heartbeat("w", "boot", TOTAL, held=_last(world).held)
    world.pass_time(0.1)
    world.pass_time(0.1)
    assert (ONE_CPU_QUEUE in world.subscribed, QUEUE in world.subscribed) == (True, False)


ONE_CPU_QUEUE = (resource_class(ONE_CPU).name, Lane.normal)


def test_who_is_not_the_root_takes_nothing_whatever_is_said() -> None:
    world = _world()
    world.ask_team(OTHER_TEAM)
    world.ask_team(OTHER_TEAM, complete=True)
    world.pass_time(0.1)
    assert not world.subscribed


def test_another_class_is_not_taken_by_a_complete_team() -> None:
    world = _world()
    world.ask_team(replace(OWN_TEAM, lane=Lane.high))
    world.ask_team(replace(OWN_TEAM, lane=Lane.high), complete=True)
    world.pass_time(0.1)
    assert world.subscribed == {(OWN_TEAM.resource_class, Lane.high): 1}


def test_a_second_message_goes_back() -> None:
    world = _at_work()
    world.arrive(make_chunk(8, needs=NODES, isolated=True))
    world.confirm_all()
    assert [type(item) for item in world.said(8)] == [Returned]


def test_a_root_at_work_stays_whatever_it_is_asked() -> None:
    world = _at_work()
    for team in (None, OTHER_TEAM, None):
        world.ask_team(team)
        assert world.machine.seat == Seat(OWN_TEAM, SeatState.working)
    world.end(world.execution_of(7), Succeeded())
    assert world.machine.seat is None


def test_a_root_changes_its_team_although_the_ledger_has_not_confirmed_something_else() -> None:
    world = _world()
    world.ask_team(OWN_TEAM, complete=True)
    world.arrive(make_chunk(0))
    assert list(world.published), "what came late goes back"
    world.ask_team(OTHER_TEAM)
    assert world.machine.seat is not None
    assert world.machine.seat.team == OTHER_TEAM


def test_a_root_that_is_let_go_before_it_began_takes_nothing() -> None:
    world = _world()
    world.ask_team(OWN_TEAM)
    world.ask_team(OWN_TEAM, complete=True)
    world.ask_team(None)
    assert _last(world).seat is None
    assert QUEUE not in world.subscribed
    world.arrive(make_chunk(0, needs=NODES))
    world.confirm_all()
    assert [type(item) for item in world.said(0)] == [Returned]


def test_a_task_that_is_revoked_before_its_start_frees_the_root() -> None:
    world = _world()
    world.ask_team(OWN_TEAM)
    world.ask_team(OWN_TEAM, complete=True)
    chunk = make_chunk(0, needs=NODES, isolated=True)
    world.arrive(chunk)
    world.revoked.append(Revocation(chunk.job, 0))
    world.tell(Revoked((Revocation(chunk.job, 0),)))
    assert world.machine.seat is None


def test_the_seat_outlives_a_connection() -> None:
    world = _at_work()
    world.disconnect()
    world.connect()
    assert _last(world).seat == Seat(OWN_TEAM, SeatState.working)
    world.end(world.execution_of(7), Succeeded())
    assert _last(world).seat is None


def test_a_seat_that_ends_without_a_connection_is_told_of_with_the_next() -> None:
    world = _at_work()
    world.disconnect()
    world.end(world.execution_of(7), Succeeded())
    world.connect()
    hello = _last(world)
    assert isinstance(hello, Hello)
    assert hello.seat is None


def test_a_member_that_drains_waits_for_its_team() -> None:
    world = _world()
    world.ask_team(OTHER_TEAM)
    world.tell(DrainRequested())
    world.pass_time(1.0)
    assert world.exit is None
    assert not world.published
    world.ask_team(None)
    world.confirm_all()
    assert world.exit is not None
    assert world.exit.in_order


def test_a_member_that_drains_does_not_wait_for_a_coordinator_that_is_gone() -> None:
    """Where everything is stopped at once, nobody is there to let it go."""
    world = _world()
    world.ask_team(OTHER_TEAM)
    world.pass_time(60.0)
    world.tell(DrainRequested())
    for _ in range(3):
        asked = _last(world)
        assert isinstance(asked, Hello), "it asks whether somebody is there"
        assert asked.draining
        assert world.exit is None
        world.welcome()
        world.pass_time(5.0)
    for _ in range(2):
        assert isinstance(_last(world), Hello)
        assert world.exit is None
        world.welcome(partition=1)  # which has no teams
        world.pass_time(5.0)
    world.confirm_all()
    assert world.exit is not None
    assert world.exit.in_order


def test_a_root_that_drains_waits_for_its_task_whoever_is_gone() -> None:
    world = _at_work()
    world.tell(DrainRequested())
    world.pass_time(60.0)
    world.confirm_all()
    assert world.running_tasks() == [7]
    assert world.exit is None


def test_a_root_that_drains_finishes_its_task_and_one_without_leaves() -> None:
    world = _at_work()
    world.tell(DrainRequested())
    assert world.running_tasks() == [7]
    world.end(world.execution_of(7), Succeeded())
    world.confirm_all()
    assert isinstance(world.said(7)[-1], Ended)
    world.confirm_all()
    assert world.exit is not None

    world = _world()
    world.ask_team(OWN_TEAM)
    world.tell(DrainRequested())
    world.confirm_all()
    assert world.exit is not None


def test_a_member_that_is_stopped_does_not_wait() -> None:
    world = _world()
    world.ask_team(OTHER_TEAM)
    world.tell(StopRequested())
    world.confirm_all()
    assert world.exit is not None


def test_a_root_that_is_stopped_gives_its_task_back() -> None:
    world = _at_work()
    world.tell(StopRequested())
    world.end(world.execution_of(7), Canceled("stopped"))
    world.confirm_all()
    assert isinstance(world.said(7)[-1], Returned)


@pytest.mark.parametrize("team", [OWN_TEAM, OTHER_TEAM])
def test_a_worker_that_drains_joins_no_team(team: object) -> None:
    world = World()
    world.begin(ONE_CPU)
    world.put(make_chunk(0))
    world.deliver(world.deliverable()[0])
    world.tell(DrainRequested())
    world.ask_team(OWN_TEAM if team is OWN_TEAM else OTHER_TEAM)
    assert world.machine.seat is None


def test_a_place_in_a_team_is_no_idleness() -> None:
    world = World(lifetime=Lifetime(idle_timeout=1.0))
    world.begin(TWO_CPUS)
    world.ask_team(OTHER_TEAM)
    world.pass_time(5.0)
    assert not world.machine.draining
    world.ask_team(None)
    world.pass_time(0.9)
    assert not world.machine.draining
    world.pass_time(0.2)
    assert world.machine.draining


def test_an_order_for_another_boot_is_not_followed() -> None:
    world = _world()
    world.machine.me = replace(world.machine.me, boot="later")
    world.ask_team(OWN_TEAM)
    assert world.machine.seat is None
