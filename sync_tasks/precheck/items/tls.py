"""Item: passwords and data are not sent in the clear to another machine."""

from __future__ import annotations

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from sync_tasks.precheck.item import Answer, Item, passed
from sync_tasks.precheck.scene import Scene
from sync_tasks.server_identity import LOOPBACK, host


def _ask(scene: Scene) -> Answer:
    """A certificate that is not in order has failed the connection; no TLS at all is the user's to decide."""
    ends = [scene.endpoint(side) for side in (Side.SOURCE, Side.TARGET)]
    clear = [end.address() for end in ends if not (end.tls or end.path or _is_here(end))]
    if clear:
        return passed(f"in the clear: {' and '.join(clear)}. Where others see the network, use rediss://")
    return passed("certificates were verified, or nothing leaves this machine")


def _is_here(end: Endpoint) -> bool:
    return all(host(name) == LOOPBACK for name, _ in end.nodes or [(end.host, end.port)])


ITEM = Item(
    id="tls",
    title="The way to both servers is known to be safe, or not to be",
    why="Without TLS, whoever sees the network sees passwords and data.",
    ask=_ask,
)
