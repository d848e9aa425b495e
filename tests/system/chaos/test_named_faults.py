"""The faults that are known to lose messages of a careless system, one at a time: nothing that was confirmed is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from broker_jobs import JobState
from tests.support.daemons import until
from tests.system.chaos.links import Deaf, Whole
from tests.system.chaos.scene import NAMES, RECOVERED, Scene, wait

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.rabbitmq import RabbitMQCluster, RabbitMQNode

pytestmark = [pytest.mark.owns_node, pytest.mark.long, pytest.mark.timeout(280)]

SIZE: Final = 20
SETTLED: Final = 3.0
MOST_CONFIRMED: Final = 8
both = pytest.mark.parametrize("style", ["quorum", "classic"])
quorum = pytest.mark.parametrize("style", ["quorum"])


@pytest.fixture
def scene(style: str, tmp_path: Path, cluster: RabbitMQCluster) -> Iterator[Scene]:
    """On three nodes, which all run."""
    with Scene(tmp_path, cluster.nodes, style) as found:
        yield found


@both
def test_the_class_queue_is_missing_at_publish(scene: Scene) -> None:
    for queue in scene.class_queues():
        scene.delete(queue)
    job = scene.submit("missing", SIZE)
    scene.check(job, "missing", SIZE)


@both
def test_the_node_of_the_class_queue_is_down(scene: Scene) -> None:
    scene.move_class(scene.nodes[2])
    scene.check(scene.submit("moved", SIZE), "moved", SIZE)
    scene.nodes[2].kill()
    job = scene.submit("down", SIZE)
    scene.nodes[2].start()
    scene.check(job, "down", SIZE)


@both
def test_the_class_queue_is_full_and_refuses(scene: Scene) -> None:
    scene.daemons.kill(scene.worker)
    limits = {"max-length": 1, "overflow": "reject-publish"}
    scene.limit_class(**limits)
    with ThreadPoolExecutor() as pool:
        submitting = []
        while all(each.done() for each in submitting):  # a quorum queue refuses a moment after it has become full
            assert len(submitting) < MOST_CONFIRMED, "a full queue refuses"
            submitting.append(pool.submit(scene.submit, f"full-{len(submitting)}", SIZE))
            wait(3)
        scene.limit_class()
        scene.start_worker()  # a quorum queue tells publishers that there is room again once something has left it
        jobs = [each.result(RECOVERED) for each in submitting]
    for number, job in enumerate(jobs):
        scene.check(job, f"full-{number}", SIZE)


@quorum
def test_a_quorum_queue_of_one_replica_is_killed_with_publishes_pending(scene: Scene) -> None:
    scene.move_class(scene.nodes[2])
    scene.check(scene.submit("moved", SIZE), "moved", SIZE)
    for queue in scene.class_queues():
        scene.replicas(queue, scene.nodes[2])
    scene.check(scene.submit("alone", SIZE), "alone", SIZE)
    wait(SETTLED)  # one that is younger may be dead for good, and is made again some 40 s later: decision 0050
    scene.nodes[2].kill()
    with ThreadPoolExecutor() as pool:
        submitting = pool.submit(scene.submit, "pending", SIZE)
        wait(2)
        scene.nodes[2].start()
        job = submitting.result(RECOVERED)
    scene.check(job, "pending", SIZE)


@quorum
def test_the_class_queue_is_deleted_and_made_again_at_once(scene: Scene) -> None:
    """RabbitMQ 3.10 gives its messages to the consumers of the old one, which never see them."""
    scene.move_class(scene.nodes[0], pause=0)
    scene.check(scene.submit("unseen", SIZE), "unseen", SIZE)


@quorum
def test_the_only_node_of_a_class_queue_is_gone_and_the_others_take_it_over(scene: Scene) -> None:
    scene.move_class(scene.nodes[2])
    alone = set(scene.class_queues())
    for queue in alone:
        scene.replicas(queue, scene.nodes[2])
    scene.check(scene.submit("alone", SIZE), "alone", SIZE)
    scene.check(scene.submit("others", SIZE, cpus=2), "others", SIZE)
    healthy = {NAMES.dead_name, NAMES.ledger_name(0), *scene.class_queues()} - alone
    wait(SETTLED)
    scene.nodes[2].kill()
    assert scene.silent(healthy | alone) == alone, "the broker ends the connection for one, and nobody says that of the others"
    jobs = {"gone": scene.submit("gone", SIZE), "more": scene.submit("more", SIZE, cpus=2)}
    for name, job in jobs.items():
        scene.check(job, name, SIZE)
    scene.nodes[2].start()
    scene.check(scene.submit("back", SIZE), "back", SIZE)


@quorum
def test_two_of_three_nodes_are_killed_and_one_comes_back(scene: Scene) -> None:
    scene.nodes[1].kill()
    scene.nodes[2].kill()
    with ThreadPoolExecutor() as pool:
        submitting = pool.submit(scene.submit, "minority", SIZE)
        wait(2)
        assert not submitting.done(), "nothing is confirmed without a majority"
        scene.nodes[1].start()
        job = submitting.result(RECOVERED)
    scene.check(job, "minority", SIZE)


@quorum
def test_the_ledger_has_no_quorum_while_the_class_has(scene: Scene) -> None:
    scene.replicas("bj.v2.ledger.0", scene.nodes[0], scene.nodes[2])
    scene.nodes[2].kill()
    with ThreadPoolExecutor() as pool:
        submitting = pool.submit(scene.submit, "early", SIZE)
        scene.has_run("early", 2)
        assert not submitting.done(), "they were executed, and are not confirmed"
        scene.nodes[2].start()
        job = submitting.result(RECOVERED)
    scene.check(job, "early", SIZE)


@both
def test_the_only_node_is_killed_just_after_it_has_made_the_queue_of_a_class(owned_node: RabbitMQNode, style: str, tmp_path: Path) -> None:
    with Scene(tmp_path, [owned_node], style) as scene:
        wait(SETTLED)  # for the ledger; a new quorum queue is not safe before
        job = scene.submit("new", SIZE, cpus=2)
        scene.has_run("new", 1)
        owned_node.kill()
        owned_node.start()
        scene.check(job, "new", SIZE)


@both
def test_the_only_node_is_killed_before_it_has_noted_the_queue_of_a_class(owned_node: RabbitMQNode, style: str, tmp_path: Path) -> None:
    """A quorum queue so young is dead on RabbitMQ 3.10: it takes what is published, and neither confirms nor delivers anything."""
    with Scene(tmp_path, [owned_node], style) as scene:
        wait(SETTLED)
        known = scene.declared()
        jobs = {"new": scene.submit("new", SIZE, cpus=2)}
        until(lambda: scene.declared() > known, "the queues of the class are there", RECOVERED)
        owned_node.kill()
        owned_node.start()
        jobs["after"] = scene.submit("after", SIZE, cpus=2)
        jobs["others"] = scene.submit("others", SIZE)
        until(lambda: jobs["new"].info().state is JobState.succeeded, "it goes on, and every question is answered meanwhile", RECOVERED)
        for name, job in jobs.items():
            scene.check(job, name, SIZE)


@both
def test_a_worker_is_killed_between_reply_and_acknowledgement(scene: Scene) -> None:
    job = scene.submit("unacknowledged", SIZE, seconds=0.2)
    scene.has_run("unacknowledged", 4)
    scene.links.become(scene.link, Deaf())
    wait(1)  # what runs ends, and is told of at once; the confirm does not come back
    scene.daemons.kill(scene.worker)
    scene.links.become(scene.link, Whole())
    scene.start_worker()
    scene.check(job, "unacknowledged", SIZE)


@quorum
def test_a_node_is_frozen_until_the_others_give_it_up_and_goes_on(scene: Scene) -> None:
    scene.nodes[0].freeze()
    try:
        with ThreadPoolExecutor() as pool:
            submitting = pool.submit(scene.submit, "frozen", SIZE)
            wait(20)  # twice `net_ticktime`
            scene.nodes[0].thaw()
            job = submitting.result(RECOVERED)
    finally:
        scene.nodes[0].thaw()
    scene.check(job, "frozen", SIZE)
