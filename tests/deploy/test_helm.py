"""deploy/helm: rendered by Helm itself, and held to the schemas of Kubernetes. No cluster has run it."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from sync_tasks import messages
from sync_tasks.app import make_app, send
from sync_tasks.names import QUEUE_LOAD
from sync_tasks.settings import PREFIX, Settings
from sync_tasks.states import ChunkState
from sync_tasks.supervise.metrics import PATH, PORT
from sync_tasks.supervise.worker import DRAIN_WITHIN_S
from sync_tasks.transport import REDIS
from tests.deploy.commands import parses
from tests.deploy.tools import KUBERNETES, ROOT, helm, kubernetes_problems
from tests.servers import StartServer

CHART = ROOT / "deploy" / "helm" / "keyferry"
LOCAL = ("--set", "flower.enabled=true")
SHARED = (
    "--set", "spool.kind=shared", "--set", "keda.enabled=true", "--set", "settings.KEYFERRY_STREAM_SHIFT_S=60",
    "--set", "networkPolicy.flowerFrom[0].podSelector.matchLabels.app=proxy",
    "--set", "networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus",
    "--set", "metrics.serviceMonitor=true", "--set", "certificates.secret=files",
)  # fmt: skip
OBJECT = (
    "--set", "spool.kind=object", "--set", "spool.url=s3://bucket/prefix", "--set", "spool.credentials=store",
    "--set", "keda.enabled=true",
)  # fmt: skip
FORMS = {"local": LOCAL, "shared": SHARED, "object": OBJECT}
WORKLOADS = ("StatefulSet", "Deployment", "Job")
OTHERS = ("keda.sh/", "monitoring.coreos.com/")
"""Whose definitions are not Kubernetes' own."""


@cache
def _text(*options: str) -> str:
    return helm("template", "here", str(CHART), *options)


def rendered(*options: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(_text(*options)) if one]


@pytest.fixture(params=FORMS)
def things(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return rendered(*FORMS[request.param])


def containers(things: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each with the pod that it is in."""
    pods = [one["spec"]["template"]["spec"] for one in things if one["kind"] in WORKLOADS]
    return [(pod, container) for pod in pods for container in pod["containers"]]


def one(things: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = (thing for thing in things if (thing["kind"], thing["metadata"]["name"]) == (kind, name))
    return found


@pytest.mark.parametrize("form", FORMS)
def test_helm_finds_nothing_wrong(form: str) -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in helm("lint", "--strict", str(CHART), *FORMS[form])


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_would_take_it(things: list[dict[str, Any]], version: str) -> None:
    ours = [thing for thing in things if not thing["apiVersion"].startswith(OTHERS)]
    assert len(ours) >= 8
    assert [problem for thing in ours for problem in kubernetes_problems(version, thing)] == []


def test_a_misspelt_field_would_be_found(things: list[dict[str, Any]]) -> None:
    scheduler = one(things, "Deployment", "here-keyferry-scheduler")
    scheduler["spec"]["template"]["spec"]["containers"][0]["arg"] = []
    assert kubernetes_problems(KUBERNETES[-1], scheduler)


def test_every_command_is_one_that_keyferry_knows(things: list[dict[str, Any]]) -> None:
    commands = [tuple(container["args"]) for _, container in containers(things)]
    for _, container in containers(things):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if "exec" in container.get(probe, {}):
                program, *words = container[probe]["exec"]["command"]
                assert program == "keyferry"
                commands.append(tuple(words))
    assert ("health", "--ready") in commands
    assert {("db", "upgrade"), ("scheduler",), ("flower",), ("metrics",)} <= set(commands)
    for words in commands:
        parses(words)


def test_every_variable_is_a_setting(things: list[dict[str, Any]]) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for _, container in containers(things):
        names = [variable["name"] for variable in container["env"]]
        assert len(names) == len(set(names))
        assert set(names) - {"POD_NAME"} <= known


def test_no_container_may_do_more_than_it_must(things: list[dict[str, Any]]) -> None:
    for pod, container in containers(things):
        assert (pod["securityContext"]["runAsNonRoot"], pod["automountServiceAccountToken"]) == (True, False)
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        written = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"/var/lib/keyferry", "/tmp"} <= written


def test_two_containers_of_a_pod_have_names_of_their_own() -> None:
    """Both number their processes alike: a lease's owner is told by host and process."""
    stream = one(rendered(*LOCAL), "StatefulSet", "here-keyferry-stream")
    hosts = [
        next(variable["value"] for variable in container["env"] if variable["name"] == "KEYFERRY_HOST")
        for container in stream["spec"]["template"]["spec"]["containers"]
    ]
    assert hosts == ["$(POD_NAME)", "$(POD_NAME)-load", "$(POD_NAME)-metrics"]
    states = [
        next(mount["subPath"] for mount in container["volumeMounts"] if mount["name"] == "state")
        for container in stream["spec"]["template"]["spec"]["containers"]
    ]
    assert len(set(states)) == 3, "a probe sees the processes of its own container alone"


def test_chunks_are_loaded_where_they_can_be_read(things: list[dict[str, Any]]) -> None:
    stream = one(things, "StatefulSet", "here-keyferry-stream")
    beside = [c["name"] for c in stream["spec"]["template"]["spec"]["containers"] if c["name"] != "metrics"]
    deployments = [thing for thing in things if thing["kind"] == "Deployment"]
    elsewhere = [thing for thing in deployments if thing["metadata"]["name"].endswith("-load")]
    if "load" in beside:
        assert "volumeClaimTemplates" in stream["spec"]
        assert (beside, elsewhere) == (["stream", "load"], [])
        return
    assert (beside, len(elsewhere)) == (["stream"], 1)
    assert "replicas" not in elsewhere[0]["spec"], "KEDA's own"
    if "volumeClaimTemplates" in stream["spec"]:
        (emptied,) = [v for v in elsewhere[0]["spec"]["template"]["spec"]["volumes"] if v["name"] == "spool"]
        assert emptied == {"name": "spool", "emptyDir": {}}
        for thing in (stream, elsewhere[0]):
            (container,) = [c for c in thing["spec"]["template"]["spec"]["containers"] if c["name"] != "metrics"]
            assert {"name": "KEYFERRY_SPOOL_URL", "value": "s3://bucket/prefix"} in container["env"]
            assert container["envFrom"] == [{"secretRef": {"name": "store"}}]
        return
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for thing in (stream, elsewhere[0])
        for volume in thing["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "spool"
    }
    assert claims == {"here-keyferry-spool"}
    assert one(things, "PersistentVolumeClaim", "here-keyferry-spool")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_workers_have_the_time_that_they_take_to_end(things: list[dict[str, Any]]) -> None:
    for thing in things:
        pod = thing.get("spec", {}).get("template", {}).get("spec", {})
        if any(container["args"][0] == "worker" for container in pod.get("containers", ())):
            assert pod["terminationGracePeriodSeconds"] > DRAIN_WITHIN_S + 5


def test_budgets_and_policies_select_pods_that_are_there(things: list[dict[str, Any]]) -> None:
    labels = [thing["spec"]["template"]["metadata"]["labels"] for thing in things if thing["kind"] in WORKLOADS]
    for thing in things:
        spec = thing["spec"]
        chosen = {
            "PodDisruptionBudget": lambda spec=spec: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda spec=spec: spec["podSelector"]["matchLabels"],
            "Service": lambda spec=spec: spec["selector"],
        }.get(thing["kind"])
        if chosen:
            assert [one for one in labels if chosen().items() <= one.items()], thing["metadata"]["name"]
    workers = [one for one in labels if one["app.kubernetes.io/component"] in ("stream", "load")]
    assert all(one["keyferry/reaches"] == "data" for one in workers)


def test_each_spool_is_told_of_by_metrics_without_the_key(things: list[dict[str, Any]]) -> None:
    stream = one(things, "StatefulSet", "here-keyferry-stream")["spec"]["template"]
    (found,) = (c for c in stream["spec"]["containers"] if c["name"] == "metrics")
    service = one(things, "Service", "here-keyferry-metrics")
    assert service["spec"]["selector"].items() <= stream["metadata"]["labels"].items()
    (port,) = found["ports"]
    assert (port["name"], port["containerPort"]) == (service["spec"]["ports"][0]["targetPort"], PORT)
    env = {variable["name"]: variable.get("value") for variable in found["env"]}
    assert (env["KEYFERRY_METRICS_ADDRESS"], env["KEYFERRY_METRICS_PORT"]) == ("0.0.0.0", str(PORT))
    assert "KEYFERRY_SECRET_KEY" not in env
    (spool,) = (mount for mount in found["volumeMounts"] if mount["name"] == "spool")
    assert (spool["mountPath"], spool["readOnly"]) == (env["KEYFERRY_SPOOL_DIR"], True)
    monitors = [thing for thing in things if thing["kind"] == "ServiceMonitor"]
    scraped = service["metadata"].get("annotations", {})
    if not monitors:
        assert (scraped["prometheus.io/port"], scraped["prometheus.io/path"]) == (str(PORT), PATH)
        return
    assert scraped == {}, "once is enough"
    spec = monitors[0]["spec"]
    assert spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert (spec["endpoints"][0]["port"], spec["endpoints"][0]["path"]) == (service["spec"]["ports"][0]["name"], PATH)
    services = [thing["metadata"]["labels"] for thing in things if thing["kind"] == "Service"]
    assert len([1 for labels in services if spec["selector"]["matchLabels"].items() <= labels.items()]) == 1
    policy = one(things, "NetworkPolicy", "here-keyferry-metrics")["spec"]
    assert policy["ingress"][0]["ports"] == [{"port": "metrics", "protocol": "TCP"}]


def test_without_metrics_nothing_listens() -> None:
    things = rendered(*LOCAL, "--set", "metrics.enabled=false")
    assert "metrics" not in _text(*LOCAL, "--set", "metrics.enabled=false")
    stream = one(things, "StatefulSet", "here-keyferry-stream")["spec"]["template"]["spec"]
    assert all("ports" not in container for container in stream["containers"])


def test_files_that_urls_name_are_there_in_every_container() -> None:
    found = containers(rendered(*SHARED))
    assert len(found) >= 6
    for pod, container in found:
        assert [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume] == ["files"]
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert mounts["certificates"]["mountPath"] == "/etc/keyferry/certificates"
        assert mounts["certificates"]["readOnly"] is True
    assert "certificates" not in _text(*LOCAL)


def test_all_servers_of_a_broker_are_reached() -> None:
    policy = one(rendered("--set", "networkPolicy.brokerPorts={6379,26379}"), "NetworkPolicy", "here-keyferry")["spec"]
    assert [port["port"] for port in policy["egress"][0]["ports"]] == [53, 53, 5432, 6379, 26379]


def test_keda_looks_at_the_queue_of_a_rabbitmq_or_at_none() -> None:
    things = rendered(*SHARED, "--set", "keda.queue=rabbitmq")
    triggers = one(things, "ScaledObject", "here-keyferry-load")["spec"]["triggers"]
    queue = next(trigger["metadata"] for trigger in triggers if trigger["type"] == "rabbitmq")
    assert (queue["queueName"], queue["mode"], queue["value"]) == (QUEUE_LOAD, "QueueLength", "8")
    secret = one(things, "TriggerAuthentication", "here-keyferry")["spec"]["secretTargetRef"]
    keys = {entry["parameter"]: entry["key"] for entry in secret}
    assert keys == {"connection": "keda-database", "host": "broker-url"}
    none = one(rendered(*SHARED, "--set", "keda.queue=none"), "ScaledObject", "here-keyferry-load")["spec"]
    assert [trigger["type"] for trigger in none["triggers"]] == ["postgresql"]


def test_keda_asks_what_is_there() -> None:
    things = rendered(*SHARED)
    scaled = one(things, "ScaledObject", "here-keyferry-load")["spec"]
    assert scaled["scaleTargetRef"]["name"] == "here-keyferry-load"
    by_type = {trigger["type"]: trigger for trigger in scaled["triggers"]}
    assert by_type["redis"]["metadata"]["listName"] == f"{REDIS['global_keyprefix']}{QUEUE_LOAD}"
    assert f"('{ChunkState.READY}', '{ChunkState.RUNNING}')" in by_type["postgresql"]["metadata"]["query"]
    secret = one(things, "TriggerAuthentication", "here-keyferry")["spec"]["secretTargetRef"]
    assert {entry["parameter"] for entry in secret} == {"connection", "address", "password"}
    assert {trigger["authenticationRef"]["name"] for trigger in scaled["triggers"]} == {"here-keyferry"}
    for trigger in scaled["triggers"]:
        assert all(isinstance(value, str) for value in trigger["metadata"].values()), "KEDA takes nothing else"


def test_a_message_waits_where_keda_looks(server: StartServer) -> None:
    broker = server("valkey-9.1")
    scaled = one(rendered(*SHARED), "ScaledObject", "here-keyferry-load")["spec"]
    (queue,) = (trigger["metadata"] for trigger in scaled["triggers"] if trigger["type"] == "redis")
    app = make_app(Settings(broker_url=f"redis://127.0.0.1:{broker.port}/{queue['databaseIndex']}"))
    for number in range(3):
        send(app, messages.load(number, "orders-move", 0, 0, 0, number, None))
    assert broker.client(db=int(queue["databaseIndex"])).llen(queue["listName"]) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--set", "keda.enabled=true"), "keda.enabled needs spool.kind shared or object"),
        (("--set", "spool.kind=object"), "spool.kind object needs spool.url"),
        (("--set", "spool.kind=object", "--set", "spool.url=s3://who:secret@bucket"), "does not match pattern"),
        (("--set", "stream.nods=4"), "'nods' not allowed"),
        (("--set", "settings.KEYFERRY_HOST=a"), "invalid propertyName 'KEYFERRY_HOST'"),
        (("--set", "load.terminationGracePeriodSeconds=10"), "minimum"),
        (("--set", "spool.kind=other"), "value must be one of"),
        (("--set", "keda.queue=kafka"), "value must be one of"),
        (("--set", "settings.KEYFERRY_METRICS_PORT=1"), "invalid propertyName 'KEYFERRY_METRICS_PORT'"),
    ],
)
def test_values_that_cannot_be_are_refused(options: tuple[str, ...], said: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        rendered(*options)
    assert said in caught.value.stderr


def test_the_version_is_the_products() -> None:
    import tomllib

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads(Path(ROOT / "pyproject.toml").read_text())["project"]
    assert chart["appVersion"] == project["version"]
