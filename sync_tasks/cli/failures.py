"""Every way a command can end badly, as one line on stderr and an exit code; no traceback, no secret."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote

from sync_tasks.errors import ControlError, KeyferryError

PIPE_CLOSED = 141  # 128 + SIGPIPE: whoever read our output has gone
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

_PASSWORD_IN_URL = re.compile(r"\w+://(?:[^\s:/@]*:)?(.*)@")
_SHORTEST = 3  # characters; shorter secrets would maim ordinary words, and give nothing away


def guarded(command: Callable[[], int], arguments: list[str]) -> int:
    """Run `command`; its exit code, or that of the error it raised, which is printed as one line."""
    secrets = secrets_of(arguments)
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()
        return PIPE_CLOSED
    except Exception as error:  # noqa: BLE001 - the last net: a user never sees a traceback
        found = explained(error, secrets, None)
        complain(found, secrets)
        return found.exit_code
    return code


def complain(error: KeyferryError, secrets: Iterable[str]) -> None:
    """One line on stderr: side, cause, hint."""
    say(error.line(), secrets)


def say(text: str, secrets: Iterable[str]) -> None:
    """One line on stderr."""
    line = " ".join(redact(text, secrets).split())
    with contextlib.suppress(OSError):
        print(f"keyferry: {line}", file=sys.stderr, flush=True)


def silence_stdout() -> None:
    """Nobody reads it any more: Python must not try again at exit, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def secrets_of(arguments: Iterable[str]) -> list[str]:
    """The passwords in the URLs of a command line, as written and as meant."""
    found = [match[1] for argument in arguments for match in _PASSWORD_IN_URL.finditer(argument)]
    return [*found, *(unquote(secret) for secret in found)]


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` without any of `secrets`: the last net under code that should not name one."""
    for secret in secrets:
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, "***")
    return text


def explained(error: Exception, secrets: Iterable[str], log: Path | None) -> KeyferryError:
    """Any exception as an error of ours. What nobody thought of goes to `log`, with its traceback."""
    if isinstance(error, KeyferryError):
        return error
    if _is_disk_full(error):
        return disk_full()
    if isinstance(error, OSError) and error.filename is not None:
        return ControlError(
            f"{error.filename}: {error.strerror}", code="file", hint="check the path and its permissions"
        )
    name = type(error).__name__
    if log is None or not log.parent.is_dir():
        return ControlError(f"internal error {name}", code="internal", hint="run: keyferry doctor, and report it")
    with contextlib.suppress(OSError), open(log, "a", opener=_for_owner_alone) as out:
        out.write(redact("".join(traceback.format_exception(error)), secrets))
    return ControlError(f"internal error {name}", code="internal", hint=f"see {log}")


def disk_full(where: str = "") -> ControlError:
    """No room for the state directory itself."""
    return ControlError(
        f"the disk is full{where}",
        code="disk-full",
        hint="make room or give --state on a larger disk, then run the same command again",
    )


def _for_owner_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _is_disk_full(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in DISK_FULL:
            return True
        seen = seen.__cause__ or seen.__context__
    return False
