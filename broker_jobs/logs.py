"""The log of the daemons: on standard error, for whoever supervises them."""

from __future__ import annotations

import logging
import sys


def start_logging() -> None:
    """Log to standard error, once for the process."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Pika logs every lost connection as an error with a traceback; what matters of it is logged by the broker adapter.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
