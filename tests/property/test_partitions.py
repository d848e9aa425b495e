"""Which ledgers hear of what: each message reaches exactly those that it concerns, however many partitions there are."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.broker.embedded.routes import Routes
from broker_jobs.core.resource_class import class_name
from broker_jobs.core.spec import Lane
from broker_jobs.ids import MOST_PARTITIONS, is_process_name, new_name
from broker_jobs.wire.topology import Topology
from broker_jobs.wire.way_back import way_back
from tests.support.worker_world import MEMORY, NODES, ONE_CPU

NAMES = Topology("t")
numbers = st.integers(0, MOST_PARTITIONS - 1)
partitions = st.sets(numbers, min_size=1, max_size=5)
classes = st.sampled_from([class_name(needs) for needs in (ONE_CPU, MEMORY, NODES)])
processes = st.sampled_from([new_name("client"), "node17", "w", "a@b:c+1", "all", "_x"]).filter(is_process_name)


class Place:
    """A namespace with these partitions, a class, a worker and a client."""

    def __init__(self, partitions: set[int], resource_class: str, lane: Lane, worker: str, client: str) -> None:
        self.task_queue = NAMES.class_queue(resource_class, lane)
        queues = [*map(NAMES.ledger, sorted(partitions)), self.task_queue, NAMES.lease_queue(worker), NAMES.reply_queue(client)]
        self._names = dict(zip(count(), [queue.name for queue in queues], strict=False))
        bindings = [(each.exchange, each.pattern, number) for number, queue in enumerate(queues) for each in queue.bindings]
        self._routes = Routes([exchange.name for exchange in NAMES.exchanges()], bindings)

    def reached(self, exchange: str, key: str) -> set[str]:
        """Names of the queues that a message comes to."""
        return {self._names[number] for number in self._routes.queues(exchange, key)}


def ledgers(partitions: set[int]) -> set[str]:
    return {NAMES.ledger_name(partition) for partition in partitions}


@given(partitions, st.data(), classes, st.sampled_from(Lane), processes, processes)
def test_each_message_reaches_the_ledgers_that_it_concerns(
    there: set[int], data: st.DataObject, resource_class: str, lane: Lane, worker: str, client: str
) -> None:
    place = Place(there, resource_class, lane, worker, client)
    own = data.draw(st.sampled_from(sorted(there)), "partition")
    ledger, tasks, replies = NAMES.ledger_name(own), place.task_queue.name, NAMES.reply_queue(client).name
    chunk = NAMES.task_key(resource_class, lane, own)
    assert place.reached(NAMES.tasks, chunk) == {ledger, tasks}
    assert place.reached(NAMES.tasks, NAMES.ledger_key(own)) == {ledger}
    assert place.reached(NAMES.ready, chunk) == {tasks}
    assert place.reached(NAMES.returned, chunk) == {ledger}
    assert place.reached(NAMES.replies, NAMES.reply_key(client, own)) == {ledger, replies}
    assert place.reached(NAMES.replies, NAMES.reply_key("", own)) == {ledger}
    assert place.reached(NAMES.replies, NAMES.answer_key(client)) == {replies}
    assert place.reached(NAMES.replies, NAMES.dead_key()) == set()
    # What a worker says of itself, and its token, concern all of them.
    assert place.reached(NAMES.replies, NAMES.worker_key()) == ledgers(there)
    assert place.reached(NAMES.lease, NAMES.token_key(worker)) == {NAMES.lease_queue(worker).name}
    assert place.reached(NAMES.returned, NAMES.token_key(worker)) == ledgers(there)


@given(partitions, st.data(), classes, st.sampled_from(Lane), processes, processes)
def test_a_dead_letter_gets_back_into_its_ledger_alone(
    there: set[int], data: st.DataObject, resource_class: str, lane: Lane, worker: str, client: str
) -> None:
    place = Place(there, resource_class, lane, worker, client)
    own = data.draw(st.sampled_from(sorted(there)), "partition")
    ledger = NAMES.ledger_name(own)
    for exchange, key in (
        (NAMES.tasks, NAMES.ledger_key(own)),
        (NAMES.replies, NAMES.reply_key(client, own)),
        (NAMES.replies, NAMES.worker_key()),
        (NAMES.returned, NAMES.token_key(worker)),
        (NAMES.returned, NAMES.task_key(resource_class, lane, own)),
    ):
        back = way_back(NAMES, ledger, exchange, key)
        assert back is not None
        # Others have had what the first ledger hears with them, and know it when it comes twice.
        of_all = {(NAMES.replies, NAMES.worker_key()), (NAMES.returned, NAMES.token_key(worker))}
        others = ledgers(there) if own == 0 and (exchange, key) in of_all else {ledger}
        assert place.reached(*back) & ledgers(there) == others
