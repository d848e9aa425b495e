"""Signed frames: only what was signed with this key, for this namespace, is ever decoded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.errors import MessageError, SecurityError, SigningKeyMissing, UnknownVersion
from broker_jobs.wire.codec import encode, pack
from broker_jobs.wire.messages import VERSION, Goodbye, Role
from broker_jobs.wire.signing import Opened, Signer, SigningKey, new_key

KEY = SigningKey.parse("11" * 32)
SIGNER = Signer("bj", KEY)
MESSAGE = Goodbye("w1", "b1")
FRAME = SIGNER.seal(MESSAGE, Role.worker)


def test_a_frame_opens_to_its_message_and_role() -> None:
    assert SIGNER.open(FRAME) == Opened(MESSAGE, Role.worker, KEY.id)


@given(st.integers(0, len(FRAME) - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(place: int, change: int) -> None:
    frame = bytearray(FRAME)
    frame[place] ^= change
    with pytest.raises(MessageError):
        SIGNER.open(bytes(frame))


@given(st.integers(0, len(FRAME) - 1))
def test_no_byte_can_be_cut_off(length: int) -> None:
    with pytest.raises(MessageError):
        SIGNER.open(FRAME[:length])


@given(st.binary(max_size=100))
def test_any_bytes_are_refused(data: bytes) -> None:
    for frame in (data, b"BJ\x01" + data):
        with pytest.raises(MessageError):
            SIGNER.open(frame)


def test_another_namespace_is_refused() -> None:
    with pytest.raises(SecurityError, match="another namespace"):
        Signer("other", KEY).open(FRAME)


def test_another_key_is_refused_and_named() -> None:
    other = SigningKey.parse(new_key())
    with pytest.raises(SecurityError, match=KEY.id):
        Signer("bj", other).open(FRAME)


def test_while_keys_are_changed_two_are_valid_and_the_first_signs() -> None:
    before, after = new_key(), new_key()
    old, new = (Signer("bj", SigningKey.parse(text)) for text in (before, after))
    accepting = Signer("bj", SigningKey.parse(f"{before}\n{after}\n"))
    changed = Signer("bj", SigningKey.parse(f"{after},{before}"))
    steps = [(old, accepting), (accepting, changed), (changed, new)]
    for one, other in steps:
        for sender, receiver in ((one, other), (other, one)):
            opened = receiver.open(sender.seal(MESSAGE, Role.worker))
            assert (opened.message, opened.key_id) == (MESSAGE, sender.key.id)
    assert [signer.key.id for signer in (old, accepting, changed, new)] == [old.key.id, old.key.id, new.key.id, new.key.id]
    with pytest.raises(SecurityError, match=f"{old.key.id}.*{new.key.id}"):
        accepting.open(FRAME)
    with pytest.raises(SecurityError):
        new.open(accepting.seal(MESSAGE, Role.worker))


def test_the_id_of_one_key_does_not_help_the_secret_of_another() -> None:
    keys = SigningKey.parse(f"{new_key()} {new_key()}")
    forged = replace(keys, id=keys.also[0].id)
    with pytest.raises(SecurityError, match="the signature is wrong"):
        Signer("bj", keys).open(Signer("bj", forged).seal(MESSAGE, Role.worker))


def test_an_unknown_version_is_its_own_error() -> None:
    with pytest.raises(UnknownVersion, match="update"):
        SIGNER.open(FRAME[:2] + bytes((VERSION + 1,)) + FRAME[3:])


def test_a_role_that_is_not_known_may_say_nothing() -> None:
    body = encode(MESSAGE)
    signature = SIGNER._signature(KEY, VERSION, "observer", body)  # noqa: SLF001 (as a later version signs)
    with pytest.raises(SecurityError, match=r"signed by a 'observer'.*update"):
        SIGNER.open(b"BJ" + bytes((VERSION,)) + pack([KEY.id, "observer", signature, body]))


def test_an_unsigned_message_is_refused() -> None:
    with pytest.raises(SecurityError, match="not signed"):
        SIGNER.open(b"BJ\x01\x90")


@pytest.mark.parametrize("text", ["", "zz", "1234", "11" * 32 + " 1234"])
def test_a_bad_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(SigningKeyMissing, match="key new"):
        SigningKey.parse(text)


def test_a_key_hides_its_secret() -> None:
    assert KEY.secret.hex() not in repr(KEY)
    assert KEY.secret.hex() not in repr(SIGNER)
    both = SigningKey.parse(f"{KEY.secret.hex()} {'22' * 32}")
    assert not {KEY.secret.hex(), "22" * 32} & set(repr(both).replace("'", " ").split())
