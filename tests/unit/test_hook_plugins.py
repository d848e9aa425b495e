"""Which plugins there are: those that are installed, those that are given, and what is wrong with them."""

from __future__ import annotations

import shutil
import sys
import textwrap
from importlib.metadata import EntryPoint, PathDistribution
from typing import TYPE_CHECKING

import pytest

from broker_jobs.errors import ValidationError
from broker_jobs.hooks import CoordinatorHooks, impl
from broker_jobs.hooks.found import CLIENTS, COORDINATORS, installed
from broker_jobs.hooks.plugins import collect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODULE = """
    from broker_jobs.hooks import impl

    @impl
    def on_task_started(task): ...

    @impl
    def on_task_queued(client, task): ...
"""


class Mine:
    @impl
    def on_complete(self, job: object) -> None: ...


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An entry of the import path, with a module `hooked_module` that is a plugin."""
    (tmp_path / "hooked_module.py").write_text(textwrap.dedent(MODULE), encoding="utf-8")
    (tmp_path / "broken_module.py").write_text("1 / 0", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    installed.cache_clear()
    yield tmp_path
    installed.cache_clear()
    for name in ("hooked_module", "other_module"):
        sys.modules.pop(name, None)


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, CLIENTS)


def install(folder: Path, text: str, name: str = "plug") -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(textwrap.dedent(text), encoding="utf-8")


def test_modules_objects_and_names(folder: Path) -> None:
    one = Mine()
    plugins = collect((), ["hooked_module", one, Mine(), one])
    assert [(plugin.name, sorted(plugin.hooks)) for plugin in plugins] == [
        ("hooked_module", ["on_task_queued", "on_task_started"]),
        ("Mine", ["on_complete"]),
        ("Mine 2", ["on_complete"]),
    ]
    assert plugins[0].hooks["on_task_started"].wants == ("task",)


def test_what_is_installed_is_there_unless_it_is_switched_off(folder: Path) -> None:
    shutil.copy(folder / "hooked_module.py", folder / "other_module.py")
    entries = [entry("first", "hooked_module"), entry("second", "other_module")]
    assert [plugin.name for plugin in collect(entries, ())] == ["first", "second"]
    assert [plugin.name for plugin in collect(entries, ["no:second"])] == ["first"]
    assert collect(entries, ["no:first", "no:second"]) == []
    with pytest.raises(ValidationError, match="no entry point is named third; installed: first, second"):
        collect(entries, ["no:third"])


def test_a_plugin_that_is_installed_and_given_is_there_once(folder: Path) -> None:
    assert [plugin.name for plugin in collect([entry("first", "hooked_module")], ["hooked_module"])] == ["first"]


def test_what_is_installed_and_broken_is_reported_and_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    entries = [entry("gone", "no_such_module_anywhere"), entry("broken", "broken_module"), entry("fine", "hooked_module")]
    assert [plugin.name for plugin in collect(entries, ())] == ["fine"]
    assert "'gone' (no_such_module_anywhere) cannot be used" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_coordinator_takes_of_a_plugin_what_it_has(folder: Path) -> None:
    (plugin,) = collect([entry("both", "hooked_module")], (), CoordinatorHooks)
    assert list(plugin.hooks) == ["on_task_started"]


def test_entry_points_that_only_a_finder_knows_are_found(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    install(elsewhere, "[broker_jobs]\nfound = hooked_module\n")

    class Finder:
        @staticmethod
        def find_spec(*_: object) -> None: ...

        @staticmethod
        def find_distributions(_context: object) -> list[PathDistribution]:
            return [PathDistribution(elsewhere / "plug-1.0.dist-info")]

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert [found.name for found in installed(CLIENTS)] == ["found"]


class Misspelled:
    @impl
    def on_task_start(self, task: object) -> None: ...


class Demanding:
    @impl
    def on_task_started(self, task: object, scheduler: object) -> None: ...


class Wrapping:
    @impl(wrapper=True)
    def on_task_started(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize(
    ("plugin", "problem"),
    [
        (Misspelled(), "'on_task_start', which there is not"),
        (Demanding(), "scheduler"),
        (Wrapping(), "is a wrapper"),
        (object(), "has no hooks"),
        ("no_such_module_anywhere", "no module that can be imported"),
        ("", "no module that can be imported"),
        (None, "has no hooks"),
    ],
)
def test_a_given_plugin_that_is_wrong_is_refused(plugin: object, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        collect((), [plugin])


def test_entry_points_are_found_by_their_group(folder: Path) -> None:
    install(folder, "[broker_jobs]\nb = hooked_module\na = broken_module:thing\n")
    install(folder, "[broker_jobs.coordinator]\nc = hooked_module\n[console_scripts]\nx = y:z\n", "other")
    assert [(found.name, found.value) for found in installed(CLIENTS)] == [("a", "broken_module:thing"), ("b", "hooked_module")]
    assert [found.name for found in installed(COORDINATORS)] == ["c"]


def test_entry_points_in_an_archive_are_found(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(folder, "[broker_jobs]\narchived = hooked_module\n")
    archive = shutil.make_archive(str(tmp_path_factory.mktemp("archive") / "all"), "zip", folder)
    monkeypatch.setattr(sys, "path", [archive, *(path for path in sys.path if path != str(folder))])
    assert [found.name for found in installed(CLIENTS)] == ["archived"]
