"""A page as a person sees it: rendered by a headless Chromium, scripts run.

    text(url)               what stands on it
    picture(url, path)      a PNG
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
RENDER_WITHIN_MS = 10_000  # of the page's own clock: its requests are waited for
TIMEOUT_S = 60


def needs_browser() -> str:
    """Path of a Chromium. Skips the calling test when there is none; in CI fails it instead."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is not None:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail("no Chromium here", pytrace=False)
    pytest.skip("no Chromium here")


def text(url: str) -> str:
    """The words of the rendered page, without its markup."""
    dom = _chromium("--dump-dom", url)
    return " ".join(html.unescape(re.sub(r"<script.*?</script>|<[^>]*>", " ", dom, flags=re.DOTALL)).split())


def picture(url: str, path: Path, width: int = 1400, height: int = 700) -> None:
    """Save the rendered page."""
    _chromium(f"--screenshot={path}", f"--window-size={width},{height}", url)
    assert path.read_bytes().startswith(b"\x89PNG"), path


def _chromium(*options: str) -> str:
    with tempfile.TemporaryDirectory(prefix="keyferry-browser-") as profile:
        fixed = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
        command = [needs_browser(), *fixed, f"--user-data-dir={profile}", f"--virtual-time-budget={RENDER_WITHIN_MS}"]
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=TIMEOUT_S)
        assert done.returncode == 0, done.stderr
        return done.stdout
