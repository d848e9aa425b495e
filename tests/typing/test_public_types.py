"""The public API is typed: right uses are accepted by mypy, and wrong ones are refused (unused ignores are errors)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

USES = Path(__file__).with_name("uses.py")


def test_mypy_understands_the_public_api() -> None:
    root = USES.parents[2]
    command = [sys.executable, "-m", "mypy", "--config-file", str(root / "pyproject.toml"), str(USES)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
