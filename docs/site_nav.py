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
    ("Guide", "Searching", "search.md"),
    ("Guide", "Images in S3", "s3.md"),
    ("Guide", "Chance, marks, several things, duplicates", "refining.md"),
    ("Guide", "Training a hash", "hashing.md"),
    ("Guide", "Keeping features", "features.md"),
    ("Guide", "Evaluation", "evaluation.md"),
    ("Guide", "Model card of pico", "pico.md"),
    ("Running it", "The page and REST", "serve.md"),
    ("Running it", "The service", "service.md"),
    ("Running it", "Deployment", "deployment.md"),
    ("Running it", "Backups and versions", "backups.md"),
    ("Running it", "Security", "security.md"),
    ("Running it", "Performance", "performance.md"),
    ("Running it", "A thousand million regions", "scale.md"),
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages to the navigation of `mkdocs.yml`."""
    folder = Path(config.docs_dir)
    config.nav = completed(config.nav or [], folder)
    return config


def completed(nav: list[Any], folder: Path) -> list[Any]:
    """A new navigation: sections keep their order, new ones come before `Inside`, which ends with the decisions."""
    sections: dict[str, Any] = {}
    for entry in nav:
        sections |= entry
    inside = [
        *sections.pop("Inside", []),
        {"Decisions": [f"adr/{path.name}" for path in sorted(folder.glob("adr/*.md"))]},
    ]
    for section, title, file in WHEN_THERE:
        if (folder / file).exists():
            sections[section] = [*sections.get(section, []), {title: file}]
    return [{title: content} for title, content in {**sections, "Inside": inside}.items()]
