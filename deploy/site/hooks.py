"""For mkdocs: pages that lie outside docs/, and links of docs/ to files that are no pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""File of the repository to the page that it becomes."""
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#:\s]+)(#[^)]*)?\)")
IMAGE = re.compile(r"!\[([^\]]*)\]\(docs/([^)]+)\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of OUTSIDE."""
    for name, page in OUTSIDE.items():
        text = IMAGE.sub(r"![\1](\2)", (ROOT / name).read_text())
        files.append(File.generated(config, page, content=LINK.sub(_from_root, text)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links that lead out of docs/ become pages where there is one, else the path as text."""
    return LINK.sub(_from_docs, markdown)


def _from_root(found: re.Match[str]) -> str:
    text, path, anchor = found[1], found[2], found[3] or ""
    if path.startswith("docs/"):
        return f"[{text}]({path.removeprefix('docs/')}{anchor})"
    return _elsewhere(text, path, anchor)


def _from_docs(found: re.Match[str]) -> str:
    text, path, anchor = found[1], found[2], found[3] or ""
    if not path.startswith("../"):
        return found[0]
    return _elsewhere(text, path.removeprefix("../"), anchor)


def _elsewhere(text: str, path: str, anchor: str) -> str:
    if path in OUTSIDE:
        return f"[{text}]({OUTSIDE[path]}{anchor})"
    plain = text.strip("`")
    return text if plain == path else f"{text} (`{path}`)"
