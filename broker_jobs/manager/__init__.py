"""The job manager: jobs from templates, for users and groups, in tables of its own.

It grows from the Jobs API of Tethys. A job is a row before it is executed and a job of the client after; `JobManager` makes and finds
jobs, and `ManagedJob` is one.
"""

from broker_jobs.manager.job import ManagedJob, Node
from broker_jobs.manager.manager import JobManager
from broker_jobs.manager.statuses import NAMES, Category, Code

__all__ = ["NAMES", "Category", "Code", "JobManager", "ManagedJob", "Node"]
