"""Pika's exceptions in our terms.

Three of them are no `AMQPError`, the connection's workflow wraps others, and a refusal while connecting is told in the text
of a guess ("probable authentication error"). All of it is unravelled here.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from typing import TYPE_CHECKING, Final

from pika import exceptions as pika
from pika.adapters.utils import connection_workflow as workflow

from broker_jobs.errors import (
    AccessRefused,
    BrokerBlocked,
    BrokerError,
    BrokerJobsError,
    BrokerUnavailable,
    IllegalTransition,
    TopologyMismatch,
    ValidationError,
    VirtualHostNotFound,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCESS_REFUSED: Final = 403
NOT_FOUND: Final = 404
RESOURCE_LOCKED: Final = 405
PRECONDITION_FAILED: Final = 406
NOT_ALLOWED: Final = 530
INTERNAL_ERROR: Final = 541

CLASSES: Final[Mapping[type[BaseException], type[BrokerJobsError]]] = {
    pika.AMQPError: BrokerError,
    pika.AMQPConnectionError: BrokerUnavailable,
    pika.ConnectionOpenAborted: BrokerUnavailable,
    pika.StreamLostError: BrokerUnavailable,
    pika.IncompatibleProtocolError: BrokerUnavailable,
    pika.AuthenticationError: AccessRefused,
    pika.ProbableAuthenticationError: AccessRefused,
    pika.ProbableAccessDeniedError: AccessRefused,
    pika.NoFreeChannels: BrokerError,
    pika.ConnectionWrongStateError: BrokerUnavailable,
    pika.ConnectionClosed: BrokerUnavailable,
    pika.ConnectionClosedByBroker: BrokerUnavailable,
    pika.ConnectionClosedByClient: BrokerUnavailable,
    pika.ConnectionBlockedTimeout: BrokerBlocked,
    pika.AMQPHeartbeatTimeout: BrokerUnavailable,
    pika.AMQPChannelError: BrokerError,
    pika.ChannelWrongStateError: BrokerUnavailable,
    pika.ChannelClosed: BrokerError,
    pika.ChannelClosedByBroker: BrokerError,
    pika.ChannelClosedByClient: BrokerError,
    pika.ConsumerCancelled: BrokerError,
    pika.UnroutableError: BrokerError,
    pika.NackError: BrokerError,
    # The other side does not speak AMQP as it should.
    pika.ProtocolSyntaxError: BrokerUnavailable,
    pika.UnexpectedFrameError: BrokerUnavailable,
    pika.ProtocolVersionMismatch: BrokerUnavailable,
    pika.BodyTooLongError: BrokerUnavailable,
    pika.InvalidFrameError: BrokerUnavailable,
    pika.InvalidFieldTypeException: BrokerUnavailable,
    # A name of the caller's.
    pika.ShortStringTooLong: ValidationError,
    # We use pika as it may not be used.
    pika.DuplicateConsumerTag: IllegalTransition,
    pika.InvalidChannelNumber: IllegalTransition,
    pika.UnsupportedAMQPFieldException: IllegalTransition,
    pika.MethodNotImplemented: IllegalTransition,
    pika.ChannelError: IllegalTransition,
    pika.ReentrancyError: IllegalTransition,
    pika.DuplicateGetOkCallback: IllegalTransition,
}
"""Every exception class of pika, by what it means where it says nothing more precise."""

WEATHER: Final = (pika.AMQPError, pika.ChannelError, workflow.AMQPConnectorException, OSError)
"""What an operation may fail with when the broker or the network is at fault; a TimeoutError is an OSError."""


def translate(error: BaseException, where: str) -> BrokerJobsError:
    """One of our exceptions that says the same; `where` begins its message: "the broker at host:5672", "queue bj.v2.dead"."""
    error = root(error)
    match error:
        case BrokerJobsError():
            return error
        case pika.ChannelClosed(reply_code=int(code), reply_text=str(text)):
            return _refusal(code, text, where)
        case pika.ProbableAuthenticationError() | pika.ProbableAccessDeniedError() | pika.IncompatibleProtocolError():
            return _while_connecting(error, where)
        case ssl.SSLError():
            return BrokerUnavailable(f"{where}: no encrypted connection: {reason(error)}")
        case OSError() | TimeoutError() | workflow.AMQPConnectorStackTimeout():
            return BrokerUnavailable(f"{where} does not answer: {reason(error)}; see that it runs, and that this host reaches it")
        case _:
            return CLASSES.get(type(error), IllegalTransition)(f"{where}: {reason(error)}")


def _refusal(code: int, text: str, where: str) -> BrokerError:
    if code == ACCESS_REFUSED:
        return AccessRefused(f"{where} is not for this user: grant it with rabbitmqctl set_permissions ({text})")
    if code == RESOURCE_LOCKED:
        return TopologyMismatch(f"{where} belongs to another connection: {text}")
    if code == PRECONDITION_FAILED and "inequivalent" in text:
        return _mismatch(text, where)
    return BrokerError(f"{where}: {text}")


_INEQUIVALENT: Final = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for (?P<what>\w+) .*received (?P<wanted>.+) but current is (?P<found>.+)", re.DOTALL
)
_VALUE: Final = re.compile(r"^the value '(.*)' of type '\w+'$|^'(.*)'$", re.DOTALL)


def _mismatch(text: str, where: str) -> TopologyMismatch:
    """With the property and both values, as the broker words them."""
    told = _INEQUIVALENT.search(text)
    if told is None:
        return TopologyMismatch(f"{where} exists with other properties; delete it, or use another namespace: {text}")
    wanted, found = (_VALUE.sub(lambda value: value[1] or value[2] or "", told[name].strip()) for name in ("wanted", "found"))
    return TopologyMismatch.of(where, told["argument"], wanted, found)


def root(error: BaseException) -> BaseException:
    """What happened, without the wrappings of pika's connection workflow."""
    match error:
        case workflow.AMQPConnectionWorkflowFailed(exceptions=[*_, last]):
            return root(last)
        case workflow.AMQPConnectorPhaseErrorBase(exception=BaseException() as inner):
            return root(inner)
        case pika.AMQPConnectionError(args=[BaseException() as inner]):
            return root(inner)
        case _:
            return error


def reason(error: BaseException) -> str:
    """Why, in a few words."""
    match error:
        case socket.gaierror():
            return "there is no host of this name"
        case ssl.SSLError():
            return str(error.args[-1])
        case OSError(errno=int(number)):
            return os.strerror(number)
        case TimeoutError() | workflow.AMQPConnectorStackTimeout():
            return "no answer in time"
        case pika.ConnectionClosed(reply_text=str(text)) | pika.ChannelClosed(reply_text=str(text)):
            return text
        case _:
            return ", ".join(str(each) for each in error.args) or type(error).__name__


def may_pass(error: BaseException) -> bool:
    """Whether trying again may help a first connection: nothing listens, no answer in time, or the broker is just starting."""
    error = root(error)
    match error:
        case socket.gaierror(errno=socket.EAI_AGAIN):
            return True
        case socket.gaierror() | ssl.SSLError():
            return False
        case pika.ProbableAuthenticationError() | pika.ProbableAccessDeniedError() | pika.IncompatibleProtocolError():
            return isinstance(_while_connecting(error, ""), BrokerUnavailable) and not isinstance(error, pika.IncompatibleProtocolError)
        case _:
            return isinstance(error, OSError | workflow.AMQPConnectorStackTimeout | pika.StreamLostError | pika.ConnectionOpenAborted)


_CLOSED: Final = re.compile(r"ConnectionClosedByBroker: \((\d+)\) ['\"](.*)['\"]", re.DOTALL)


def _while_connecting(error: BaseException, where: str) -> BrokerError:
    """What a connection that ended before it was open means; pika keeps the broker's words as text in text."""
    told = _CLOSED.search(str(error))
    if told is None:
        if isinstance(error, pika.IncompatibleProtocolError):
            return BrokerUnavailable(f"{where} does not speak AMQP 0-9-1")
        return BrokerUnavailable(f"{where} closed the connection while it was being opened")
    code, text = int(told[1]), told[2]
    if code == ACCESS_REFUSED:
        return AccessRefused(f"{where} refuses this user and password: correct them in the address ({text})")
    if code == NOT_ALLOWED and "not found" in text:
        return VirtualHostNotFound(
            f"{where} has no such virtual host: correct the end of the address, or make it with: rabbitmqctl add_vhost NAME ({text})"
        )
    if code == NOT_ALLOWED:
        return AccessRefused(f"{where} does not let this user into the virtual host: grant it with rabbitmqctl set_permissions ({text})")
    return BrokerUnavailable(f"{where}: {text}")
