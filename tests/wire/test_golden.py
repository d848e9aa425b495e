"""Golden vectors: what a released version has written is read for ever, and read as the same.

The files of a released version are never edited. A new version gets a folder of its own:
``python -m tests.wire.test_golden VERSION`` writes it, and refuses a folder that has files.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import pytest

from broker_jobs.wire import messages
from broker_jobs.wire.signing import Opened, Signer, SigningKey
from tests.support.examples import ANSWERS, EXAMPLES, QUESTIONS

GOLDEN = Path(__file__).parents[1] / "golden"
KEY = SigningKey.parse("0123456789abcdef" * 4)
SIGNER = Signer("golden", KEY)


RELEASED = sorted(path.stem for path in (GOLDEN / "0.1.0").glob("*.frame"))


@pytest.mark.parametrize("name", RELEASED)
def test_messages_of_0_1_0_are_read_as_they_were_meant(name: str) -> None:
    message, role = EXAMPLES[name]
    frame = (GOLDEN / "0.1.0" / f"{name}.frame").read_bytes()
    assert SIGNER.open(frame) == Opened(message, role, KEY.id)
    assert SIGNER.seal(message, role) == frame, "this version writes the same bytes"


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - set(RELEASED)))
def test_messages_that_no_release_has_yet_are_read_as_they_were_meant(name: str) -> None:
    message, role = EXAMPLES[name]
    assert SIGNER.open(SIGNER.seal(message, role)) == Opened(message, role, KEY.id)


def test_there_is_an_example_of_every_message() -> None:
    assert {type(message) for message, _ in EXAMPLES.values()} == set(get_args(messages.Message))
    assert {type(question) for question in QUESTIONS.values()} == set(get_args(messages.Question))
    assert {type(answer) for answer in ANSWERS.values()} == set(get_args(messages.Answer))


def _write(version: str) -> None:
    folder = GOLDEN / version
    folder.mkdir(exist_ok=True)
    if any(folder.glob("*.frame")):
        raise SystemExit(f"{folder} has vectors; those of a released version are never edited")
    for name, (message, role) in EXAMPLES.items():
        (folder / f"{name}.frame").write_bytes(SIGNER.seal(message, role))


if __name__ == "__main__":
    _write(sys.argv[1])
