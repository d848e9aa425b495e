"""The coordinator as a daemon: ``python -P -m broker_jobs.coordinator --url amqp://…``.

One that has lost its ledger, to another coordinator or because the database went, forgets all that it knew and starts anew. SIGTERM
and SIGINT end it in order, with 0. The key comes from the environment or the configuration, never from the command line, where every
user of the host could read it.
"""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import threading
from typing import TYPE_CHECKING

from broker_jobs.cmdline import conceal
from broker_jobs.collecting import collect_rarely
from broker_jobs.config import ledger_file, resolve, scheme, sqlite_url
from broker_jobs.coordinator.config import CoordinatorConfig, Durability
from broker_jobs.core.quantities import milliseconds
from broker_jobs.errors import AddressError, BrokerError, BrokerJobsError, BrokerUnavailable, LedgerLost, LedgerRefused
from broker_jobs.hooks.found import COORDINATORS, installed
from broker_jobs.logs import start_logging
from broker_jobs.metrics import parse_port

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs.hooks.facts import Told

MISUSE = 2
UNREACHABLE = 3

ANEW = 1.0
"""Seconds after which a coordinator that has lost its ledger starts anew."""


def configuration(arguments: Sequence[str] | None = None) -> CoordinatorConfig:
    """What the command line and the environment say.

    Raises:
        BrokerJobsError: an option is wrong, or there is no key
    """
    parser = argparse.ArgumentParser(prog="python -m broker_jobs.coordinator", description="Keep the ledger of broker-jobs.")
    parser.add_argument("--url", help="address of the broker (default: BROKER_JOBS_URL, broker-jobs.toml, this user's own)")
    parser.add_argument("--namespace", help="prefix of every name at the broker")
    parser.add_argument("--partition", type=int, help="which one of the ledger it keeps, where there are several (default: 0)")
    parser.add_argument("--store", help="URL of the ledger, sqlite: or postgresql: (default: ledger.db in the state folder)")
    parser.add_argument("--name", default=platform.node(), help="name of this coordinator, for people")
    parser.add_argument("--metrics-port", default="0", help="port of /metrics and /healthz; 0 is none, 'auto' any free one")
    parser.add_argument("--metrics-host", default="127.0.0.1", help="address on which they are served")
    parser.add_argument("--grace", default="3s", help="how long a worker whose connection is gone may take to come back")
    parser.add_argument("--retain", help="forget jobs that ended so long ago, such as 30d (default: never)")
    parser.add_argument("--durability", choices=[item.value for item in Durability], help="what a recorded change survives")
    given = parser.parse_args(arguments)
    settings = resolve(conceal(given.url), given.namespace, partition=given.partition)
    local = scheme(settings.url) == "sqlite"
    default = Durability.process if local and "durability=power" not in settings.url else Durability.power
    return CoordinatorConfig(
        url=settings.url,
        key=settings.required_key(),
        store=conceal(given.store) or sqlite_url(ledger_file(settings.home, settings.partition)),
        namespace=settings.namespace,
        partition=settings.partition,
        name=given.name,
        durability=Durability(given.durability) if given.durability else default,
        metrics_port=parse_port(given.metrics_port),
        metrics_host=given.metrics_host,
        grace=milliseconds(given.grace, "--grace") / 1000,
        retain=milliseconds(given.retain, "--retain") / 1000 if given.retain else None,
    )


def _hooks(config: CoordinatorConfig) -> Told | None:
    """The plugins, where some are installed."""
    if not installed(COORDINATORS):
        return None
    from broker_jobs.coordinator.plugged import open_hooks

    return open_hooks(config)


def run(config: CoordinatorConfig) -> None:
    """Work until a signal, and start anew whenever the ledger is lost; where it was never reached, that is an error."""
    from broker_jobs.coordinator.service import Coordinator

    collect_rarely()
    stopped = threading.Event()
    coordinator = Coordinator(config, hooks=_hooks(config))

    def stop(*_: object) -> None:
        stopped.set()
        coordinator.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    reached = False
    while not stopped.is_set():
        try:
            coordinator.run()
        except (LedgerLost, BrokerUnavailable) as error:
            reached = reached or coordinator.reached
            if not reached:
                raise
            print(error, file=sys.stderr)  # noqa: T201 (a command line)
            stopped.wait(ANEW)
            coordinator = Coordinator(config, hooks=_hooks(config))
        else:
            return


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal; the exit code."""
    start_logging()
    try:
        run(configuration(arguments))
    except (BrokerError, AddressError) as error:
        print(error, file=sys.stderr)  # noqa: T201 (a command line)
        return UNREACHABLE if isinstance(error, BrokerError) else MISUSE
    except LedgerRefused as error:
        print(error, file=sys.stderr)  # noqa: T201 (a command line)
        return 1
    except BrokerJobsError as error:
        print(error, file=sys.stderr)  # noqa: T201 (a command line)
        return MISUSE
    return 0


if __name__ == "__main__":
    sys.exit(main())
