"""Signed frames: what goes over the wire around each message.

A frame is ``BJ``, one byte of version, and a msgpack list of key id, role, signature and body. The signature is an
HMAC-SHA256 (RFC 2104) over version, namespace, key id, role and body; the body names its job, class and lane, so whoever
receives a frame can tell whether it lies where it belongs. Nothing of a frame is looked at before its signature is right.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Self

from broker_jobs.errors import DecodeError, SecurityError, SigningKeyMissing, UnknownVersion
from broker_jobs.wire.codec import decode, encode, pack, unpack
from broker_jobs.wire.messages import VERSION, Role

if TYPE_CHECKING:
    from broker_jobs.wire.messages import Message

MAGIC: Final = b"BJ"
OLDEST_VERSION: Final = 1
KEY_BYTES: Final = 32
FEWEST_KEY_BYTES: Final = 16
_HEAD: Final = len(MAGIC) + 1
_ROLES: Final = frozenset(role.value for role in Role)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A shared secret and its public name.

    Attributes:
        also: other keys with which what comes in may be signed, while keys are changed
    """

    id: str
    secret: bytes = field(repr=False)
    also: tuple[SigningKey, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key in a text of at least 32 hexadecimal digits.

        Of several, with spaces or commas between, or on lines of their own, the first signs and the others are accepted, too.

        Raises:
            SigningKeyMissing: there is none, or one is none; the text is not repeated
        """
        first, *others = text.replace(",", " ").split() or [""]
        return replace(cls._parse_one(first), also=tuple(map(cls._parse_one, others)))

    @classmethod
    def _parse_one(cls, text: str) -> Self:
        try:
            secret = bytes.fromhex(text.strip())
        except ValueError:
            raise SigningKeyMissing("the signing key is not hexadecimal; make one with: broker-jobs key new") from None
        if len(secret) < FEWEST_KEY_BYTES:
            raise SigningKeyMissing(f"the signing key has fewer than {2 * FEWEST_KEY_BYTES} digits; make one with: broker-jobs key new")
        return cls(hashlib.sha256(b"broker-jobs key id\0" + secret).hexdigest()[:12], secret)


def new_key() -> str:
    """A fresh key as a text of 64 hexadecimal digits."""
    return secrets.token_hex(KEY_BYTES)


@dataclass(frozen=True, slots=True)
class Opened:
    """A message whose signature was right, and who signed it."""

    message: Message
    role: Role
    key_id: str


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs and checks the frames of one namespace."""

    namespace: str
    key: SigningKey

    def seal(self, message: Message, role: Role) -> bytes:
        """The signed frame of a message."""
        body = encode(message)
        return MAGIC + bytes((VERSION,)) + pack([self.key.id, role.value, self._signature(self.key, VERSION, role.value, body), body])

    def open(self, frame: bytes) -> Opened:
        """The message in a frame.

        Raises:
            DecodeError: these bytes are no frame, or hold no message
            UnknownVersion: written by a newer version, or by one too old
            SecurityError: not signed, signed with another key, for another namespace, or not rightly
        """
        if frame[: len(MAGIC)] != MAGIC or len(frame) <= _HEAD:
            raise DecodeError("not a frame of broker-jobs")
        version = frame[len(MAGIC)]
        if not OLDEST_VERSION <= version <= VERSION:
            raise UnknownVersion(f"a message of version {version}; understood are {OLDEST_VERSION} to {VERSION}: update this program")
        parts = unpack(memoryview(frame)[_HEAD:])
        match parts:
            case [str(key_id), str(role), bytes(signature), bytes(body)]:
                pass
            case _:
                raise SecurityError("a frame that is not signed")
        key = self.key if key_id == self.key.id else self._other(key_id)
        if not hmac.compare_digest(signature, self._signature(key, version, role, body)):
            raise SecurityError("the signature is wrong: the message was changed, or is of another namespace")
        if role not in _ROLES:
            raise SecurityError(f"signed by a {role[:40]!r}, which may say nothing here: update this program")
        return Opened(decode(body), Role(role), key_id)

    def _other(self, key_id: str) -> SigningKey:
        for key in self.key.also:
            if key.id == key_id:
                return key
        here = " and ".join(repr(key.id) for key in (self.key, *self.key.also))
        raise SecurityError(f"signed with the key {key_id[:40]!r}, and this process has {here}")

    def _signature(self, key: SigningKey, version: int, role: str, body: bytes) -> bytes:
        head = b"\0".join((bytes((version,)), self.namespace.encode(), key.id.encode(), role.encode(errors="surrogatepass"), b""))
        digest = hmac.new(key.secret, head, hashlib.sha256)
        digest.update(body)
        return digest.digest()
