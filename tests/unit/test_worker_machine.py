"""Stories of the worker's machine, one rule each; what must always be true is in the property test."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from broker_jobs.core.job import Return
from broker_jobs.core.outcome import Canceled, Crashed, Succeeded
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import Need, Request, ResourceRequest, Variant, canonical
from broker_jobs.core.resource_class import class_name
from broker_jobs.core.resources import Resources
from broker_jobs.core.spec import Lane
from broker_jobs.errors import IllegalTransition, ValidationError
from broker_jobs.wire.messages import (
    ClassOpened,
    DrainAsked,
    Ended,
    Goodbye,
    Heartbeat,
    Held,
    Hello,
    HelloAsked,
    JobHeader,
    Output,
    Reply,
    Returned,
    Revocation,
    Revoked,
    Started,
    Welcome,
)
from broker_jobs_worker.executors.port import ExecutionEnded, ExecutionProgressed
from broker_jobs_worker.machine.commands import Exit, Publish, Say, Settle, Start, Stop, Subscribe, Unsubscribe
from broker_jobs_worker.machine.events import DrainRequested, PublishFailed, StopRequested, SubscribeFailed
from broker_jobs_worker.machine.state import Lifetime, OnBrokerLost, Source
from tests.support.worker_world import ELSEWHERE, JOB, MEMORY, ONE_CPU, TOO_MUCH, TOTAL, TWO_CPUS, World, make_chunk, resource_class

ONE = resource_class(ONE_CPU).name
TWO = resource_class(TWO_CPUS).name
DONE = Succeeded()


@pytest.fixture
def world() -> World:
    """A worker with two processors that is connected and welcome."""
    world = World()
    world.begin(ONE_CPU)
    return world


def warm(world: World) -> None:
    """One task has ended, so that patience is short from now on."""
    world.arrive(make_chunk(999))
    world.end(world.execution_of(999), DONE)
    world.confirm_all()


def kinds(world: World, number: int) -> list[str]:
    return [type(item).__name__ for item in world.said(number)]


def test_a_worker_says_hello_and_consumes_when_it_is_welcome() -> None:
    world = World()
    assert world.connect() == (Say(Hello("w", "boot", "host", 1, "0.1.0", TOTAL, TOTAL, teams=True)),)
    assert world.pass_time(1) == ()
    assert world.welcome(ONE_CPU, TOO_MUCH) == tuple(Subscribe(ONE, lane, 2) for lane in Lane), "as many as fit; nothing of what never fits"


def test_the_welcome_of_an_earlier_life_is_stale() -> None:
    world = World()
    world.connect()
    welcome = Welcome("w", "boot", (resource_class(ONE_CPU),))
    assert world.tell(replace(welcome, boot="another")) == ()
    assert world.tell(replace(welcome, worker="another")) == ()


def test_hello_is_said_again_until_it_is_answered() -> None:
    world = World()
    world.connect()
    assert world.pass_time(4.9) == ()
    [say] = world.pass_time(0.2)
    assert isinstance(say, Say)
    assert isinstance(say.message, Hello)
    world.welcome(ONE_CPU)
    assert not any(isinstance(message, Hello) for message in world.spoken[2:])
    world.pass_time(6)
    assert isinstance(world.spoken[-1], Heartbeat)


def test_a_chunk_waits_for_the_welcome_of_its_partition_and_holds_back_nothing(world: World) -> None:
    world.arrive(make_chunk(0, job=ELSEWHERE))
    world.arrive(make_chunk(1))
    assert world.running_tasks() == [1], "the coordinator of this one has said what is revoked"
    world.welcome(partition=1, revoked=[Revocation(ELSEWHERE, 7)])
    assert world.running_tasks() == [0, 1]
    world.arrive(make_chunk(7, job=ELSEWHERE))
    assert world.running_tasks() == [0, 1]
    assert not any(7 in [task.number for task in message.chunk.tasks] for message in world.unacked.values()), "revoked before it came"


def test_a_chunk_whose_coordinator_does_not_answer_goes_back_and_after_a_while_starts(world: World) -> None:
    world.arrive(make_chunk(0, job=ELSEWHERE))
    world.pass_time(world.timing.warm_up)
    world.confirm_all()
    assert kinds(world, 0) == ["Returned"]
    assert not world.unacked
    world.pass_time(world.timing.alone_after - 1)
    world.arrive(make_chunk(1, job=ELSEWHERE))
    assert world.running_tasks() == [1], "nobody is there who could say that it is revoked"


def test_each_connection_needs_the_welcome_of_each_partition(world: World) -> None:
    world.welcome(partition=1)
    world.disconnect()
    world.begin(ONE_CPU)
    world.arrive(make_chunk(0, job=ELSEWHERE))
    assert world.running_tasks() == []
    world.welcome(partition=1)
    assert world.running_tasks() == [0]


def test_a_worker_leaves_for_all_partitions_at_once(world: World) -> None:
    world.welcome(partition=1)
    for job in (JOB, ELSEWHERE):
        world.arrive(make_chunk(0, job=job))
    world.tell(DrainRequested())
    for name in world.endable():
        world.end(name, DONE)
    replies = {publish.key for publish in world.published.values()}
    assert replies == {"client.0", "client.1"}, "to each what is of its jobs"
    world.confirm_all()
    [goodbye] = world.published.values()
    assert (goodbye.key, type(goodbye.message)) == ("_.0", Goodbye), "and once what concerns all"


def test_a_heartbeat_says_of_which_classes_something_has_come(world: World) -> None:
    said = []
    for numbers in ((0, 1), (), (2,)):
        for number in numbers:
            world.arrive(make_chunk(number))
        world.pass_time(world.timing.heartbeat)
        assert isinstance(world.spoken[-1], Heartbeat)
        said.append(world.spoken[-1].used)
    assert said == [(ONE,), (), (ONE,)]


def test_a_class_that_is_opened_later_is_consumed(world: World) -> None:
    assert world.tell(ClassOpened(resource_class(TWO_CPUS))) == tuple(Subscribe(TWO, lane, 1) for lane in Lane)


def test_a_class_whose_queues_were_lost_is_consumed_anew(world: World) -> None:
    assert world.tell(ClassOpened(resource_class(ONE_CPU))) == (), "it is consumed already"
    again = world.tell(ClassOpened(resource_class(ONE_CPU), anew=True))
    assert again == (*(Unsubscribe(ONE, lane) for lane in Lane), *(Subscribe(ONE, lane, 2) for lane in Lane))


def test_a_class_is_consumed_by_who_offers_its_features() -> None:
    features = ("step a 1.0.0", "step b 1.0.0")
    world = World(total=Resources((("cpus", UNIT),), features=features))
    world.connect()
    wanted = [
        ONE_CPU.offering("step b 1.0.0"),
        ONE_CPU.offering("step b 1.0.1"),
        ONE_CPU.offering(features[0]).offering(features[1]),
        ONE_CPU,
    ]
    consumed = [command.resource_class for command in world.welcome(*wanted) if isinstance(command, Subscribe)]
    assert set(consumed) == {resource_class(wanted[number]).name for number in (0, 2, 3)}


def test_a_worker_that_demands_a_feature_takes_nothing_else() -> None:
    world = World(total=Resources((("cpus", UNIT),), features=("executor sge",), demands="executor sge"))
    world.connect()
    named = ONE_CPU.offering("executor sge")
    consumed = [command.resource_class for command in world.welcome(ONE_CPU, named) if isinstance(command, Subscribe)]
    assert set(consumed) == {resource_class(named).name}
    with pytest.raises(ValidationError, match="cannot be demanded by who does not offer it"):
        Resources((("cpus", UNIT),), demands="executor sge")


@pytest.mark.parametrize(("ephemeral", "leisurely"), [(True, True), (False, False), (None, False)])
def test_the_ledger_hears_of_calls_at_leisure(world: World, ephemeral: bool | None, leisurely: bool) -> None:
    chunk = make_chunk(0)
    header = None if ephemeral is None else JobHeader("job", "client", 1, chunk.origin, ephemeral=ephemeral)
    [start] = world.arrive(replace(chunk, header=header))
    assert isinstance(start, Start)
    [publish] = world.end(start.execution.execution, DONE)
    assert isinstance(publish, Publish)
    assert publish.leisurely is leisurely


def test_one_chunk_from_arrival_to_acknowledgement(world: World) -> None:
    [start] = world.arrive(make_chunk(0))
    assert isinstance(start, Start)
    assert start.execution.env["BROKER_JOBS_CPUS"] == "0"
    ended = Ended(0, 1, "boot-1", DONE, 1_700_000_000_000, 1_700_000_000_005)
    reply = Reply(JOB, "w", "boot", (ended,), ONE)
    assert world.end("boot-1", DONE) == (Publish(1, "client.0", reply),), "the last task of a chunk is reported at once"
    [settle] = world.confirm(1)
    assert isinstance(settle, Settle)


def test_a_copy_of_what_has_ended_does_not_run_again(world: World) -> None:
    chunk = make_chunk(1)
    world.arrive(chunk)
    world.end(world.execution_of(1), DONE)
    world.confirm_all()
    commands = world.arrive(chunk)
    assert not world.running_tasks()
    assert [type(command) for command in commands] == [Settle], "its message is of no use any more"


def test_tasks_of_a_chunk_start_as_there_is_room_and_are_reported_together(world: World) -> None:
    assert [type(command) for command in world.arrive(make_chunk(0, 1, 2))] == [Start, Start]
    [start] = world.end(world.execution_of(0), DONE)
    assert isinstance(start, Start)
    assert start.execution.task == 2
    assert world.end(world.execution_of(1), DONE) == ()
    assert world.pass_time(0.05) == ()
    [publish] = world.pass_time(0.06)
    assert isinstance(publish, Publish)
    assert isinstance(publish.message, Reply)
    assert [(type(item), item.task) for item in publish.message.items] == [(Ended, 0), (Ended, 1), (Started, 2)], (
        "every 100 ms at the latest"
    )


def test_a_start_is_told_when_the_task_still_runs_at_the_next_flush(world: World) -> None:
    world.pass_time(0)
    world.arrive(make_chunk(0))
    [publish] = world.pass_time(0.11)
    assert isinstance(publish, Publish)
    assert isinstance(publish.message, Reply)
    [started] = publish.message.items
    assert started == Started(0, 1, "boot-1", 1_700_000_000_000 + 1_000_000)
    assert world.pass_time(0.1) == ()


def test_an_isolated_task_starts_when_its_start_is_confirmed(world: World) -> None:
    [publish] = world.arrive(make_chunk(0, isolated=True))
    assert isinstance(publish, Publish)
    assert isinstance(publish.message, Reply)
    assert isinstance(publish.message.items[0], Started)
    [start] = world.confirm(publish.number)
    assert isinstance(start, Start)
    world.pass_time(1)
    world.confirm_all()
    assert kinds(world, 0) == ["Started"], "it is not told twice"


def test_an_isolated_task_whose_message_went_back_does_not_start(world: World) -> None:
    world.arrive(make_chunk(0, isolated=True))
    world.disconnect()
    world.connect()
    world.pass_time(5)
    assert not world.published
    assert not world.executions


def test_a_redelivered_chunk_is_returned_whole(world: World) -> None:
    [publish] = world.arrive(make_chunk(0, 1), redelivered=True)
    assert isinstance(publish, Publish)
    assert isinstance(publish.message, Reply)
    assert publish.message.items == (Returned(0, 1, Return.redelivered), Returned(1, 1, Return.redelivered))
    [settle] = world.confirm(publish.number)
    assert isinstance(settle, Settle)


def test_what_runs_goes_on_without_a_connection_and_its_own_copy_is_tied_to_it(world: World) -> None:
    world.arrive(make_chunk(0, 1, 2))
    world.disconnect()
    assert world.running_tasks() == [0, 1]
    world.end(world.execution_of(1), DONE)
    [say] = world.connect()
    assert isinstance(say, Say)
    assert say.message.held == (Held(JOB, 0, 1), Held(JOB, 1, 1))
    world.welcome()
    world.deliver(world.queued()[0])
    world.confirm_all()
    assert world.unacked, "task 0 still runs"
    assert kinds(world, 2) == ["Returned"], "it may have run elsewhere"
    world.end(world.execution_of(0), DONE)
    world.confirm_all()
    assert not world.unacked


def test_a_reply_that_was_refused_goes_out_again_unchanged(world: World) -> None:
    world.arrive(make_chunk(0))
    [publish] = world.end(world.execution_of(0), DONE)
    assert isinstance(publish, Publish)
    assert world.fail(publish.number) == ()
    assert world.pass_time(0.4) == ()
    assert world.pass_time(0.2) == (publish,)
    assert world.unacked


def test_news_of_a_publish_that_is_not_awaited_is_stale(world: World) -> None:
    assert world.tell(PublishFailed(77, "unknown")) == ()
    assert world.pass_time(2) == ()


def test_a_long_task_is_taken_and_its_message_acknowledged(world: World) -> None:
    world.arrive(make_chunk(0))
    world.pass_time(10)
    assert world.unacked
    world.confirm_all()
    assert kinds(world, 0) == ["Started", "Taken"]
    assert not world.unacked
    world.pass_time(5)
    assert world.spoken[-1].held == (Held(JOB, 0, 1, taken=True),)
    assert world.arrive(make_chunk(0))[0] == Settle(world.last_delivery), "a copy of what is taken needs no answer"


def test_a_copy_of_a_task_waits_until_its_taking_is_confirmed(world: World) -> None:
    world.arrive(make_chunk(0))
    world.pass_time(10)
    assert not [command for command in world.arrive(make_chunk(0)) if isinstance(command, Settle)]
    assert len(world.unacked) == 2
    world.confirm_all()
    assert not world.unacked


def test_a_taken_task_is_ended_when_the_worker_is_cut_off_for_too_long(world: World) -> None:
    world.arrive(make_chunk(0))
    world.arrive(make_chunk(1))
    world.pass_time(10)
    world.confirm_all()
    world.disconnect()
    assert world.pass_time(29) == ()
    assert world.pass_time(1) == (
        Stop("boot-1", "the worker has had no connection to the broker for too long"),
        Stop("boot-2", "the worker has had no connection to the broker for too long"),
    )
    world.end("boot-1", Canceled("stopped"))
    world.end("boot-2", DONE)
    world.connect()
    world.pass_time(0.2)
    world.confirm_all()
    assert world.said(0)[-1] == Returned(0, 1, Return.lost), "it is nobody's outcome"
    assert isinstance(world.said(1)[-1], Ended), "it was faster than its end"


def test_what_has_not_started_goes_back_after_a_while(world: World) -> None:
    warm(world)
    world.arrive(make_chunk(0, 1, 2, 3))
    world.pass_time(0.49)
    assert not any(isinstance(item, Returned) for number in range(4) for item in world.said(number))
    world.pass_time(0.02)
    world.confirm_all()
    assert [world.said(number)[-1] for number in (2, 3)] == [Returned(2, 1, Return.unstarted), Returned(3, 1, Return.unstarted)]
    assert world.running_tasks() == [0, 1]


def test_a_worker_whose_children_are_cold_is_more_patient(world: World) -> None:
    world.arrive(make_chunk(0, 1, 2))
    world.pass_time(1.9)
    world.confirm_all()
    assert kinds(world, 2) == []
    world.pass_time(0.2)
    world.confirm_all()
    assert kinds(world, 2) == ["Returned"]


def test_higher_lanes_start_first_and_older_chunks_before_younger(world: World) -> None:
    world.arrive(make_chunk(0, 1))
    for number, lane in ((2, Lane.low), (3, Lane.normal), (4, Lane.normal), (5, Lane.high)):
        world.arrive(make_chunk(number, lane=lane))
    order = []
    for _ in range(4):
        commands = world.end(next(iter(world.executions)), DONE)
        order += [command.execution.task for command in commands if isinstance(command, Start)]
    assert order == [5, 3, 4, 2]


def test_nothing_overtakes_a_large_task_until_its_patience_is_over(world: World) -> None:
    warm(world)
    world.welcome(TWO_CPUS)
    world.arrive(make_chunk(0))
    world.arrive(make_chunk(1, needs=TWO_CPUS))
    world.pass_time(0.3)
    assert not [command for command in world.arrive(make_chunk(2)) if isinstance(command, Start)]
    commands = world.pass_time(0.21)
    assert kinds(world, 1) == []
    assert [command.execution.task for command in commands if isinstance(command, Start)] == [2]


def test_the_credit_is_constant_while_all_work_is_of_one_kind(world: World) -> None:
    for number in range(20):
        world.arrive(make_chunk(2 * number))
        world.arrive(make_chunk(2 * number + 1))
        commands = world.pass_time(0.05)
        for execution in list(world.executions):
            commands += world.end(execution, DONE)
        world.confirm_all()
        assert not [command for command in commands if isinstance(command, Subscribe | Unsubscribe) and command.lane is Lane.normal]


def test_a_queue_is_not_consumed_while_others_have_what_it_needs(world: World) -> None:
    world.welcome(TWO_CPUS)
    world.arrive(make_chunk(0))
    world.pass_time(0.05)
    assert Unsubscribe(TWO, Lane.normal) not in world.pass_time(0.04), "not before it has lasted"
    assert Unsubscribe(TWO, Lane.normal) in world.pass_time(0.02)
    world.end(world.execution_of(0), DONE)
    world.pass_time(0.01)
    assert Subscribe(TWO, Lane.normal, 1) in world.pass_time(0.06)


def test_taken_tasks_leave_no_credit_to_their_queue(world: World) -> None:
    world.arrive(make_chunk(0, 1))
    world.pass_time(10)
    world.confirm_all()
    commands = [*world.pass_time(0.05), *world.pass_time(0.06)]
    assert Unsubscribe(ONE, Lane.normal) in commands


def test_a_queue_for_which_nothing_is_free_is_looked_into_now_and_then(world: World) -> None:
    world.welcome(TWO_CPUS)
    world.arrive(make_chunk(0))
    looks = [step for step in range(20 * 60) if Subscribe(TWO, Lane.normal, 1, behind=True) in world.pass_time(0.05)]
    gaps = [later - sooner for sooner, later in pairwise(looks)]
    assert 5 <= len(looks) <= 9
    assert gaps == sorted(gaps), "more and more rarely"


def test_a_queue_that_cannot_be_consumed_is_left_alone_for_a_while(world: World) -> None:
    del world.subscribed[Source(ONE, Lane.low)]
    world.tell(SubscribeFailed(ONE, Lane.low, "no such queue"))
    assert world.pass_time(4) == ()
    world.pass_time(1.5)
    assert Source(ONE, Lane.low) in world.subscribed


def test_a_revoked_task_stops_and_one_that_waits_is_dropped(world: World) -> None:
    world.arrive(make_chunk(0, 1, 2))
    world.revoked.append(Revocation(JOB, None, None, "wrong input"))
    assert world.tell(Revoked((Revocation(JOB, None, None, "wrong input"),))) == (
        Stop("boot-1", "wrong input"),
        Stop("boot-2", "wrong input"),
    )
    assert world.tell(Revoked((Revocation(JOB, None, None, "wrong input"),))) == (), "they have been told"
    world.end("boot-1", Canceled("wrong input"))
    world.end("boot-2", DONE)
    world.confirm_all()
    assert not world.unacked
    assert [type(item.outcome) for number in (0, 1) for item in world.said(number) if isinstance(item, Ended)] == [Canceled, Succeeded]
    assert kinds(world, 2) == []


def test_what_is_called_back_does_not_start_and_goes_on_where_it_runs(world: World) -> None:
    world.arrive(make_chunk(0, 1, 2))
    later = Revocation(JOB, None, 1, "later", unstarted_only=True)
    world.revoked.append(later)
    assert world.tell(Revoked((later,))) == ()
    assert [type(command) for command in world.arrive(make_chunk(3))] == [Settle]
    world.end("boot-1", DONE)
    world.end("boot-2", DONE)
    world.confirm_all()
    assert not world.unacked
    assert [[type(item.outcome) for item in world.said(number) if isinstance(item, Ended)] for number in (0, 1)] == [[Succeeded]] * 2
    assert kinds(world, 2) == kinds(world, 3) == []
    # The next attempt may start, and a cancel says more than a pause.
    assert [type(command) for command in world.arrive(make_chunk(2, attempt=2))] == [Start]
    cancel = Revocation(JOB, 2, 2, "enough")
    world.revoked.append(cancel)
    wider = Revocation(JOB, None, 2, "later", unstarted_only=True)
    assert world.tell(Revoked((wider, cancel))) == (Stop("boot-3", "enough"),)


def test_only_the_revoked_attempt_and_those_before_it_are_meant(world: World) -> None:
    world.revoked.append(Revocation(JOB, 0, 2, "late"))
    world.tell(Revoked((Revocation(JOB, 0, 2, "late"),)))
    assert [type(command) for command in world.arrive(make_chunk(0, attempt=1))] == [Settle]
    assert [type(command) for command in world.arrive(make_chunk(0, attempt=2))] == [Settle]
    assert [type(command) for command in world.arrive(make_chunk(0, attempt=3))] == [Start]


def test_progress_is_told_with_the_next_reply_and_only_the_latest(world: World) -> None:
    world.arrive(make_chunk(0))
    world.tell(ExecutionProgressed("boot-1", 0.1, "a"))
    world.tell(ExecutionProgressed("boot-1", 0.2, "b"))
    [publish] = world.pass_time(0.1)
    assert isinstance(publish, Publish)
    assert isinstance(publish.message, Reply)
    assert [getattr(item, "fraction", None) for item in publish.message.items] == [None, 0.2]
    assert world.tell(ExecutionProgressed("gone", 0.5, "c")) == ()


def test_a_crash_is_reported_as_what_it_is(world: World) -> None:
    world.arrive(make_chunk(0))
    world.end("boot-1", Crashed("gone", 9))
    world.confirm_all()
    [ended] = world.said(0)
    assert isinstance(ended, Ended)
    assert ended.outcome == Crashed("gone", 9)


def test_a_drain_returns_what_waits_finishes_what_runs_and_says_goodbye(world: World) -> None:
    world.arrive(make_chunk(0, 1, 2))
    commands = world.tell(DrainRequested())
    assert [command for command in commands if isinstance(command, Unsubscribe)] == [Unsubscribe(ONE, lane) for lane in Lane]
    world.confirm_all()
    assert world.said(2) == [Returned(2, 1, Return.unstarted)]
    world.end("boot-1", DONE)
    world.end("boot-2", DONE)
    world.confirm(next(iter(world.published)))
    [goodbye] = world.published.values()
    assert goodbye.message == Goodbye("w", "boot", "it got a signal")
    assert world.confirm(goodbye.number) == (Exit(0, in_order=True),)
    assert world.pass_time(1) == (), "nothing follows"


def test_what_comes_while_a_worker_drains_goes_back(world: World) -> None:
    world.arrive(make_chunk(0))
    world.tell(DrainRequested())
    world.arrive(make_chunk(1))
    world.confirm_all()
    assert world.said(1) == [Returned(1, 1, Return.unstarted)]


def test_what_comes_after_the_goodbye_goes_back_and_goodbye_is_said_again(world: World) -> None:
    [*_, goodbye] = world.tell(DrainRequested())
    assert isinstance(goodbye, Publish)
    world.arrive(make_chunk(1))
    world.confirm(goodbye.number)
    assert world.exit is None
    world.confirm_all()
    assert world.said(1) == [Returned(1, 1, Return.unstarted)]
    world.confirm_all()
    assert world.exit == Exit(0, in_order=True)


def test_a_goodbye_that_nobody_takes_is_not_repeated(world: World) -> None:
    [*_, goodbye] = world.tell(DrainRequested())
    assert isinstance(goodbye, Publish)
    assert world.fail(goodbye.number) == (Exit(0, in_order=False),)


def test_a_stop_gives_back_what_runs_uncharged(world: World) -> None:
    world.arrive(make_chunk(0))
    world.arrive(make_chunk(1))
    world.tell(DrainRequested())
    assert world.tell(StopRequested()) == (Stop("boot-1", "the worker stops", 5.0), Stop("boot-2", "the worker stops", 5.0))
    world.end("boot-1", Canceled("the worker stops"))
    world.end("boot-2", DONE)
    world.confirm_all()
    assert world.said(0) == [Returned(0, 1, Return.unrouted, "the worker stops")]
    assert isinstance(world.said(1)[-1], Ended)
    world.confirm_all()
    assert world.exit == Exit(0, in_order=True)


def test_a_stop_does_not_wait_for_ever(world: World) -> None:
    world.arrive(make_chunk(0))
    world.tell(StopRequested())
    world.pass_time(9)
    assert world.exit is None
    assert world.pass_time(1)[-1] == Exit(1, in_order=False)


def test_a_drain_from_afar_is_that_of_a_signal(world: World) -> None:
    world.arrive(make_chunk(0))
    world.tell(DrainAsked("w", "an older boot"))
    world.tell(DrainAsked("another", "boot"))
    assert not world.machine.draining
    world.tell(DrainAsked("w", "boot"))
    assert world.machine.draining
    assert world.running_tasks() == [0]
    world.end("boot-1", DONE)
    world.confirm_all()
    world.confirm_all()
    assert world.exit == Exit(0, in_order=True)


def test_a_stop_from_afar_gives_back_what_runs_and_says_why(world: World) -> None:
    world.arrive(make_chunk(0))
    world.tell(DrainAsked("w", "boot"))
    assert world.tell(DrainAsked("w", "boot", stop=True, reason="a new kernel")) == (
        Stop("boot-1", "the worker was stopped: a new kernel", 5.0),
    )
    world.end("boot-1", Canceled("stopped"))
    world.confirm_all()
    assert world.said(0) == [Returned(0, 1, Return.unrouted, "the worker was stopped: a new kernel")]


def test_an_idle_worker_asks_the_broker_for_nothing() -> None:
    world = World()
    world.begin(ONE_CPU)
    world.confirm_all()
    said = [command for _ in range(600) for command in world.pass_time(1)]
    assert 0 < len(said) <= 600 / 5
    assert all(isinstance(command, Say) and isinstance(command.message, Heartbeat) for command in said)


def test_an_idle_worker_ends_after_its_idle_timeout() -> None:
    world = World(lifetime=Lifetime(idle_timeout=60))
    world.begin(ONE_CPU)
    world.pass_time(1)
    world.pass_time(58)
    world.arrive(make_chunk(0))
    world.pass_time(600)
    world.end("boot-1", DONE)
    world.pass_time(0.2)
    world.confirm_all()
    world.pass_time(59)
    assert not world.machine.draining
    world.pass_time(2)
    assert world.machine.draining
    world.confirm_all()
    assert world.exit == Exit(0, in_order=True)


def test_a_worker_whose_time_is_over_gives_back_what_runs() -> None:
    world = World(lifetime=Lifetime(ends_at=1100.0))
    world.begin(ONE_CPU)
    world.arrive(make_chunk(0))
    world.pass_time(99)
    assert world.running_tasks() == [0]
    assert not world.stopping
    world.pass_time(1)
    assert world.stopping == {"boot-1"}
    world.pass_time(1)
    world.end("boot-1", Canceled("stopped"))
    world.confirm_all()
    assert world.said(0)[-1] == Returned(0, 1, Return.unrouted, "the time of the worker is over")
    world.confirm_all()
    assert world.exit == Exit(0, in_order=True)


def test_what_needs_more_time_than_the_worker_has_goes_back() -> None:
    patient = Request.of([Variant((Need("cpus", UNIT),), min_time=60_000)])
    world = World(lifetime=Lifetime(ends_at=1100.0))
    world.begin(ONE_CPU, patient)
    world.arrive(make_chunk(0, needs=patient))
    assert world.running_tasks() == [0]
    world.pass_time(50)
    source = Source(class_name(patient), Lane.normal)
    assert source in world.subscribed
    world.arrive(make_chunk(1, needs=patient))
    assert source not in world.subscribed, "it leaves the queue to others for a moment"
    world.confirm_all()
    assert world.said(1) == [Returned(1, 1, Return.unstarted, "a worker that had it has less time left than it needs")]
    world.pass_time(5.1)
    world.pass_time(0.2)
    assert source in world.subscribed
    world.arrive(make_chunk(2))
    assert world.running_tasks() == [0, 2]


def test_a_worker_that_was_told_so_finishes_long_tasks_without_the_broker() -> None:
    world = World(lifetime=Lifetime(on_broker_lost=OnBrokerLost.finish))
    world.begin(ONE_CPU)
    world.arrive(make_chunk(0))
    world.pass_time(11)
    world.confirm_all()
    world.disconnect()
    world.pass_time(3600)
    assert not world.stopping
    world.end("boot-1", DONE)
    world.connect()
    world.pass_time(1)
    world.confirm_all()
    assert isinstance(world.said(0)[-1], Ended)


def test_a_worker_that_has_nothing_leaves_without_a_connection(world: World) -> None:
    world.disconnect()
    assert world.tell(DrainRequested())[-1] == Exit(0, in_order=False)


def test_without_a_coordinator_known_classes_are_worked_on_after_a_while(world: World) -> None:
    world.disconnect()
    world.connect()
    assert not world.subscribed
    world.pass_time(9.9)
    assert not world.subscribed
    world.pass_time(0.2)
    assert len(world.subscribed) == 3


def test_a_new_coordinator_is_greeted_and_work_goes_on(world: World) -> None:
    [say] = world.tell(HelloAsked("c"))
    assert isinstance(say, Say)
    assert isinstance(say.message, Hello)
    assert len(world.subscribed) == 3


def test_the_end_of_what_does_not_run_is_a_bug(world: World) -> None:
    with pytest.raises(IllegalTransition, match="boot-7"):
        world.tell(ExecutionEnded("boot-7", DONE, 0, 0, Output(), Output()))


def test_a_task_without_graphics_processors_sees_none() -> None:
    world = World(total=Resources((("cpus", UNIT), ("gpus", 2 * UNIT))))
    world.begin(ONE_CPU)
    [start] = world.arrive(make_chunk(0))
    assert isinstance(start, Start)
    assert start.execution.env["CUDA_VISIBLE_DEVICES"] == ""


def test_memory_is_a_resource_like_any_other(world: World) -> None:
    world.welcome(MEMORY)
    world.arrive(make_chunk(0, needs=Request((("cpus", UNIT), ("memory", 2 << 30)))))
    assert world.arrive(make_chunk(1, needs=MEMORY)) == ()


def test_a_class_is_consumed_while_one_of_its_variants_fits() -> None:
    either = canonical([ResourceRequest(1, gpus=1), ResourceRequest(2)])
    never = canonical([ResourceRequest(1, gpus=2), ResourceRequest(4)])
    world = World(total=Resources((("cpus", 3 * UNIT), ("gpus", UNIT))))
    world.connect()
    wanted = resource_class(either).name
    assert world.welcome(either, never) == tuple(Subscribe(wanted, lane, 2) for lane in Lane), "one by each of its variants"
    starts = [command for number in (0, 1, 2) for command in world.arrive(make_chunk(number, needs=either)) if isinstance(command, Start)]
    assert [start.execution.env["BROKER_JOBS_RESOURCE_VARIANT"] for start in starts] == ["0", "1"], "the third waits"
    assert [start.execution.env["CUDA_VISIBLE_DEVICES"] for start in starts] == ["0", ""]
    [start] = [command for command in world.end(starts[0].execution.execution, DONE) if isinstance(command, Start)]
    assert start.execution.env["BROKER_JOBS_RESOURCE_VARIANT"] == "0"


# --- tasks that need a worker for a certain time ----------------------------------------------------------------------

TEN_S = Request.of([replace(variant, min_time=10_000) for variant in ONE_CPU.alternatives])
LONG, SHORT = resource_class(TEN_S), Request.of([*TEN_S.alternatives, *TWO_CPUS.alternatives])


def ending(seconds: float) -> World:
    world = World(lifetime=Lifetime(ends_at=1000.0 + seconds))
    world.begin(TEN_S)
    return world


def test_a_worker_that_ends_too_soon_gives_a_task_back_once_and_leaves_its_queue_to_others() -> None:
    world = ending(9.0)
    assert set(world.subscribed) == {Source(LONG.name, lane) for lane in Lane}
    world.put(make_chunk(0, needs=TEN_S))
    world.deliver(Source(LONG.name, Lane.normal))
    world.pass_time(0.2)
    world.confirm_all()
    assert world.said(0) == [Returned(0, 1, Return.unstarted, "a worker that had it has less time left than it needs")]
    assert Source(LONG.name, Lane.normal) not in world.subscribed
    for _ in range(90):
        world.pass_time(0.05)
        assert Source(LONG.name, Lane.normal) not in world.subscribed


def test_one_with_enough_time_or_without_an_end_runs_it() -> None:
    for world in (ending(11.0), World()):
        if not world.connected:
            world.begin(TEN_S)
        world.arrive(make_chunk(0, needs=TEN_S))
        assert world.running_tasks() == [0]


def test_what_has_waited_until_the_time_is_short_does_not_start() -> None:
    world = ending(10.3)
    world.arrive(make_chunk(0, needs=TWO_CPUS))
    world.arrive(make_chunk(1, needs=TEN_S))
    world.pass_time(0.4)
    world.end(world.execution_of(0), DONE)
    assert world.running_tasks() == []


def test_of_several_variants_one_that_needs_less_time_is_taken() -> None:
    world = ending(5.0)
    world.arrive(make_chunk(0, needs=SHORT))
    assert dict(world.machine.free.amounts).get("cpus", 0) == 0, "the second one, which takes both processors"


def test_a_worker_that_ends_leaves_lasting_tasks_to_others_where_it_can() -> None:
    world = World(lifetime=Lifetime(ends_at=2000.0))
    world.connect()
    assert Subscribe(LONG.name, Lane.normal, 2, behind=True) in world.welcome(TEN_S)
    world = World()
    world.connect()
    assert Subscribe(LONG.name, Lane.normal, 2) in world.welcome(TEN_S)
