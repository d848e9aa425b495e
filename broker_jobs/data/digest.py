"""The digest of a large value: BLAKE3, and SHA-256 where the interpreter has no package for that.

A task may name an interpreter that has nothing of ours. What it makes has the digest that every Python can make; what others have made,
its worker's interpreter checks for it.

This is the one module that knows blake3.
"""

from __future__ import annotations

import hashlib
import subprocess
from typing import TYPE_CHECKING, Any, Final

from broker_jobs.errors import ValueStoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_CHECK: Final = "import sys; from blake3 import blake3; sys.stdout.buffer.write(blake3(sys.stdin.buffer.read()).digest())"


class Helper:
    """The interpreter that makes digests for this process, where it cannot.

    Attributes:
        python: its path; empty where there is none
    """

    python = ""


helper: Final = Helper()


def digests(pieces: Iterable[bytes]) -> tuple[bytes, bytes]:
    """SHA-256 and BLAKE3 of these bytes, of which one is empty."""
    made = _blake3()
    return (_hashed(hashlib.sha256(), pieces), b"") if made is None else (b"", _hashed(made(), pieces))


def fits(pieces: Sequence[bytes], sha256: bytes, blake3: bytes) -> bool:
    """Whether these bytes, one piece after the other, have this digest; nothing has none.

    Raises:
        ValueStoreError: nobody here can tell
    """
    if not blake3:
        return _hashed(hashlib.sha256(), pieces) == sha256
    made = _blake3()
    return (_asked(b"".join(pieces)) if made is None else _hashed(made(), pieces)) == blake3


def _hashed(hasher: Any, pieces: Iterable[bytes]) -> bytes:
    for piece in pieces:
        hasher.update(piece)
    digest: bytes = hasher.digest()
    return digest


def _blake3() -> Any:
    try:
        from blake3 import blake3
    except ImportError:
        return None
    return blake3


def _asked(data: bytes) -> bytes:
    """The digest, from the interpreter that has the package."""
    if not helper.python:
        raise ValueStoreError("a value from the store cannot be checked: install the package blake3 beside broker-jobs")
    try:
        # Isolated, since the task may have variables that would change what is imported.
        return subprocess.run([helper.python, "-I", "-c", _CHECK], input=data, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueStoreError(f"a value from the store cannot be checked by {helper.python}: {error}") from error
