"""A broker, a coordinator and an executor for `WorkerMachine`, without clock, thread or socket.

The broker remembers which message a tag stands for, and which one a publish was: what is wrong with the identity of a
message shows at once, and not only what is wrong with a count.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from broker_jobs.broker.port import Delivery, Tag
from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import Need, Request, Variant
from broker_jobs.core.resource_class import class_name, class_of
from broker_jobs.core.resources import Resources
from broker_jobs.core.spec import Lane, TaskOptions
from broker_jobs.core.value import Encoding, Inline
from broker_jobs.ids import partition_of, uuid8
from broker_jobs.wire.codec import pack
from broker_jobs.wire.messages import (
    Call,
    Chunk,
    DrainAsked,
    Ended,
    Function,
    Goodbye,
    Heartbeat,
    Hello,
    Member,
    Origin,
    Output,
    Program,
    Reply,
    ResourceClass,
    Returned,
    Revocation,
    Seat,
    SeatState,
    Started,
    Taken,
    Task,
    Team,
    TeamAsked,
    Welcome,
)
from broker_jobs_worker.executors.port import ExecutionEnded, ExecutionsRecalled, ExecutionsSucceeded
from broker_jobs_worker.machine.commands import Command, Exit, Publish, Recall, Say, Settle, Start, Stop, Subscribe, Unsubscribe
from broker_jobs_worker.machine.events import (
    ChunkArrived,
    Connected,
    Disconnected,
    DrainRequested,
    ExecutionsEnded,
    PublishConfirmed,
    PublishFailed,
    StopRequested,
    Tick,
)
from broker_jobs_worker.machine.execution import sort_of
from broker_jobs_worker.machine.state import ENDLESS, AttemptKey, Identity, Lifetime, Source, Timing
from broker_jobs_worker.machine.worker import WorkerMachine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.core.outcome import Outcome
    from broker_jobs.wire.messages import Work
    from broker_jobs_worker.executors.port import Execution
    from broker_jobs_worker.machine.events import Event

ONE_CPU = Request((("cpus", UNIT),))
TWO_CPUS = Request((("cpus", 2 * UNIT),))
MEMORY = Request((("cpus", UNIT), ("memory", 1 << 30)))
TOO_MUCH = Request((("cpus", 64 * UNIT),))
TOTAL = Resources((("cpus", 2 * UNIT), ("memory", 2 << 30)))
ORIGIN = Origin("host", "/usr/bin/python3", "3.11.7")
NODES = Request.of((Variant((Need("cpus", UNIT),), nodes=2),))
OWN_TEAM = Team("t-1", class_name(NODES), Lane.normal, (Member("w", "boot", "host"), Member("v", "boot", "other")))
OTHER_TEAM = Team("t-2", class_name(NODES), Lane.normal, (Member("v", "boot", "other"), Member("w", "boot", "host")))
JOB = "0" * 31 + "1"
ELSEWHERE = uuid8(1, 1, bytes(10))
"""A job of another partition."""
START_MS = 1_700_000_000_000


FUNCTIONS = {name * 64: Function(name, "tests", b"code") for name in "fg"}
NO_ARGUMENTS = Inline(Encoding.msgpack, pack([[], {}]))


def make_chunk(
    *numbers: int,
    job: str = JOB,
    needs: Request = ONE_CPU,
    lane: Lane = Lane.normal,
    isolated: bool = False,
    attempt: int = 1,
    functions: str = "",
    chain: int = 0,
) -> Chunk:
    """A chunk of programs, or of calls of these functions in turn (``f``, ``g``).

    Args:
        chain: so many of the tasks follow the first, each with the value of the one before
    """
    works: list[Work] = [Call(name * 64, NO_ARGUMENTS) for name in functions] or [Program((b"true",))]
    tasks = tuple(Task(number, works[place % len(works)], attempt=attempt) for place, number in enumerate(numbers))
    options = (TaskOptions(resources=needs, lane=lane),)
    tasks, following = tasks[: len(tasks) - chain], tasks[len(tasks) - chain :]
    following = tuple(
        replace(task, work=taking(task.work, before), deps=(before,)) for before, task in zip(numbers, following, strict=False)
    )
    return Chunk(job, "0", class_name(needs), lane, "client", tasks, options, ORIGIN, FUNCTIONS, isolated=isolated, chain=following)


def taking(work: Work, number: int) -> Work:
    """The same with the value of this task."""
    return replace(work, inputs=(str(number),)) if isinstance(work, Call) else work


def resource_class(needs: Request) -> ResourceClass:
    """The class of a request."""
    return ResourceClass(class_name(needs), class_of(needs))


def keys_of(chunk: Chunk) -> list[AttemptKey]:
    """The attempts in a chunk."""
    return [AttemptKey(chunk.job, task.number, task.attempt) for task in chunk.tasks]


def chain_of(chunk: Chunk) -> list[AttemptKey]:
    """What follows the only task of a chunk."""
    return [AttemptKey(chunk.job, task.number, task.attempt) for task in chunk.chain]


@dataclass(eq=False)
class Message:
    """A chunk in a queue of the broker."""

    chunk: Chunk
    redelivered: bool = False

    @property
    def source(self) -> Source:
        return Source(self.chunk.resource_class, self.chunk.lane)


@dataclass
class World:
    """Everything around one worker."""

    timing: Timing = field(default_factory=Timing)
    longest_line: int = 1
    total: Resources = TOTAL
    lifetime: Lifetime = ENDLESS

    def __post_init__(self) -> None:
        self.now = 1000.0
        self.me = Identity("w", "boot", "host", 1, "0.1.0", self.total)
        self.live(self.lifetime)
        self.generation = 0
        self.connected = False
        self.since = self.now
        self.welcomed: set[int] = set()
        self.classes: list[ResourceClass] = []
        self.queues: dict[Source, deque[Message]] = {}
        self.unacked: dict[Tag, Message] = {}
        self.subscribed: dict[Source, int] = {}
        self.published: dict[int, Publish] = {}
        self.stored: list[tuple[AttemptKey, Ended | Returned | Started | Taken]] = []
        self.spoken: list[Hello | Heartbeat] = []
        self.history: list[Chunk] = []
        self.executions: dict[str, Start] = {}
        self.started: set[AttemptKey] = set()
        self.stopping: set[str] = set()
        self.successes: dict[AttemptKey, Inline | None] = {}
        self.followed: dict[AttemptKey, AttemptKey] = {}
        self.told: set[str] = set()
        self.lines: dict[str, list[str]] = {}
        self.recalls: list[str] = []
        self.revoked: list[Revocation] = []
        self.exit: Exit | None = None
        self.busy_at = self.now
        self.asked_to_leave = False
        self.stopped = False
        self.last_delivery: Delivery
        self._tags = 0
        self.team = OWN_TEAM
        self.complete = False

    def live(self, lifetime: Lifetime) -> None:
        """Begin with a worker that ends by itself like this."""
        self.lifetime = lifetime
        self.machine = WorkerMachine(self.me, self.timing, lifetime, longest_line=self.longest_line)

    # --- events ---

    def tell(self, event: Event) -> tuple[Command, ...]:
        """Hand an event to the machine, and do what it wants."""
        over = self.exit is not None
        if self.executions or self.machine.seat:
            self.busy_at = self.now
        self.asked_to_leave |= isinstance(event, DrainRequested | StopRequested | DrainAsked)
        commands = self.machine.handle(event, self.now)
        if over:
            # The daemon hands nothing in any more; what still runs is ended with its executor.
            assert commands == ()
            return commands
        for command in commands:
            self._perform(command)
        self.machine.check()
        self._check_lifetime(event)
        assert self.machine.running == len(self.executions)
        assert self.machine.subscribed == self.subscribed or not self.connected
        return commands

    def connect(self) -> tuple[Command, ...]:
        self.generation += 1
        self.connected, self.since = True, self.now
        self.welcomed.clear()
        self._tags = 0
        return self.tell(Connected(self.generation))

    def disconnect(self, *, stored: bool = False) -> None:
        """Lose the connection: unsettled messages go back, and publishes without an answer may have been stored."""
        self.connected = False
        for message in reversed(self.unacked.values()):
            message.redelivered = True
            self.queues.setdefault(message.source, deque()).appendleft(message)
        self.unacked.clear()
        for publish in self.published.values():
            if stored:
                self._store(publish)
        self.tell(Disconnected("cut"))
        for number in list(self.published):
            self.fail(number)

    def welcome(self, *needs: Request, revoked: Iterable[Revocation] = (), partition: int = 0) -> tuple[Command, ...]:
        """What a coordinator answers to a hello."""
        for each in map(resource_class, needs):
            if each not in self.classes:
                self.classes.append(each)
        revoked = tuple(revoked)
        self.revoked += revoked
        self.welcomed.add(partition)
        return self.tell(Welcome("w", "boot", tuple(self.classes), revoked, partition=partition))

    def ask_team(self, team: Team | None, *, complete: bool = False) -> tuple[Command, ...]:
        """A coordinator wants the worker in this team, or in none; it never says of another team's members that they are ready."""
        before = self.machine.seat
        if before is None or before.state is not SeatState.working:
            self.complete = team is not None and (complete or (self.complete and before is not None and before.team == team))
            self.team = team or self.team
        return self.tell(TeamAsked("w", "boot", team, complete))

    def begin(self, *needs: Request) -> None:
        """A connection and a welcome."""
        self.connect()
        self.welcome(*needs)

    def put(self, chunk: Chunk, *, redelivered: bool = False) -> Message:
        """Put a chunk into its queue."""
        message = Message(chunk, redelivered)
        self.queues.setdefault(message.source, deque()).append(message)
        return message

    def deliverable(self) -> list[Source]:
        """Queues with a message for which there is credit."""
        if not self.connected:
            return []
        held = [message.source for message in self.unacked.values()]
        return [source for source, credit in self.subscribed.items() if self.queues.get(source) and held.count(source) < credit]

    def deliver(self, source: Source) -> tuple[Command, ...]:
        """Hand over the oldest message of a queue."""
        return self.hand_over(self.queues[source].popleft())

    def queued(self) -> list[Source]:
        """Queues that are not empty."""
        return [source for source, queue in self.queues.items() if queue]

    def hand_over(self, message: Message) -> tuple[Command, ...]:
        self._tags += 1
        tag = Tag(self.generation, self._tags)
        self.unacked[tag] = message
        self.history.append(message.chunk)
        self.last_delivery = Delivery("queue", "tasks", "key", b"", tag, message.redelivered)
        return self.tell(ChunkArrived(self.last_delivery, message.chunk))

    def arrive(self, chunk: Chunk, *, redelivered: bool = False) -> tuple[Command, ...]:
        """A chunk comes straight from the broker."""
        return self.hand_over(Message(chunk, redelivered))

    def pass_time(self, seconds: float) -> tuple[Command, ...]:
        self.now += seconds
        return self.tell(Tick(START_MS + round(self.now * 1000)))

    def confirm(self, number: int) -> tuple[Command, ...]:
        """The broker has this publish."""
        self._store(self.published.pop(number))
        return self.tell(PublishConfirmed(number))

    def fail(self, number: int) -> tuple[Command, ...]:
        """The broker does not say whether it has it."""
        del self.published[number]
        return self.tell(PublishFailed(number, "unknown"))

    def confirm_all(self) -> None:
        """The broker has everything that was published so far."""
        for number in list(self.published):
            self.confirm(number)

    def end(self, execution: str, outcome: Outcome, took: int = 5, printed: bytes = b"") -> tuple[Command, ...]:
        """An execution is over."""
        self._note(execution, outcome)
        self.line_of(execution).remove(execution)
        output = Output(printed, len(printed))
        return self.tell(ExecutionEnded(execution, outcome, START_MS, START_MS + took, output, Output()))

    def _note(self, execution: str, outcome: Outcome) -> None:
        ended = self.executions.pop(execution).execution
        if isinstance(outcome, Succeeded):
            assert outcome.value is None or isinstance(outcome.value, Inline)
            self.successes[AttemptKey(ended.job, ended.task, ended.attempt)] = outcome.value

    def end_several(self, executions: list[str], outcome: Outcome) -> tuple[Command, ...]:
        """These are over, all at once."""
        for execution in executions:
            self._note(execution, outcome)
            self.line_of(execution).remove(execution)
        return self.tell(
            ExecutionsEnded(tuple(ExecutionEnded(each, outcome, START_MS, START_MS, Output(), Output()) for each in executions))
        )

    def succeed(self, executions: list[str], took: int = 1) -> tuple[Command, ...]:
        """These of a line have succeeded, one after the other, and the next has begun."""
        for execution in executions:
            del self.executions[execution]
            self.line_of(execution).remove(execution)
        ended_ms = tuple(START_MS + took * place for place, _ in enumerate(executions, 1))
        return self.tell(ExecutionsSucceeded(tuple(executions), START_MS, ended_ms, (None,) * len(executions)))

    def endable(self) -> list[str]:
        """Executions that run, and do not only follow others."""
        return [name for name in self.executions if self.line_of(name)[0] == name]

    def line_of(self, execution: str) -> list[str]:
        """What is left of its line, itself included."""
        return self.lines.setdefault(execution, [execution])

    def give_back(self, begun: int) -> tuple[Command, ...]:
        """Answer the oldest recall: so many of its line have begun, of those that have not ended; what is to be stopped has not gone on."""
        line = self.line_of(self.recalls.pop(0))
        recalled = [name for name in line[begun:] if name not in self.stopping]
        for name in recalled:
            line.remove(name)
            execution = self.executions.pop(name).execution
            self.started.discard(AttemptKey(execution.job, execution.task, execution.attempt))
        return self.tell(ExecutionsRecalled(tuple(recalled)))

    def execution_of(self, number: int) -> str:
        """The execution of a task that runs."""
        [found] = [name for name, start in self.executions.items() if start.execution.task == number]
        return found

    def running_tasks(self) -> list[int]:
        """Numbers of the tasks that run."""
        return sorted(start.execution.task for start in self.executions.values())

    def said(self, number: int) -> list[Ended | Returned | Started | Taken]:
        """What the ledger has of a task."""
        return [item for key, item in self.stored if key.task == number]

    # --- commands ---

    def _perform(self, command: Command) -> None:
        assert self.exit is None, "nothing follows the exit"
        match command:
            case Start(execution, resource_class, waited, then):
                assert 1 + len(then) <= self.longest_line
                line: list[str] = []
                for each in (execution, *then):
                    assert not then or sort_of(each.work) == sort_of(execution.work) != "", "a line is of one function, or of one program"
                    self._perform_start(Start(each, resource_class, waited))
                    line.append(each.execution)
                    self.lines[each.execution] = line
                self._check_resources()
            case Recall(execution):
                assert execution in self.executions, "what has ended has no line"
                self.recalls.append(execution)
            case Stop(execution):
                assert execution in self.executions, "only what runs can be stopped"
                assert execution not in self.stopping, "once is enough"
                self.stopping.add(execution)
            case Publish(number):
                assert number not in self.published, "a message is on its way once"
                self.published[number] = command
                if isinstance(command.message, Reply):
                    self._check_chains(command.message)
            case Say(spoken):
                assert self.connected
                self.spoken.append(spoken)
            case Settle(delivery):
                message = self.unacked.pop(delivery.tag)
                for key in (*keys_of(message.chunk), *self.started.intersection(chain_of(message.chunk))):
                    assert self._is_safe(key), f"{key} is acknowledged, and the ledger does not know what became of it"
            case Subscribe(name, lane, credit):
                assert Source(name, lane) not in self.subscribed
                assert 1 <= credit <= 64
                assert self.connected
                self.subscribed[Source(name, lane)] = credit
            case Unsubscribe(name, lane):
                del self.subscribed[Source(name, lane)]
            case Exit(_, in_order):
                self.exit = command
                if in_order:
                    assert not self.unacked, "what was delivered is settled"
                    assert not self.executions, "nothing runs"
                    assert not self.published, "everything is confirmed"

    def _perform_start(self, command: Start) -> None:
        execution = command.execution
        key = AttemptKey(execution.job, execution.task, execution.attempt)
        assert key not in self.started, "a worker never runs an attempt twice"
        self.started.add(key)
        assert execution.execution not in self.executions
        assert not self.machine.draining, "a worker that drains starts nothing"
        assert not self._is_revoked(key), "what is revoked does not start"
        alone = self.now - self.since >= self.timing.alone_after
        assert alone or partition_of(key.job) in self.welcomed, "its coordinator has said what is revoked, or is not there"
        messages = [message for message in self.unacked.values() if key in {*keys_of(message.chunk), *chain_of(message.chunk)}]
        self._check_follower(execution, key)
        assert messages, "what starts has a message"
        assert not all(message.redelivered for message in messages), "what may have run elsewhere does not start"
        if self._is_isolated(key):
            started = [item for stored, item in self.stored if stored == key and isinstance(item, Started)]
            assert execution.execution in [item.execution for item in started], "the start of an isolated task is in the ledger"
        seat = self.machine.seat
        if execution.options.resources.nodes:
            assert not self.executions, "a task of several nodes has all of its worker"
            assert seat in {None, Seat(self.team, SeatState.working)}, "it starts where its team is"
            assert self.team.members[0].worker == "w", "at its root"
            assert self.complete, "when that was told that all are ready"
            assert len(execution.hosts) == len(self.team.members)
        else:
            assert seat is None or seat.state is SeatState.joining, "a worker in a team starts nothing else"
        self.executions[execution.execution] = command

    def _check_follower(self, execution: Execution, key: AttemptKey) -> None:
        """One of a chain runs after the one before has succeeded, with its value."""
        for message in self.unacked.values():
            if key in (chain := chain_of(message.chunk)):
                before = (*keys_of(message.chunk), *chain)[chain.index(key)]
                assert isinstance(value := self.successes[before], Inline | None), "the one before has succeeded"
                assert execution.values == dict.fromkeys(execution.work.inputs, value), "it is given what that has returned"
                self.followed[before] = key

    def _check_chains(self, reply: Reply) -> None:
        """With a success goes what has followed it, so that nobody is sent that as well."""
        said = [AttemptKey(reply.job, item.task, item.attempt) for item in reply.items if isinstance(item, Started | Ended)]
        executions = {}
        for item in reply.items:
            if isinstance(item, Ended):
                key = AttemptKey(reply.job, item.task, item.attempt)
                executions[key] = item.execution
                following = self.followed.get(key)
                assert following is None or following in said[said.index(key) :], f"{following} follows {key}, and nobody is told"
            if isinstance(item, Started | Ended) and item.after:
                assert item.after in {*executions.values(), *self.told}, "it follows what was told before"
        self.told.update(executions.values())

    def _check_lifetime(self, event: Event) -> None:
        """A worker ends by itself when its time is over, or when it was idle for long, and not before."""
        idle_timeout, ends_at = self.lifetime.idle_timeout, self.lifetime.ends_at
        over = ends_at is not None and self.now >= ends_at
        if over and isinstance(event, Tick):
            self.stopped = True
            assert self.machine.draining
            assert self.stopping >= self.executions.keys(), "what still runs when its time is over is stopped"
        elif self.machine.draining and not over and not self.asked_to_leave:
            assert idle_timeout is not None
            assert not self.executions
            assert self.now - self.busy_at >= idle_timeout, "it was idle for long enough"

    def _store(self, publish: Publish) -> None:
        match publish.message:
            case Reply(job, "w", "boot", items):
                for item in items:
                    if isinstance(item, Ended | Returned | Started | Taken):
                        self.stored.append((AttemptKey(job, item.task, item.attempt), item))
            case Goodbye("w", "boot", reason):
                assert reason, "it says why"
            case other:
                raise AssertionError(other)

    def _is_safe(self, key: AttemptKey) -> bool:
        last = any(stored == key and isinstance(item, Ended | Returned | Taken) for stored, item in self.stored)
        return last or self._is_revoked(key)

    def _is_revoked(self, key: AttemptKey) -> bool:
        return any(
            r.job == key.job and r.task in {None, key.task} and (r.attempt is None or key.attempt <= r.attempt) for r in self.revoked
        )

    def _is_isolated(self, key: AttemptKey) -> bool:
        return any(message.chunk.isolated and key in keys_of(message.chunk) for message in self.unacked.values())

    def _check_resources(self) -> None:
        held: dict[str, int] = {}
        for start in (self.executions[name] for name in self.endable()):
            for name, amount in start.execution.options.resources.amounts:
                held[name] = held.get(name, 0) + amount
        total = dict(self.total.amounts)
        assert all(amount <= total[name] for name, amount in held.items()), "what runs fits the worker"
