"""The coordinator: the daemon that keeps the ledger of jobs, releases tasks, keeps windows full and answers queries."""
