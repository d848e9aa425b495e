"""Processes that run tasks: the forkserver, its children, and what they run."""
