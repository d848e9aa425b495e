"""Seeded bugs in the socket under pika, and in when acknowledgements are sent and deliveries read."""

from __future__ import annotations

from typing import Final

_TRANSPORT: Final = "broker_jobs/broker/amqp/transport.py"
_CONSUMER: Final = "broker_jobs/broker/amqp/consumer.py"
_TESTS: Final = "tests/unit/test_amqp_transport.py"
_SERVICE: Final = "broker_jobs/coordinator/service.py"
_REST_TESTS: Final = "tests/unit/test_coordinator_rest.py"

MUTANTS: Final = (
    ("amqp: each frame alone", _TRANSPORT, "joined = len(marshaled_frames) > 1 and", "joined = not marshaled_frames and", _TESTS),
    ("amqp: copy what is large", _TRANSPORT, "sum(map(len, marshaled_frames)) <= _JOINED_BYTES", "len(marshaled_frames) > 1", _TESTS),
    ("amqp: wait for a peer that has ended", _TRANSPORT, "        self._transport.abort()\n", "", _TESTS),
    (
        "amqp: link when something has come",
        _TRANSPORT,
        "        self._on_linked((self._transport, self._protocol))\n",
        "        asyncio.get_running_loop().call_later(0.2, self._on_linked, (self._transport, self._protocol))\n",
        _TESTS,
    ),
    ("amqp: keep the buffer", _TRANSPORT, "bytes(self._buffer[:nbytes])", "self._buffer[:nbytes]", _TESTS),
    ("amqp: keep silent about what went wrong", _TRANSPORT, "                on_done(error)\n", "                del error\n", _TESTS),
    (
        "amqp: close before all is acknowledged",
        _CONSUMER,
        "            self.flush()\n            self.channel.discard()",
        "            self.channel.discard()",
        _TESTS,
    ),
    (
        "amqp: acknowledge what is held",
        _CONSUMER,
        "            if self.unsettled:\n                for tag",
        "            if not late:\n                for tag",
        _TESTS,
    ),
    ("amqp: acknowledge one too late", _CONSUMER, "len(self._late) >= self._gathers", "len(self._late) > self._gathers", _TESTS),
    ("amqp: acknowledge never", _CONSUMER, "        elif self._flushing is None:\n", "        elif self._flushing is not None:\n", _TESTS),
    ("amqp: acknowledge on a channel that has gone", _CONSUMER, "if late and self.channel.is_open:", "if late:", _TESTS),
    ("amqp: rest while jobs wait", _SERVICE, "                if self._calm:\n", "                if True:\n", _REST_TESTS),
    ("amqp: never rest", _SERVICE, "                if self._calm:\n", "                if False:\n", _REST_TESTS),
)
