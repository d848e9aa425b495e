"""From what is installed and what a caller names to plugins whose hooks can be called."""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy

from broker_jobs.errors import ValidationError
from broker_jobs.hooks.found import OFF
from broker_jobs.hooks.specs import PROJECT, ClientHooks, CoordinatorHooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from importlib.metadata import EntryPoint

_log = logging.getLogger("broker_jobs.hooks")


@dataclass(frozen=True, slots=True)
class Hook:
    """One hook of one plugin.

    Attributes:
        wants: the arguments that it takes, in order
    """

    function: Callable[..., Any]
    wants: tuple[str, ...]

    def call(self, arguments: Mapping[str, object]) -> object:
        """Call it with those that it takes."""
        return self.function(*(arguments[name] for name in self.wants))


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin, by its name, and its hooks, by theirs."""

    name: str
    hooks: Mapping[str, Hook]


def collect(
    entries: Sequence[EntryPoint], given: Iterable[object], specs: type[ClientHooks | CoordinatorHooks] = ClientHooks
) -> list[Plugin]:
    """The plugins of a client or a coordinator; one that is installed and cannot be used is reported, and left out.

    Args:
        entries: those that are installed
        given: modules and objects, names of modules, and ``"no:name"`` for entry points to do without
        specs: the hooks that there are

    Raises:
        ValidationError: one that was given cannot be used
    """
    listed = list(given)
    off = {text.removeprefix(OFF) for text in listed if isinstance(text, str) and text.startswith(OFF)}
    unknown = off - {entry.name for entry in entries}
    if unknown:
        known = ", ".join(entry.name for entry in entries) or "there are none"
        raise ValidationError(f"plugins: no entry point is named {', '.join(sorted(unknown))}; installed: {known}")
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(specs)
    for entry in entries:
        if entry.name not in off:
            _register_entry(manager, entry)
    for plugin in listed:
        if not (isinstance(plugin, str) and plugin.startswith(OFF)):
            _register_given(manager, plugin)
    names = [name for name, plugin in manager.list_name_plugin() if plugin is not None]
    return [found for name in names if (found := Plugin(name, _hooks(manager, name))).hooks]


def _register_entry(manager: pluggy.PluginManager, entry: EntryPoint) -> None:
    try:
        plugin = entry.load()
        if not manager.is_registered(plugin):
            _register(manager, plugin, entry.name)
    except Exception:  # noqa: BLE001 (somebody else's module; whatever it does, the client works without it)
        _log.exception("plugin %r (%s) cannot be used, and is left out", entry.name, entry.value)


def _register_given(manager: pluggy.PluginManager, given: object) -> None:
    try:
        plugin = importlib.import_module(given) if isinstance(given, str) else given
    except (ImportError, ValueError) as error:
        raise ValidationError(f"plugins: {given!r} is no module that can be imported here: {error}") from error
    if manager.is_registered(plugin):
        return
    name = getattr(plugin, "__name__", None) or type(plugin).__qualname__
    count = 1
    while manager.has_plugin(name if count == 1 else f"{name} {count}"):
        count += 1
    try:
        _register(manager, plugin, name if count == 1 else f"{name} {count}")
    except pluggy.PluginValidationError as error:
        raise ValidationError(f"plugins: {' '.join(str(error).split())}") from error


def _register(manager: pluggy.PluginManager, plugin: object, name: str) -> None:
    """Check a plugin, and take it in; one of clients and of coordinators at once may have hooks that only the others have.

    Raises:
        pluggy.PluginValidationError: it has hooks that there are not, or that take what there is not, or none at all
    """
    known = {*vars(ClientHooks), *vars(CoordinatorHooks)}
    found = {hook: options for hook in dir(plugin) if (options := manager.parse_hookimpl_opts(plugin, hook)) is not None}
    for hook, options in found.items():
        if (options["specname"] or hook) not in known and not options["optionalhook"]:
            raise pluggy.PluginValidationError(plugin, f"plugin {name!r} has a hook {hook!r}, which there is not; see docs/hooks.md")
        if options["wrapper"] or options["hookwrapper"]:
            raise pluggy.PluginValidationError(plugin, f"plugin {name!r}: {hook!r} is a wrapper, and plugins here do not wrap each other")
    if not found:
        raise pluggy.PluginValidationError(plugin, f"plugin {name!r} has no hooks: mark them with @broker_jobs.hooks.impl")
    manager.register(plugin, name)


def _hooks(manager: pluggy.PluginManager, name: str) -> dict[str, Hook]:
    callers = manager.get_hookcallers(manager.get_plugin(name)) or []
    return {
        caller.name: Hook(found.function, tuple(found.argnames))
        for caller in callers
        if caller.has_spec()
        for found in caller.get_hookimpls()
        if found.plugin_name == name
    }
