"""Every command, as a user runs it: real processes, outputs read as JSON, exit codes, and no secret anywhere."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import secrets
import signal
import struct
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from broker_jobs import Client, Job
from broker_jobs.cli.app import app
from broker_jobs.wire.signing import new_key
from tests.support.daemons import MARK, Daemons, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.rabbitmq import RabbitMQ, RabbitMQNode


def _parsed(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    """The JSON that a command has written; it has ended with this code."""
    assert done.returncode == code, done
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemons]:
    """A user with a state folder of their own, and the node that the first command starts."""
    with Daemons(tmp_path_factory.mktemp("own"), {}) as daemons:
        yield daemons
        assert daemons.run("down").returncode == 0
        until(lambda: not daemons.alive(), "every process of the node has ended")


# --- help ---


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from _commands(command, (*path, name))


@pytest.mark.parametrize("path", list(_commands(get_command(app))), ids=" ".join)
def test_every_command_has_a_help(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "120"})
    assert done.exit_code == 0
    assert "Usage:" in done.stdout
    assert "--help" in done.stdout


def test_the_commands_are_those_of_the_documentation() -> None:
    found = {" ".join(path) for path in _commands(get_command(app))}
    assert found >= {
        *(
            "demo",
            "up",
            "down",
            "submit",
            "doctor",
            "key new",
            "ledger verify",
            "coordinator start",
            "worker start",
            "worker list",
            "worker info",
            "worker drain",
            "worker stop",
        ),
        *(f"job {name}" for name in ("list", "info", "wait", "progress", "cat", "cancel", "forget")),
        *("task list", "task info"),
        *("queue list", "queue purge", "dead list", "dead show", "dead requeue", "dead drop"),
    }


# --- work, on one's own node ---


def test_submit_and_wait_behaves_like_the_program(own: Daemons) -> None:
    done = own.run("submit", "--wait", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.returncode, done.stdout) == (0, "out\n")
    assert "submitted" in done.stderr
    assert "err\n" in done.stderr


def test_a_failing_program_gives_exit_code_1_and_its_reason(own: Daemons) -> None:
    done = own.run("submit", "--wait", "--", "sh", "-c", "echo before; echo '[red]why' >&2; exit 3")
    assert (done.returncode, done.stdout) == (1, "before\n")
    assert "failed (exit code): the program sh ended with exit code 3: [red]why" in done.stderr


def test_a_missing_program_gives_a_hint(own: Daemons) -> None:
    done = own.run("submit", "--wait", "--output", "quiet", "--", "no-such-program-here")
    assert (done.returncode, done.stdout) == (1, "")
    assert "program not found: no-such-program-here" in done.stderr
    assert "Install it" in done.stderr


def test_standard_input_and_options_reach_the_program(own: Daemons, tmp_path: Path) -> None:
    command = ["submit", "--wait", "--output", "json", "--stdin", "--env", "SUFFIX=!", "--cwd", str(tmp_path / "made"), "sh", "-c"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "broker_jobs", *command, 'tr a-z A-Z; echo "$SUFFIX"; pwd', "--wait"],
        env=own.env, cwd=own.folder, input="hello", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = _parsed(done)
    assert found["stdout"] == f"HELLO!\n{tmp_path / 'made'}\n"
    assert (found["state"], found["errors"], done.stderr) == ("succeeded", [], "")


def test_a_job_is_followed_from_other_commands(own: Daemons) -> None:
    job = _parsed(own.run("submit", "--output", "json", "--name", "walk", "--tag", "a=1", "--", "sh", "-c", "echo there"))["job"]
    short = job[-8:]
    [waited] = _parsed(own.run("job", "wait", short, "--output", "json"))
    assert (waited["job"], waited["state"], waited["counts"]) == (job, "succeeded", {"succeeded": 1})
    [listed] = _parsed(own.run("job", "list", "--tag", "a=1", "--name", "wa*", "--state", "succeeded", "--output", "json"))
    assert (listed["job"], listed["name"], listed["tags"]) == (job, "walk", ["a=1"])
    assert own.run("job", "list", "--limit", "1", "--output", "quiet").stdout == f"{short}\n"
    info = _parsed(own.run("job", "info", "last", "--output", "json"))
    assert (info["job"], info["failed"]) == (job, [])
    [task] = _parsed(own.run("task", "list", short, "--output", "json"))
    assert (task["number"], task["state"], task["attempt"]) == (0, "succeeded", 1)
    assert _parsed(own.run("task", "info", short, "0", "--output", "json"))["outcome"] == {"kind": "succeeded"}
    assert own.run("job", "cat", job[-6:]).stdout == "there\n"
    [printed] = _parsed(own.run("job", "cat", short, "stderr", "--tasks", "0", "--output", "json"))
    assert (printed["job"], printed["task"], printed["state"], printed["stream"], printed["text"]) == (job, 0, "succeeded", "stderr", "")


def test_a_task_that_waits_is_explained(own: Daemons) -> None:
    job = own.run("submit", "--output", "quiet", "--cpus", "5000", "--", "true").stdout.strip()
    found = _parsed(own.run("task", "explain", job, "0", "--output", "json"))
    assert (found["state"], found["asks"], found["reasons"][-1]) == ("queued", "cpus=5000", "no worker that is there could ever run it")
    [worker] = found["workers"]
    [variant] = worker["variants"]
    assert (variant["ever"], variant["now"], [short["resource"] for short in variant["short"]]) == (False, False, ["cpus"])
    shown = own.run("task", "explain", job, "0").stdout
    assert "no worker that is there could ever run it" in shown
    assert re.search(r"never\s+cpus: 5000 wanted, \d+ free of \d+", shown)
    assert own.run("task", "explain", job, "0", "--output", "quiet").stdout == "queued\n"
    assert own.run("task", "explain", job, "7").returncode == 2
    own.run("job", "cancel", job)


def test_tables_are_for_people(own: Daemons) -> None:
    job = own.run("submit", "--output", "quiet", "--name", "[bold]odd", "--", "sh", "-c", "echo '[red]x' >&2; exit 1").stdout.strip()
    done = own.run("job", "wait", job)
    assert done.returncode == 1
    assert f"job info {job}" in done.stderr
    for command in (("job", "list"), ("job", "info", job), ("task", "list", job), ("task", "info", job, "0")):
        shown = own.run(*command).stdout
        assert "failed" in shown
        assert "[bold]odd" in shown or "[red]x" in shown


def test_progress_shows_a_bar(own: Daemons) -> None:
    done = own.run("submit", "--progress", "--name", "barred", "--", "true")
    assert done.returncode == 0
    assert "1/1" in done.stderr
    done = own.run("job", "progress", "last", "--output", "quiet")
    assert (done.returncode, len(done.stdout.strip())) == (0, 8)
    assert "1/1" in done.stderr


def test_cancel_and_forget(own: Daemons) -> None:
    job = own.run("submit", "--output", "quiet", "--", "sleep", "100").stdout.strip()
    refused = own.run("job", "forget", job)
    assert refused.returncode == 2
    assert "JobActive" in refused.stderr
    timed_out = own.run("job", "wait", job, "--timeout", "0.2")
    assert timed_out.returncode == 1
    assert "has not ended" in timed_out.stderr
    [canceled] = _parsed(own.run("job", "cancel", job, "--reason", "enough", "--output", "json"))
    assert canceled["before_start"] + canceled["while_running"] == 1
    assert own.run("job", "wait", job).returncode == 1
    assert _parsed(own.run("job", "info", job, "--output", "json"))["reason"] == "enough"
    assert own.run("job", "forget", job).stdout == f"{job}: forgotten\n"
    gone = own.run("job", "info", job)
    assert gone.returncode == 2
    assert "JobNotFound" in gone.stderr


def test_workers_and_doctor(own: Daemons) -> None:
    findings = {finding["check"]: finding for finding in _parsed(own.run("doctor", "--output", "json"))}
    assert not [finding for finding in findings.values() if finding["verdict"] == "problem"], findings
    assert findings["broker"]["text"].startswith("SQLite ")
    assert findings.keys() >= {"address", "key", "value store", "permissions", "confirms", "coordinator", "clocks", "workers"}
    [worker] = [worker for worker in _parsed(own.run("worker", "list", "--output", "json")) if worker["state"] == "active"]
    assert worker["pid"] in own.alive()


def test_keys_are_fresh() -> None:
    runs = [CliRunner().invoke(app, ["key", "new", "--output", "json"]).stdout for _ in range(2)]
    first, second = (json.loads(text)["key"] for text in runs)
    assert first != second
    assert len(bytes.fromhex(first)) == 32


# --- mistakes ---


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("job", "list", "--limit", "0"), "--limit"),
        (("job", "list", "--namespace", "a b"), "a namespace is"),
        (("job", "list", "--url", "http://here"), "AddressError: 'http://here' is no address: use amqp://"),
        (("submit", "--cpus", "many", "--", "true"), "cpus must be a number, not 'many'"),
        (("submit", "--env", "x", "--", "true"), "--env takes NAME=VALUE, not 'x'"),
        (("submit", "--time-limit", "-1", "--", "true"), "time_limit"),
        (("submit",), "PROGRAM"),
        (("worker", "start", "--resource", "x"), "NAME=WHAT"),
        (("worker", "start", "--group", "a b"), "group"),
        (("worker", "start", "--time-limit", "soon"), "--time-limit"),
        (("worker", "start", "--idle-timeout", "0"), "--idle-timeout"),
        (("worker", "start", "--on-broker-lost", "wait"), "finish"),
        (("nonsense",), "nonsense"),
    ],
)
def test_misuse_is_told_before_anybody_is_asked(arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "120", "BROKER_JOBS_HOME": str(tmp_path)})
    assert (done.exit_code, done.stdout) == (2, "")
    assert told in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("worker", "info", "nobody"), 2, "no worker 'nobody'"),
        (("worker", "stop", "nobody"), 2, "no worker 'nobody'"),
        (("worker", "stop"), 2, "say which workers"),
        (("worker", "drain", "last", "--all"), 2, "name some workers"),
        (("job", "info", "12345678"), 2, "JobNotFound: there is no job whose id ends with '12345678'"),
        (("job", "info", "zz"), 2, "give 'last', a whole id, or at least its last 4 digits"),
        (("task", "info", "last", "7"), 2, "has no task 7"),
        (("job", "cat", "last", "--tasks", "7"), 2, "has no task 7"),
        (("job", "cat", "last", "7"), 2, "--tasks 7"),
        (("job", "list", "--url", "amqp://nobody.invalid/"), 3, "there is no host of this name"),
        (("coordinator", "start", "--retain", "soon"), 2, "--retain"),
    ],
)
def test_mistakes_are_told_in_words(own: Daemons, arguments: tuple[str, ...], code: int, told: str) -> None:
    if "last" in arguments:
        assert own.run("submit", "--", "true").returncode == 0
    done = own.run(*arguments)
    assert done.returncode == code, done
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_an_ambiguous_id_names_the_candidates(own: Daemons, monkeypatch: pytest.MonkeyPatch) -> None:
    # The digit of the version is that of the first partition.
    ids = [f"0190{secrets.token_hex(4)}7{secrets.token_hex(4)[1:]}{high}000abcd" + "0" * 4 for high in "12"]
    waiting = iter(ids)
    monkeypatch.setattr("broker_jobs.client.client.new_job_id", lambda _: next(waiting))
    # Without an address: the node stays for as long as this client is there.
    for name in ("BROKER_JOBS_HOME", MARK):
        monkeypatch.setenv(name, own.env[name])
    monkeypatch.delenv("BROKER_JOBS_URL", raising=False)
    with Client() as client:
        for _ in ids:
            job = Job()
            job.program(["true"])
            assert client.submit(job).wait(30)
    done = own.run("job", "info", "bcd0000")
    assert done.returncode == 2
    assert "AmbiguousId" in done.stderr
    assert all(candidate in done.stderr for candidate in ids)


def test_a_reader_that_goes_away_is_no_failure(own: Daemons) -> None:
    for output in ("table", "json"):
        line = f"{sys.executable} -P -m broker_jobs job list --output {output}"
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line} | true"], env=own.env, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_ids_are_whole_on_a_narrow_terminal(own: Daemons) -> None:
    job = own.run("submit", "--wait", "--output", "json", "--", "true")
    parent, child = pty.openpty()
    with open(parent, "rb", buffering=0) as screen:  # noqa: PTH123 (a descriptor)
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
        done = subprocess.Popen([sys.executable, "-P", "-m", "broker_jobs", "job", "list", "--limit", "1"], env=own.env, stdout=child)
        os.close(child)
        shown = b""
        while part := _read(screen.fileno()):
            shown += part
        assert done.wait(60) == 0
    assert json.loads(job.stdout)["job"][-8:].encode() in shown
    assert b"succeeded" in shown
    assert "…".encode() not in shown


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # nobody has the other end any more
        return b""


# --- daemons ---


def test_up_runs_in_the_foreground_until_ctrl_c(tmp_path: Path) -> None:
    with Daemons(tmp_path, {}) as daemons:
        node = daemons.start("up", "--cpus", "1")
        until(lambda: "works for" in daemons.logs() or node.poll() is not None, "the node is up")
        second = daemons.run("up")
        assert second.returncode == 2
        assert "runs already; end it with: broker-jobs down" in second.stderr
        assert daemons.run("submit", "--wait", "--", "echo", "up").stdout == "up\n"
        [worker] = _parsed(daemons.run("worker", "list", "--output", "json"))
        assert (worker["pid"], dict(worker["resources"]["amounts"])["cpus"]) == (node.pid, 10_000)
        node.send_signal(signal.SIGINT)
        assert node.wait(30) == 0
        until(lambda: not daemons.alive(), "nothing of it is left")


def test_down_ends_the_node_and_leaves_no_process(tmp_path: Path) -> None:
    with Daemons(tmp_path, {}) as daemons:
        assert daemons.run("submit", "--output", "quiet", "--", "sleep", "60").returncode == 0
        until(lambda: _parsed(daemons.run("task", "list", "last", "--output", "json"))[0]["state"] == "running", "the task runs")
        assert daemons.run("down", "--timeout", "0.5", "--output", "json").stdout == '{\n  "ended": true\n}\n'
        until(lambda: not daemons.alive(), "every process of the node has ended", timeout=15)
        assert daemons.run("down").stdout == "no node was running\n"


# --- over RabbitMQ ---


@pytest.fixture(scope="module")
def deployment(rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemons]:
    """A coordinator and a worker on RabbitMQ, found by the environment."""
    env = {"BROKER_JOBS_URL": rabbitmq.fresh_vhost(), "BROKER_JOBS_SIGNING_KEY": new_key()}
    with Daemons(tmp_path_factory.mktemp("deployment"), env) as daemons:
        daemons.start("coordinator", "start")
        daemons.start("worker", "start", "--cpus", "2")
        until(lambda: daemons.run("worker", "list", "--output", "quiet").stdout, lambda: f"a worker is known: {daemons.logs()}")
        yield daemons
    until(lambda: not daemons.alive(), "no process of the deployment is left")


def test_the_main_commands_work_over_rabbitmq(deployment: Daemons) -> None:
    assert deployment.run("submit", "--wait", "--", "echo", "over").stdout == "over\n"
    failed = deployment.run("submit", "--wait", "--output", "json", "--", "false")
    assert _parsed(failed, 1)["errors"][0]["cause"] == "exit code"
    assert deployment.run("job", "cat", "last").returncode == 0
    assert [job["state"] for job in _parsed(deployment.run("job", "list", "--output", "json"))] == ["failed", "succeeded"]
    assert _parsed(deployment.run("job", "wait", "last", "--output", "json"), 1)[0]["state"] == "failed"
    [task] = _parsed(deployment.run("task", "list", "last", "--output", "json"))
    assert task["state"] == "failed"
    findings = {finding["check"]: finding for finding in _parsed(deployment.run("doctor", "--output", "json"))}
    assert findings["broker"]["text"].startswith("RabbitMQ ")
    assert findings["workers"]["verdict"] == "ok"


def _doctor(daemons: Daemons, url: str, code: int, **env: str) -> dict[str, dict[str, str]]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "broker_jobs", "doctor", "--output", "json"],
        env=daemons.env | {"BROKER_JOBS_URL": url} | env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return {finding["check"]: finding for finding in _parsed(done, code)}


def _url_of(url: str, user: str, password: str, vhost: str | None = None) -> str:
    parts = urlsplit(url)
    path = parts.path if vhost is None else f"/{quote(vhost, safe='')}"
    return parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port or 5672}", path=path).geturl()


@pytest.mark.long
def test_doctor_says_what_to_do(deployment: Daemons) -> None:
    url = deployment.env["BROKER_JOBS_URL"]
    refused = _doctor(deployment, _url_of(url, "guest", "wrong"), 3)["connection"]
    assert "user and password: correct them in the address" in refused["text"]
    missing = _doctor(deployment, _url_of(url, "guest", "guest", "absent"), 3)["connection"]
    assert "rabbitmqctl add_vhost" in missing["text"]
    mismatch = _doctor(deployment, f"{url}?queues=classic", 1)["queue arguments"]
    assert "use the same ?queues= everywhere" in mismatch["remedy"]
    assert deployment.run("submit", "--wait", "--", "true").returncode == 0  # its class has a queue now: a wrong key is confirmed
    waiting = subprocess.Popen(
        [sys.executable, "-P", "-m", "broker_jobs", "submit", "--wait", "--", "true"],
        env=deployment.env | {"BROKER_JOBS_SIGNING_KEY": new_key()}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with ThreadPoolExecutor() as side_by_side:  # each is patient with a coordinator that does not answer
        elsewhere = side_by_side.submit(_doctor, deployment, url, 1, BROKER_JOBS_NAMESPACE="elsewhere")
        other_key = side_by_side.submit(_doctor, deployment, url, 1, BROKER_JOBS_SIGNING_KEY=new_key())
    assert "broker-jobs coordinator start" in elsewhere.result()["coordinator"]["remedy"]
    assert elsewhere.result()["dead letters"]["verdict"] == "ok"
    assert "the same address, namespace and key" in other_key.result()["coordinator"]["remedy"]
    assert "perhaps with another key" in other_key.result()["dead letters"]["remedy"]
    with waiting:
        assert waiting.stderr is not None
        assert "submitted" in waiting.stderr.readline()
        assert "no coordinator answers; to find out why: broker-jobs doctor" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(30) == 130


def test_doctor_finds_that_nobody_works(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    url = rabbitmq.fresh_vhost()
    with Daemons(tmp_path, {"BROKER_JOBS_URL": url, "BROKER_JOBS_SIGNING_KEY": new_key()}) as daemons:
        daemons.start("coordinator", "start")
        found = _doctor(daemons, url, 1)
        assert found["coordinator"]["verdict"] == "ok"
        assert found["workers"] == {
            "check": "workers", "verdict": "problem", "text": "none is up, so tasks wait", "remedy": "start one: broker-jobs worker start",
        }  # fmt: skip


# --- users of RabbitMQ are made, so it must be our own ---


def _make_user(node: RabbitMQNode, url: str, **permissions: str) -> tuple[str, str]:
    """Address and password of a new user of this virtual host."""
    name, password = f"user-{secrets.token_hex(4)}", f"pass-{secrets.token_hex(12)}"
    node.management.request("PUT", f"users/{name}", {"password": password, "tags": ""})
    allowed = {"configure": ".*", "write": ".*", "read": ".*"} | permissions
    node.management.request("PUT", f"permissions/{urlsplit(url).path[1:]}/{name}", allowed)
    return _url_of(url, name, password), password


@pytest.mark.owns_node
def test_doctor_names_a_missing_permission(rabbitmq: RabbitMQNode, tmp_path: Path) -> None:
    url, _ = _make_user(rabbitmq, rabbitmq.fresh_vhost(), configure="^$")
    with Daemons(tmp_path, {"BROKER_JOBS_SIGNING_KEY": new_key()}) as daemons:
        found = _doctor(daemons, url, 1)["permissions"]
        assert "rabbitmqctl set_permissions" in found["text"]
        assert "what begins with bj." in found["remedy"]


@pytest.mark.long
@pytest.mark.owns_node
def test_no_secret_is_shown(rabbitmq: RabbitMQNode, tmp_path: Path) -> None:
    url, password = _make_user(rabbitmq, rabbitmq.fresh_vhost())
    key = new_key()
    with Daemons(tmp_path, {"BROKER_JOBS_SIGNING_KEY": key}) as daemons:
        daemons.start("coordinator", "start", "--url", url)
        daemons.start("worker", "start", "--url", url, "--cpus", "1")
        node = daemons.start("up", "--url", url, "--namespace", "other")
        listed = ("worker", "list", "--url", url, "--output", "quiet")
        until(lambda: daemons.run(*listed).stdout, lambda: f"a worker is known: {daemons.logs()}")
        until(lambda: "works for" in daemons.logs() or node.poll() is not None, "the node is up")
        shown = [daemons.run("submit", "--url", url, "--wait", "--", "sh", "-c", "env; cat /proc/self/environ").stdout]
        assert "PATH=" in shown[0]
        for command in (("job", "info", "last"), ("task", "info", "last", "0"), ("worker", "list"), ("doctor",)):
            done = daemons.run(*command, "--url", url, "--output", "json")
            assert done.returncode == 0, done
            shown += [done.stdout, done.stderr]
        running = daemons.run("submit", "--url", url, "--", "sleep", "60")
        shown += [running.stdout, running.stderr, daemons.run("job", "list", "--url", url.replace(password, "wrong")).stderr]
        until(lambda: any(b"sleep" in line for line in _command_lines(daemons)), "the task runs")
        lines = _command_lines(daemons)
        assert len(lines) >= 6
        for secret in (password, key):
            assert not [text for text in shown if secret in text]
            assert secret not in daemons.logs()
            assert not [line for line in lines if secret.encode() in line]
            kept = [path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
            assert not [path for path in kept if path.name != "signing.key"]
        assert daemons.run("job", "cancel", "last", "--url", url).returncode == 0


def _command_lines(daemons: Daemons) -> list[bytes]:
    """What `ps` shows of every process of the test."""
    found = []
    for pid in daemons.alive():
        try:
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes())
        except OSError:
            continue  # it has just ended
    return found
