"""Draws the package's layers as `pyproject.toml` states them: a floor for each layer, a room for each package."""

from __future__ import annotations

import ast
import re
import textwrap
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
_LAYER = re.compile(r'^    "(?P<rooms>[^"]+)",\s*# (?P<name>[^:]+): (?P<stands_for>.+)$', re.MULTILINE)
_ALLOWED = re.compile(r'"searchanything\.(?P<room>\w+)[^"]*? -> (?P<library>\w+)"')
_WIDTH, _LEFT, _FLOOR, _GAP, _ROOM = 1000, 280, 82, 10, 62
_LETTER = 6.1  # px a letter of the small print takes, at most
_STYLE = """
text { font: 14px system-ui, sans-serif; fill: #16242a }
.name { font-weight: 600; font-size: 15px } .note { fill: #4a5a61; font-size: 12px }
.floor { fill: #eef3f5 } .room { fill: #ffffff; stroke: #00647a; stroke-width: 1.2 }
.library { fill: #00647a; font-size: 11px }
"""


@dataclass(frozen=True, slots=True)
class Layer:
    """One floor of the house: packages that do not import each other, and any of which may import what lies below."""

    name: str
    stands_for: str
    rooms: tuple[str, ...]


def layers(pyproject: str) -> tuple[Layer, ...]:
    """The layers of the contract, the highest first. Raises: LookupError for a layer without a name."""
    contract = pyproject[pyproject.index("\nlayers = [") :]
    contract = contract[: contract.index("\n]")]
    found = tuple(
        Layer(one["name"].strip(), one["stands_for"].strip(), tuple(room.strip() for room in one["rooms"].split("|")))
        for one in _LAYER.finditer(contract)
    )
    if len(found) != contract.count('"') // 2:
        raise LookupError("pyproject.toml: each layer needs a comment `# name: what it stands for`")
    return found


def libraries(pyproject: str) -> dict[str, list[str]]:
    """Which guarded libraries each package may import."""
    allowed: dict[str, list[str]] = {}
    for one in _ALLOWED.finditer(pyproject):
        names = allowed.setdefault(one["room"], [])
        if one["library"] not in names:
            names.append(one["library"])
    return allowed


def purpose(room: str) -> str:
    """The first sentence of a package's docstring."""
    folder = ROOT / "searchanything" / room
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).partition(". ")[0].rstrip(".")


def picture() -> str:
    """The layers as an SVG image."""
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    floors, guarded = layers(pyproject), libraries(pyproject)
    height = len(floors) * _FLOOR + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="The layers of the package, the highest first"><style>{_STYLE}</style>'
    ]
    for number, floor in enumerate(floors):
        parts += _floor(floor, number * _FLOOR + _GAP, guarded)
    return "\n".join([*parts, "</svg>", ""])


def _floor(floor: Layer, top: int, guarded: dict[str, list[str]]) -> list[str]:
    height = _FLOOR - _GAP
    parts = [
        f'<rect class="floor" x="0" y="{top}" width="{_WIDTH}" height="{height}" rx="8"/>',
        f'<text class="name" x="14" y="{top + 27}">{escape(floor.name)}</text>',
        f'<text class="note" x="14" y="{top + 46}">{escape(floor.stands_for)}</text>',
    ]
    width = (_WIDTH - _LEFT - _GAP) / len(floor.rooms)
    for place, room in enumerate(floor.rooms):
        left, middle = _LEFT + place * width, _LEFT + (place + 0.5) * width - _GAP / 2
        small = textwrap.wrap(", ".join(guarded.get(room, ())), int((width - _GAP) / _LETTER), break_long_words=False)
        first = top + 5 + _ROOM / 2 + 5 - 7 * len(small)
        parts.append(
            f'<rect class="room" x="{left:.0f}" y="{top + 5}" width="{width - _GAP:.0f}" height="{_ROOM}" rx="6"/>'
            f'<text class="name" text-anchor="middle" x="{middle:.0f}" y="{first:.0f}">{room}</text>'
        )
        parts += [
            f'<text class="library" text-anchor="middle" x="{middle:.0f}" y="{first + 3 + 13 * line:.0f}">{one}</text>'
            for line, one in enumerate(small, start=1)
        ]
    return parts


def table() -> str:
    """The packages and what each is for, as Markdown."""
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    rows = [f"| `{room}` | {floor.name} | {purpose(room)} |" for floor in layers(pyproject) for room in floor.rooms]
    return "\n".join(["| package | layer | what is in it |", "|---|---|---|", *rows, ""])
