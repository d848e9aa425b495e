"""Pika's exceptions, and the addresses and queue arguments of RabbitMQ."""

from __future__ import annotations

import inspect
import socket
import ssl

import pytest
from pika import exceptions as pika
from pika.adapters.utils import connection_workflow as workflow

from broker_jobs import errors
from broker_jobs.broker.amqp.errors import CLASSES, may_pass, translate

WHERE = "the broker at there:5672"

PIKA = [each for each in vars(pika).values() if inspect.isclass(each) and issubclass(each, BaseException)]


def made(kind: type[BaseException]) -> BaseException:
    """One such exception, with the arguments that it wants."""
    parameters = list(inspect.signature(kind.__init__).parameters)[1:]
    if parameters == ["reply_code", "reply_text"]:
        return kind(504, "CHANNEL_ERROR - something")
    if parameters == ["messages"]:
        return kind([])
    return kind("something", "else")


def while_connecting(kind: type[pika.AMQPConnectionError], code: int, text: str) -> workflow.AMQPConnectionWorkflowFailed:
    """What pika reports when the broker ends a connection that is being opened."""
    guess = kind(repr(pika.ConnectionClosedByBroker(code, text)))
    return workflow.AMQPConnectionWorkflowFailed([workflow.AMQPConnectorAMQPHandshakeError(guess)])


def unconnected(cause: BaseException) -> workflow.AMQPConnectionWorkflowFailed:
    """What pika reports when there is no TCP connection."""
    return workflow.AMQPConnectionWorkflowFailed([OSError(1, "another address"), workflow.AMQPConnectorSocketConnectError(cause)])


def test_every_exception_of_pika_is_mapped() -> None:
    assert len(PIKA) > 30
    assert set(CLASSES) == set(PIKA)


@pytest.mark.parametrize("kind", PIKA)
def test_every_exception_becomes_one_of_ours_that_says_where(kind: type[BaseException]) -> None:
    ours = translate(made(kind), WHERE)
    assert type(ours) is not errors.BrokerJobsError
    assert str(ours).startswith(WHERE)


def test_our_own_pass() -> None:
    error = errors.TopologyMismatch("it does not fit")
    assert translate(error, WHERE) is error


@pytest.mark.parametrize(
    ("error", "ours", "passing"),
    [
        (unconnected(ConnectionRefusedError(111, "Connect call failed")), errors.BrokerUnavailable, True),
        (unconnected(workflow.AMQPConnectorStackTimeout("Timeout")), errors.BrokerUnavailable, True),
        (unconnected(socket.gaierror(socket.EAI_NONAME, "Name or service not known")), errors.BrokerUnavailable, False),
        (unconnected(socket.gaierror(socket.EAI_AGAIN, "Temporary failure")), errors.BrokerUnavailable, True),
        (unconnected(ssl.SSLCertVerificationError(1, "self-signed certificate")), errors.BrokerUnavailable, False),
        (TimeoutError(), errors.BrokerUnavailable, True),
        (while_connecting(pika.ProbableAuthenticationError, 403, "ACCESS_REFUSED - Login was refused"), errors.AccessRefused, False),
        (while_connecting(pika.ProbableAccessDeniedError, 530, "NOT_ALLOWED - vhost x not found"), errors.VirtualHostNotFound, False),
        (while_connecting(pika.ProbableAccessDeniedError, 530, "NOT_ALLOWED - vhost refused for user 'y'"), errors.AccessRefused, False),
        (while_connecting(pika.ProbableAccessDeniedError, 541, "INTERNAL_ERROR - vhost '/' is down"), errors.BrokerUnavailable, True),
        (pika.ProbableAuthenticationError(repr(pika.StreamLostError("cut"))), errors.BrokerUnavailable, True),
        (pika.IncompatibleProtocolError(repr(pika.StreamLostError("cut"))), errors.BrokerUnavailable, False),
        (pika.StreamLostError("Transport indicated EOF"), errors.BrokerUnavailable, True),
        (pika.ChannelClosedByBroker(403, "ACCESS_REFUSED - write access to exchange 'x' refused"), errors.AccessRefused, False),
        (pika.ChannelClosedByBroker(406, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type'"), errors.TopologyMismatch, False),
        (pika.ChannelClosedByBroker(406, "PRECONDITION_FAILED - delivery acknowledgement timed out"), errors.BrokerError, False),
        (pika.ChannelClosedByBroker(405, "RESOURCE_LOCKED - cannot obtain exclusive access"), errors.TopologyMismatch, False),
        (pika.ChannelClosedByBroker(404, "NOT_FOUND - no queue 'q'"), errors.BrokerError, False),
    ],
)  # fmt: skip
def test_what_it_means(error: BaseException, ours: type[errors.BrokerError], passing: bool) -> None:
    assert type(translate(error, WHERE)) is ours
    assert may_pass(error) is passing


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (unconnected(ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)")), "does not answer: Connection refused"),
        (unconnected(socket.gaierror(-2, "Name or service not known")), "there is no host of this name"),
        (TimeoutError(), "no answer in time"),
        (while_connecting(pika.ProbableAccessDeniedError, 530, "NOT_ALLOWED - vhost x not found"), "NOT_ALLOWED - vhost x not found"),
        (pika.ChannelClosedByBroker(406, "PRECONDITION_FAILED - inequivalent arg"), "delete it, or use another namespace"),
        (pika.IncompatibleProtocolError("?"), "does not speak AMQP"),
    ],
)
def test_it_says_why(error: BaseException, words: str) -> None:
    assert words in str(translate(error, WHERE))
