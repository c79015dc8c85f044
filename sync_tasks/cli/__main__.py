"""`python -m sync_tasks.cli` is `keyferry`."""

from sync_tasks.cli.main import run

run()
