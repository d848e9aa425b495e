"""An app as its author writes it for Tethys, and what Django would bring."""

from __future__ import annotations

from dataclasses import dataclass

from broker_jobs.compat.tethys.base import TethysAppBase
from broker_jobs.compat.tethys.jobs import (
    BasicJob,
    BasicJobTemplate,
    CondorJobDescription,
    CondorJobTemplate,
    CondorWorkflowJobTemplate,
    CondorWorkflowTemplate,
    JobTemplate,
)


class Special(BasicJob):
    """A type of jobs of the app itself."""

    def stop(self) -> None:
        """Say so, too."""
        self.native.stop("special")


@dataclass
class User:
    """A user of Django."""

    username: str
    is_anonymous: bool = False


@dataclass
class Group:
    """A group of Django."""

    name: str


def shell(script: str, **attributes: object) -> CondorJobDescription:
    """A line for a shell that is on each host."""
    return CondorJobDescription(executable="/bin/sh", arguments=["-c", script], **attributes)


class App(TethysAppBase):
    """Templates of each type."""

    package = "river"

    def job_templates(self) -> tuple[JobTemplate, ...]:
        """What the tests use."""
        make = CondorWorkflowJobTemplate("make", shell("cat seed > out; cat seed", transfer_input_files="../seed"))
        twice = CondorWorkflowJobTemplate("twice", shell("cat out out > final", transfer_input_files=["../make/out"]), parents=[make])
        return (
            JobTemplate("plain"),
            BasicJobTemplate("places", {"text": "$(APP_WORKSPACE)/a", "deep": {"x": ["$(USER_WORKSPACE)", ("$(HOME)", 3)]}, "n": 1}),
            CondorJobTemplate("script", {"executable": "run.sh", "attributes": {"arguments": "a $(USER_WORKSPACE) $(cluster)"}}),
            CondorJobTemplate("held", job_description=shell("echo on > started; while [ ! -e go ]; do sleep 0.02; done")),
            CondorWorkflowTemplate("flow", jobs=[make, twice], max_jobs={"all": 1}),
        )
