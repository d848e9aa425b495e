"""The worker as a pure machine: what it hears, what it wants done, and `WorkerMachine` in between."""
