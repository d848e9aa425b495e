"""The interface of xqute: a program moves by importing from here instead of from ``xqute``; docs/faces.md lists what differs.

Where xqute has a fault, ours is right: arguments arrive as they are, forks hold while jobs are fed, killed jobs say so, no hook harms.
"""

from broker_jobs.compat.xqute.core import Simplug, Xqute, plugin, simplug
from broker_jobs.compat.xqute.scheduler import Job, JobErrorStrategy, JobStatus, Scheduler

__all__ = ["Job", "JobErrorStrategy", "JobStatus", "Scheduler", "Simplug", "Xqute", "plugin", "simplug"]
