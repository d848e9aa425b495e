"""What the worker's machine wants done; the daemon performs it, in order, and reports back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker_jobs.broker.port import Delivery
    from broker_jobs.core.spec import Lane
    from broker_jobs.wire.messages import Goodbye, Heartbeat, Hello, Reply
    from broker_jobs_worker.executors.port import Execution


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Consume the queue of a class and lane; answered by chunks, or by `SubscribeFailed`.

    Attributes:
        credit: most chunks that may be unsettled at once
        behind: other workers come first
    """

    resource_class: str
    lane: Lane
    credit: int
    behind: bool = False


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Consume it no longer; what is unsettled stays ours."""

    resource_class: str
    lane: Lane


@dataclass(frozen=True, slots=True)
class Start:
    """Run it; answered by one `ExecutionEnded` for each execution, unless that is recalled.

    Attributes:
        resource_class: and how many seconds it waited here for resources, for the numbers
        then: what runs after it with the same resources, one after the other
    """

    execution: Execution
    resource_class: str
    waited: float
    then: tuple[Execution, ...] = ()


@dataclass(frozen=True, slots=True)
class Recall:
    """Take back what of the line of this execution has not begun; answered by one `ExecutionsRecalled`."""

    execution: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End an execution; answered by its `ExecutionEnded`.

    Attributes:
        within: seconds after which it is killed at the latest, whatever grace it has
    """

    execution: str
    reason: str
    within: float | None = None


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish to the exchange `replies`; answered by `PublishConfirmed` or `PublishFailed` with this number.

    Attributes:
        key: routing key
        leisurely: nobody waits for the ledger to have it
    """

    number: int
    key: str
    message: Reply | Goodbye
    leisurely: bool = False


@dataclass(frozen=True, slots=True)
class Say:
    """Publish to the ledger what is said again soon anyway: no answer is expected."""

    message: Hello | Heartbeat


@dataclass(frozen=True, slots=True)
class Settle:
    """Acknowledge a delivery; no answer, since nothing depends on it."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Exit:
    """Nothing follows.

    Attributes:
        code: of the process
        in_order: the ledger knows that nothing is held here, so the token may be dropped
    """

    code: int
    in_order: bool


Command = Subscribe | Unsubscribe | Start | Recall | Stop | Publish | Say | Settle | Exit
