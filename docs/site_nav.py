"""Completes the site's navigation: an mkdocs hook.

Decision records are listed as they lie in `docs/adr/`. Any other page must be named in `mkdocs.yml` or here, or the
strict build fails: a page that nobody can find is a defect.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig

# Pages that are linked once they are there: section, title, file.
WHEN_THERE = (
    ("How-to", "Examples to copy", "examples.md"),
    ("How-to", "A notebook", "notebook.md"),
    ("Explanation", "How fast it is", "performance.md"),
    ("Explanation", "How far it reaches", "scale.md"),
)
LAST = "Explanation"  # ends with the decisions


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages to the navigation of `mkdocs.yml`."""
    folder = Path(config.docs_dir)
    config.nav = completed(config.nav or [], folder)
    return config


def completed(nav: list[Any], folder: Path) -> list[Any]:
    """A new navigation: every section with the pages that are there, the last one with the decisions."""
    decisions = {"Decisions": [f"adr/{path.name}" for path in sorted(folder.glob("adr/*.md"))]}
    sections: dict[str, Any] = {}
    for entry in nav:
        sections |= entry
    for section, title, file in WHEN_THERE:
        if (folder / file).exists():
            sections[section] = [*sections.get(section, []), {title: file}]
    sections[LAST] = [*sections.get(LAST, []), decisions]
    return [{title: content} for title, content in sections.items()]
