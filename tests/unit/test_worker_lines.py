"""Lines of calls, by example: who is handed over with whom, and what comes back."""

from __future__ import annotations

import dataclasses

import pytest

from broker_jobs.core.outcome import Canceled, Cause, Failed, Succeeded
from broker_jobs.core.spec import Isolation, Keep, Pin
from broker_jobs.errors import IllegalTransition
from broker_jobs.wire.messages import Chunk, Ended, Program, Returned, Revocation, Revoked, Started, Task
from broker_jobs_worker.executors.port import ExecutionsRecalled, ExecutionsSucceeded
from broker_jobs_worker.machine.commands import Recall, Start, Stop
from broker_jobs_worker.machine.events import DrainRequested
from broker_jobs_worker.machine.worker import LINE_MS
from tests.support.worker_world import JOB, ONE_CPU, START_MS, TWO_CPUS, World, make_chunk


def lines(commands: tuple[object, ...]) -> list[list[int]]:
    """Numbers of the tasks that were handed over together."""
    return [[each.task for each in (start.execution, *start.then)] for start in commands if isinstance(start, Start)]


def known(longest_line: int = 100, took: int = 0) -> World:
    """A worker of two processors that has seen two calls of ``f``."""
    world = World(longest_line=longest_line)
    world.begin(ONE_CPU, TWO_CPUS)
    assert lines(world.arrive(make_chunk(1000, 1001, functions="f"))) == [[1000], [1001]], "of the first ones nothing is known"
    for number in (1000, 1001):
        world.end(world.execution_of(number), Succeeded(), took)
    world.confirm_all()
    return world


def run_out(world: World, number: int, outcome: Succeeded | Failed | Canceled = Succeeded(), took: int = 0) -> list[list[int]]:  # noqa: B008 (frozen)
    return lines(world.end(world.execution_of(number), outcome, took))


def test_quick_calls_are_shared_out_among_what_is_free() -> None:
    world = known()
    assert lines(world.arrive(make_chunk(*range(9), functions="f"))) == [[0, 1, 2, 3, 4], [5, 6, 7, 8]]
    assert lines(world.arrive(make_chunk(10, functions="f"))) == [], "a line holds the resources of one"
    for number in (0, 1, 2, 3):
        assert run_out(world, number) == []
    assert run_out(world, 4) == [[10]], "until the last of it has ended"


def test_what_has_only_succeeded_is_told_together() -> None:
    world = known()
    world.arrive(make_chunk(*range(9), functions="f"))
    first = [world.execution_of(number) for number in range(4)]
    world.succeed(first[:3], took=2)
    world.pass_time(0.11)
    world.confirm_all()
    ends = [item for number in range(3) for item in world.said(number)]
    assert [(item.execution, item.started_ms - START_MS, item.ended_ms - START_MS) for item in ends if isinstance(item, Ended)] == [
        (first[0], 0, 2), (first[1], 2, 4), (first[2], 4, 6),
    ]  # fmt: skip
    assert world.said(3) == []
    with pytest.raises(IllegalTransition, match="is in no line"):
        world.tell(ExecutionsSucceeded(("nobody",), 0, (1,), (None,)))
    with pytest.raises(IllegalTransition, match="not in the line"):
        world.tell(ExecutionsSucceeded((first[3], world.execution_of(5)), 0, (1, 2), (None, None)))


def test_one_that_had_to_wait_for_the_processor_says_nothing_of_the_others() -> None:
    world = known()
    world.arrive(make_chunk(*range(40), functions="f"))
    names = [world.execution_of(number) for number in range(20)]
    world.tell(stalled(world, names[:16]))
    run_all(world, names[16:])
    for number in range(20, 40):
        run_out(world, number)
    world.pass_time(0.11)
    world.confirm_all()
    assert [len(each) for each in lines(world.arrive(make_chunk(*range(100, 140), functions="f")))] == [20, 20]


def stalled(world: World, names: list[str]) -> ExecutionsSucceeded:
    """All of these took no time but the second."""
    for name in names:
        del world.executions[name]
        world.line_of(name).remove(name)
    ended_ms = (START_MS, *(START_MS + 500 for _ in names[1:]))
    return ExecutionsSucceeded(tuple(names), START_MS, ended_ms, (None,) * len(names))


def run_all(world: World, names: list[str]) -> None:
    for name in names:
        world.end(name, Succeeded(), 0)


def test_what_is_left_of_a_long_line_is_shared_with_who_has_nothing_to_do() -> None:
    world = known()
    world.arrive(make_chunk(*range(40), functions="f"))
    first, second = ([world.execution_of(number) for number in numbers] for numbers in (range(20), range(20, 40)))
    recalls: list[Recall] = []
    for name in first[:6]:
        world.succeed([name], took=20)
        world.succeed([second.pop(0)], took=20)
        recalls += [command for command in world.pass_time(0.03) if isinstance(command, Recall)]
    assert recalls == [], "the other one is busy, too"
    run_all(world, second)
    [recall] = [command for command in world.pass_time(0.05) if isinstance(command, Recall)]
    assert recall.execution in first
    assert [len(each) for each in lines(world.give_back(1))] == [13]
    assert not [command for command in world.pass_time(0.05) if isinstance(command, Recall)]


def test_no_more_follow_than_the_executor_takes_or_than_a_moment_lasts() -> None:
    assert lines(known(longest_line=3).arrive(make_chunk(*range(9), functions="f"))) == [[0, 1, 2], [3, 4, 5]]
    assert lines(known(longest_line=1).arrive(make_chunk(*range(9), functions="f"))) == [[0], [1]]
    assert lines(known(took=LINE_MS // 3).arrive(make_chunk(*range(9), functions="f"))) == [[0, 1, 2], [3, 4, 5]]
    assert lines(known(took=LINE_MS).arrive(make_chunk(*range(9), functions="f"))) == [[0], [1]]


def test_only_calls_of_one_function_follow_one_another() -> None:
    assert lines(known().arrive(make_chunk(*range(6), functions="ffg"))) == [[0, 1], [2]]


def test_what_has_to_be_watched_is_alone() -> None:
    chunk = make_chunk(*range(4), functions="f")
    for change in (
        {"time_limit": 1000}, {"memory_limit": 1 << 20}, {"output_limit": 10}, {"stdout": "x"}, {"stderr": "x"}, {"pin": next(iter(Pin))},
        {"isolation": Isolation.fresh}, {"keep_stdout": Keep.never}, {"keep_stderr": Keep.on_failure},
    ):  # fmt: skip
        options = dataclasses.replace(chunk.options[0], **change)  # type: ignore[arg-type]
        assert lines(known().arrive(dataclasses.replace(chunk, options=(options,)))) == [[0], [1]], change


@pytest.mark.parametrize("change", [{"options": 1}, {"inputs": ("7",)}, {"setup": "g" * 64}])
def test_followers_differ_in_their_arguments_alone(change: dict[str, object]) -> None:
    chunk = make_chunk(*range(4), functions="f")
    second = chunk.tasks[1]
    if "options" in change:
        second = dataclasses.replace(second, options=1)
    else:
        second = dataclasses.replace(second, work=dataclasses.replace(second.work, **change))  # type: ignore[arg-type]
    values = {"7": second.work.args} if "inputs" in change else {}  # type: ignore[union-attr]
    tasks = (chunk.tasks[0], second, *chunk.tasks[2:])
    changed = dataclasses.replace(chunk, tasks=tasks, options=chunk.options * 2, values=values)
    assert lines(known().arrive(changed)) == [[0], [1]]


def slow_line() -> tuple[World, Chunk]:
    """A line of five of which the second takes long, beside one of four that has ended."""
    world = known()
    chunk = make_chunk(*range(9), functions="f")
    world.arrive(chunk)
    for number in (5, 6, 7, 8, 0):
        run_out(world, number)
    assert not [command for command in world.pass_time(0.05) if isinstance(command, Recall)]
    [recall] = [command for command in world.pass_time(0.06) if isinstance(command, Recall)]
    assert recall.execution == world.execution_of(1)
    return world, chunk


def test_what_waits_behind_a_slow_one_runs_elsewhere() -> None:
    world, _ = slow_line()
    assert [item for item in world.said(1) if isinstance(item, Started)] == []
    assert lines(world.give_back(1)) == [[2, 3, 4]], "the other processor is free"
    world.pass_time(0.06)
    world.confirm_all()
    assert [type(item) for item in world.said(1)] == [Started], "now it is known which one runs"
    for number in (2, 3, 4, 1):
        run_out(world, number)
    world.pass_time(0.2)
    world.confirm_all()
    assert not world.unacked


def test_what_was_canceled_meanwhile_does_not_wait_again() -> None:
    world, chunk = slow_line()
    revocation = Revocation(JOB, 3, 1, "enough")
    world.revoked.append(revocation)
    commands = world.tell(Revoked((revocation,)))
    assert [command.execution for command in commands if isinstance(command, Stop)] == [world.execution_of(3)]
    world.stopping.clear()  # it was given back before the stop came
    assert lines(world.give_back(1)) == [[2, 4]]
    for number in (1, 2, 4):
        run_out(world, number)
    world.pass_time(0.2)
    world.confirm_all()
    assert world.said(3) == [], "the ledger knows it already"
    assert not world.unacked, chunk


def test_a_worker_that_drains_gives_back_what_it_has_had_back() -> None:
    world, _ = slow_line()
    world.tell(DrainRequested())
    assert lines(world.give_back(1)) == []
    world.pass_time(0.2)
    world.confirm_all()
    assert [type(item) for number in (2, 3, 4) for item in world.said(number)] == [Returned] * 3
    run_out(world, 1, Failed(Cause.error, "no"))
    world.pass_time(0.2)
    world.confirm_all()  # the reply, and then the goodbye
    world.confirm_all()
    assert world.exit is not None


def test_what_has_lost_its_message_is_forgotten_when_it_comes_back() -> None:
    world, _ = slow_line()
    world.disconnect()
    assert lines(world.give_back(1)) == []
    assert world.running_tasks() == [1]
    world.connect()
    world.welcome()
    world.hand_over(world.queues[next(iter(world.queues))].popleft())
    world.confirm_all()
    assert {type(item) for item in world.said(2)} == {Returned}, "it may have run elsewhere by now, so it comes back alone"


def test_it_is_asked_again_only_when_something_has_moved() -> None:
    world, _ = slow_line()
    world.give_back(10)  # nothing came back
    assert [type(command) for command in world.pass_time(0.05) if isinstance(command, Recall)] == []
    assert [type(command) for command in world.pass_time(0.06) if isinstance(command, Recall)] == [Recall], "they still wait"


def test_a_recall_of_what_is_in_no_line_is_a_bug() -> None:
    world = known()
    world.arrive(make_chunk(0))
    with pytest.raises(IllegalTransition, match="it is in no line"):
        world.machine.handle(ExecutionsRecalled((world.execution_of(0),)), world.now)
    with pytest.raises(IllegalTransition, match="it is in no line"):
        world.machine.handle(ExecutionsRecalled(("nobody",)), world.now)


def test_what_comes_back_goes_before_what_has_waited_behind_it() -> None:
    world = known(longest_line=3)
    assert lines(world.arrive(make_chunk(*range(9), functions="f"))) == [[0, 1, 2], [3, 4, 5]]
    world.pass_time(0.11)
    assert lines(world.give_back(1)) == []
    for number in (3, 4):
        assert run_out(world, number) == []
    assert run_out(world, 5) == [[1, 2, 6]]


def test_of_the_last_one_it_is_asked_too() -> None:
    world = known(longest_line=2)
    assert lines(world.arrive(make_chunk(0, 1, 2, 3, functions="f"))) == [[0, 1], [2, 3]]
    for number in (2, 3, 0):
        run_out(world, number)
    assert [command.execution for command in world.pass_time(0.11) if isinstance(command, Recall)] == [world.execution_of(1)]
    world.give_back(1)
    assert not [command for command in world.pass_time(0.5) if isinstance(command, Recall)], "once"


def test_runs_of_one_program_follow_one_another_unless_they_have_files() -> None:
    def programs(first: int, *works: Program) -> Chunk:
        chunk = make_chunk(*range(first, first + len(works)))
        return dataclasses.replace(chunk, tasks=tuple(Task(first + place, work) for place, work in enumerate(works)))

    def seen(printed: bytes = b"") -> World:
        world = World(longest_line=100)
        world.begin(ONE_CPU)
        for number in (1000, 1001):
            world.arrive(programs(number, Program((b"true", b"-1"))))
            world.end(world.execution_of(number), Succeeded(), 0, printed)
        world.confirm_all()
        return world

    same = [Program((b"true", b"%d" % number)) for number in range(4)]
    assert lines(seen().arrive(programs(0, *same))) == [[0, 1], [2, 3]]
    assert lines(seen(b"x").arrive(programs(0, *same))) == [[0], [1]], "what prints would be the last of its line"
    assert lines(seen().arrive(programs(0, same[0], Program((b"false",)), *same[2:]))) == [[0], [1]]
    for other in (Program((b"true",), task_dir=True), Program((b"true",), collects=("*",)), Program(())):
        assert lines(seen().arrive(programs(0, same[0], other, *same[2:]))) == [[0], [1]]
        assert lines(seen().arrive(programs(0, other, *same))) == [[0], [1, 2, 3, 4]]


def test_a_call_that_prints_ends_the_lines_of_its_function() -> None:
    world = known()
    world.arrive(make_chunk(0, functions="f"))
    world.end(world.execution_of(0), Succeeded(), 0, b"hello")
    assert lines(world.arrive(make_chunk(*range(1, 9), functions="f"))) == [[1], [2]]
