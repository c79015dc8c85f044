"""Both forms of the core: as installed, and every module of it run from its source as plain Python."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import workers.codec

FOLDER = Path(workers.codec.__file__).parent
NAMES = (
    "crc64", "slots", "lzf", "raw", "shard", "walk", "key", "packed", "template", "part", "filter", "frame", "convert",
    "restore", "reader", "pieces", "stream", "resp", "volatile", "digest",
)  # fmt: skip
"""Each after those it imports."""


def _installed() -> dict[str, ModuleType]:
    return {name: importlib.import_module(f"workers.codec.{name}_cy") for name in NAMES}


def _plain() -> dict[str, ModuleType]:
    """The sources, interpreted; while they load they stand in for the compiled modules, to be linked."""
    found: dict[str, ModuleType] = {}
    before = _installed()
    try:
        for name in NAMES:
            full = f"workers.codec.{name}_cy"
            spec = importlib.util.spec_from_file_location(full, FOLDER / f"{name}_cy.py")
            assert spec
            assert spec.loader
            found[name] = sys.modules[full] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(found[name])
    finally:
        sys.modules.update({f"workers.codec.{name}_cy": module for name, module in before.items()})
    return found


@cache
def form(name: str) -> Any:
    """Everything public of a form, "compiled" or "plain"."""
    modules = _installed() if name == "compiled" else _plain()
    return SimpleNamespace(
        crc64=modules["crc64"].crc64,
        slot=modules["slots"].slot,
        shard=modules["slots"].shard,
        decompress=modules["lzf"].decompress,
        Expander=modules["lzf"].Expander,
        Filter=modules["filter"].Filter,
        Framer=modules["frame"].Framer,
        convert=modules["convert"].convert,
        Transcriber=modules["convert"].Transcriber,
        RestoreEncoder=modules["restore"].RestoreEncoder,
        pieces=modules["pieces"].pieces,
        can_piece=modules["pieces"].can_piece,
        stream_pieces=modules["stream"].stream_pieces,
        packed=modules["packed"],
        resp=modules["resp"],
        volatile=modules["volatile"].volatile,
        stripped=modules["volatile"].stripped,
        digest=modules["digest"],
    )
