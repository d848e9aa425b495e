"""Which workers become a team, and when; the rest is in the property tests."""

from __future__ import annotations

import pytest

from broker_jobs.coordinator.teams import REST, Demand, Key, Place, Teams
from broker_jobs.coordinator.workers import Worker, Workers, WorkerState
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import Need, Request, Variant
from broker_jobs.core.resource_class import class_name
from broker_jobs.core.resources import Resources, capacity
from broker_jobs.core.spec import Lane
from broker_jobs.wire.messages import Member, Seat, SeatState, TeamAsked


def _request(nodes: int, cpus: int = 1, min_time: int = 0) -> Request:
    return Request.of((Variant((Need("cpus", cpus * UNIT),), nodes, min_time),))


def _demand(request: Request, *, tasks: int = 1, lane: Lane = Lane.normal, since: float = 0.0) -> Demand:
    return Demand(Place(class_name(request), lane), request, tasks, since)


def _worker(name: str, *, group: str = "default", cpus: int = 4, busy: int = 0, state: WorkerState = WorkerState.active) -> Worker:
    held = frozenset(("job", number, 1) for number in range(busy))
    resources = Resources((("cpus", cpus * UNIT),))
    return Worker(name, f"boot-{name}", state, 0.0, 0, f"id/{name}.example.org", resources=resources, held=held, group=group, teams=True)


def _teams(*workers: Worker, prefix: str = "t") -> Teams:
    known = Workers(3.0)
    known.known = {worker.name: worker for worker in workers}
    return Teams(known.known, prefix)


def _plan(teams: Teams, *demands: Demand, now: float = 0.0, others: bool = False) -> list[TeamAsked]:
    orders = list(teams.plan(demands, now, 0, others=others))
    teams.check()
    return orders


def _names(orders: list[TeamAsked]) -> list[str]:
    return [asked.worker for asked in orders if asked.team is not None]


def _say(teams: Teams, name: str, seat: Seat | None, now: float = 0.0) -> list[TeamAsked]:
    return list(teams.hear(name, f"boot-{name}", seat, now))


def test_the_workers_that_do_least_become_a_team_and_the_idlest_its_root() -> None:
    teams = _teams(_worker("a", busy=3), _worker("b", busy=1), _worker("c"), _worker("d", busy=2))
    orders = _plan(teams, _demand(_request(3)))
    assert _names(orders) == ["c", "b", "d"]
    assert {asked.team for asked in orders} == {orders[0].team}
    assert orders[0].team is not None
    assert orders[0].team.members[0] == Member("c", "boot-c", "c.example.org")
    assert not orders[0].complete


def test_a_team_is_of_one_group_and_of_workers_that_have_what_is_needed() -> None:
    apart = (_worker("a", group="x"), _worker("b", group="y"), _worker("c", cpus=1, group="x"))
    assert _plan(_teams(*apart), _demand(_request(2, cpus=2))) == []
    assert _names(_plan(_teams(*apart, _worker("d", group="y", busy=9)), _demand(_request(2, cpus=2)))) == ["b", "d"]


def test_workers_that_leave_or_cannot_be_in_teams_are_left_out() -> None:
    old = _worker("old")
    old.teams = False
    ending = _worker("ending")
    ending.ends_ms = 5_000
    others = (_worker("lost", state=WorkerState.lost), _worker("away", state=WorkerState.draining), old, _worker("a"))
    assert _plan(_teams(*others, ending), _demand(_request(2, min_time=6_000))) == []
    assert _names(_plan(_teams(*others, ending), _demand(_request(2, min_time=4_000)))) == ["a", "ending"]


def test_each_task_has_its_team_as_far_as_the_workers_go() -> None:
    teams = _teams(*(_worker(name) for name in "abcde"))
    assert len(_plan(teams, _demand(_request(2), tasks=5))) == 4
    assert _plan(teams, _demand(_request(2), tasks=5)) == []


def test_the_higher_lane_comes_first_then_who_has_waited_longer() -> None:
    low, high, old = (
        _demand(_request(2), lane=Lane.low),
        _demand(_request(2), lane=Lane.high, since=9.0),
        _demand(_request(2, 2), since=1.0),
    )
    orders = _plan(_teams(_worker("a"), _worker("b")), low, high, old)
    assert orders[0].team is not None
    assert orders[0].team.lane is Lane.high
    orders = _plan(_teams(_worker("a"), _worker("b")), _demand(_request(2), since=2.0), old)
    assert orders[0].team is not None
    assert orders[0].team.resource_class == old.place.resource_class


def _whole_life(*, others: bool) -> tuple[Teams, Demand]:
    """Teams of which one has just ended."""
    teams, demand = _teams(_worker("a"), _worker("b")), _demand(_request(2))
    team = _plan(teams, demand)[0].team
    assert team is not None
    assert _say(teams, "b", Seat(team, SeatState.ready)) == []
    assert _plan(teams, demand) == []
    _say(teams, "a", Seat(team, SeatState.ready))
    told = TeamAsked("a", "boot-a", team, complete=True)
    assert _plan(teams, demand) == [told]
    assert _say(teams, "a", Seat(team, SeatState.ready)) == [told], "it has not heard it"
    assert _say(teams, "a", Seat(team, SeatState.working)) == []
    assert _plan(teams) == []
    assert _say(teams, "a", None, now=100.0) == [TeamAsked("a", "boot-a"), TeamAsked("b", "boot-b")]
    assert not teams
    assert bool(_plan(teams, demand, now=100.0, others=others)) is not others
    return teams, demand


def test_who_comes_from_a_team_is_asked_into_the_next_at_once_where_nothing_else_waits() -> None:
    _whole_life(others=False)


def test_and_has_a_moment_for_other_tasks_where_some_wait() -> None:
    teams, demand = _whole_life(others=True)
    assert teams.due() == 100.0 + REST
    assert _plan(teams, demand, now=100.0 + REST, others=True)


def test_a_team_for_which_there_is_no_task_any_more_is_given_up_when_its_root_agrees() -> None:
    teams, demand = _teams(_worker("a"), _worker("b")), _demand(_request(2))
    team = _plan(teams, demand)[0].team
    assert team is not None
    assert _plan(teams) == [TeamAsked("a", "boot-a")]
    assert _say(teams, "b", Seat(team, SeatState.ready)) == []
    assert _say(teams, "a", None) == [TeamAsked("a", "boot-a"), TeamAsked("b", "boot-b")]


def test_a_team_that_loses_a_worker_before_it_begins_makes_room_for_another() -> None:
    workers = [_worker(name) for name in "abcd"]
    teams, demand = _teams(*workers), _demand(_request(2))
    team = _plan(teams, demand)[0].team
    assert team is not None
    workers[1].state = WorkerState.lost
    orders = _plan(teams, demand)
    assert orders[0] == TeamAsked("a", "boot-a"), "its root is asked to leave"
    assert _names(orders) == ["c", "d"]
    assert _say(teams, "a", None) == [TeamAsked("a", "boot-a"), TeamAsked("b", "boot-b")]


def test_a_coordinator_that_has_just_started_believes_roots_and_waits_for_them() -> None:
    workers = [_worker(name) for name in "abc"]
    teams, demand = _teams(*workers), _demand(_request(2))
    team = _plan(teams, demand)[0].team
    assert team is not None
    workers[0].state = WorkerState.suspect  # not heard yet
    young = _teams(*workers, prefix="u")
    young.adopt_until = 10.0
    assert _say(young, "b", Seat(team, SeatState.ready), now=1.0) == []
    assert not young, "what is said of a root is not believed"
    assert _names(_plan(young, demand)) == [], "nor is a worker taken for free that may be in a team"
    workers[0].state = WorkerState.active
    assert _say(young, "a", Seat(team, SeatState.working), now=2.0) == []
    assert young.of(workers[1]) is young.of(workers[0]) is not None
    assert _say(young, "a", None, now=3.0) == [TeamAsked("a", "boot-a"), TeamAsked("b", "boot-b")]


@pytest.mark.parametrize("begins", [False, True])
def test_a_team_that_has_not_begun_under_another_coordinator_is_given_up_if_its_root_agrees(begins: bool) -> None:
    workers = [_worker(name) for name in "ab"]
    demand = _demand(_request(2))
    team = _plan(_teams(*workers), demand)[0].team
    assert team is not None
    young = _teams(*workers, prefix="u")
    young.adopt_until = 10.0
    assert _say(young, "a", Seat(team, SeatState.ready), now=1.0) == [TeamAsked("a", "boot-a")]
    assert _say(young, "b", Seat(team, SeatState.ready), now=1.0) == []
    assert _plan(young, demand) == [], "they are in that one still"
    if begins:
        assert _say(young, "a", Seat(team, SeatState.working), now=2.0) == []
        assert young.of(workers[1]) is not None, "the task of the team has just begun"
    assert _say(young, "a", None, now=3.0) == [TeamAsked("a", "boot-a"), TeamAsked("b", "boot-b")]
    assert _names(_plan(young, demand, now=5.0)) == ["a", "b"]


def test_a_worker_whose_root_is_in_no_team_or_never_heard_is_let_go() -> None:
    workers = [_worker(name) for name in "ab"]
    team = _plan(_teams(*workers), _demand(_request(2)))[0].team
    assert team is not None
    young = _teams(*workers, prefix="u")
    young.adopt_until = 10.0
    assert _say(young, "b", Seat(team, SeatState.ready), now=1.0) == [TeamAsked("b", "boot-b")]
    workers[0].state = WorkerState.suspect
    assert _say(young, "b", Seat(team, SeatState.ready), now=2.0) == []
    assert _say(young, "b", Seat(team, SeatState.ready), now=10.0) == [TeamAsked("b", "boot-b")]


def test_of_two_adopted_teams_with_the_same_worker_the_one_at_work_stays() -> None:
    workers = [_worker(name) for name in "abc"]
    first, second = _teams(*workers), _teams(*workers, prefix="u")
    one = _plan(first, _demand(_request(2)))[0].team
    workers[0].held = frozenset({("job", 9, 1)})
    two = _plan(second, _demand(_request(2)))[0].team
    assert one is not None and two is not None  # noqa: PT018
    assert [member.worker for member in one.members] == ["a", "b"]
    assert [member.worker for member in two.members] == ["b", "c"]
    young = _teams(*workers)
    young.adopt_until = 10.0
    assert _say(young, "a", Seat(one, SeatState.joining)) == [TeamAsked("a", "boot-a")]
    orders = _say(young, "b", Seat(two, SeatState.working))
    young.check()
    assert young.of(workers[0]) is None
    assert TeamAsked("a", "boot-a") in orders
    formation = young.of(workers[1])
    assert formation is not None and formation.root == Key("b", "boot-b")  # noqa: PT018
    assert _say(young, "a", Seat(one, SeatState.joining)) == [TeamAsked("a", "boot-a")]


def test_capacity_counts_whole_teams_of_each_group() -> None:
    workers = [(group, Resources((("cpus", cpus * UNIT),))) for group, cpus in (("x", 4), ("x", 4), ("x", 1), ("y", 4), ("y", 4), ("y", 4))]
    assert capacity(_request(2, cpus=2), workers) == 2
    assert capacity(_request(4), workers) == 0
    assert capacity(Request(), workers) == 21
