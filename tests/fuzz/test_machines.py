"""The ledger and the machine of a worker, given messages of others with the right key that say anything: each is refused, or taken.

What is in them was valid and was changed in one place, so most of what arrives is almost right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from broker_jobs.broker.port import Delivery, Tag
from broker_jobs.client.jobview import JobView, Layout, Row
from broker_jobs.coordinator.admission import LedgerMessage, admit
from broker_jobs.core.job import Return
from broker_jobs.core.outcome import Cause, Crashed, Failed, Succeeded
from broker_jobs.core.spec import Lane, Retry
from broker_jobs.errors import DecodeError, SecurityError
from broker_jobs.wire import messages as m
from broker_jobs.wire.codec import decode, encode, pack, unpack
from broker_jobs.wire.signing import MAGIC, Opened
from broker_jobs_worker.intake import read_chunk, read_control
from broker_jobs_worker.machine.commands import Publish
from broker_jobs_worker.machine.events import ChunkArrived, Connected, PublishConfirmed, Tick
from broker_jobs_worker.machine.state import ENDLESS, Identity, Timing
from broker_jobs_worker.machine.worker import WorkerMachine
from tests.support import worker_world as at_worker
from tests.support.cast import call, job_chunks, program, value
from tests.support.examples import EXAMPLES
from tests.support.ledger_world import KEY, NAMES, SIGNER, World
from tests.support.mutations import FACTORS, NUMBERS, Mutator, feed, pieces, places

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from broker_jobs_worker.machine.events import Event

BLOCK: Final = 300
"""Messages until there is a new world: an input depends on those before it in its block, and on no others."""

FIRST, SECOND = (f"{number:032x}" for number in (1, 2))
PIECES = [piece for message, _ in EXAMPLES.values() for piece in pieces(unpack(encode(message)))]

Posted = tuple[str, str, m.Message, m.Role]
"""Exchange, routing key, message and role of its sender."""


def submitted() -> list[Posted]:
    """The chunks of two jobs, one of which is under way."""
    waiting = job_chunks([call(0), call(1, 0), program(2, "true", deps=[1])], job=FIRST, size=2)
    [direct] = job_chunks([call(number) for number in range(4)], job=SECOND, direct=True)
    key = NAMES.task_key(direct.resource_class, direct.lane, 0)
    return [
        *((NAMES.tasks, NAMES.ledger_key(0), chunk, m.Role.submitter) for chunk in waiting),
        (NAMES.tasks, key, direct, m.Role.submitter),
        (NAMES.returned, key, direct, m.Role.submitter),
    ]


def posted(boot: str) -> list[Posted]:
    """All kinds of messages for a ledger that it has reason to take."""
    found = submitted()
    for message, role in EXAMPLES.values():
        exchange = (
            NAMES.tasks if isinstance(message, m.Chunk | m.Request) else NAMES.returned if isinstance(message, m.Token) else NAMES.replies
        )
        found.append((exchange, NAMES.ledger_key(0), message, role))
    for job in (FIRST, SECOND):
        for task in range(4):
            outcomes = (Succeeded(value(1)), Failed(Cause.error, "x"), Crashed("x", 9))
            items: list[m.ReplyItem] = [m.Ended(task, 1, "e1", outcome, 1, 2) for outcome in outcomes]
            items += [
                m.Started(task, 1, "e1", 5),
                m.Taken(task, 1, "e1"),
                m.Progress(task, 1, 0.5, "x"),
                m.Returned(task, 1, Return.redelivered),
            ]
            found += [(NAMES.replies, "_.0", m.Reply(job, "w", boot, (item,), "c"), m.Role.worker) for item in items]
    questions: list[m.Question] = [
        *(m.CancelTasks(FIRST, (), "x"), m.CancelTasks(SECOND, (1,), "x"), m.PauseTasks(FIRST), m.ResumeTasks(FIRST), m.GetWork(FIRST, 1)),
        *(
            m.GetChanges(FIRST, 0, 100),
            m.ResubmitJob(SECOND, "f" * 32),
            m.ForgetJobs((FIRST,)),
            m.ExplainTask(FIRST, 1),
            m.GetOutput(SECOND, 1),
        ),
    ]
    requests = [m.Request("r1", "client-1", question, 2**52) for question in questions]
    return found + [(NAMES.tasks, NAMES.ledger_key(0), request, m.Role.submitter) for request in requests]


class AtLedger:
    """A ledger that messages come to."""

    def __init__(self) -> None:
        self.world = World()
        self.world.batch(range(len(self.world.inbox)))

    def take(self, exchange: str, key: str, body: bytes, role: m.Role) -> LedgerMessage:
        """One batch with one message."""
        world = self.world
        message = admit(Opened(decode(body), role, KEY.id), NAMES, exchange, key, 0)
        world.take(message, exchange)
        world.queues.clear()
        world.now += 0.01
        return message

    def close(self) -> None:
        """End, and see that what is in memory is what the rows tell."""
        self.world.check()
        self.world.close()


@pytest.mark.parametrize("factor", FACTORS)
def test_messages_to_a_ledger(factor: int) -> None:
    ledger = AtLedger()
    seeds = posted(ledger.world.boot)
    taken = 0

    def make(chance: random.Random) -> tuple[str, str, bytes, m.Role]:
        exchange, key, message, role = chance.choice(seeds)
        body = encode(message)
        return exchange, key, body if chance.random() < 0.15 else pack(Mutator(chance, PIECES).tree(unpack(body))), role

    def take(given: tuple[str, str, bytes, m.Role]) -> None:
        nonlocal ledger, taken
        taken += 1
        if taken % BLOCK == 0:
            ledger.close()
            ledger = AtLedger()
        ledger.take(*given)

    feed("messages to a ledger", factor, make, take, (DecodeError, SecurityError))
    ledger.close()


HOSTILE = {
    str: ("", "\ud800", "x\0y", "x" * 3000, "²", "0" * 32, "9" * 5000, "a.b", "../.."),
    int: NUMBERS,
    float: (float("nan"), -1.0, 2.0, 1e300),
    bytes: (b"", b"\xff"),
}


def each_place(body: bytes) -> Iterator[bytes]:
    """The same with each of its values replaced, and each of its keys, by each hostile one of its type."""
    for number, (container, key) in enumerate(places(unpack(body))):
        for wrong in HOSTILE.get(type(container[key]), ()):
            raw = unpack(body)
            inside, at = list(places(raw))[number]
            inside[at] = wrong
            yield pack(raw)
        for wrong in ("\ud800", "x\0y") if isinstance(container, dict) else ():
            raw = unpack(body)
            inside, at = list(places(raw))[number]
            inside[wrong] = inside.pop(at)
            yield pack(raw)


@pytest.mark.parametrize("kind", [m.Hello, m.Request, m.Chunk, m.Reply])
def test_each_place_of_a_message_may_hold_anything(kind: type[m.Message]) -> None:
    """Half of a character, a zero byte, a number that no database takes: in each place in turn."""
    ledger = AtLedger()
    ends = {"taken": 0, "refused": 0}
    for exchange, key, message, role in posted(ledger.world.boot)[: None if kind is not m.Reply else 60]:
        if not isinstance(message, kind):
            continue
        for body in each_place(encode(message)):
            try:
                ledger.take(exchange, key, body, role)
            except (DecodeError, SecurityError):
                ends["refused"] += 1
            else:
                ends["taken"] += 1
    ledger.close()
    assert min(ends.values()) > 20, ends


class AtWorker:
    """The machine of a worker whose publishes are confirmed now and then."""

    def __init__(self) -> None:
        self.machine = WorkerMachine(Identity("w", "boot", "host", 1, "0", at_worker.TOTAL), Timing(), ENDLESS)
        self.now = 1000.0
        self.tag = 0
        self.published: list[int] = []
        self.tell(Connected(1))
        self.tell(m.Welcome("w", "boot", tuple(map(at_worker.resource_class, (at_worker.ONE_CPU, at_worker.TWO_CPUS, at_worker.NODES)))))

    def tell(self, event: Event) -> None:
        """Something happens."""
        commands = self.machine.handle(event, self.now)
        self.machine.check()
        self.published += [command.number for command in commands if isinstance(command, Publish)]

    def chunk(self, queue: str, frame: bytes, *, redelivered: bool) -> None:
        """A message has come from a class queue."""
        chunk = read_chunk(frame, queue, SIGNER, NAMES)
        self.tag += 1
        self.tell(ChunkArrived(Delivery(queue, NAMES.ready, "key", b"", Tag(1, self.tag), redelivered), chunk))

    def control(self, frame: bytes) -> None:
        """A message has come from the control queue."""
        message = read_control(frame, SIGNER)
        if not isinstance(message, m.JobsForgotten | m.OutputAsked):
            self.tell(message)

    def pass_time(self, seconds: float) -> None:
        """The broker confirms what it has, and the clock goes on."""
        while self.published:
            self.tell(PublishConfirmed(self.published.pop(0)))
        self.now += seconds
        self.tell(Tick(round(self.now * 1000)))


def sealed(body: bytes, role: m.Role) -> bytes:
    """A frame around any body, rightly signed."""
    signature = SIGNER._signature(KEY, m.VERSION, role.value, body)  # noqa: SLF001 (nobody else makes such frames)
    return MAGIC + bytes((m.VERSION,)) + pack([KEY.id, role.value, signature, body])


@pytest.mark.parametrize("factor", FACTORS)
def test_messages_to_a_worker(factor: int) -> None:
    chunks = [
        *(at_worker.make_chunk(0, 1, 2), at_worker.make_chunk(3, isolated=True), at_worker.make_chunk(0, functions="fg")),
        at_worker.make_chunk(4, 5, needs=at_worker.TWO_CPUS),
    ]
    controls: list[m.Message] = [
        m.Welcome("w", "boot", tuple(map(at_worker.resource_class, (at_worker.ONE_CPU, at_worker.MEMORY)))),
        m.ClassOpened(at_worker.resource_class(at_worker.MEMORY)),
        m.Revoked((m.Revocation(at_worker.JOB, 0, 1, "x"), m.Revocation(at_worker.JOB, 1, 1, "x"))),
        *(
            m.TeamAsked("w", "boot", at_worker.OWN_TEAM),
            m.TeamAsked("w", "boot", at_worker.OWN_TEAM, complete=True),
            m.TeamAsked("w", "boot", None),
        ),
        m.HelloAsked("c"),
    ]
    worker = AtWorker()
    taken = 0

    def make(chance: random.Random) -> tuple[str, bytes, float]:
        message = chance.choice(chunks if chance.random() < 0.75 else controls)
        body = encode(message)
        if chance.random() < 0.8:
            body = pack(Mutator(chance, PIECES).tree(unpack(body)))
        queue = NAMES.class_name(message.resource_class, Lane.normal) if isinstance(message, m.Chunk) else ""
        return queue, sealed(body, m.Role.submitter if queue else m.Role.coordinator), chance.random()

    def take(given: tuple[str, bytes, float]) -> None:
        nonlocal worker, taken
        taken += 1
        if taken % BLOCK == 0:
            worker = AtWorker()
        queue, frame, luck = given
        if luck < 0.2:
            worker.pass_time(20 * luck)
        if queue:
            worker.chunk(queue, frame, redelivered=luck > 0.8)
        else:
            worker.control(frame)

    feed("messages to a worker", factor, make, take, (DecodeError, SecurityError))


@pytest.mark.parametrize("factor", FACTORS)
def test_replies_to_a_client(factor: int) -> None:
    layout = Layout((Row(0, 4, "many", range(4), program=False, retry=Retry(2)),), 4, flat=True)
    replies = [message for _, _, message, _ in posted("boot") if isinstance(message, m.Reply) and message.job == FIRST]
    view = JobView(FIRST, layout)
    taken = 0

    def make(chance: random.Random) -> bytes:
        body = encode(chance.choice(replies))
        return body if chance.random() < 0.1 else pack(Mutator(chance, PIECES).tree(unpack(body)))

    def take(body: bytes) -> None:
        nonlocal view, taken
        taken += 1
        if taken % 20 == 0:
            view = JobView(FIRST, layout)
        message = decode(body)
        if isinstance(message, m.Reply):
            view.heard(message)
            view.check()

    feed("replies to a client", factor, make, take, DecodeError)


def test_a_resource_request_of_nothing_is_no_request() -> None:
    [chunk] = job_chunks([call(0)], job=FIRST)
    raw = unpack(encode(chunk))
    assert isinstance(raw, dict)
    raw["options"][0]["resources"] = {"amounts": []}
    ledger = AtLedger()
    with pytest.raises(DecodeError, match="must ask for some resource"):
        ledger.take(NAMES.tasks, NAMES.ledger_key(0), pack(raw), m.Role.submitter)
    ledger.close()
