"""pinexQ's exceptions; they are errors of broker-jobs too, and have the original as their cause."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from broker_jobs import BrokerJobsError, ValidationError
from broker_jobs.errors import BrokerBlocked, BrokerUnavailable, CoordinatorUnavailable, InUse, JobActive, LookupFailed

if TYPE_CHECKING:
    from collections.abc import Iterator


class PinexqError(BrokerJobsError):
    """What this face raises."""


class ClientException(PinexqError):
    """Something cannot be done."""


class NotAvailableException(ClientException):
    """This is not allowed now."""


class ApiException(PinexqError):
    """What was asked for is wrong, or not there."""


class UnknownStep(ApiException, NameError):
    """There is no such step, or several; the text lists what there is."""


class TemporarilyNotAvailableException(ApiException):
    """Nobody answers now."""


class PollingException(PinexqError):
    """What was waited for does not come."""


class PollingTimeout(PollingException, TimeoutError):
    """What was waited for has not come in time; in pinexQ this is one or the other, by the way of waiting."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise errors of broker-jobs as pinexQ's."""
    try:
        yield
    except PinexqError:
        raise
    except (InUse, JobActive) as error:
        raise NotAvailableException(str(error)) from error
    except (BrokerBlocked, BrokerUnavailable, CoordinatorUnavailable) as error:
        raise TemporarilyNotAvailableException(str(error)) from error
    except (ValidationError, LookupFailed) as error:
        raise ApiException(str(error)) from error
