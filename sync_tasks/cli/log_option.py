"""The option of every verb that logs."""

from __future__ import annotations

from typing import Annotated

import typer

from sync_tasks.observe.log_format import LogFormat

Log = Annotated[
    LogFormat | None,
    typer.Option("--log-format", help="lines for people, or a JSON object each [default: console]", show_default=False),
]
