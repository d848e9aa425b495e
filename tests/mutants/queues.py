"""Seeded bugs in the names of queues, in what is left of earlier versions, and in what is dropped."""

from __future__ import annotations

from typing import Final

_TOPOLOGY: Final = "broker_jobs/wire/topology.py"
_TOPOLOGY_TESTS: Final = "tests/unit/test_topology.py"
_POST: Final = "broker_jobs/coordinator/post.py"
_POST_TESTS: Final = "tests/unit/test_post.py"
_STORE: Final = "broker_jobs/broker/embedded/store.py"
_STORE_TESTS: Final = "tests/unit/test_embedded_store.py"
_SCHEMA: Final = "broker_jobs/broker/embedded/schema.py"
_BROKER_TESTS: Final = "tests/integration/test_embedded_broker.py"

MUTANTS: Final = (
    (
        "queues: an earlier name is one of now",
        _TOPOLOGY,
        "        if not name.startswith(before):\n            return None\n",
        "",
        _TOPOLOGY_TESTS,
    ),
    (
        "queues: the keeper has a version",
        _TOPOLOGY,
        'f"{self.namespace}.ledger.{partition}.keeper"',
        'self.queue_name(f"ledger.{partition}.keeper")',
        _TOPOLOGY_TESTS,
    ),
    ("queues: what clients miss goes to the ledger", _TOPOLOGY, 'return f"{NOBODY}.{DROPPED}"', 'return f"{NOBODY}.0"', _TOPOLOGY_TESTS),
    (
        "queues: what was dead before has no way back",
        "broker_jobs/wire/way_back.py",
        '(topology.rest_of(queue) or "")',
        'queue.removeprefix(topology.queue_name(""))',
        _TOPOLOGY_TESTS,
    ),
    (
        "queues: start beside those of an earlier version",
        _POST,
        "        await refuse_former(self._broker, self._topology, kept)\n",
        "",
        _POST_TESTS,
    ),
    (
        "queues: make them before the refusal",
        "broker_jobs/broker/former.py",
        "        if (depth := await broker.depth(former)) is not None:",
        "        if (depth := await broker.depth(former)) is not None and depth.ready:",
        _POST_TESTS,
    ),
    (
        "queues: leave earlier ones of a class",
        _POST,
        "                        await asyncio.gather(*(self._broker.delete(queue) for queue in former))\n",
        "",
        _POST_TESTS,
    ),
    (
        "embedded: what is dropped is gone",
        _STORE,
        "                for number, _ in dropped:\n                    self._copy(number, queue.dead_letter_exchange, queues)\n",
        "                pass\n",
        _STORE_TESTS,
    ),
    ("embedded: earlier queues keep their names", _SCHEMA, "WHERE name NOT LIKE '%.keeper'", "WHERE name LIKE '%.keeper'", _BROKER_TESTS),
)
