"""Every decoder of the wire and of what lies on disks, with valid bytes that were made wrong: it answers, or raises as it says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.coordinator.store import Needs
from broker_jobs.coordinator.store.packs import Block
from broker_jobs.coordinator.store.parts import dump_outcome, dump_value, load_outcome, load_value
from broker_jobs.core.outcome import Canceled, Crashed, Succeeded
from broker_jobs.core.value import Encoding, Inline
from broker_jobs.errors import DecodeError, MessageError, SecurityError, UnknownVersion
from broker_jobs.wire import messages as m
from broker_jobs.wire.codec import decode, decode_part, encode, encode_part, pack, unpack
from broker_jobs.wire.payload import load, load_call
from broker_jobs.wire.signing import MAGIC, Signer, SigningKey
from broker_jobs_worker import guarding as g
from broker_jobs_worker.executors.batch import htcondor, sge
from broker_jobs_worker.executors.batch.port import SchedulerSilent
from broker_jobs_worker.executors.batch.record import Record, packed, unpacked
from broker_jobs_worker.executors.links import Stream
from broker_jobs_worker.runners import protocol as p
from broker_jobs_worker.runners.catalogue import Catalogue
from tests.support import examples as ex
from tests.support.mutations import FACTORS, INPUTS, LONG, Mutator, feed, pieces

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

KEY = SigningKey.parse("ab" * 32)
SIGNER = Signer("t", KEY)
BODIES = [*(encode(message) for message, _ in ex.EXAMPLES.values()), *map(encode, ex.MANY)]
PIECES = [piece for body in BODIES for piece in pieces(unpack(body))]
FRAMES = [SIGNER.seal(message, role) for message, role in ex.EXAMPLES.values()]

PROGRESS = [
    p.Ready(),
    p.Prepared(),
    p.Redirected("out", None),
    p.Progressed(0.5, "half"),
    p.Tidied(clean=True),
    p.Stale(),
    p.Halted(),
    p.Noted(),
]
ENDS = [
    p.Done(outcome, clean=True, stdout=ex.OUTPUT, more=True) for outcome in (Succeeded(ex.VALUE), ex.FAILED, Canceled("x"), Crashed("x", 9))
]
NEWS = [encode_part(p.FromChild(news)) for news in (*PROGRESS, *ENDS)]
NEXT = p.Followers(("e2",), (1,), (1,), ("next",), "m", (b"\xc0",), (ex.PROGRAM.work,))  # type: ignore[arg-type] # it is a program
ORDER = p.Run("e1", ex.JOB, 0, 1, ex.CALL.work, ex.OPTIONS, "/f", values={"0": ex.STORED}, spool=("a", "b"), hosts=("h",), then=NEXT)
RECORD = Record("17", "sge", "e1", ex.JOB, 0, 1, (b"sort",), (("A", "1"),), ex.OPTIONS, "client-1", "cpus2-0")
PARTS: list[Any] = [
    *(ex.OPTIONS, ex.NEED, ex.HAS, ex.ORIGIN, ex.OUTPUT, ex.DATA, ex.STEP, ex.CALL, ex.PROGRAM, ex.STEP_CALL, ex.COLLECTING),
    *(
        Block((ex.CALL, ex.ADDED)),
        Needs(((0, 1), ()), ((), (2,))),
        m.Function("f", "m", b"code"),
        m.DrainAsked("w", "b", stop=True),
        Catalogue((ex.STEP,), ("mod",)),
    ),
    *(p.ToChild(ORDER), p.ToChild(p.Tidy()), g.ToGuardian(g.StartServer(1, ("a", "b"))), g.ToGuardian(g.Watch(1, 2, whole=True))),
    *(g.FromServer(g.Over(1, 2)), g.FromServer(g.ServerFailed(1, "x")), g.FromServer(g.Gone(1, itself=True)), RECORD),
]


def changed(chance: random.Random, body: bytes) -> bytes:
    """The bytes of plain data, made wrong in what they say or in how."""
    mutator = Mutator(chance, PIECES)
    if chance.random() < 0.3:
        return bytes(mutator.several(mutator.octets, body))
    return pack(mutator.several(mutator.tree, unpack(body)))


def test_the_short_form_has_50_000_inputs_and_the_long_one_a_million() -> None:
    assert sum(INPUTS.values()) >= 50_000
    assert sum(INPUTS.values()) * LONG >= 1_000_000


@pytest.mark.parametrize("factor", FACTORS)
def test_messages(factor: int) -> None:
    def take(body: bytes) -> None:
        encode(decode(body))  # a coordinator passes on what it has read

    feed("messages", factor, lambda chance: changed(chance, chance.choice(BODIES)), take, DecodeError)


@pytest.mark.parametrize("factor", FACTORS)
def test_frames_that_were_changed_are_never_opened(factor: int) -> None:
    whole = set(FRAMES)

    def make(chance: random.Random) -> bytes:
        mutator = Mutator(chance)
        return bytes(mutator.several(mutator.octets, chance.choice(FRAMES)))

    def take(frame: bytes) -> None:
        SIGNER.open(frame)
        assert frame in whole, "it was changed, and opened"

    feed("frames", factor, make, take, MessageError)


@pytest.mark.parametrize("factor", FACTORS)
def test_frames_that_are_signed_rightly_and_say_anything(factor: int) -> None:
    """As another program writes them that has the key, or a version of this one that is not written yet."""

    def make(chance: random.Random) -> tuple[int, bytes]:
        mutator = Mutator(chance, PIECES)
        version = chance.choice((1, 1, 1, 0, 2, 3, 255))
        role = chance.choice(("worker", "submitter", "coordinator", "observer", "", "\ud800", "x" * 300))
        body = changed(chance, chance.choice(BODIES)) if chance.random() < 0.7 else chance.choice(BODIES)
        signature = SIGNER._signature(KEY, version, role, body)  # noqa: SLF001 (nobody else makes such frames)
        parts = [KEY.id, role, signature, body]
        if chance.random() < 0.2:
            mutator.tree(parts)
        return version, MAGIC + bytes((version,)) + pack(parts)

    def take(given: tuple[int, bytes]) -> None:
        version, frame = given
        try:
            opened = SIGNER.open(frame)
        except UnknownVersion:
            assert version != 1
            raise
        assert version == 1
        assert opened.role in set(m.Role)

    feed("frames that are signed", factor, make, take, (DecodeError, SecurityError))


@pytest.mark.parametrize("factor", FACTORS)
def test_parts(factor: int) -> None:
    encoded = [(type(part), encode_part(part)) for part in PARTS]

    def make(chance: random.Random) -> tuple[type, bytes]:
        kind, data = chance.choice(encoded)
        return kind, changed(chance, data)

    def take(given: tuple[type, bytes]) -> None:
        kind, data = given
        part = decode_part(kind, data)
        assert type(part) is kind
        encode_part(part)
        if kind is Record:
            assert unpacked(data) == part

    feed("parts", factor, make, take, DecodeError)
    assert unpacked(b"\xc1") is None
    assert unpacked(packed(RECORD)) == RECORD


@pytest.mark.parametrize("factor", FACTORS)
def test_news_of_children(factor: int) -> None:
    """What runs in a child is the user's: nothing that it says is more than a message, and its outcome can be told."""

    def take(data: bytes) -> None:
        news = decode_part(p.FromChild, data).news
        if isinstance(news, p.Done):
            ended = m.Ended(0, 1, "e", news.outcome, 1, 2, news.stdout or m.Output(), news.stderr or m.Output())
            encode(m.Reply(ex.JOB, "w", "b", (ended,)))

    feed("news of children", factor, lambda chance: changed(chance, chance.choice(NEWS)), take, DecodeError)


@pytest.mark.parametrize("factor", FACTORS)
def test_streams_of_children(factor: int) -> None:
    """Whatever comes through its socket, in whatever pieces: what came whole before the fault is heard."""
    loop = asyncio.new_event_loop()

    def make(chance: random.Random) -> tuple[list[bytes], int, bytes, int]:
        messages = chance.choices(NEWS, k=chance.randrange(1, 6))
        whole = b"".join(p.HEADER.pack(len(each)) + each for each in messages)
        kept = chance.randrange(len(messages) + 1)
        begin = sum(p.HEADER.size + len(each) for each in messages[:kept])
        mutator = Mutator(chance)
        return messages, kept, whole[:begin] + mutator.several(mutator.octets, whole[begin:]), chance.randrange(1, 4)

    def take(given: tuple[list[bytes], int, bytes, int]) -> None:
        messages, kept, data, cuts = given
        heard: list[bytes] = []
        closed: list[bool] = []
        ours, theirs = socket.socketpair()
        stream = Stream(loop, ours, heard.append, lambda: closed.append(True))
        try:
            size = max(1, len(data) // cuts)
            for begin in range(0, len(data), size):
                with contextlib.suppress(BrokenPipeError):  # it has seen enough
                    theirs.sendall(data[begin : begin + size])
                stream.read()
            assert heard[:kept] == messages[:kept]
            theirs.close()
            stream.read()
            assert closed == [True]
        finally:
            theirs.close()
            stream.close()
        for each in heard[kept:]:
            decode_part(p.FromChild, each)

    try:
        feed("streams of children", factor, make, take, DecodeError)
    finally:
        loop.close()


@pytest.mark.parametrize("factor", FACTORS)
def test_columns_of_the_ledger(factor: int) -> None:
    columns: list[tuple[Callable[[bytes], object], bytes]] = [
        *(
            (load_outcome, dump_outcome(outcome))
            for outcome in (Succeeded(ex.VALUE), Succeeded(ex.STORED), ex.FAILED, Canceled("x"), Crashed("x", 9))
        ),
        *((load_value, dump_value(value)) for value in (ex.VALUE, ex.STORED)),
    ]

    def make(chance: random.Random) -> tuple[Callable[[bytes], object], bytes]:
        reader, data = chance.choice(columns)
        tag, zero, part = data.partition(b"\0")
        mutator = Mutator(chance)
        return reader, (mutator.octets(data) if chance.random() < 0.3 else tag + zero + changed(chance, part))

    feed("columns of the ledger", factor, make, lambda given: given[0](given[1]), DecodeError)


@pytest.mark.parametrize("factor", FACTORS)
def test_arguments_and_values(factor: int) -> None:
    """Those that are no pickles: a pickle runs code, and is read only where the user's code runs anyhow."""
    bodies = [pack([[1, "a", [2.5, None]], {"x": {"y": b"z"}}]), pack([[], {}])]

    def take(data: bytes) -> None:
        load(Inline(Encoding.msgpack, data))
        positional, named = load_call(Inline(Encoding.msgpack, data), ())
        assert (type(positional), type(named)) == (list, dict)

    feed("arguments and values", factor, lambda chance: changed(chance, chance.choice(bodies)), take, DecodeError)


QSTAT = """<?xml version='1.0'?><job_info><queue_info>
<job_list state="running"><JB_job_number>17</JB_job_number><JB_name>bj</JB_name><state>r</state></job_list>
</queue_info><job_info><job_list state="pending"><JB_job_number>18</JB_job_number><state>qw</state></job_list></job_info></job_info>"""
CONDOR = '[{"ClusterId": 17, "JobStatus": 2}, {"ClusterId": 18, "JobStatus": 5, "HoldReasonCode": 16, "HoldReason": "Spooling"}]'


@pytest.mark.parametrize("factor", FACTORS)
def test_lists_of_batch_systems(factor: int) -> None:
    def make(chance: random.Random) -> tuple[bool, str]:
        grid = chance.random() < 0.5
        mutator = Mutator(chance)
        return grid, str(mutator.several(mutator.text, QSTAT if grid else CONDOR))

    def take(given: tuple[bool, str]) -> None:
        grid, text = given
        if grid:
            for letters in sge.listed(text).values():
                sge.state_of(letters, "")
        else:
            for job in htcondor.listed(text, "condor_q"):
                htcondor.state_of(job.get("JobStatus", 0), job)
                htcondor.ended_words(job)

    feed("lists of batch systems", factor, make, take, SchedulerSilent)


@pytest.mark.parametrize("text", ["[" * 100_000, "[" + "9" * 5000 + "]", "\ud800", "<other/>", "[1]"])
def test_what_is_no_list_of_a_batch_system_is_silence(text: str) -> None:
    with pytest.raises(SchedulerSilent):
        htcondor.listed(text, "condor_q")
    with pytest.raises(SchedulerSilent):
        sge.listed(text)
