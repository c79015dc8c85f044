"""The compiled core: RDB framing, RESTORE encoding, values in pieces, checksums, slots. It does no I/O.

Each *_cy.py is Cython in pure Python mode: it compiles, and where it is not, it runs unchanged, slowly.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from sync_tasks.errors import ControlError

# These share C structures and functions: all of them are compiled, or none.
_LINKED = (
    "convert_cy", "crc64_cy", "digest_cy", "filter_cy", "frame_cy", "key_cy", "lzf_cy", "mset_cy", "part_cy", "raw_cy",
    "resp_cy", "restore_cy", "shard_cy", "slots_cy", "template_cy", "walk_cy",
)  # fmt: skip


def _modules() -> dict[str, Path]:
    """Name of each module of the core and the file it is loaded from."""
    found = {}
    for source in sorted(Path(__file__).parent.glob("*_cy.py")):
        spec = find_spec(f"{__name__}.{source.stem}")
        found[source.stem] = Path(spec.origin) if spec and spec.origin else source
    return found


def _whole(modules: dict[str, Path]) -> None:
    """Raise ControlError where only some of the linked modules are compiled; they would fail obscurely."""
    plain = [name for name in _LINKED if modules[name].suffix == ".py"]
    if 0 < len(plain) < len(_LINKED):
        raise ControlError(
            f"the compiled core is incomplete: {', '.join(plain)} did not compile",
            hint="build it again with `python setup.py build_ext --inplace --force`, or delete its .so files",
            code="core-incomplete",
        )


_whole(_modules())

from workers.codec.convert_cy import Transcriber, convert  # noqa: E402
from workers.codec.crc64_cy import crc64  # noqa: E402
from workers.codec.frame_cy import Framer  # noqa: E402
from workers.codec.lzf_cy import Expander, decompress  # noqa: E402
from workers.codec.pieces_cy import can_piece, pieces, text_size  # noqa: E402
from workers.codec.restore_cy import RestoreEncoder  # noqa: E402
from workers.codec.slots_cy import shard, slot  # noqa: E402
from workers.codec.stream_cy import TYPES as STREAM_TYPES  # noqa: E402
from workers.codec.stream_cy import stream_pieces  # noqa: E402

__all__ = [
    "STREAM_TYPES",
    "Expander",
    "Framer",
    "RestoreEncoder",
    "Transcriber",
    "can_piece",
    "convert",
    "core",
    "crc64",
    "decompress",
    "pieces",
    "require_core",
    "shard",
    "slot",
    "stale",
    "stream_pieces",
    "text_size",
]

_SETTLE = 2.0
"""Seconds: installers write a module's two files at almost the same time, in any order."""


def core() -> str:
    """The form that runs: "compiled" if every module of the core is, else "python"."""
    return "python" if any(path.suffix == ".py" for path in _modules().values()) else "compiled"


def stale() -> list[str]:
    """Modules whose compiled file is older than their source, and so shadows an edit."""
    return [
        name
        for name, path in _modules().items()
        if path.suffix != ".py"
        and any(
            twin.exists() and twin.stat().st_mtime > path.stat().st_mtime + _SETTLE
            for twin in (path.parent / f"{name}.py", path.parent / f"{name}.pxd")
        )
    ]


def require_core() -> None:
    """Raise ControlError unless the whole core is compiled and current."""
    slow = [name for name, path in _modules().items() if path.suffix == ".py"]
    if slow:
        raise ControlError(
            f"the compiled core is missing: {', '.join(slow)} run as plain Python",
            hint="build it with `python setup.py build_ext --inplace`, or unset KEYFERRY_REQUIRE_CORE",
            code="core-missing",
        )
    old = stale()
    if old:
        raise ControlError(
            f"the compiled core is older than its source: {', '.join(old)}",
            hint="build it again with `python setup.py build_ext --inplace`",
            code="core-stale",
        )
