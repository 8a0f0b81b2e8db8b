"""The README's badges, as files of our own: what `pyproject.toml` says, and nothing that only a server could know."""

from __future__ import annotations

import re
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
_LETTER_PX, _EDGE_PX, _HEIGHT_PX = 6.8, 8, 20  # of Verdana at 11 px, at most


def badges() -> dict[str, str]:
    """File name → SVG."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    texts = {"licence": project["license"], "python": _pythons(project["classifiers"]), "status": _status(project)}
    return {f"badge-{label}.svg": _badge(label, text) for label, text in texts.items()}


def _pythons(classifiers: list[str]) -> str:
    prefix = "Programming Language :: Python :: "
    return " | ".join(one.removeprefix(prefix) for one in classifiers if one.startswith(prefix))


def _status(project: dict[str, list[str]]) -> str:
    (status,) = (one for one in project["classifiers"] if one.startswith("Development Status"))
    return f"{re.split(r' - ', status)[1].lower()}, {project['version']}"


def _badge(label: str, text: str) -> str:
    left, right = (round(len(one) * _LETTER_PX + 2 * _EDGE_PX) for one in (label, text))
    middle = _HEIGHT_PX / 2 + 4
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{_HEIGHT_PX}" role="img" '
        f'aria-label="{escape(label)}: {escape(text)}">\n'
        f'<rect width="{left}" height="{_HEIGHT_PX}" fill="#4a5a61"/>\n'
        f'<rect x="{left}" width="{right}" height="{_HEIGHT_PX}" fill="#00647a"/>\n'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">\n'
        f'<text x="{left / 2:g}" y="{middle:g}">{escape(label)}</text>\n'
        f'<text x="{left + right / 2:g}" y="{middle:g}">{escape(text)}</text>\n'
        "</g>\n</svg>\n"
    )
