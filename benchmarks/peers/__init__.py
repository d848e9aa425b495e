"""The other systems, each set up as its documentation recommends for speed. They run in an environment of their own (`.venv-peers`).

Nothing in here imports broker-jobs, nor a third library but the peer's.
"""
