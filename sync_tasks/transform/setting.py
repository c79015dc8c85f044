"""The setting `transform`: a script, in the settings themselves or in a file beside them."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StrictStr

from sync_tasks.errors import UsageError
from sync_tasks.strict import Strict
from sync_tasks.transform.script import LONGEST, Script


class TransformSpec(Strict):
    """`lua` empty: there is none. `file` is read when settings are made, and is `lua` from then on."""

    lua: Annotated[StrictStr, Field(max_length=LONGEST)] = ""
    file: None = None

    @property
    def active(self) -> bool:
        """Whether commands are transformed."""
        return bool(self.lua)

    @property
    def digest(self) -> str:
        """Of the script's text, but for lines around it that are empty; "": there is none."""
        return sha256(self.lua.strip().encode()).hexdigest()[:16] if self.lua else ""

    def script(self, *, anew: bool = False) -> Script | None:
        """The compiled script, if there is one; `anew` as for `Script`. Raises UsageError."""
        return Script(self.lua, anew=anew) if self.lua else None


def read_script(path: Path) -> str:
    """A script's text. Raises UsageError: it cannot be read, or is too long."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"cannot read {path}: {why}", code="transform", hint="name a file of Lua code") from error
    if len(text) > LONGEST:
        raise UsageError(f"{path} is over {LONGEST >> 10} KB", code="transform", hint="a script is short") from None
    return text


def inlined(table: Any, base: Path) -> Any:
    """A table `transform` of settings with the text of its file, which counts more than `lua`.

    Args:
        base: where the file's path begins.
    """
    if not isinstance(table, dict) or not isinstance(table.get("file"), str):
        return table
    return {**table, "lua": read_script(base / table["file"]), "file": None}
