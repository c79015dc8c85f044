"""The command `keyferry`: hides its arguments, registers the verbs, turns errors into one line and a code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sync_tasks.cli import signals

if TYPE_CHECKING:
    import typer

TITLE = "keyferry"

# Verb to "module:function", or to a group of verbs. What is not there is not offered, what is there is imported
# when asked for.
VERBS = {
    "sync": "sync_tasks.cli.sync_command:sync",
    "verify": "sync_tasks.cli.verify_command:verify",
    "task": "sync_tasks.cli.task_command:task",
    "transform": "sync_tasks.cli.transform_command:transform",
    "instance": "sync_tasks.cli.instance_command:instance",
    "account": "sync_tasks.cli.access_commands:account",
    "role": "sync_tasks.cli.access_commands:role",
    "policy": "sync_tasks.cli.access_commands:policy",
    "token": "sync_tasks.cli.access_commands:token",
    "up": "sync_tasks.cli.up_command:up",
    "worker": "sync_tasks.cli.worker_command:worker",
    "scheduler": "sync_tasks.cli.scheduler_command:scheduler",
    "flower": "sync_tasks.cli.flower_command:flower",
    "health": "sync_tasks.cli.health_command:health",
    "metrics": "sync_tasks.cli.metrics_command:metrics",
    "db": "sync_tasks.cli.db_command:db",
    "config": "sync_tasks.cli.config_command:config",
    "doctor": "sync_tasks.cli.doctor_command:doctor",
    "demo": "sync_tasks.cli.demo:demo",
}

_GROUP: dict[str, Any] = {
    "no_args_is_help": True,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


def hide_arguments() -> list[str]:
    """The arguments, taken away from where others can read them: URLs hold passwords.

    setproctitle overwrites argv and the environment as /proc shows them; sys.argv is emptied because Celery
    writes it into its workers' titles.
    """
    import setproctitle

    arguments = sys.argv[1:]
    sys.argv[1:] = []
    setproctitle.setproctitle(TITLE)
    return arguments


def build(arguments: list[str]) -> typer.Typer:
    """The typer application; imports only the verb that is asked for, all of them for help and completion."""
    import importlib.util
    import pkgutil

    import typer

    app = typer.Typer(name=TITLE, pretty_exceptions_enable=False, rich_markup_mode=None, **_GROUP)
    app.callback()(_root)
    asked = arguments[0] if arguments and arguments[0] in VERBS else None
    for verb, place in VERBS.items():
        module = place.partition(":")[0]
        if asked not in (None, verb) or importlib.util.find_spec(module) is None:
            continue
        found = pkgutil.resolve_name(place)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=verb, **_GROUP)
        else:
            app.command(verb)(found)
    return app


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib import metadata

    import typer

    try:
        version = metadata.version("keyferry")
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    typer.echo(f"keyferry {version}")
    raise typer.Exit


def _root_options() -> Any:
    import typer

    return typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Show the version and exit.")


def _root(version: bool = False) -> None:
    """Keeps one Redis-compatible data set in step with another: full sync, then every write, exactly once."""


def dispatch(arguments: list[str]) -> int:
    """Run one verb; its exit code. Raises KeyferryError for wrong options as for everything else."""
    import typer

    from sync_tasks.errors import UsageError

    # The library under typer is its own affair (click, or a copy of it); its root error is reached this way.
    complaint: type[Any] = typer.BadParameter.__mro__[2]
    _root.__defaults__ = (_root_options(),)
    try:
        result = build(arguments)(arguments, standalone_mode=False, prog_name=TITLE)
    except complaint as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message())
            return 2
        verb = arguments[0] if arguments and arguments[0] in VERBS else ""
        hint = f"see: keyferry {verb} --help" if verb else "see: keyferry --help"
        text = " ".join(error.format_message().split()).replace("Value error, ", "")
        raise UsageError(text.rstrip("."), hint=hint) from None
    return result if isinstance(result, int) else 0


def run() -> None:
    """Entry point of the console script."""
    signals.raise_on_stop()
    try:
        arguments = hide_arguments()
        from sync_tasks.cli.failures import guarded

        code = guarded(lambda: dispatch(arguments), arguments)
    except signals.Interrupted as stop:
        code = stop.exit_code
    signals.ignore_stop()
    sys.exit(code)


if __name__ == "__main__":
    run()
