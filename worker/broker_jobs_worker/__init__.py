"""The worker daemon of broker-jobs."""
