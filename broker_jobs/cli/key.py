"""``broker-jobs key``: signing keys."""

from __future__ import annotations

import typer

from broker_jobs.cli.options import OutputFormat, OutputOption

app = typer.Typer(no_args_is_help=True, help="Signing keys.")


@app.callback()
def _group() -> None:
    pass


@app.command("new")
def new(output: OutputOption = OutputFormat.table) -> None:
    """Print a fresh signing key.

    Give the same key to submitters, coordinators and workers: in BROKER_JOBS_SIGNING_KEY, or in a file (mode 0600)
    that signing_key_file of broker-jobs.toml names. Whoever has it can run code on your workers.
    """
    from broker_jobs.cli.show import write_json
    from broker_jobs.wire.signing import new_key

    key = new_key()
    if output is OutputFormat.json:
        write_json({"key": key})
    else:
        typer.echo(key)
