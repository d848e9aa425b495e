"""A child answers before it puts itself back: whoever waits for a call does not wait for that."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

Scene = tuple[list[tuple[str, bool, bool, str]], list[bool], list[object]]

_SCENE = """
import json, os, sys
from broker_jobs.core.spec import TaskOptions
from broker_jobs.wire import payload
from broker_jobs.wire.codec import decode_part
from broker_jobs.wire.messages import Call
from broker_jobs_worker.runners.child import Child
from broker_jobs_worker.runners.protocol import HEADER, FromChild, Run

def task(change):
    print("printed")
    if change:
        os.environ["CHANGED"] = "yes"
    return 1

heard = []

class Link:
    def sendall(self, data):
        news = decode_part(FromChild, data[HEADER.size:]).news
        heard.append((type(news).__name__, "BROKER_JOBS_JOB" in os.environ, "CHANGED" in os.environ, os.readlink("/proc/self/fd/1")))

folder = sys.argv[1]
child = Child(Link(), *os.pipe())
digest, function = payload.dump_function(task)

def run(number, change):
    call = Call(digest, payload.dump_call((change,), {}))
    return child.serve(Run(f"b-{number}", f"{number:032x}", 0, 1, call, TaskOptions(), folder + "/own", function=function,
                           spool=(folder + "/out", folder + "/err")))

went_on = [run(1, False), run(2, True)]
after = ("BROKER_JOBS_JOB" in os.environ, "CHANGED" in os.environ, os.getcwd())
child._surroundings.restore = lambda: False
went_on += [run(3, False), run(4, False)]
print(json.dumps([heard, went_on, after]), file=sys.__stderr__)
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """What a child said to each of four calls and how it was then, whether it takes more, and how it was at rest."""
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
    heard, went_on, after = json.loads(ran.stderr.splitlines()[-1])
    return [tuple(each) for each in heard], went_on, after


def test_a_call_is_answered_before_its_surroundings_are_put_back(scene: Scene) -> None:
    heard, went_on, after = scene
    said, surrounded, _, stdout = heard[0]
    assert (said, surrounded) == ("Done", True)
    assert not stdout.endswith("/out"), "what it prints from now on is nobody's"
    assert after == [False, False, "/"]
    assert went_on[:2] == [True, True]


def test_what_a_call_has_changed_is_put_back_before_the_answer(scene: Scene) -> None:
    said, surrounded, changed, stdout = scene[0][1]
    assert (said, surrounded, changed) == ("Done", False, False)
    assert not stdout.endswith("/out")


def test_a_child_that_cannot_be_put_back_begins_nothing_more(scene: Scene) -> None:
    heard, went_on, _ = scene
    assert [said for said, *_ in heard[2:]] == ["Done", "Stale"]
    assert went_on[2:] == [True, False]
