"""A child answers before it puts itself back: whoever waits for a call does not wait for that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

Scene = dict[str, Any]

_SCENE = """
import ctypes, json, os, resource, sys
from broker_jobs.core.spec import TaskOptions
from broker_jobs.wire import payload
from broker_jobs.wire.codec import decode_part
from broker_jobs.wire.messages import Call, Program
from broker_jobs_worker.runners.child import Child
from broker_jobs_worker.runners.protocol import HEADER, FromChild, Run

def task(change):
    print("printed")
    if change == "variable":
        os.environ["CHANGED"] = "yes"
    if change == "limit":  # by C, which nobody hears
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        ctypes.CDLL(None).setrlimit(resource.RLIMIT_NOFILE, (ctypes.c_ulong * 2)(333, hard))
    return 1

heard = []

class Link:
    def sendall(self, data):
        news = decode_part(FromChild, data[HEADER.size:]).news
        job = os.environ.get("BROKER_JOBS_JOB")
        heard.append((type(news).__name__, job, "OWN" in os.environ, "CHANGED" in os.environ, os.readlink("/proc/self/fd/1")))

folder = sys.argv[1]
child = Child(Link(), *os.pipe())
digest, function = payload.dump_function(task)
restore, restores = child._surroundings.restore, []

def counted():
    restores.append(len(heard))
    return restore()

child._surroundings.restore = counted

def serve(number, work, env=()):
    return child.serve(Run(f"b-{number}", f"{number:032x}", 0, 1, work, TaskOptions(env=env), folder + "/own", function=function,
                           spool=(folder + "/out", folder + "/err")))

def call(number, change="", env=()):
    return serve(number, Call(digest, payload.dump_call((change,), {})), env)

OWN = (("OWN", "x"),)
went_on = [call(0), call(1), call(2, env=OWN), call(3, change="variable")]
at_rest = ("BROKER_JOBS_JOB" in os.environ, "CHANGED" in os.environ, os.getcwd())
went_on += [call(4, env=OWN), serve(5, Program((b"/usr/bin/env",)))]
went_on += [call(6, change="limit"), serve(7, Program((b"/bin/sh", b"-c", b"echo files: $(ulimit -n)")))]
child._surroundings.restore = lambda: False
went_on += [call(8), call(9), call(10, env=OWN)]
found = dict(heard=heard, went_on=went_on, at_rest=at_rest, restores=restores, printed=open(folder + "/out").read())
print(json.dumps(found), file=sys.__stderr__)
"""


def job(number: int) -> str:
    return f"{number:032x}"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """What a child said to eleven tasks, how it was then, whether it took more, how it was at rest, and when it put itself back."""
    folder = tmp_path_factory.mktemp("child")
    ran = subprocess.run(
        [sys.executable, "-c", _SCENE, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found: Scene = json.loads(ran.stderr.splitlines()[-1])
    return found


def test_a_call_is_answered_before_its_surroundings_are_put_back(scene: Scene) -> None:
    said, surrounded, _, _, stdout = scene["heard"][0]
    assert (said, surrounded) == ("Done", job(0))
    assert not stdout.endswith("/out"), "what it prints from now on is nobody's"


def test_a_call_that_sets_the_same_variables_goes_on_with_them(scene: Scene) -> None:
    assert [heard[1] for heard in scene["heard"][:3]] == [job(0), job(1), job(2)]
    assert scene["restores"][0] == 2, "before the third, which sets another one, and not before the second"


def test_what_only_one_call_sets_no_other_task_finds(scene: Scene) -> None:
    heard = scene["heard"]
    assert [each[2] for each in heard[:5]] == [False, False, True, False, True]
    assert "OWN=" not in scene["printed"]
    assert "files: 333" not in scene["printed"]
    assert "files: " in scene["printed"]
    assert f"BROKER_JOBS_JOB={job(5)}\n" in scene["printed"]
    assert scene["restores"][1:] == [3, 3, 5, 7], "before the fourth and before its answer, and before the programs"


def test_what_a_call_has_changed_is_put_back_before_the_answer(scene: Scene) -> None:
    said, surrounded, _, changed, stdout = scene["heard"][3]
    assert (said, surrounded, changed) == ("Done", None, False)
    assert not stdout.endswith("/out")
    assert scene["at_rest"] == [False, False, "/"]


def test_a_child_that_cannot_be_put_back_begins_nothing_more(scene: Scene) -> None:
    assert [each[0] for each in scene["heard"][8:]] == ["Done", "Done", "Stale"]
    assert scene["went_on"] == [True] * 10 + [False]
