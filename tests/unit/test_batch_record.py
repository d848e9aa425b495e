"""What is kept of a job for the next process of a worker, and how that goes on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import Request
from broker_jobs.core.spec import Lane, TaskOptions
from broker_jobs.wire.messages import Hello, Program, Taken
from broker_jobs_worker.executors.batch.record import Record, packed, unpacked
from broker_jobs_worker.machine.execution import make_execution
from broker_jobs_worker.machine.state import Identity
from broker_jobs_worker.machine.worker import WorkerMachine
from tests.support.worker_world import ONE_CPU, TOO_MUCH, TOTAL, TWO_CPUS, World, make_chunk

if TYPE_CHECKING:
    from broker_jobs_worker.machine.commands import Start


def start_of(world: World, number: int) -> Start:
    return world.executions[world.execution_of(number)]


def second_life(world: World, *starts: Start) -> World:
    """The worker again, in a process that goes on with these."""
    other = World(world.timing)
    other.me = Identity("w", "boot", "host", 2, "0.1.0", TOTAL, life=1)
    other.machine = WorkerMachine(other.me, other.timing)
    for start in starts:
        record = unpacked(packed(Record.of(start.execution, Program((b"true", b"\xff")), "12.0", "sge")))
        assert record is not None
        assert other.machine.resume(record.restored())
        other.executions[start.execution.execution] = start
    return other


def test_a_record_has_what_the_next_process_needs() -> None:
    chunk = make_chunk(7, needs=TWO_CPUS, lane=Lane.high)
    world = World()
    world.begin(TWO_CPUS)
    world.arrive(chunk)
    execution = start_of(world, 7).execution
    record = unpacked(packed(Record.of(execution, Program((b"\xff", b"secret"), env=(("A", "b"),)), "12.0", "sge")))
    assert record is not None
    assert (record.id, record.system) == ("12.0", "sge")
    again = record.restored()
    assert (again.execution, again.job, again.task, again.attempt) == (execution.execution, chunk.job, 7, 1)
    assert (again.options, again.submitter, again.resource_class) == (execution.options, "client", chunk.resource_class)
    assert again.work == Program((b"\xff",), env=(("A", "b"),)), "arguments stay in the script"


def test_odd_bytes_are_no_record() -> None:
    for data in (b"", b"\xc1", b"\x80", packed_of_a_later_version()):
        assert unpacked(data) is None


def packed_of_a_later_version() -> bytes:
    world = World()
    world.begin(ONE_CPU)
    world.arrive(make_chunk(1))
    good = packed(Record.of(start_of(world, 1).execution, Program((b"true",)), "1", "sge"))
    return good.replace(b"attempt", b"attemqt")


def test_a_second_life_goes_on_with_what_ran() -> None:
    world = World()
    world.begin(ONE_CPU, TWO_CPUS)
    world.arrive(make_chunk(1))
    other = second_life(world, start_of(world, 1))
    other.begin(ONE_CPU)
    hello = next(spoken for spoken in other.spoken if isinstance(spoken, Hello))
    assert [(held.task, held.attempt) for held in hello.held] == [(1, 1)]
    assert (hello.boot, hello.pid) == ("boot", 2)
    assert dict(hello.free.amounts)["cpus"] == UNIT, "it holds what it held"
    other.arrive(make_chunk(2))
    assert start_of(other, 2).execution.execution == "boot-1-1", "no execution has the name of an earlier one"
    other.pass_time(0.2)
    other.confirm_all()
    assert [type(item) for item in other.said(1)] == [Taken], "that it is taken is said, again"
    other.end(other.execution_of(1), Succeeded())
    other.pass_time(0.2)
    other.confirm_all()
    assert other.said(1)[-1].task == 1
    assert not other.published


def test_a_message_that_comes_again_starts_nothing() -> None:
    world = World()
    world.begin(ONE_CPU)
    world.arrive(make_chunk(1))
    other = second_life(world, start_of(world, 1))
    other.begin(ONE_CPU)
    other.arrive(make_chunk(1), redelivered=True)
    assert len(other.executions) == 1
    other.end(other.execution_of(1), Succeeded())
    other.pass_time(0.2)
    other.confirm_all()
    assert not other.unacked, "and is acknowledged with its end"


def test_what_does_not_fit_any_more_is_not_gone_on_with() -> None:
    chunk = make_chunk(1, needs=TOO_MUCH)
    options = TaskOptions(resources=TOO_MUCH)
    assert chunk.options == (options,)
    execution = make_execution("boot-1", chunk, chunk.tasks[0], _allocation(), TOTAL)
    assert not World().machine.resume(execution)


def _allocation() -> object:
    from broker_jobs.core.resources import Pool

    allocation = Pool(TOTAL).try_allocate(Request((("cpus", UNIT),)))
    assert allocation is not None
    return allocation
