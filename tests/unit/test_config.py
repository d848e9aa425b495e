"""Where the broker is, and with which key: arguments, environment, file, in this order."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs import config
from broker_jobs.client.options import task_options
from broker_jobs.core.request import ResourceRequest, canonical
from broker_jobs.errors import AddressError, SigningKeyMissing, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "ab" * 32
OTHER_KEY = "cd" * 32


def _resolve(tmp_path: Path, environ: Mapping[str, str] | None = None, **given: str) -> config.Settings:
    quiet = {"XDG_CONFIG_HOME": str(tmp_path / "no config"), "BROKER_JOBS_HOME": str(tmp_path / "home"), **(environ or {})}
    return config.resolve(**given, environ=quiet, folder=tmp_path)


def test_without_an_address_the_broker_is_this_users_own(tmp_path: Path) -> None:
    settings = _resolve(tmp_path)
    home = tmp_path / "home"
    assert settings.embedded
    assert settings.url == f"sqlite:///{home}/queue.db"
    assert settings.home == home
    assert settings.value_store == str(home / "values")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "signing.key").stat().st_mode) == 0o600
    assert settings.required_key() == _resolve(tmp_path).required_key()


def test_an_argument_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "broker-jobs.toml").write_text('url = "amqp://from-file/"\nnamespace = "file"\nvalue_store = "shared"\n')
    from_file = _resolve(tmp_path)
    assert (from_file.url, from_file.namespace, from_file.value_store) == ("amqp://from-file/", "file", str(tmp_path / "shared"))
    environ = {"BROKER_JOBS_URL": "amqp://from-environment/", "BROKER_JOBS_NAMESPACE": "environment"}
    assert _resolve(tmp_path, environ).url == "amqp://from-environment/"
    both = _resolve(tmp_path, environ, url="amqp://from-argument/", namespace="argument")
    assert (both.url, both.namespace, both.embedded) == ("amqp://from-argument/", "argument", False)


def test_the_nearest_file_upwards_is_read_and_a_named_one_first(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "a" / "broker-jobs.toml").write_text('namespace = "near"')
    (tmp_path / "broker-jobs.toml").write_text('namespace = "far"')
    (tmp_path / "named.toml").write_text('namespace = "named"')
    environ = {"BROKER_JOBS_HOME": str(tmp_path / "home")}
    assert config.resolve(environ=environ, folder=deep).namespace == "near"
    environ["BROKER_JOBS_CONFIG"] = str(tmp_path / "named.toml")
    assert config.resolve(environ=environ, folder=deep).namespace == "named"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("url =", "is not TOML"),
        ("urll = 'amqp://x/'", "unknown entry 'urll'"),
        ("namespace = 3", "namespace must be a text"),
        ("url = ''", "url must be a text"),
    ],
)
def test_a_wrong_file_is_named_with_its_problem(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "broker-jobs.toml").write_text(text)
    with pytest.raises(ValidationError, match=problem) as caught:
        _resolve(tmp_path)
    assert "broker-jobs.toml" in str(caught.value)


def test_tables_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "broker-jobs.toml").write_text("[worker]\ncpus = 3\n")
    assert _resolve(tmp_path).embedded


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="cannot be read"):
        _resolve(tmp_path, {"BROKER_JOBS_CONFIG": str(tmp_path / "gone.toml")})


@pytest.mark.parametrize("url", ["rabbit.example.org", "http://host/", "amqp:host", "redis://x:secret@y/"])
def test_a_wrong_address_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(AddressError) as caught:
        _resolve(tmp_path, url=url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite://host/queue.db", "sqlite://[/queue.db", "sqlite:////queue\0.db"])
def test_a_file_address_without_a_file_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(AddressError, match="names no file"):
        _resolve(tmp_path, url=url)


def test_the_state_folder_of_a_file_address_is_its_folder(tmp_path: Path) -> None:
    settings = _resolve(tmp_path, url=f"sqlite:///{tmp_path}/shared/queue.db")
    assert (settings.home, settings.embedded) == (tmp_path / "shared", False)
    assert settings.key is not None
    assert (tmp_path / "shared" / "signing.key").exists()


def test_the_key_of_a_network_broker_is_never_made(tmp_path: Path) -> None:
    settings = _resolve(tmp_path, url="amqp://host/")
    with pytest.raises(SigningKeyMissing, match="broker-jobs key new"):
        settings.required_key()
    assert not (tmp_path / "home").exists()


def test_the_key_is_taken_from_argument_environment_file_or_home(tmp_path: Path) -> None:
    _resolve(tmp_path)
    in_home = (tmp_path / "home" / "signing.key").read_text()
    (tmp_path / "jobs.key").write_text(OTHER_KEY + "\n")
    (tmp_path / "broker-jobs.toml").write_text('url = "amqp://host/"\n')
    assert _resolve(tmp_path).required_key().secret.hex() == in_home.strip()
    (tmp_path / "broker-jobs.toml").write_text('url = "amqp://host/"\nsigning_key_file = "jobs.key"\n')
    assert _resolve(tmp_path).required_key().secret.hex() == OTHER_KEY
    assert _resolve(tmp_path, {"BROKER_JOBS_SIGNING_KEY": KEY}).required_key().secret.hex() == KEY
    assert _resolve(tmp_path, {"BROKER_JOBS_SIGNING_KEY": KEY}, signing_key=OTHER_KEY).required_key().secret.hex() == OTHER_KEY


def test_a_key_file_without_a_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "jobs.key").write_text("letters")
    (tmp_path / "broker-jobs.toml").write_text('signing_key_file = "jobs.key"\n')
    with pytest.raises(SigningKeyMissing, match=r"jobs\.key: the signing key is not hexadecimal"):
        _resolve(tmp_path)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    settings = _resolve(tmp_path, url="amqp://user:se:cr@et@host/", signing_key=KEY)
    assert "amqp://user:***@host/" in repr(settings)
    assert KEY not in repr(settings)


@pytest.mark.parametrize("namespace", ["a.b", "ä", "x" * 49, "-a"])
def test_a_wrong_namespace_is_refused(tmp_path: Path, namespace: str) -> None:
    with pytest.raises(ValidationError, match="a namespace is"):
        _resolve(tmp_path, namespace=namespace)


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValidationError, match="BROKER_JOBS_HOME"):
        _resolve(tmp_path, {"BROKER_JOBS_HOME": str(tmp_path / "file" / "home")})


def test_paths_and_addresses_of_files_belong_together(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    assert config.sqlite_path(config.sqlite_url(path)) == path
    assert config.sqlite_path("sqlite:///relative.db") == Path("relative.db").absolute()


def test_resource_classes_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "broker-jobs.toml"
    file.write_text(
        '[resource_classes.large]\ncpus = "8 compact!"\nmemory = "64 GiB"\nresources = {fpga = 1}\n'
        "[[resource_classes.either]]\ngpus = 1\n[[resource_classes.either]]\ncpus = 16\n"
    )
    large, either = ResourceRequest("8 compact!", "64 GiB", resources={"fpga": 1}), [ResourceRequest(gpus=1), ResourceRequest(16)]
    assert config.resource_class("large", environ={}, folder=tmp_path) == [large]
    assert config.resource_class("either", environ={}, folder=tmp_path) == either
    monkeypatch.setenv("BROKER_JOBS_CONFIG", str(file))
    assert task_options({"resource_class": "large"}).resources == large.canonical()
    assert task_options({"resource_class": "either"}).resources == canonical(either)
    with pytest.raises(ValidationError, match="resources= or resource_class='large', not both"):
        task_options({"resource_class": "large", "resources": large})
    _resolve(tmp_path, {"BROKER_JOBS_CONFIG": str(file)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no broker-jobs.toml"),
        ("", r"write it as \[resource_classes.large\]"),
        ("[resource_classes.small]\ncpus = 1", "there are small"),
        ("[resource_classes.large]\ncores = 1", "its entries are cpus, memory, gpus"),
        ("[resource_classes.large]\ncpus = -1", "cpus must be a number"),
        ("[resource_classes]\nlarge = 3", "must be a table"),
        ("resource_classes = 3", "a table for each class"),
        ("[", "is not TOML"),
    ],
)
def test_resource_classes_that_are_wrong(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "broker-jobs.toml").write_text(text)
    with pytest.raises(ValidationError, match=message):
        config.resource_class("large", environ={"XDG_CONFIG_HOME": str(tmp_path / "none")}, folder=tmp_path)
