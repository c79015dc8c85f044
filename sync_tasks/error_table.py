"""The one table of what can go wrong with a server: how long that is retried, whose it is, and what to do.

docs/errors.md is made from it. What recognises a row in an answer or an exception stands in `answers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sync_tasks.errors import Retry


class Kind(StrEnum):
    """What becomes of an error."""

    LOST = "lost"  # no connection
    CREDENTIALS = "credentials"  # a password may be rotated on one side first
    BUSY = "busy"  # heals by itself, or by the operator's hand
    DISK = "disk"  # the same, of our own disk
    REFUSED = "refused"  # does not heal


RETRIES: dict[Kind, Retry] = {
    Kind.LOST: Retry.CONNECTION,
    Kind.CREDENTIALS: Retry.OTHER,
    Kind.BUSY: Retry.OTHER,
    Kind.DISK: Retry.OTHER,
    Kind.REFUSED: Retry.FATAL,
}
"""The window that a kind opens while a task runs. A start is refused at once by any of them."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that can go wrong.

    Args:
        kind: what becomes of it.
        hint: what the user can do, one sentence.
        source_hint: the hint on the source's side, where it differs.
        message: what is shown instead of a server's own words.
        code: a stable name, where it is more precise than that of the error's class.
    """

    kind: Kind
    hint: str
    source_hint: str = ""
    message: str = ""
    code: str = ""

    @property
    def retry(self) -> Retry:
        """The window that it opens."""
        return RETRIES[self.kind]


REACH = "check host and port, that the server runs, and that no firewall is between"
SILENT = "check host and port, the network between, and that the server is not stopped"
CUT = "the server closed the connection: see its log, client-output-buffer-limit and timeout"
NO_PERMISSION = "grant the user of the URL this command and all keys: `keyferry task check` shows the line that does"
MOVED = "the slot is another node's now, which is asked next; name a cluster as redis+cluster://host:port"
CROSSING = "name a cluster as redis+cluster://host:port, not one of its members"
NO_MASTER = "a replica without its master: mend its replication"
OLDER = "is the target's version older than the source's, or does it lack a module?"
DISK = "free some: the work goes on by itself"

CONNECTIONS: dict[str, Row] = {
    "refused": Row(Kind.LOST, REACH, message="connection refused"),
    "reset": Row(Kind.LOST, CUT, message="the connection was cut"),
    "closed": Row(Kind.LOST, CUT, message="the connection was closed"),
    "timeout": Row(Kind.LOST, SILENT, message="no answer in time"),
    "dns": Row(
        Kind.LOST,
        "check the spelling of the host and the name server",
        message="the host name is not known",
        code="dns",
    ),
    "tls": Row(Kind.LOST, "check that the port speaks TLS, and ca, cert, key and sni in the URL", code="tls"),
    "unreachable": Row(Kind.LOST, REACH),
    "not-redis": Row(
        Kind.REFUSED,
        "the address answers, but not as a Redis-compatible server: check host, port and TLS (rediss://)",
        message="it does not speak the Redis protocol",
        code="not-redis",
    ),
    "disk": Row(Kind.DISK, DISK, message="no space left on the disk of the state directory"),
}
"""How connections and our own disk fail."""

ANSWERS: dict[str, Row] = {
    "NOAUTH": Row(Kind.CREDENTIALS, "give a user and password in the URL, by password_file or by the environment"),
    "WRONGPASS": Row(Kind.CREDENTIALS, "check user and password; write special characters in the URL as %XX"),
    "NOPERM": Row(
        Kind.CREDENTIALS,
        NO_PERMISSION,
        "grant the user +psync +replconf and the reading commands on all keys: `keyferry task check` shows how",
    ),
    "DENIED": Row(Kind.CREDENTIALS, "protected mode: set a password on the server or allow this host to connect"),
    "LOADING": Row(Kind.BUSY, "it reads its data set from disk: it will answer once done"),
    "BUSY": Row(Kind.BUSY, "a script runs there too long: wait, or end it with SCRIPT KILL"),
    "READONLY": Row(Kind.BUSY, "it is a replica or was demoted: name its master, or make it the master"),
    "MASTERDOWN": Row(
        Kind.BUSY,
        NO_MASTER,
        "the replica has lost its master and serves no stale data: mend its replication or name the master",
    ),
    "CLUSTERDOWN": Row(Kind.BUSY, "the cluster does not serve all slots: see CLUSTER INFO there"),
    "TRYAGAIN": Row(Kind.BUSY, "a slot is being moved: it will answer once done"),
    "OOM": Row(Kind.BUSY, "memory is at maxmemory: raise it, or free some"),
    "NOREPLICAS": Row(Kind.BUSY, "min-replicas-to-write is not met: bring replicas back or lower it"),
    "MISCONF": Row(Kind.BUSY, "it cannot save to disk and so refuses writes: see its log and free disk space"),
    "NOMASTERLINK": Row(
        Kind.BUSY, "a replica without its master cannot be followed: mend its replication or name the master"
    ),
    "MAXCLIENTS": Row(Kind.LOST, "maxclients is reached there: raise it or close connections"),
    "MOVED": Row(Kind.BUSY, MOVED),
    "ASK": Row(Kind.BUSY, MOVED),
    "CROSSSLOT": Row(Kind.REFUSED, CROSSING),
    "WRONGTYPE": Row(Kind.REFUSED, "another writer has changed the key's type: nobody else may write to these keys"),
    "NOSCRIPT": Row(Kind.REFUSED, "the script is not known there: load it, or call it by EVAL"),
    "BUSYKEY": Row(Kind.REFUSED, "the key exists: empty the target or use ignore-and-proceed"),
    "UNKNOWN": Row(Kind.REFUSED, "it is too old, or the command was renamed or disabled there"),
    "PAYLOAD": Row(Kind.REFUSED, OLDER, code="refused-value"),
    "EXECABORT": Row(Kind.REFUSED, "a command of the transaction was refused: the answer before says why"),
}
"""First word of an error reply (or the name `answers` finds for it) to what it means."""

ANYTHING_ELSE = Row(Kind.REFUSED, "the server refuses; its documentation explains the answer")
"""An answer that no row knows."""
