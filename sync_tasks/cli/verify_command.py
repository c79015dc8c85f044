"""`keyferry verify`: options, progress on stderr, the outcome on stdout."""

from __future__ import annotations

import json as json_format
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from sync_tasks.names import VERIFY_MAIN

if TYPE_CHECKING:
    from sync_tasks.verify_spec import VerifySpec

EXAMPLES = """
Compare SOURCE and TARGET exactly: every key, both ways, type, value and expiry.

It may run while they are written to and kept in step: a difference counts only when it lasts. It only reads, unless
--repair is given: then each differing key is copied anew, in step with the task that follows if there is one, and
compared again. Keys that only the target has are removed then, unless --keep-extra is given, too.
Every expiry on the target must be the source's plus extend_expiry_s (600 unless --config says otherwise), and what
has expired on the source may live on the target for as long.
Keys that begin with keyferry: are left out.

\b
Examples:
  keyferry verify redis://old:6379 redis://:password@new:6379
  keyferry verify --json redis://old:6379/0 redis://new:6379/5
  keyferry verify --report differences.csv --repair redis://old:6379 redis://new:6379

\b
Exit: 0 equal (or repaired), 1 different, 2 usage, 3 source, 4 target, 5 control, 130 after Ctrl-C, 143 after SIGTERM.
"""

SHOWN = 20  # differing keys that are named when the output is for a person

PHASES = ("missing", "extra", "type", "value", "expiry")

Progress = Callable[[str, int, int], None]


class Outcome(Protocol):
    """What a verification returns."""

    @property
    def equal(self) -> bool: ...

    def as_dict(self) -> dict[str, Any]: ...


def verify(
    source_url: Annotated[
        str,
        typer.Argument(metavar="SOURCE_URL", help="redis://[user:password@]host:port[/db]; others: docs/addresses.md"),
    ],
    target_url: Annotated[str, typer.Argument(metavar="TARGET_URL", help="the same; /db: where the source's /db went")],
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE.toml", help="the task's settings: databases, filter, extend_expiry_s"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="one object on stdout: counts and differing keys")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="copy what differs anew, and compare it again")] = False,
    keep_extra: Annotated[
        bool, typer.Option("--keep-extra", help="with --repair: leave keys alone that only the target has")
    ] = False,
    depth: Annotated[
        str | None,
        typer.Option("--depth", help="value (the default), length or key: how much of a value is compared"),
    ] = None,
    above: Annotated[
        int | None, typer.Option("--above", metavar="BYTES", help="--depth holds of values that take more memory")
    ] = None,
    sample: Annotated[
        float | None, typer.Option("--sample", metavar="PERCENT", help="of the keys; the same ones in each run")
    ] = None,
    rps: Annotated[int | None, typer.Option("--rps", help="commands a second that each side is asked at most")] = None,
    mb_per_s: Annotated[
        float | None, typer.Option("--mb-per-s", help="MB a second that each side answers at most")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="all differences, a line each: .csv, or .jsonl for JSON Lines"),
    ] = None,
) -> int:
    """Replaced by EXAMPLES: the docstring of a command is its help."""
    from sync_tasks.cli.differences import differences
    from sync_tasks.endpoints import Endpoint
    from sync_tasks.errors import Side, UsageError
    from sync_tasks.settings import Settings
    from sync_tasks.spec import TaskSpec, load_toml, mapping

    environment = Settings()
    source = Endpoint.parse(source_url, Side.SOURCE, environment.password(Side.SOURCE))
    target = Endpoint.parse(target_url, Side.TARGET, environment.password(Side.TARGET))
    spec = load_toml(config) if config is not None else TaskSpec()
    if spec.transform.active:
        raise UsageError(
            "what a transform has made of the source's keys cannot be compared with them",
            code="transform",
            hint="verify with settings without a transform and see what differs, or compare by a program of your own",
        )
    scope = mapping(spec.databases, source.db, target.db)
    closely = _closely(spec.verify, depth, above, sample, rps, mb_per_s)
    if keep_extra and not repair:
        raise UsageError("--keep-extra says what --repair is to leave alone", hint="give --repair, too", code="option")
    compare: Callable[..., Outcome] = pkgutil.resolve_name(VERIFY_MAIN)
    with _progress() as progress, differences(report) as told:
        outcome = compare(
            source, target, databases=scope, filter_spec=spec.filter, extend_expiry_s=spec.extend_expiry_s,
            progress=progress, spec=closely, repair=repair, keep_extra=keep_extra, told=told,
        )  # fmt: skip
    found = outcome.as_dict()
    typer.echo(json_format.dumps(found) if json else "\n".join(_lines(found)))
    return 0 if outcome.equal else 1


verify.__doc__ = EXAMPLES


def _closely(
    given: VerifySpec, depth: str | None, above: int | None, sample: float | None, rps: int | None,
    mb_per_s: float | None,
) -> VerifySpec:  # fmt: skip
    """The settings of a file, and the options over them."""
    from sync_tasks.spec import from_table

    table = given.model_dump()
    for name, value in (("depth", depth), ("depth_above_bytes", above), ("sample", sample)):
        table[name] = table[name] if value is None else value
    for name, value in (("rps", rps), ("mb_per_s", mb_per_s)):
        table["limits"][name] = table["limits"][name] if value is None else value
    return from_table({"verify": table}, "keyferry verify").verify


def outcome(repaired: bool, why: str | None) -> str:
    """Behind a key: what came of its repair."""
    return ", repaired" if repaired else f", not repaired: {why}" if why else ""


def _lines(found: dict[str, Any]) -> Iterator[str]:
    """The outcome for a person."""
    different = sum(found[kind] for kind in PHASES)
    yield f"{found['compared']:,} keys compared: " + (
        "equal" if not different else ", ".join(f"{found[kind]:,} {kind}" for kind in PHASES if found[kind])
    )
    if different and "repaired" in found:
        left = different - found["repaired"]
        yield f"{found['repaired']:,} repaired" + (f", {left:,} still differ" if left else "")
    for item in sorted(found["keys"], key=lambda item: item.get("repaired", False))[:SHOWN]:
        where = "" if item["db"] is None else f"db {item['db']} "
        field = "" if item["field"] is None else f" ({item['field']})"
        yield f"  {item['kind']:8}{where}{item['key']}{field}" + outcome(item.get("repaired", False), item.get("why"))
    if different > SHOWN:
        yield f"  and {different - SHOWN:,} more; --json names them"
    if found["expired"]:
        yield f"{found['expired']:,} keys, or fields of them, have expired on the source; the target still extends them"
    if found["in_flux"]:
        yield f"{found['in_flux']:,} keys or parts of keys changed all the time, and the target followed"


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on stderr if that is a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield lambda phase, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("connect", total=None, rate="")

        def show(phase: str, done: int, total: int) -> None:
            speed = bars.tasks[0].speed
            bars.update(
                bar,
                description=phase,
                completed=done,
                total=total or None,
                rate=f"{speed:,.0f} keys/s" if speed else "",
            )

        yield show
