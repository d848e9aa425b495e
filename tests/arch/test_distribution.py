"""What is shipped: two packages and nothing else that could stand in a user's way."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PACKAGES = {"broker_jobs", "broker_jobs_worker"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the files of a wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=TOP, check=True, capture_output=True, timeout=60)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path).namelist()


def test_top_level_names_are_the_two_packages(wheel: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES


def test_both_packages_are_typed(wheel: list[str]) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(wheel)


def test_licence_and_commands_are_in_the_wheel(wheel: list[str]) -> None:
    ends = {name.split(".dist-info/", 1)[1] for name in wheel if ".dist-info/" in name}
    assert {"licenses/LICENSE", "entry_points.txt", "METADATA"} <= ends


def test_the_folder_worker_is_no_package() -> None:
    assert not (TOP / "worker" / "__init__.py").exists()


def test_dependencies_are_what_is_imported() -> None:
    imported = set()
    for path in (*TOP.glob("broker_jobs/**/*.py"), *TOP.glob("worker/broker_jobs_worker/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").split(".")[0])
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=]", requirement)[0].lower().replace("-", "_") for requirement in project["dependencies"]}
    comes_with_typer = {"rich"}
    there_when_it_loads_our_fixtures = {"pytest"}
    others = PACKAGES | comes_with_typer | there_when_it_loads_our_fixtures
    assert imported - set(sys.stdlib_module_names) - others == declared


@pytest.mark.parametrize("lock", sorted((TOP / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_locks_pin_with_hashes_and_without_addresses(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--(extra-)?index-url|--find-links|--trusted-host)\b", text, re.MULTILINE)
    for requirement in re.split(r"\n(?=[a-z])", text.partition("\n")[2]):
        if re.match(r"[a-z]", requirement):
            name = requirement.split()[0]
            assert "==" in name, name
            assert "--hash=sha256:" in requirement, name
