"""The pages of docs/ as a site."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.deploy.tools import ROOT

CONFIG = ROOT / "mkdocs.yml"


def build(*options: str) -> subprocess.CompletedProcess[str]:
    """Not `--quiet`: warnings that nobody sees are not counted either."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", *options]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    done = build("--site-dir", str(place))
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def test_every_page_has_its_place(site: Path) -> None:
    def pages(entry: object) -> set[str]:
        if isinstance(entry, dict):
            entry = list(entry.values())
        return {name for one in entry for name in pages(one)} if isinstance(entry, list) else {str(entry)}

    named = pages(yaml.safe_load(CONFIG.read_text())["nav"])
    there = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert there - named == set(), "give it a place in the nav of mkdocs.yml"
    for name in named:
        folder = "" if name == "index.md" else name.removesuffix(".md")
        assert (site / folder / "index.html").exists(), name


def test_links_lead_within_the_site_and_nothing_is_fetched(site: Path) -> None:
    start = (site / "index.html").read_text()
    assert 'href="guarantees/"' in start
    assert 'src="flower.png"' in start
    assert 'href="changelog/"' in start
    assert 'href="docs/' not in start
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert 'href="https://fonts' not in text
        assert 'src="http' not in text, page


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "deploy.md").write_text("# A\n\n[there](upgrading.md#nowhere)\n")
    (docs / "upgrading.md").write_text("# B\n")
    text = CONFIG.read_text().partition("nav:\n  -")[0].replace("docs_dir: docs", f"docs_dir: {docs}")
    text = text.replace("hooks: [deploy/site/hooks.py]", "hooks: []")
    (tmp_path / "mkdocs.yml").write_text(text)
    done = build("--config-file", str(tmp_path / "mkdocs.yml"), "--site-dir", str(tmp_path / "site"))
    assert done.returncode != 0
    assert "#nowhere" in done.stdout + done.stderr
