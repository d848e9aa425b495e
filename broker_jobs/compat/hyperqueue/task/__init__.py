"""Tasks of a job."""
