"""deploy/compose: held to the schema of Compose, and to what the commands are. The scenario rolling_restart runs it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.fernet import Fernet

from sync_tasks.settings import PREFIX, Settings
from sync_tasks.supervise.worker import DRAIN_WITHIN_S
from tests.deploy.commands import parses
from tests.deploy.compose import FILE, Service, Unset, read, services

SECRETS = dict.fromkeys(
    ("POSTGRES_PASSWORD", "BROKER_PASSWORD", "FLOWER_PASSWORD", "GRAFANA_PASSWORD", "KEYFERRY_SECRET_KEY"), "s"
)


@pytest.fixture(scope="module")
def ours() -> list[Service]:
    return [one for one in services(SECRETS).values() if one.ours]


def problems(schema: str, document: Any) -> list[str]:
    """By a schema that check-jsonschema brings."""
    from jsonschema.validators import validator_for

    text = resources.files("check_jsonschema.builtin_schemas.vendor").joinpath(f"{schema}.json").read_text()
    known = json.loads(text)
    return [f"{one.json_path}: {one.message[:200]}" for one in validator_for(known)(known).iter_errors(document)]


def test_compose_would_take_it() -> None:
    document = read(SECRETS)
    assert problems("compose-spec", document) == []
    document["services"]["load"]["stop_grace"] = "1s"
    assert problems("compose-spec", document), "a misspelt word would not be found"


def test_every_command_is_one_that_keyferry_knows(ours: list[Service]) -> None:
    commands = {one.words for one in ours}
    assert {("db", "upgrade"), ("scheduler",), ("flower",)} <= commands
    assert {words[:2] for words in commands if words[0] == "worker"} == {("worker", "--load"), ("worker", "--stream")}
    for words in commands:
        parses(words)


def test_every_variable_is_a_setting(ours: list[Service]) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert {name for one in ours for name in one.environment} <= known
    for one in ours:
        Settings(**{name.removeprefix(PREFIX).lower(): value for name, value in one.environment.items()})


@pytest.mark.parametrize("name", SECRETS)
def test_nothing_starts_without_its_secrets(name: str) -> None:
    with pytest.raises(Unset, match=rf"{name}: run \./up"):
        read({**SECRETS, name: ""})


def test_no_container_may_do_more_than_it_must(ours: list[Service]) -> None:
    for one in ours:
        said = one.said
        assert (said["read_only"], said["cap_drop"]) == (True, ["ALL"]), one.name
        assert said["security_opt"] == ["no-new-privileges:true"]
        places = [place.partition(":")[0] for place in said["tmpfs"]] + [v.partition(":")[2] for v in said["volumes"]]
        for setting in ("KEYFERRY_STATE_DIR", "KEYFERRY_SPOOL_DIR"):
            assert one.environment[setting] in places, "it could not write there"


def test_only_this_machine_reaches_flower_and_nobody_the_rest() -> None:
    published = {name: one.said["ports"] for name, one in services(SECRETS).items() if "ports" in one.said}
    ports = {"flower": 5555, "grafana": 3000, "prometheus": 9090}
    assert published == {name: [f"127.0.0.1:{port}:{port}"] for name, port in ports.items()}
    document = read(SECRETS)
    assert document["networks"]["back"]["internal"] is True
    assert {name for name in ("broker", "db") if document["services"][name]["networks"] == ["back"]} == {"broker", "db"}


def test_what_is_named_is_there() -> None:
    document = read(SECRETS)
    for name, one in document["services"].items():
        assert set(one.get("networks", ())) <= set(document["networks"]), name
        for volume in one.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (FILE.parent / source).exists() if source.startswith(".") else source in document["volumes"], volume
        assert set(one.get("depends_on", ())) <= set(document["services"])
        if "build" in one:
            context = FILE.parent / one["build"]["context"]
            assert (context / one["build"]["dockerfile"]).exists()


def observed(name: str) -> Any:
    return yaml.safe_load((FILE.parent.parent / "observe" / name).read_text())


def test_prometheus_asks_what_listens(ours: list[Service]) -> None:
    (metrics,) = (one for one in ours if one.name == "metrics")
    ours_now, theirs = yaml.safe_load((FILE.parent / "prometheus.yml").read_text()), observed("prometheus.yml")
    (job,), (usual,) = ours_now["scrape_configs"], theirs["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"metrics:{metrics.environment['KEYFERRY_METRICS_PORT']}"]}]
    usual["static_configs"] = job["static_configs"]
    assert ours_now == theirs


def test_grafana_asks_prometheus() -> None:
    ours_now = yaml.safe_load((FILE.parent / "grafana-datasource.yml").read_text())
    theirs = observed("grafana/provisioning/datasources/prometheus.yml")
    assert ours_now["datasources"][0].pop("url") == "http://prometheus:9090"
    theirs["datasources"][0].pop("url")
    assert ours_now == theirs


def test_workers_have_the_time_that_they_take_to_end(ours: list[Service]) -> None:
    workers = [one for one in ours if one.words[0] == "worker"]
    assert len(workers) == 2
    assert all(one.grace_s > DRAIN_WITHIN_S + 5 for one in workers)
    assert [one.replicas for one in ours if one.words == ("scheduler",)] == [2]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A copy of the folder, beside a `docker` that notes what it is called with."""
    (tmp_path / "up").write_text((FILE.parent / "up").read_text())
    (tmp_path / "up").chmod(0o755)
    fake = tmp_path / "bin" / "docker"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\npwd >> {tmp_path}/called\necho "$@" >> {tmp_path}/called\n')
    fake.chmod(0o755)
    return tmp_path


def run(place: Path, *words: str) -> str:
    env = {**os.environ, "PATH": f"{place}/bin:{os.environ['PATH']}"}
    done = subprocess.run([place / "up", *words], env=env, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_one_command_makes_secrets_once_and_starts_it(place: Path) -> None:
    said = run(place, "--scale", "load=3")
    made = dict(line.split("=", 1) for line in (place / ".env").read_text().splitlines())
    assert set(made) == set(SECRETS)
    assert len(set(made.values())) == len(made)
    Fernet(made["KEYFERRY_SECRET_KEY"])
    assert all(len(value) >= 24 and not set(value) & set("/+:@ ") for value in made.values()), "they stand in URLs"
    assert stat.S_IMODE((place / ".env").stat().st_mode) == 0o600
    read(made)
    assert (place / "called").read_text().splitlines() == [str(place), "compose up --detach --build --scale load=3"]
    assert "http://127.0.0.1:5555," in said
    assert not any(value in said for value in made.values())

    with (place / ".env").open("a") as file:
        file.write("FLOWER_PORT=6000\n")
    assert "http://127.0.0.1:6000," in run(place)
    kept = [line for line in (place / ".env").read_text().splitlines() if not line.startswith("FLOWER_PASSWORD=")]
    (place / ".env").write_text("\n".join(kept) + "\n")
    run(place)
    after = dict(line.split("=", 1) for line in (place / ".env").read_text().splitlines())
    assert after.pop("FLOWER_PASSWORD") not in ("", made.pop("FLOWER_PASSWORD"))
    assert after == {**made, "FLOWER_PORT": "6000"}, "a secret that was there has changed"
