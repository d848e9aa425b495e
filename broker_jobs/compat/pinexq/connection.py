"""The way in."""

from __future__ import annotations

from broker_jobs import Client


def create_pinexq_client(pinexq_api_endpoint: str | None = None, api_key: str | None = None, timeout: float = 30.0) -> Client:
    """A client of broker-jobs, in place of one of httpx.

    Args:
        pinexq_api_endpoint: address of the broker (default: as `broker_jobs.Client`)
        api_key: the signing key (default: as configured)
        timeout: seconds to wait for a broker that does not answer
    """
    return Client(pinexq_api_endpoint, signing_key=api_key, timeout=timeout)


def enter_jma(client: Client) -> Client:
    """The client itself: there is no page to enter by."""
    return client
