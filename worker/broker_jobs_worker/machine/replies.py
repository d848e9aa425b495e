"""What a worker has to tell the ledger, until the broker has confirmed it.

Items are gathered for each job and go out together; a reply that was refused or not answered goes out again, unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.core.outcome import Canceled, Crashed, Failed, Succeeded
from broker_jobs.core.value import CHUNK_LIMIT, Inline
from broker_jobs.ids import partition_of
from broker_jobs.wire.messages import Ended, Goodbye, Progress, Reply, Started
from broker_jobs.wire.topology import Topology
from broker_jobs_worker.machine.commands import Publish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from broker_jobs.wire.messages import ReplyItem
    from broker_jobs_worker.machine.state import Group, Identity

ITEMS_LIMIT: Final = 1000


@dataclass(slots=True)
class _Buffer:
    """Items of one group that have not been sent.

    Attributes:
        progress: only the latest of each attempt is of interest
        urgent: somebody waits for it
    """

    since: float
    items: list[ReplyItem] = field(default_factory=list)
    progress: dict[tuple[int, int], Progress] = field(default_factory=dict)
    size: int = 0
    urgent: bool = False


class ReplyBook:
    """Everything that was said and is not confirmed.

    Args:
        me: signs the replies
        patience: seconds for which items are gathered at most
        again: seconds before a refused message goes out again
    """

    def __init__(self, me: Identity, patience: float, again: float) -> None:
        self._me = me
        self._patience = patience
        self._again = again
        self._buffers: dict[Group, _Buffer] = {}
        self._sent: dict[int, Publish] = {}
        self._again_at: dict[int, float] = {}
        self._withdrawn: set[int] = set()
        self._number = 0

    @property
    def empty(self) -> bool:
        """Whether everything is confirmed, and of what was withdrawn nothing is on its way."""
        return not self._buffers and not self._sent and not self._withdrawn

    def add(self, group: Group, item: ReplyItem, now: float, *, urgent: bool = False) -> None:
        """Say something with the next reply of the group."""
        buffer = self._buffers.get(group)
        if buffer is None:
            buffer = self._buffers[group] = _Buffer(now)
        if isinstance(item, Progress):
            buffer.progress[item.task, item.attempt] = item
            return
        if isinstance(item, Ended):
            if buffer.items and isinstance(last := buffer.items[-1], Started) and (last.task, last.attempt) == (item.task, item.attempt):
                buffer.items.pop()  # its end says that, too
            self.add_ends(group, (item,), _size(item), now)
        else:
            buffer.items.append(item)
        buffer.urgent |= urgent or len(buffer.items) >= ITEMS_LIMIT

    def add_ends(self, group: Group, ends: Sequence[Ended], size: int, now: float) -> None:
        """`add`, for many that have ended, with so many bytes of the user."""
        buffer = self._buffers.get(group)
        if buffer is None:
            buffer = self._buffers[group] = _Buffer(now)
        if buffer.progress:
            for item in ends:
                buffer.progress.pop((item.task, item.attempt), None)
        buffer.size += size
        buffer.items += ends
        buffer.urgent |= buffer.size >= CHUNK_LIMIT or len(buffer.items) >= ITEMS_LIMIT

    def hurry(self, group: Group) -> None:
        """Do not gather any longer for this group."""
        if group in self._buffers:
            self._buffers[group].urgent = True

    def announce(self, group: Group, started: Started) -> Publish:
        """A reply of its own for a `Started` that must be confirmed before the start."""
        return self._publish(_key(group), self._reply(group, (started,)))

    def goodbye(self, reason: str) -> Publish:
        """The last message of all."""
        return self._publish(Topology.worker_key(), Goodbye(self._me.worker, self._me.boot, reason))

    def flush(self, now: float) -> Iterator[Publish]:
        """Replies that are due."""
        for group, buffer in list(self._buffers.items()):
            if buffer.urgent or now - buffer.since >= self._patience:
                del self._buffers[group]
                items = (*buffer.items, *buffer.progress.values())
                yield self._publish(_key(group), self._reply(group, items), leisurely=group.called)

    def repeat(self, now: float) -> Iterator[Publish]:
        """Messages to publish again."""
        for number in [number for number, at in self._again_at.items() if now >= at]:
            del self._again_at[number]
            yield self._sent[number]

    def confirmed(self, number: int) -> Publish | None:
        """Note that a message is safe; which one, or None where it was withdrawn."""
        self._withdrawn.discard(number)
        self._again_at.pop(number, None)
        return self._sent.pop(number, None)

    def failed(self, number: int, now: float) -> Publish | None:
        """Note that a message must go out again; which one, or None where it was withdrawn."""
        self._withdrawn.discard(number)
        if number in self._sent:
            self._again_at[number] = now + self._again
        return self._sent.get(number)

    def withdraw(self, number: int) -> None:
        """Do not send this again, whatever became of it."""
        on_its_way = number in self._sent and number not in self._again_at
        self.confirmed(number)
        if on_its_way:
            self._withdrawn.add(number)

    def unconfirmed(self) -> Iterator[tuple[str, ReplyItem]]:
        """Everything with its job."""
        for group, buffer in self._buffers.items():
            for item in buffer.items:
                yield group.job, item
        for publish in self._sent.values():
            if isinstance(publish.message, Reply):
                for item in publish.message.items:
                    yield publish.message.job, item

    def _reply(self, group: Group, items: tuple[ReplyItem, ...]) -> Reply:
        return Reply(group.job, self._me.worker, self._me.boot, items, group.resource_class)

    def _publish(self, key: str, message: Reply | Goodbye, *, leisurely: bool = False) -> Publish:
        self._number += 1
        publish = self._sent[self._number] = Publish(self._number, key, message, leisurely)
        return publish


def _key(group: Group) -> str:
    return Topology.reply_key(group.submitter, partition_of(group.job))


def _size(item: Ended) -> int:
    """Bytes of the user in an item."""
    match item.outcome:
        case Succeeded(value):
            own = value.size if isinstance(value, Inline) else 0
        case Failed():
            own = len(item.outcome.traceback) + (item.outcome.exception.size if isinstance(item.outcome.exception, Inline) else 0)
        case Canceled() | Crashed():
            own = 0
        case _:
            assert_never(item.outcome)
    return own + len(item.stdout.tail) + len(item.stderr.tail)
