"""Addresses of users' servers: showing without secrets, connecting."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from sync_tasks import dumps, urls
from sync_tasks.answers import classify
from sync_tasks.errors import Retry, Side, UsageError
from sync_tasks.server_identity import identity

if TYPE_CHECKING:
    from redis import Redis

CONNECT_TIMEOUT_S = 5.0
SOCKET_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server, a cluster, or the master that Sentinels know. `password` is never shown; `db` is None when the URL
    names none.

    `password_file` is read at each use, so a rotated password is picked up.
    """

    side: Side
    scheme: str
    host: str = ""
    port: int = urls.DEFAULT_PORT
    path: str = ""  # of the unix socket
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int | None = None
    tls: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    sni: str | None = None
    password_file: str | None = None
    nodes: tuple[tuple[str, int], ...] = ()  # of a cluster, or Sentinels: some of them; (): it is one server
    master: str = ""  # the name that Sentinels know it by
    sentinel_username: str | None = None
    sentinel_password_file: str | None = None
    slot: int | None = None  # of a cluster: whichever node serves it
    shard: tuple[str, ...] = ()  # of a cluster: the master of the shard that has these members, or once had
    slots: tuple[tuple[int, int], ...] = ()  # of that shard, if none of them is left
    query: str | None = field(default=None, repr=False)  # of an RDB file's URL; may be a secret

    @property
    def is_cluster(self) -> bool:
        """Whether it is a whole cluster."""
        return bool(self.nodes) and not self.master and self.slot is None and not self.shard

    @property
    def is_sentinel(self) -> bool:
        """Whether Sentinels tell where it is."""
        return bool(self.master)

    @property
    def is_dump(self) -> bool:
        """Whether it is no server, but an RDB file: see `dumps`."""
        return self.scheme in dumps.SCHEMES

    def at(self, host: str, port: int) -> Endpoint:
        """One server of it: the same credentials, TLS and database."""
        scheme = "rediss" if self.tls else "redis"
        return replace(
            self, scheme=scheme, host=host, port=port, path="", nodes=(), master="", slot=None, shard=(), slots=()
        )

    def now(self) -> Endpoint:
        """The one server that is meant at this moment. Raises as `finding.find`, if there are several."""
        if self.is_dump:
            raise UsageError(f"{self.safe()} is a file, and no server", hint="name a server", code="no-server")
        if not self.nodes:
            return self
        from sync_tasks.finding import find

        return find(self)

    def serving(self, slot: int) -> Endpoint:
        """Of a cluster: whichever node serves a hash slot, found anew for each connection."""
        return replace(self, slot=slot)

    def of_shard(self, members: tuple[str, ...], slots: tuple[tuple[int, int], ...]) -> Endpoint:
        """Of a cluster: the master of a shard, found anew for each connection, by the names of its members."""
        return replace(self, shard=members, slots=slots)

    @classmethod
    def parse(cls, url: str, side: Side, password: str | None = None, *, files: bool = False) -> Endpoint:
        """An endpoint of a URL. No error shows the URL: what is wrong in it may be its password.

        Args:
            url: as in SPEC 1. `user:password@` is an ACL user (or a cloud's account); `:password@` and
                `password@` are a password alone.
            side: SOURCE or TARGET, named in errors.
            password: used if the URL names neither a password nor a file (KEYFERRY_SOURCE_PASSWORD, ...).
            files: an RDB file will do, too.

        Raises:
            UsageError: not such a URL, or a file that it names cannot be read.
        """
        if files and side is Side.SOURCE and dumps.is_dump(url):
            found = cls(side=side, **dumps.read(url))
            dumps.check(found)
            return found
        found = cls(side=side, **urls.read(url, side, password))
        urls.check_files(found.ca, found.cert, found.key, found.password_file, side, found.sentinel_password_file)
        return found

    @classmethod
    def stored(cls, url: str, side: Side) -> Endpoint:
        """The endpoint whose `url()` was stored. Its files were there once: they are looked at when they are used.

        Raises:
            UsageError: not such a URL.
        """
        if url.partition("://")[0] in dumps.SCHEMES:
            return cls(side=side, **dumps.read(url))
        return cls(side=side, **urls.read(url, side, None))

    def __str__(self) -> str:
        return self.safe()

    def url(self) -> str:
        """The full URL, secrets included; `parse` of it gives an equal endpoint."""
        password = quote(self.password, safe="") if self.password is not None else None
        return dumps.written(self, password, self.query) if self.is_dump else self._format(password)

    def safe(self) -> str:
        """The URL for showing: no password in it."""
        return self._format("***" if self.password is not None else None)

    def bare(self) -> str:
        """The URL without its password, to be used again: the password may come from the environment."""
        return self._format(None)

    def address(self) -> str:
        """host:port or the socket's path, as people write it; of several nodes all that are named, and whose master."""
        if self.is_dump and self.scheme != dumps.FILE:
            return f"{self.scheme}://{self.path}"
        if self.nodes:
            return ",".join(f"{_bracketed(host)}:{port}" for host, port in self.nodes) + self._name()
        return self.path or f"{_bracketed(self.host)}:{self.port}"

    def _name(self) -> str:
        return f"/{quote(self.master, safe='')}" if self.master else ""

    def is_same_place(self, other: Endpoint) -> bool:
        """Whether both mean one place, as far as their spelling tells: of several nodes one in common is enough."""
        if self.is_dump or other.is_dump:
            return self.is_dump == other.is_dump and self.address() == other.address()
        if self.nodes and other.nodes:
            return self.master == other.master and not set(self.nodes).isdisjoint(other.nodes)
        return not self.nodes and not other.nodes and self.address() == other.address()

    def identity(self) -> str:
        """The server as tasks that share one see it: see `server_identity`."""
        if self.is_dump:
            return identity(path=self.address())
        return identity(self.nodes or [(self.host, self.port)], path=self.path, master=self.master)

    def secret(self) -> str | None:
        """The password, from the URL or read from its file. Raises UsageError, for a retry, if that cannot be read."""
        if self.password is not None or not self.password_file:
            return self.password
        try:
            return urls.read_password(self.password_file, self.side)
        except UsageError as error:
            raise self._unreadable(error.message, error.hint) from error

    def auth_commands(self) -> list[tuple[bytes, ...]]:
        """What to say first on a raw connection: AUTH, or nothing."""
        secret = self.secret()
        if secret is None:
            return []
        user = (self.username.encode(),) if self.username else ()
        return [(b"AUTH", *user, secret.encode())]

    def connection_kwargs(self) -> dict[str, Any]:
        """Arguments of `redis.Redis`: address, credentials, TLS; RESP2, no CLIENT SETINFO: old servers know neither."""
        kwargs: dict[str, Any] = {
            "db": self.db or 0,
            "username": self.username,
            "password": self.secret(),
            "protocol": 2,
            "driver_info": None,
        }
        if self.path:
            return {**kwargs, "unix_socket_path": self.path}
        kwargs |= {"host": self.host, "port": self.port}
        if self.tls:
            kwargs |= {
                "ssl": True,
                "ssl_cert_reqs": "required",
                "ssl_check_hostname": True,
                "ssl_ca_certs": self.ca,
                "ssl_certfile": self.cert,
                "ssl_keyfile": self.key,
            }
        return kwargs

    def connect(self, **kw: Any) -> Redis:
        """A client that neither decodes nor retries by itself: a command sent twice may count twice.

        Of a cluster: one of the node that serves `slot`, or else of any. Raises what finding that does.
        """
        if self.nodes or self.is_dump:
            return self.now().connect(**kw)
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        kwargs: dict[str, Any] = {
            "socket_timeout": SOCKET_TIMEOUT_S,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "decode_responses": False,
            "retry": Retry(NoBackoff(), 0),
        }
        client: Redis = Redis(**(self.connection_kwargs() | kwargs | kw))
        if self.tls and self.sni:
            from sync_tasks.sni import SniConnection

            client.connection_pool.connection_class = SniConnection
            client.connection_pool.connection_kwargs["server_name"] = self.sni
        return client

    def open_socket(self, timeout: float = CONNECT_TIMEOUT_S) -> socket.socket:
        """A connected (and TLS-verified) blocking socket, not yet authenticated.

        Args:
            timeout: seconds for connect and handshake; stays set on the socket.

        Raises:
            KeyferryError: as `answers.classify` says.
        """
        if self.nodes or self.is_dump:
            return self.now().open_socket(timeout)
        try:
            return self._open(timeout)
        except OSError as error:
            raise classify(error, self.side) from error

    def tls_context(self) -> ssl.SSLContext:
        """Verifies the server against `ca`, or the system's authorities. Raises as `secret`."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert:
                context.load_cert_chain(self.cert, self.key)
        except OSError as error:
            reason = getattr(error, "reason", None) or error.strerror or "not PEM"
            files = ", ".join(file for file in (self.ca, self.cert, self.key) if file)
            what = f"{self.side.value} URL: the certificates cannot be used: {reason} ({files})"
            raise self._unreadable(what, "give PEM files that can be read and belong together") from error
        return context

    def _unreadable(self, what: str, hint: str) -> UsageError:
        """A file was in order when the URL was given: it is being replaced, perhaps, so the retry window decides."""
        return UsageError(what, hint=hint, code="file-missing", side=self.side, retry=Retry.OTHER)

    def _open(self, timeout: float) -> socket.socket:
        if self.path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(timeout)
                sock.connect(self.path)
            except BaseException:
                sock.close()
                raise
            return sock
        sock = socket.create_connection((self.host, self.port), timeout)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if not self.tls:
                return sock
            return self.tls_context().wrap_socket(sock, server_hostname=self.sni or self.host)
        except BaseException:
            sock.close()
            raise

    def _format(self, password: str | None) -> str:
        if self.is_dump:
            return dumps.written(self, password, query="***")
        user = quote(self.username, safe="") if self.username else ""
        info = f"{user}:{password}@" if password is not None else f"{user}@" if user else ""
        names = ("ca", "cert", "key", "sni", "password_file", "sentinel_username", "sentinel_password_file")
        query = {name: value for name in names if (value := getattr(self, name))}
        if self.nodes:
            place = self.address()
            query |= {"db": str(self.db)} if self.db is not None else {}
        elif self.path:
            place = quote(self.path)
            query |= {"db": str(self.db)} if self.db is not None else {}
        else:
            place = f"{_bracketed(self.host)}:{self.port}" + (f"/{self.db}" if self.db is not None else "")
        return f"{self.scheme}://{info}{place}" + (f"?{urlencode(query)}" if query else "")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
