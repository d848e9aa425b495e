"""The interface of xqute: a program moves by importing from here instead of from ``xqute``. Names of its first version work as well.

Where xqute has a fault, this is right: arguments of a list arrive as they are (xqute runs ``$(…)`` in them), forks are honoured while jobs
are still fed (its feeding stalls), a job that was killed is KILLED (there FINISHED), what ignores SIGTERM is killed with all its children.
docs/faces.md lists what differs.
"""

from broker_jobs.compat.xqute.core import Xqute
from broker_jobs.compat.xqute.plugins import Simplug, plugin
from broker_jobs.compat.xqute.scheduler import Job, JobErrorStrategy, JobStatus, Scheduler

simplug = plugin

__all__ = ["Job", "JobErrorStrategy", "JobStatus", "Scheduler", "Simplug", "Xqute", "plugin", "simplug"]
