"""Numbers and states as a person reads them."""

from __future__ import annotations

from sync_tasks import units
from sync_tasks.progress import current_error, most_pressing
from sync_tasks.states import TaskState
from sync_tasks.supervise.outcome import Reading
from sync_tasks.views import RetryView

UNKNOWN = "?"
PHASES = {
    TaskState.INITIALIZING: "full sync",
    TaskState.SYNCHRONIZING: "following",
    TaskState.RETRYING: "retrying",
    TaskState.SUSPENDED: "suspended",
    TaskState.FAILED: "failed",
}


def phase(state: TaskState) -> str:
    """What it is doing."""
    return PHASES.get(state, state.value)


def size(count: float | None) -> str:
    """Bytes, in powers of 1024."""
    return UNKNOWN if count is None else units.size(count)


def number(count: int | None) -> str:
    """A count, in groups of three."""
    return UNKNOWN if count is None else f"{count:,}".replace(",", " ")


def duration(seconds: float | None) -> str:
    """A time span, in its two largest units."""
    if seconds is None:
        return UNKNOWN
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def delay(milliseconds: float | None) -> str:
    """Source write to target commit."""
    if milliseconds is None:
        return UNKNOWN
    return f"{milliseconds:.0f} ms" if milliseconds < 10_000 else duration(milliseconds / 1000)


def retry(view: RetryView | None) -> str:
    """An open retry window as a clause; empty when there is none."""
    if view is None:
        return ""
    left = duration(max(0.0, view.seconds_left))
    return f"retrying the {view.side}: {view.last_error} (attempt {view.attempts}, {left} left)"


def trouble(reading: Reading) -> str:
    """What it waits for or has failed by; empty when all is well."""
    problem = current_error(reading)
    return retry(most_pressing(reading.retries)) or (problem.message if problem else "")


def on_disk(reading: Reading) -> str:
    """Of a suspended task whose stream is to be received, how much waits on disk, as a clause; empty of another."""
    nodes = [node for node in reading.nodes if node.receive_bytes is not None]
    if reading.task.state is not TaskState.SUSPENDED or not nodes:
        return ""
    known = [node.on_disk_bytes for node in nodes if node.on_disk_bytes is not None]
    text = f"{size(sum(known) if len(known) == len(nodes) else None)} on disk"
    limits = [node.receive_bytes for node in nodes if node.receiving and node.receive_bytes is not None]
    return f"{text}, receives up to {size(sum(limits))}" if limits else f"{text}, receives no more"


def receives(reading: Reading) -> bool:
    """Whether its task is suspended, and a stream of it is received all the same."""
    return reading.task.state is TaskState.SUSPENDED and any(node.receiving for node in reading.nodes)


def behind(reading: Reading) -> int | None:
    """Bytes of the stream that the source has and the target has not."""
    gaps = [
        None if node.source_offset is None or node.applied_offset is None
        else max(0, node.source_offset - node.applied_offset)
        for node in reading.nodes
    ]  # fmt: skip
    known = [gap for gap in gaps if gap is not None]
    return sum(known) if known and len(known) == len(gaps) else None
