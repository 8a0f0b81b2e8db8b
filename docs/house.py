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
_ALLOWED = re.compile(r'"searchanything\.(?P<module>[\w.]+?)(?:\.\*\*)? -> (?P<library>\w+)"')
# Narrow enough for a phone: a column of layers, the name of each above its packages.
_WIDTH, _EDGE, _GAP, _HEAD = 520, 8, 6, 26
_NAME_LINE, _SMALL_LINE = 20, 16  # px a line takes
_LETTER = 6.9  # px a letter of the small print takes, at most
_STYLE = """
text { font: 14px system-ui, sans-serif; fill: #16242a }
.name { font-weight: 600; font-size: 15px } .note { fill: #4a5a61; font-size: 13px; font-weight: 400 }
.floor { fill: #eef3f5 } .room { fill: #ffffff; stroke: #00647a; stroke-width: 1.2 }
.library { fill: #00647a; font-size: 12px }
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
    """Which guarded libraries each package, or one module of it alone (`service.cluster`), may import."""
    allowed: dict[str, list[str]] = {}
    for one in _ALLOWED.finditer(pyproject):
        names = allowed.setdefault(one["module"], [])
        if one["library"] not in names:
            names.append(one["library"])
    return allowed


def small_print(pyproject: str) -> dict[str, list[str]]:
    """The guarded libraries that a package imports somewhere."""
    shown: dict[str, list[str]] = {}
    for module, names in libraries(pyproject).items():
        known = shown.setdefault(module.partition(".")[0], [])
        known += [name for name in names if name not in known]
    return shown


def purpose(room: str) -> str:
    """The first sentence of a package's docstring."""
    folder = ROOT / "searchanything" / room
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).partition(". ")[0].rstrip(".")


def picture() -> str:
    """The layers as an SVG image."""
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    floors, guarded = layers(pyproject), small_print(pyproject)
    top, drawn = _GAP, []
    for floor in floors:
        parts, height = _floor(floor, top, guarded)
        drawn += parts
        top += height + _GAP
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" role="img" '
        f'aria-label="The layers of the package, the highest first"><style>{_STYLE}</style>'
    )
    return "\n".join([start, *drawn, "</svg>", ""])


def _floor(floor: Layer, top: int, guarded: dict[str, list[str]]) -> tuple[list[str], int]:
    """A layer from `top` on, and its height: that of the package with the most small print."""
    width = (_WIDTH - 2 * _EDGE + _GAP) / len(floor.rooms)
    letters = int((width - 2 * _GAP) / _LETTER)
    small = {
        room: textwrap.wrap(", ".join(guarded.get(room, ())), letters, break_long_words=False) for room in floor.rooms
    }
    room_height = _NAME_LINE + 8 + _SMALL_LINE * max(map(len, small.values()))
    height = _HEAD + room_height + _EDGE
    parts = [
        f'<rect class="floor" x="0" y="{top}" width="{_WIDTH}" height="{height}" rx="8"/>',
        f'<text class="name" x="{_EDGE + 2}" y="{top + 18}">{escape(floor.name)} '
        f'<tspan class="note" dx="4">{escape(floor.stands_for)}</tspan></text>',
    ]
    for place, room in enumerate(floor.rooms):
        left, middle = _EDGE + place * width, _EDGE + place * width + (width - _GAP) / 2
        unused = _SMALL_LINE * (max(map(len, small.values())) - len(small[room]))
        first = top + _HEAD + _NAME_LINE + unused / 2
        parts.append(
            f'<rect class="room" x="{left:.0f}" y="{top + _HEAD}" width="{width - _GAP:.0f}" height="{room_height}" '
            f'rx="6"/><text class="name" text-anchor="middle" x="{middle:.0f}" y="{first:.0f}">{room}</text>'
        )
        parts += [
            f'<text class="library" text-anchor="middle" x="{middle:.0f}" y="{first + _SMALL_LINE * line:.0f}">'
            f"{one}</text>"
            for line, one in enumerate(small[room], start=1)
        ]
    return parts, height


def table() -> str:
    """The packages and what each is for, as Markdown."""
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    rows = [f"| `{room}` | {floor.name} | {purpose(room)} |" for floor in layers(pyproject) for room in floor.rooms]
    return "\n".join(["| package | layer | what is in it |", "|---|---|---|", *rows, ""])
