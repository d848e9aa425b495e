"""The interface of xqute: a program moves by importing from here instead of from ``xqute``; docs/faces.md lists what differs."""

from broker_jobs.compat.xqute.core import Simplug, Xqute, plugin
from broker_jobs.compat.xqute.scheduler import Job, JobErrorStrategy, JobStatus, Scheduler

simplug = plugin

__all__ = ["Job", "JobErrorStrategy", "JobStatus", "Scheduler", "Simplug", "Xqute", "plugin", "simplug"]
