"""Seed one bug after the other, and require that the tests named for it find each: ``python -m tests.mutants [word…]``.

A property earns its place by finding a bug. Each module beside this one lists bugs as replacements of text that stands
exactly once in a file, and the tests that must fail for them. They are sown in a copy, never here. With words, only bugs
whose description has one of them are tried.
"""

from __future__ import annotations

import importlib
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support import failures

ROOT: Final = Path(__file__).resolve().parents[2]
COPIED: Final = (
    "broker_jobs",
    "worker",
    "tests/support",
    "tests/unit",
    "tests/property",
    "tests/wire",
    "tests/integration",
    "tests/golden",
)
PROCESSES: Final = 2
SECONDS: Final = 120
PASSED, FAILED = 0, 1


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug, and the tests that must find it."""

    what: str
    file: str
    old: str
    new: str
    tests: str


def main(words: list[str]) -> int:
    """Try all of them; 0 when each was found."""
    begin = time.monotonic()
    modules = [importlib.import_module(f"tests.mutants.{path.stem}") for path in sorted(Path(__file__).parent.glob("[!_]*.py"))]
    mutants = [
        Mutant(entry[0], entry[1], entry[2], entry[3], entry[4] if len(entry) > 4 else module.TESTS)
        for module in modules
        for entry in module.MUTANTS
    ]
    mutants = [mutant for mutant in mutants if not words or any(word in mutant.what for word in words)]
    if not mutants:
        print(f"No seeded bug has one of these words in its description: {' '.join(words)}")
        return 2
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(PROCESSES):
            trees.put(_tree(Path(folder, str(number))))

        def attempt(mutant: Mutant) -> tuple[str, float]:
            tree = trees.get()
            try:
                return _try(tree, mutant)
            finally:
                trees.put(tree)

        sound = _run(Path(folder, "0"), " ".join(sorted({mutant.tests for mutant in mutants})))
        if sound.returncode != PASSED:
            print(sound.stdout, "The tests fail without any seeded bug.", sep="\n")
            return 1
        with ThreadPoolExecutor(PROCESSES) as pool:
            verdicts = []
            for mutant, (verdict, seconds) in zip(mutants, pool.map(attempt, mutants), strict=True):
                verdicts.append(verdict)
                print(f"{verdict:8} {seconds:5.1f} s  {mutant.file.removeprefix('worker/'):46} {mutant.what}", flush=True)
    for mutant, verdict in zip(mutants, verdicts, strict=True):
        if verdict != "found":
            print(f"not found: {mutant.what} ({mutant.file}): {verdict}")
    found = verdicts.count("found")
    print(f"{found} of {len(mutants)} seeded bugs were found, in {time.monotonic() - begin:.0f} s.")
    return 0 if found == len(mutants) else 1


def _tree(folder: Path) -> Path:
    """A copy of what the tests need."""
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def _try(tree: Path, mutant: Mutant) -> tuple[str, float]:
    """Whether the bug is found, and how many seconds that takes."""
    path = tree / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        return "no place", 0.0
    begin = time.monotonic()
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        code = _run(tree, mutant.tests).returncode
    finally:
        path.write_text(text)
    verdict = {PASSED: "SURVIVED", FAILED: "found"}.get(code, "broken")
    return verdict, time.monotonic() - begin


def _run(tree: Path, tests: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"--timeout={SECONDS}", *tests.split()]
    # No bytecode is kept: a bug that is as long as what it replaces would be hidden by it. What fails here is no news to anybody.
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "mutants", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop(failures.FILE, None)
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
