"""What prechecks have found: a table that fills on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sync_tasks.task import PrecheckItem

STYLES = {"passed": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}


def state(item: PrecheckItem) -> str:
    """Its state in a word or two."""
    if item.state == "warning" and item.ignored:
        return "warning, ignored"
    return item.state or "..."


def said(item: PrecheckItem) -> str:
    """What was found, and of what does not pass, what to do."""
    return f"{item.found}; {item.repair}" if item.stands_against and item.repair else item.found


def lines(items: Sequence[PrecheckItem]) -> Iterator[str]:
    """For a file or another program."""
    for item in items:
        if item.state is None:
            continue
        yield f"{state(item):16} {item.id:20} {said(item)}".rstrip()


def table(title: str, items: Sequence[PrecheckItem]) -> Table:
    """For a terminal."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for item in items:
        grid.add_row(Text(state(item), STYLES.get(item.state or "", "dim")), Text(item.id), Text(said(item)))
    return grid


class Board:
    """The tables of some tasks, drawn again and again on stderr."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=console or Console(stderr=True), auto_refresh=False, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, found: Sequence[tuple[str, Sequence[PrecheckItem]]]) -> None:
        """Draw what was found of each task, by its name."""
        from rich.console import Group

        self._live.update(Group(*(table(name, items) for name, items in found)), refresh=True)
