"""RESP on the hot path: cutting a replication stream into commands, and reading a window's answers.

Written in Cython's pure Python mode. No I/O; bytes go in as `bytes`, positions are in bytes. The format is
the Redis serialization protocol (RESP2): https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

import cython

from sync_tasks.errors import Malformed

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.workers.codec.filter_cy import Filter
    from cython.cimports.workers.codec.raw_cy import copy, decimal, digits
else:
    from workers.codec.filter_cy import Filter

MAX_ARGS = (1 << 31) - 1  # servers from 7.0 on take so many; before, 2^20
MAX_BULK = 1 << 30
_MAX_ARGS = cython.declare(cython.longlong, MAX_ARGS)  # the same for compiled code
_MAX_BULK = cython.declare(cython.longlong, MAX_BULK)

# What `Scanner.scan` found at the end of its run of plain commands
MORE = 0  # needs more bytes
LIMIT = 1  # the limit of commands or bytes was reached
SPECIAL = 2  # a command that the table names, or an empty line
SKIP = 3  # commands on keys that are not in scope

MULTI = "multi"
EXEC = "exec"
"""Kinds of the commands around a transaction."""
IGNORED = "ignored"
"""Kind of a command that does not travel."""
KEYED = "keyed"
"""Kind of a command whose keys may be in scope and not, where there is a filter."""


@cython.cfunc
@cython.inline
@cython.exceptval(-3, check=False)
def _number(buf: cython.p_const_uchar, pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.longlong:
    """Digits at pos up to CR LF: the value, -1 when the line is not complete, -2 when it is no number."""
    value: cython.longlong = 0
    start: cython.Py_ssize_t = pos
    while pos < end:
        c: cython.int = buf[pos]
        if c == 13:
            if pos + 1 >= end:
                return -1
            if pos == start or buf[pos + 1] != 10 or (pos - start > 1 and buf[start] == 48):
                return -2  # a leading zero, too: `_digits` tells how long the number was
            return value
        if c < 48 or c > 57 or pos - start > 12:
            return -2
        value = value * 10 + (c - 48)
        pos += 1
    return -1 if pos - start <= 12 else -2


@cython.cfunc
@cython.inline
def _digits(value: cython.longlong) -> cython.int:
    n: cython.int = 1
    while value >= 10:
        value //= 10
        n += 1
    return n


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _packed(buf: cython.p_const_uchar, pos: cython.Py_ssize_t, size: cython.Py_ssize_t) -> cython.ulonglong:
    """Up to eight bytes of a name as a number, in upper case."""
    value: cython.ulonglong = 0
    c: cython.uchar
    i: cython.Py_ssize_t = 0
    while i < size:
        c = buf[pos + i]
        if 97 <= c <= 122:
            c -= 32
        value = (value << 8) | c
        i += 1
    return value


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _place(head: cython.ulonglong, tail: cython.ulonglong) -> cython.int:
    return cython.cast(cython.int, ((head ^ (tail * 31)) * 2654435761 >> 16) & 511)


@cython.cclass
class Scanner:
    """Cuts a stream into runs of plain commands, which travel as they are, and special ones.

    Args:
        table: upper-case command name to a kind, any object; those commands are special. `SET` with three
            arguments is plain unless its kind is IGNORED, or as `numbers` says.
        numbers: a `SET` of three arguments is special, too, if its value begins as a number does.
        singles: names of commands whose first argument is the only key they name. Of those, where there is a filter,
            `scan` passes over what is not in scope; any other plain command is special then, of kind KEYED.
        firsts: of commands of which that holds if they have one argument alone.
        whole: a transaction of plain commands, all of them in scope, that is all there is part of a run; its MULTI and
            EXEC, of the kinds MULTI and EXEC, are not: `parts` says where the commands are.
    """

    table: dict
    whole: cython.bint
    parts = cython.declare(list, visibility="readonly")
    _multi: cython.Py_ssize_t  # where an open transaction begins, or -1
    _inner: cython.Py_ssize_t  # behind its MULTI
    _before: cython.Py_ssize_t  # commands before it
    _earlier: cython.Py_ssize_t  # streak before it
    _start: cython.Py_ssize_t  # of the run
    _from: cython.Py_ssize_t  # where the part that is not yet in `parts` begins
    _counted: cython.Py_ssize_t  # commands in `parts`
    numbers: cython.bint
    plain_sets: cython.bint
    mask: cython.uchar[1024]
    streak = cython.declare(cython.Py_ssize_t, visibility="readonly")
    key_filter: object
    _heads: cython.ulonglong[512]
    _tails: cython.ulonglong[512]
    _kinds: cython.uchar[512]

    def __init__(
        self, table: dict, numbers: bool = False, singles: object = (), firsts: object = (), whole: bool = False
    ) -> None:
        self.table = table
        self.whole = whole
        self.parts = []
        self.numbers = numbers
        self.plain_sets = table.get(b"SET") != IGNORED
        self.key_filter = None
        self.streak = 0
        if not cython.compiled:
            self.mask = [0] * 1024
            self._heads, self._tails, self._kinds = [0] * 512, [0] * 512, [0] * 512
        i: cython.int
        for i in range(1024):
            self.mask[i] = 0
        for name in table:
            if len(name) < 32:
                self.mask[(len(name) << 5) | (name[0] & 31)] = 1
        for i in range(512):
            self._kinds[i] = 0
        for name in singles:
            self._add(name, len(name), 1)
        for name in firsts:
            self._add(name, len(name), 2)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _add(self, name: cython.p_const_uchar, size: cython.Py_ssize_t, kind: cython.int) -> cython.int:
        """Remember a name of up to 16 bytes; a longer one, or one too many, is only slower."""
        head: cython.ulonglong = _packed(name, 0, min(size, 8))
        tail: cython.ulonglong = _packed(name, 8, size - 8)
        at: cython.int = _place(head, tail)
        tries: cython.int = 0
        while size <= 16 and tries < 64:
            if self._kinds[at] == 0:
                self._heads[at] = head
                self._tails[at] = tail
                self._kinds[at] = kind
                return 0
            at = (at + 1) & 511
            tries += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _kind(self, buf: cython.p_const_uchar, pos: cython.Py_ssize_t, size: cython.Py_ssize_t) -> cython.int:
        """1: of `singles`, 2: of `firsts`, 0: neither, or not known."""
        if size > 16:
            return 0
        head: cython.ulonglong = _packed(buf, pos, min(size, 8))
        tail: cython.ulonglong = _packed(buf, pos + 8, size - 8)
        at: cython.int = _place(head, tail)
        while self._kinds[at]:
            if self._heads[at] == head and self._tails[at] == tail:
                return self._kinds[at]
            at = (at + 1) & 511
        return 0

    def filter(self, key_filter: object) -> None:
        """From here on, pass over keys that this one does not take; None: take all."""
        self.key_filter = key_filter

    def scan(
        self, data: bytes, pos: cython.Py_ssize_t, max_commands: cython.Py_ssize_t, max_bytes: cython.Py_ssize_t
    ) -> tuple:
        """Scan commands of `data` from `pos`.

        Returns (end of the run, plain commands in it, MORE / LIMIT / SPECIAL / SKIP, argv or None, end of the special
        command or of what is passed over, its kind). `streak` is how many SETs without options follow one another in
        the run, at most. `parts`, unless empty, are (start, end, commands) of the run's commands, without MULTI and
        EXEC. Raises Malformed with the offset in `data`.
        """
        buf: cython.p_const_uchar = data
        end: cython.Py_ssize_t = len(data)
        count: cython.Py_ssize_t = 0
        start: cython.Py_ssize_t = pos
        cur: cython.Py_ssize_t
        argc: cython.longlong
        size: cython.longlong
        i: cython.longlong
        name: cython.Py_ssize_t
        name_size: cython.Py_ssize_t
        last: cython.Py_ssize_t = 0
        key: cython.Py_ssize_t = 0
        key_size: cython.Py_ssize_t = 0
        single: cython.int
        skipped: cython.Py_ssize_t = -1  # where what is passed over begins
        sets: cython.Py_ssize_t = 0  # that were just passed
        self.streak = 0
        self._multi = -1
        self._start = self._from = pos
        self._counted = 0
        if self.parts:
            self.parts = []
        while True:
            if skipped >= 0 and (pos >= end or buf[pos] == 10 or pos - skipped > 1048576):
                return self._run(skipped, count, SKIP, None, pos, None)
            if (
                skipped < 0
                and self._multi < 0
                and (count >= max_commands or (count and pos - start >= max_bytes))
            ):
                return self._run(pos, count, LIMIT, None, pos, None)
            if pos >= end:
                return self._short(data, pos, count, skipped)
            if buf[pos] == 10:  # a keep-alive newline: counts in the offset, means nothing
                if self._multi >= 0:
                    return self._back(data)
                return self._run(pos, count, SPECIAL, [], pos + 1, None)
            if buf[pos] != 42:
                raise Malformed("replication stream: a command does not begin with '*'", pos)
            argc = _number(buf, pos + 1, end)
            if argc == -1:
                return self._short(data, pos, count, skipped)
            if argc < 1 or argc > _MAX_ARGS:
                raise Malformed("replication stream: bad number of arguments", pos)
            cur = pos + 3 + _digits(argc)
            name = 0
            name_size = 0
            i = 0
            while i < argc:
                if cur >= end:
                    return self._short(data, pos, count, skipped)
                if buf[cur] != 36:
                    raise Malformed("replication stream: an argument does not begin with '$'", cur)
                size = _number(buf, cur + 1, end)
                if size == -1:
                    return self._short(data, pos, count, skipped)
                if size < 0 or size > _MAX_BULK:
                    raise Malformed("replication stream: bad length of an argument", cur)
                cur += 3 + _digits(size)
                if i == 0:
                    name = cur
                    name_size = size
                elif i == 1:
                    key = cur
                    key_size = size
                if cur + size + 2 > end:
                    return self._short(data, pos, count, skipped)
                last = cur
                cur += size
                if buf[cur] != 13 or buf[cur + 1] != 10:
                    raise Malformed("replication stream: an argument does not end with CR LF", cur)
                cur += 2
                i += 1
            if (
                0 < name_size < 32
                and self.mask[(name_size << 5) | (buf[name] & 31)]
                and not (
                    self.plain_sets
                    and argc == 3
                    and name_size == 3
                    and (buf[name] & 223) == 83
                    and (buf[name + 1] & 223) == 69
                    and not (self.numbers and (buf[last] == 45 or 48 <= buf[last] <= 57))
                )
            ):
                kind = self.table.get(data[name : name + name_size].upper())
                if kind is not None:
                    if skipped >= 0:
                        return self._run(skipped, count, SKIP, None, pos, None)
                    if self.whole and argc == 1:
                        if kind == MULTI and self._multi < 0:
                            self._multi = pos
                            self._inner = cur
                            self._before = count
                            self._earlier = self.streak
                            sets = 0
                            pos = cur
                            continue
                        if kind == EXEC and self._multi >= 0:
                            self._part(self._multi, self._before)
                            self._from = self._inner
                            self._part(pos, count)
                            self._from = cur
                            self._multi = -1
                            sets = 0
                            pos = cur
                            continue
                    if self._multi >= 0:
                        return self._back(data)
                    return self._run(pos, count, SPECIAL, arguments(data, pos), cur, kind)
            if self.key_filter is not None:
                single = self._kind(buf, name, name_size)
                if argc < 2 or single == 0 or (single == 2 and argc != 2):
                    if skipped >= 0:
                        return self._run(skipped, count, SKIP, None, pos, None)
                    if self._multi >= 0:
                        return self._back(data)
                    return self._run(pos, count, SPECIAL, arguments(data, pos), cur, KEYED)
                if cython.cast(Filter, self.key_filter).takes_at(buf, key, key_size) == 0:
                    if self._multi >= 0:
                        return self._back(data)
                    if skipped < 0:
                        skipped = pos
                    pos = cur
                    continue
                if skipped >= 0:
                    return self._run(skipped, count, SKIP, None, pos, None)
            if self._multi >= 0 and (count >= max_commands or pos - start >= max_bytes):
                return self._back(data)
            if (
                argc == 3
                and name_size == 3
                and (buf[name] & 223) == 83
                and (buf[name + 1] & 223) == 69
                and (buf[name + 2] & 223) == 84
            ):
                sets += 1
                if sets > self.streak:
                    self.streak = sets
            else:
                sets = 0
            count += 1
            pos = cur

    @cython.cfunc
    def _short(
        self, data: bytes, pos: cython.Py_ssize_t, count: cython.Py_ssize_t, skipped: cython.Py_ssize_t
    ) -> tuple:
        """What `scan` returns before a command that is not all there."""
        if skipped >= 0:
            return self._run(skipped, count, SKIP, None, pos, None)
        if self._multi >= 0:
            return self._back(data)
        return self._run(pos, count, MORE, None, pos, None)

    @cython.cfunc
    def _back(self, data: bytes) -> tuple:
        """What `scan` returns before a transaction that is not part of a run."""
        self.streak = self._earlier
        return self._run(self._multi, self._before, SPECIAL, [b"MULTI"], self._inner, MULTI)

    @cython.cfunc
    def _run(
        self, pos: cython.Py_ssize_t, count: cython.Py_ssize_t, why: cython.int, argv: object,
        after: cython.Py_ssize_t, kind: object,
    ) -> tuple:  # fmt: skip
        """What `scan` returns behind a run."""
        if self._from > self._start:
            self._part(pos, count)
        return (pos, count, why, argv, after, kind)

    @cython.cfunc
    def _part(self, pos: cython.Py_ssize_t, count: cython.Py_ssize_t) -> object:
        """A part of the run ends there; that many commands were passed up to it."""
        if count > self._counted:
            self.parts.append((self._from, pos, count - self._counted))
            self._counted = count
        return None


def arguments(data: bytes, pos: cython.Py_ssize_t) -> list:
    """The arguments of the complete command at `pos`."""
    buf: cython.p_const_uchar = data
    end: cython.Py_ssize_t = len(data)
    argc: cython.longlong = _number(buf, pos + 1, end)
    size: cython.longlong
    if argc < 0:
        raise Malformed("a command is cut short", pos)
    pos += 3 + _digits(argc)
    out: list = []
    for _ in range(argc):
        size = _number(buf, pos + 1, end)
        if size < 0 or pos + size >= end:
            raise Malformed("a command is cut short", pos)
        pos += 3 + _digits(size)
        out.append(data[pos : pos + size])
        pos += size + 2
    return out


def skim(data: bytes, pos: cython.Py_ssize_t, args: cython.longlong, rest: cython.longlong) -> tuple:
    """Pass over arguments of a command, of which `data` has some.

    Args:
        args: how many have not begun at `pos`.
        rest: bytes that are left of the one before, with its CR LF.
    Returns (where it stopped, args, rest) behind what is there; a header that is not all there has not begun.
    Raises Malformed.
    """
    buf: cython.p_const_uchar = data
    end: cython.Py_ssize_t = len(data)
    size: cython.longlong
    while True:
        if rest > end - pos:
            return (end, args, rest - (end - pos))
        pos += rest
        rest = 0
        if args == 0 or pos >= end:
            return (pos, args, 0)
        if buf[pos] != 36:
            raise Malformed("replication stream: an argument does not begin with '$'", pos)
        size = _number(buf, pos + 1, end)
        if size == -1:
            return (pos, args, 0)
        if size < 0 or size > _MAX_BULK:
            raise Malformed("replication stream: bad length of an argument", pos)
        pos += 3 + _digits(size)
        rest = size + 2
        args -= 1


def encode(argv: list) -> bytes:
    """One command as RESP: an array of bulk strings. Arguments are bytes, str or int."""
    args: list = [arg if type(arg) is bytes else _raw(arg) for arg in argv]
    if not cython.compiled:
        return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args)
    one: bytes
    size: cython.Py_ssize_t = 3 + digits(len(args))
    for one in args:
        size += 5 + digits(len(one)) + len(one)
    made: bytes = PyBytes_FromStringAndSize(cython.NULL, size)
    out: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(made))
    at: cython.Py_ssize_t = 1
    out[0] = 42
    at = decimal(out, at, len(args), True)
    for one in args:
        out[at] = 36
        at = decimal(out, at + 1, len(one), True)
        at = copy(out, at, one, 0, len(one))
        out[at] = 13
        out[at + 1] = 10
        at += 2
    return made


def _raw(arg: object) -> bytes:
    return bytes(arg) if isinstance(arg, (bytearray, memoryview)) else str(arg).encode()


@cython.cfunc
@cython.inline
def _is_integer(buf: cython.p_const_uchar, pos: cython.Py_ssize_t, stop: cython.Py_ssize_t) -> cython.bint:
    """Whether what stands from pos to stop is an integer of a server's, 64 bits with sign."""
    if pos < stop and buf[pos] == 45:
        pos += 1
    if pos >= stop or stop - pos > 20:
        return False
    while pos < stop:
        if buf[pos] < 48 or buf[pos] > 57:
            return False
        pos += 1
    return True


@cython.cfunc
def _skip(buf: cython.p_const_uchar, pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """End of the reply at pos; -1: incomplete; -2: not RESP2."""
    todo: cython.longlong = 1
    size: cython.longlong
    start: cython.Py_ssize_t
    while todo > 0:
        if pos >= end:
            return -1
        c: cython.int = buf[pos]
        if c == 43 or c == 45 or c == 58:  # + - :
            start = pos + 1
            while pos < end and buf[pos] != 13:
                pos += 1
            if pos + 1 >= end:
                return -1
            if buf[pos + 1] != 10 or (c == 58 and not _is_integer(buf, start, pos)):
                return -2
            pos += 2
        elif c == 36 or c == 42:  # $ *
            if pos + 1 >= end:
                return -1
            if buf[pos + 1] == 45:
                if pos + 4 >= end:
                    return -1
                if buf[pos + 2] != 49 or buf[pos + 3] != 13 or buf[pos + 4] != 10:
                    return -2
                pos += 5
            else:
                size = _number(buf, pos + 1, end)
                if size == -1:
                    return -1
                if size < 0 or size > _MAX_BULK:
                    return -2
                pos += 3 + _digits(size)
                if c == 36:
                    if pos + size + 2 > end:
                        return -1
                    pos += size
                    if buf[pos] != 13 or buf[pos + 1] != 10:
                        return -2
                    pos += 2
                else:
                    todo += size
        else:
            return -2
        todo -= 1
    return pos


@cython.cfunc
def _line(data: bytes, pos: cython.Py_ssize_t) -> bytes:
    stop: cython.Py_ssize_t = data.find(b"\r\n", pos)
    return data[pos : min(stop, pos + 300)]


def replies(data: bytes, pos: cython.Py_ssize_t, count: cython.Py_ssize_t) -> tuple:
    """Read `count` replies of `data` from `pos`.

    Returns (end or -1 when incomplete, {index: error line}). Array elements are not looked into.
    """
    buf: cython.p_const_uchar = data
    end: cython.Py_ssize_t = len(data)
    i: cython.Py_ssize_t
    errors: dict = {}
    after: cython.Py_ssize_t
    for i in range(count):
        after = _skip(buf, pos, end)
        if after == -1:
            return (-1, errors)
        if after < 0:
            raise Malformed("a reply of the target is not RESP2", pos)
        if buf[pos] == 45:
            errors[i] = _line(data, pos)
        pos = after
    return (pos, errors)


COMMITTED = 0
NIL = 1  # the WATCH was spoiled
ABORTED = 2  # EXECABORT, or EXEC refused


WHOLE = -1
"""In the place of a command's index: the script that they all stood in."""


def transaction(
    data: bytes,
    pos: cython.Py_ssize_t,
    before: cython.Py_ssize_t,
    queued: cython.Py_ssize_t,
    scripted: cython.Py_ssize_t = 0,
) -> tuple:
    """Read the replies of one transaction: `before` plain ones, MULTI, `queued` QUEUED ones, EXEC.

    Args:
        scripted: so many of the commands went as one, the first one: a script that answers an array of their replies.

    Returns (end or -1 when incomplete, COMMITTED / NIL / ABORTED, {index: error} of the plain ones and MULTI,
    {index: error} at queueing, {index: error} of the executed commands; EXEC's own error is at index `queued`
    of the queueing ones, as is that of a script which was not queued). If the script itself has failed, all of its
    commands have, and index WHOLE too.
    Raises Malformed.
    """
    buf: cython.p_const_uchar = data
    end: cython.Py_ssize_t = len(data)
    i: cython.Py_ssize_t
    after: cython.Py_ssize_t
    fewer: cython.Py_ssize_t = scripted - 1 if scripted else 0
    gate: dict = {}
    refused: dict = {}
    failed: dict = {}
    for i in range(before + 1 + queued - fewer):
        if pos + 9 <= end and buf[pos] == 43 and buf[pos + 1] == 81 and buf[pos + 7] == 13:  # +QUEUED
            pos += 9
            continue
        after = _skip(buf, pos, end)
        if after == -1:
            return (-1, 0, gate, refused, failed)
        if after < 0:
            raise Malformed("a reply of the target is not RESP2", pos)
        if buf[pos] == 45:
            if i <= before:
                gate[i] = _line(data, pos)
            elif scripted and i == before + 1:
                refused[queued] = _line(data, pos)
            else:
                refused[i - before - 1 + fewer] = _line(data, pos)
        pos = after
    after = _skip(buf, pos, end)
    if after == -1:
        return (-1, 0, gate, refused, failed)
    if after < 0:
        raise Malformed("a reply of the target is not RESP2", pos)
    if buf[pos] == 45:
        refused.setdefault(queued, _line(data, pos))
        return (after, ABORTED, gate, refused, failed)
    if buf[pos] == 42 and buf[pos + 1] == 45:
        return (after, NIL, gate, refused, failed)
    if buf[pos] != 42 or _number(buf, pos + 1, end) != queued - fewer:
        raise Malformed("EXEC was not answered by as many replies as there were commands", pos)
    pos += 3 + _digits(queued - fewer)
    first: cython.Py_ssize_t = 0
    if scripted and buf[pos] == 45:
        failed = dict.fromkeys(range(-1, scripted), _line(data, pos))
        pos = _skip(buf, pos, end)
        first = scripted
    elif scripted:
        if buf[pos] != 42 or _number(buf, pos + 1, end) != scripted:
            raise Malformed("a script was not answered by as many replies as there were commands", pos)
        pos += 3 + _digits(scripted)
    for i in range(first, queued):
        if buf[pos] == 45:
            failed[i] = _line(data, pos)
        pos = _skip(buf, pos, end)
    return (pos, COMMITTED, gate, refused, failed)


def parse(data: bytes, pos: cython.Py_ssize_t) -> tuple:
    """One reply as Python values: (value, end); end is -1 when incomplete. Errors come as `ReplyError`s."""
    after: cython.Py_ssize_t = _skip(data, pos, len(data))
    if after == -1:
        return (None, -1)
    if after < 0:
        raise Malformed("a reply is not RESP2", pos)
    return (_value(data, pos)[0], after)


class ReplyError:
    """An error reply, as a value."""

    __slots__ = ("line",)

    def __init__(self, line: bytes) -> None:
        self.line = line


def _value(data: bytes, pos: int, depth: int = 0) -> tuple:
    if depth > 16:
        raise Malformed("a reply is nested too deeply", pos)
    stop = data.index(b"\r\n", pos)
    head = data[pos : pos + 1]
    body = data[pos + 1 : stop]
    if head == b"+":
        return (body, stop + 2)
    if head == b"-":
        return (ReplyError(body), stop + 2)
    if head == b":":
        return (int(body), stop + 2)
    size = int(body)
    if size < 0:
        return (None, stop + 2)
    if head == b"$":
        return (data[stop + 2 : stop + 2 + size], stop + 4 + size)
    out = []
    pos = stop + 2
    for _ in range(size):
        item, pos = _value(data, pos, depth + 1)
        out.append(item)
    return (out, pos)
