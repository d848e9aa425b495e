"""Templates of jobs: what many jobs have in common, with variables in it; in code, or in a TOML file.

A template is data and knows nothing of brokers: `broker_jobs.manager` makes jobs from it.
"""

from broker_jobs.templates.reading import load_templates
from broker_jobs.templates.template import OWN, JobTemplate
from broker_jobs.templates.variables import escaped, replaced

__all__ = ["OWN", "JobTemplate", "escaped", "load_templates", "replaced"]
