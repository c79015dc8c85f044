"""The one tree of errors: each has a code, a side, whether a retry can help, and a hint."""

from __future__ import annotations

from enum import StrEnum


class Side(StrEnum):
    """Which party an error belongs to; decides the exit code of the command line."""

    USAGE = "usage"
    SOURCE = "source"
    TARGET = "target"
    CONTROL = "control"


class Retry(StrEnum):
    """Which retry window (SPEC 3) an error opens; FATAL ends the task at once."""

    CONNECTION = "connection"
    OTHER = "other"
    FATAL = "fatal"


EXIT_CODES = {Side.USAGE: 2, Side.SOURCE: 3, Side.TARGET: 4, Side.CONTROL: 5}


class KeyferryError(Exception):
    """Root of all errors a user can see.

    Args:
        message: what happened, without secrets.
        hint: what the user can do about it, one sentence.
        code: a stable kebab-case name; defaults to the class's.
        side: whose fault; defaults to the class's.
        retry: the window it opens; defaults to the class's.
    """

    code = "error"
    side = Side.CONTROL
    retry = Retry.FATAL

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str | None = None,
        side: Side | None = None,
        retry: Retry | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or type(self).code
        self.side = side or type(self).side
        self.retry = retry or type(self).retry

    @property
    def exit_code(self) -> int:
        """The process exit code of SPEC 7: 2 usage, 3 source, 4 target, 5 control."""
        return EXIT_CODES[self.side]

    def line(self) -> str:
        """The error as one line: side, cause, hint."""
        text = f"{self.side.value}: {self.message}"
        return f"{text} ({self.hint})" if self.hint else text


class UsageError(KeyferryError):
    """A wrong option, setting or file of the user's."""

    code = "usage"
    side = Side.USAGE


class ControlError(KeyferryError):
    """The state directory, database, broker or spool."""

    code = "control"
    side = Side.CONTROL


DATABASE = "database"
"""Code of what the database answers, or that it does not."""


def is_away(error: BaseException) -> bool:
    """Whether the database has not done what it was asked, and may do so by and by."""
    return isinstance(error, ControlError) and error.code == DATABASE and error.retry is Retry.OTHER


class SourceError(KeyferryError):
    """The source cannot be used as asked."""

    code = "source"
    side = Side.SOURCE


class TargetError(KeyferryError):
    """The target cannot be used as asked."""

    code = "target"
    side = Side.TARGET


class ConnectionLost(KeyferryError):
    """A connection was refused, cut or silent; heals by itself. Give `side`."""

    code = "connection"
    retry = Retry.CONNECTION


class CredentialsRefused(KeyferryError):
    """NOAUTH, WRONGPASS or NOPERM: final at a start, retried while a task runs. Give `side`."""

    code = "credentials"
    retry = Retry.OTHER


class Malformed(SourceError):
    """Bytes of the source that do not follow their format. Nothing of them was written.

    Args:
        message: what is wrong.
        offset: position in bytes from the start of the snapshot or payload.
    """

    code = "malformed"

    def __init__(self, message: str, offset: int = -1, *, hint: str = "") -> None:
        hint = hint or "nothing of it was written; check that the source is what it seems to be, and report this"
        super().__init__(f"{message} at byte {offset}" if offset >= 0 else message, hint=hint)
        self.offset = offset


class UnsupportedType(Malformed):
    """A type or opcode that this version does not know."""

    code = "unsupported-type"


class Fenced(ControlError):
    """Another owner has taken over: this one must write nothing more."""

    code = "fenced"


class TaskRests(Fenced):
    """The task was suspended or ended meanwhile: its jobs end, and that is no failure."""

    code = "rests"


class CannotContinue(KeyferryError):
    """The stream cannot go on from where it was (backlog gone, checkpoint gone). Give `side`."""

    code = "cannot-continue"


class RefusedCommand(TargetError):
    """The target refused a command of the stream at run time.

    Args:
        argv, db: the command, and the target's database it acts on.
        offset: of the stream byte before it.
        answer: what the target said.
        final: its keys cannot be copied anew.
    `others`: commands that were refused behind it in the same transaction.
    """

    code = "refused-command"

    def __init__(self, argv: list[bytes], db: int, offset: int, answer: str, final: bool) -> None:
        super().__init__(
            f"the target refused {named(argv)} of the stream at offset {offset}: {answer}",
            hint="the key differs from the source's; remove foreign writers and start over with an empty target",
        )
        self.argv, self.db, self.offset, self.final = argv, db, offset, final
        self.others: list[RefusedCommand] = []


class UnknownCommand(TargetError):
    """The target does not know a command of the stream; nothing of its transaction was executed.

    Args:
        argv: the command.
        cause: what the target's answer says.
    """

    code = "unknown-command"
    retry = Retry.OTHER

    def __init__(self, argv: list[bytes], cause: KeyferryError) -> None:
        super().__init__(cause.message, hint=cause.hint)
        self.argv = argv


class TargetBusy(TargetError):
    """LOADING, READONLY, OOM, MISCONF, ...: an answer that stops the stream until it heals."""

    code = "target-refuses"
    retry = Retry.OTHER


class TransformError(ControlError):
    """The script of a task's transform failed, or returned what is no command. Nothing is skipped.

    Args:
        message: what is wrong.
        line: of the script, 0: unknown.
        argv: the command of the source that it was called with.
    """

    code = "transform"
    retry = Retry.OTHER

    def __init__(self, message: str, line: int, argv: list[bytes]) -> None:
        where = f"line {line} of the transform" if line else "the transform"
        super().__init__(
            f"{where}, at {named(argv)}: {message}",
            hint="correct the script with `keyferry task modify`: it goes on at that very command",
        )
        self.line_number, self.argv = line, argv


class SpoolFull(ControlError):
    """No room for the spool."""

    code = "disk-full"
    retry = Retry.OTHER


class StoreAway(ControlError):
    """The object store of the spool does not answer, or refuses; nothing is lost meanwhile."""

    code = "spool-store"
    retry = Retry.OTHER


def named(argv: list[bytes]) -> str:
    """Command and key, short enough for one line."""
    key = argv[1][:100].decode(errors="backslashreplace") if len(argv) > 1 else ""
    return f"{argv[0].decode(errors='replace').upper()} {key}".strip()
