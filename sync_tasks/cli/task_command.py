"""`keyferry task`: the tasks of an installation."""

from __future__ import annotations

import typer

from sync_tasks.cli import check_command, finish_verbs, precheck_verbs, previews, task_verbs, task_views, verify_verbs

EXAMPLES = """
Tasks of the service: make, start, watch, end.

They are kept in the database of the installation, and carried out by its workers: see keyferry up --help. A task is
named by its id, its name or its uid; most verbs take several. Ctrl-C ends the waiting, not what was asked for.

\b
Examples:
  keyferry task create --name orders-move --start redis://old:6379 redis://:password@new:6379
  keyferry task list --watch
  keyferry task watch orders-move
  keyferry task finish orders-move
  keyferry task release orders-move

\b
Exit: 0 done, 2 usage, 3 source, 4 target, 5 control, 130 after Ctrl-C, 143 after SIGTERM.
"""

task = typer.Typer(help=EXAMPLES)

for _verb in (
    task_verbs.create,
    previews.preview,
    check_command.check,
    precheck_verbs.precheck,
    precheck_verbs.ignore,
    task_verbs.start,
    task_views.list_,
    task_views.show,
    task_views.watch,
    task_views.events,
    task_verbs.suspend,
    task_verbs.resume,
    task_verbs.modify,
    task_verbs.restart,
    verify_verbs.verify,
    finish_verbs.finish,
    finish_verbs.reverse,
    task_verbs.release,
):
    task.command(_verb.__name__.rstrip("_"))(_verb)
