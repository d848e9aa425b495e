"""pinexQ's exceptions; they are errors of broker-jobs too, and have the original as their cause."""

from __future__ import annotations

from contextlib import contextmanager
from types import FunctionType
from typing import TYPE_CHECKING

from broker_jobs import BrokerJobsError, ValidationError, errors

if TYPE_CHECKING:
    from collections.abc import Iterator


class NotAvailableException(BrokerJobsError):
    """This is not allowed now."""


class ApiException(BrokerJobsError):
    """What was asked for is wrong, or not there."""


class UnknownStep(ApiException, NameError):
    """There is no such step, or several; the text lists what there is."""


class PollingException(BrokerJobsError):
    """What was waited for does not come."""


class PollingTimeout(PollingException, TimeoutError):
    """What was waited for has not come in time; in pinexQ this is one or the other, by the way of waiting."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise errors of broker-jobs as pinexQ's."""
    try:
        yield
    except PollingTimeout:
        raise
    except TimeoutError as error:
        raise PollingTimeout(f"Timeout waiting for Job state: {error}") from error
    except errors.FailedJobsError as error:
        raise PollingException(str(error)) from error
    except (errors.StepNotFound, errors.AmbiguousStep) as error:
        raise UnknownStep(str(error)) from error
    except (errors.InUse, errors.JobActive, errors.WrongStatus) as error:
        raise NotAvailableException(str(error)) from error
    except (ValidationError, errors.LookupFailed) as error:
        raise ApiException(str(error)) from error


class Translating:
    """Lets the public methods of its subclasses raise pinexQ's errors."""

    def __init_subclass__(cls) -> None:
        for name, member in list(vars(cls).items()):
            if isinstance(member, FunctionType) and not name.startswith("_"):
                setattr(cls, name, translated()(member))
            elif isinstance(member, classmethod):
                setattr(cls, name, classmethod(translated()(member.__func__)))
