"""deploy/compose/compose.yaml as Compose reads it, and its containers as processes of this machine.

What it says is kept: commands, environment, how many of each. Only addresses and directories are this machine's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy.engine import make_url

from tests.hosts import Host, Installation, Process
from tests.servers import free_port

FILE = Path(__file__).parents[2] / "deploy" / "compose" / "compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")
OURS = re.compile(r"^keyferry:")


class Unset(Exception):
    """A variable that must be given is not."""


def _filled(value: Any, variables: dict[str, str]) -> Any:
    """With its variables put in, as Compose does it: after the YAML is read."""

    def one(found: re.Match[str]) -> str:
        name, kind, text = found.groups()
        if variables.get(name):
            return variables[name]
        if kind == "?":
            raise Unset(f"{name}: {text}")
        return text or ""

    if isinstance(value, str):
        return VARIABLE.sub(one, value)
    if isinstance(value, dict):
        return {key: _filled(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, variables) for inner in value]
    return value


@dataclass(frozen=True)
class Service:
    """One of the file. `said`: all that it says."""

    name: str
    said: dict[str, Any]

    @property
    def ours(self) -> bool:
        return bool(OURS.match(self.said["image"]))

    @property
    def words(self) -> tuple[str, ...]:
        """What runs, without the entry point."""
        return tuple(self.said.get("command", ()))

    @property
    def environment(self) -> dict[str, str]:
        return dict(self.said.get("environment", {}))

    @property
    def replicas(self) -> int:
        return int(self.said.get("deploy", {}).get("replicas", 1))

    @property
    def grace_s(self) -> float:
        """From SIGTERM to SIGKILL; Docker's own is 10 s."""
        return float(str(self.said.get("stop_grace_period", "10s")).removesuffix("s"))


def read(variables: dict[str, str], path: Path = FILE) -> dict[str, Any]:
    """The whole file. Raises Unset."""
    found = _filled(yaml.safe_load(path.read_text()), variables)
    assert isinstance(found, dict)
    return found


def services(variables: dict[str, str]) -> dict[str, Service]:
    """By name. Raises Unset."""
    return {name: Service(name, said) for name, said in read(variables)["services"].items()}


def broker_config(service: Service) -> dict[str, str]:
    """Settings that its command line gives to the server."""
    program, *words = service.words
    assert program == "valkey-server"
    return {words[at].removeprefix("--"): words[at + 1] for at in range(0, len(words), 2)}


class Container:
    """One process of a service, on a host of its own."""

    def __init__(self, service: Service, host: Host) -> None:
        self.service, self.host = service, host
        self.process: Process | None = None

    def start(self) -> Container:
        self.process = self.host.start(*self.service.words)
        return self

    def stop(self) -> int:
        """As `docker stop` does it. Raises subprocess.TimeoutExpired where that would kill."""
        assert self.process is not None
        code = self.process.stop(self.service.grace_s)
        self.host.processes.remove(self.process)
        return code


class Composed:
    """The file's own services on an installation of this machine."""

    def __init__(self, here: Installation, variables: dict[str, str], spool: Path) -> None:
        self.here, self.spool = here, spool
        self.services = {name: one for name, one in services(variables).items() if one.ours}

    def container(self, name: str, number: int = 1) -> Container:
        """One more, not started."""
        service = self.services[name]
        host = self.here.host(f"{name}-{number}")
        bare = {key: value for key, value in host.env.items() if not key.startswith("KEYFERRY_")}
        own = {"KEYFERRY_STATE_DIR": str(host.directory), "KEYFERRY_HOST": host.name}
        host.env = {**bare, **self._environment(service), **own}
        return Container(service, host)

    def up(self) -> list[Container]:
        """All that `docker compose up` starts, once the database is up to date."""
        upgrade = self.container("upgrade").start()
        assert upgrade.process is not None
        assert upgrade.process.popen.wait(60) == 0, self.here.report()
        stays = [one for name, one in self.services.items() if name != "upgrade" and "profiles" not in one.said]
        return [self.container(one.name, number).start() for one in stays for number in range(1, one.replicas + 1)]

    def _environment(self, service: Service) -> dict[str, str]:
        made, settings = service.environment, self.here.settings
        assert make_url(made["KEYFERRY_DATABASE_URL"]).host == "db"
        made["KEYFERRY_DATABASE_URL"] = settings["KEYFERRY_DATABASE_URL"]
        address = settings["KEYFERRY_BROKER_URL"].partition("@")[2].partition("/")[0]
        made["KEYFERRY_BROKER_URL"] = made["KEYFERRY_BROKER_URL"].replace("@broker:6379/", f"@{address}/")
        assert address in made["KEYFERRY_BROKER_URL"]
        made["KEYFERRY_SPOOL_DIR"] = str(self.spool)
        if "KEYFERRY_METRICS_PORT" in made:
            made["KEYFERRY_METRICS_PORT"] = str(free_port())
        if "KEYFERRY_FLOWER_PORT" in made:
            made["KEYFERRY_FLOWER_PORT"] = settings["KEYFERRY_FLOWER_PORT"]
        return made
