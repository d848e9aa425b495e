"""Unit and property tests never sleep and never open a connection; and how hard hypothesis searches.

``HYPOTHESIS_PROFILE=thorough`` searches for long; seeded bugs are looked for with ``mutants``, which keeps no examples
(whatever it found belongs to a broken program) and does not look for the smallest one.
"""

from __future__ import annotations

import os
import socket
import time
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, Phase, settings

QUIET = {"unit", "property"}

# The machine may be busy: how long an example takes says nothing.
settings.register_profile("moderate", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("moderate"), max_examples=2000, stateful_step_count=100)
settings.register_profile(
    "mutants",
    parent=settings.get_profile("moderate"),
    database=None,
    derandomize=True,
    max_examples=300,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "moderate"))


def _refuse(*args: object, **kwargs: object) -> NoReturn:
    message = "a unit or property test waits for nothing and connects to nothing"
    raise AssertionError(message)


@pytest.fixture(autouse=True)
def _quiet(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if QUIET & set(request.path.parts):
        monkeypatch.setattr(time, "sleep", _refuse)
        for name in ("connect", "connect_ex", "bind", "listen"):
            monkeypatch.setattr(socket.socket, name, _refuse, raising=True)
