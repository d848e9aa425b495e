"""The interface of xqute: a program moves by importing from here instead of from ``xqute``. Names of its first version work as well.

docs/faces.md lists what differs, and where xqute has a fault and this has not.
"""

from broker_jobs.compat.xqute.core import Simplug, Xqute, plugin
from broker_jobs.compat.xqute.scheduler import Job, JobErrorStrategy, JobStatus, Scheduler

simplug = plugin

__all__ = ["Job", "JobErrorStrategy", "JobStatus", "Scheduler", "Simplug", "Xqute", "plugin", "simplug"]
