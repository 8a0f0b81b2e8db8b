"""Rankings of the same candidates by several methods, side by side: JSON, a contact sheet, a page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from PIL import Image

from searchanything.core.counting import counted
from searchanything.core.documents import receipt_hit, selection_document
from searchanything.core.escaping import html_text
from searchanything.core.files import FORMATS, check_save_path, jpeg_bytes, png_bytes, save_image, save_text
from searchanything.core.types import Hit, ImageRef, RGBImage, Selection
from searchanything.drawing.loupe import draw_hit
from searchanything.drawing.overlays import DESK, SELECTED, Mark, RegionMark, draw_marks, prompt_marks
from searchanything.drawing.sheets import Tile, contact_sheet

_TILE_PX: Final = 180
SHEET_COLUMNS: Final = 5  # ranks that the contact sheet shows; the page shows all
_SHEET_FONT_PX: Final = 16  # large for its tiles: five rows of six are shown small
PAGE_SUFFIX: Final = ".html"
STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;margin:24px;color:#181b1f;background:#f1f3f6}
h1{font-size:21px;margin:0 0 4px}h2{font-size:16px;margin:22px 0 2px}p{margin:2px 0 8px;color:#495057}
ol{display:flex;gap:10px;overflow-x:auto;padding:4px 0 10px;margin:0;list-style:none}
li{flex:none;width:184px;font-size:12px;background:#fff;border-radius:6px;padding:6px}
i{display:block;width:100%;height:180px;background:#e2e5ea center/contain no-repeat}
b{display:block;overflow-wrap:anywhere;margin:2px 0}
.up{color:#12702b}.down{color:#b3261e}
"""


@dataclass(frozen=True, slots=True)
class Method:
    """One way to tell how alike two regions are.

    `values` holds each candidate's cosine to the query (more is nearer) or distance in bits (less is nearer), `order`
    the candidates' numbers, nearest first, equals in the order of the codes. `crops` says what CLIP was shown.
    """

    name: Literal["clip", "clip_masked", "clip_masked_and_mask_features", "indexed_features", "codes"]
    label: str
    crops: str
    measure: Literal["cosine", "distance_bits"]
    values: tuple[float, ...]
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Comparison:
    """The candidates of a query, nearest by code first, ranked by each method.

    `tiles` holds a small image of each candidate with its region outlined; `left_out` candidates that could not be
    encoded again, and why; `masked_in_index` how many candidates' codes were made of masked crops.
    """

    query_image: RGBImage
    prompt_description: Mapping[str, Any]
    selection: Selection
    fingerprint: str
    candidates: tuple[Hit, ...]
    tiles: tuple[RGBImage, ...]
    methods: tuple[Method, ...]
    left_out: tuple[tuple[Hit, str], ...]
    masked_in_index: int

    def __repr__(self) -> str:
        return f"<Comparison: {counted(len(self.candidates), 'candidate')} by {counted(len(self.methods), 'method')}>"

    def ranks(self, method: Method) -> list[int]:
        """Each candidate's rank, from 1, under a method."""
        ranks = [0] * len(method.order)
        for rank, number in enumerate(method.order, start=1):
            ranks[number] = rank
        return ranks

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `searchanything compare --format json`: plain types only."""
        return {
            "prompt": dict(self.prompt_description),
            "selection": selection_document(self.selection),
            "fingerprint": self.fingerprint,
            "candidates": len(self.candidates),
            "masked_in_index": self.masked_in_index,
            "left_out": [receipt_hit(hit) | {"reason": reason} for hit, reason in self.left_out],
            "methods": [
                {
                    "name": method.name,
                    "label": method.label,
                    "crops": method.crops,
                    "measure": method.measure,
                    "ranking": self._ranking(method),
                }
                for method in self.methods
            ],
        }

    def to_text(self) -> str:
        """For people: the first ranks of each method, with the rank by code."""
        counts = f"{counted(len(self.candidates), 'candidate')}, {len(self.left_out)} left out"
        lines = [f"{counts}; selected: {self.selection.reason}"]
        for method in self.methods:
            lines.append(f"{method.label}:")
            for entry in self._ranking(method)[:SHEET_COLUMNS]:
                value = f"{entry[method.measure]:g}"
                where = f"{ImageRef(entry['bucket'], entry['key'])} region {entry['region']}"
                lines.append(f"{entry['rank']:>4}. {value:>8}  {where} (by code {entry['rank_by_code']})")
        return "\n".join(lines)

    def plot(self) -> Image.Image:
        """A row per method: the query with the method's name, then the first ranks."""
        columns = max(1, min(SHEET_COLUMNS, len(self.candidates)))
        tiles = []
        for method in self.methods:
            tiles.append(self._query_tile(method))
            tiles += [self._tile(method, rank) for rank in range(1, columns + 1)]
        return Image.fromarray(contact_sheet(tiles, columns=columns + 1, side_px=_TILE_PX, font_px=_SHEET_FONT_PX))

    def save(self, path: str | Path) -> None:
        """Write the page (.html) or the contact sheet (an image), all or nothing.

        Raises: UsageError for another suffix, or a place that cannot be written.
        """
        target = check_comparison_path(path)
        if target.suffix.lower() == PAGE_SUFFIX:
            save_text(self.to_html(), target, suffixes=(PAGE_SUFFIX,))
        else:
            save_image(self.plot, target)

    def to_html(self) -> str:
        """A page of its own, without links: every method's whole ranking, each image held once."""
        images = "".join(f".c{number}{{background-image:url({_url(tile)})}}" for number, tile in enumerate(self.tiles))
        query = f'<img alt="query" src="{_url(self._query_drawing())}">'
        rows = "".join(self._row(method) for method in self.methods)
        about = f"{counted(len(self.candidates), 'candidate')}, fingerprint {self.fingerprint}: {self.selection.reason}"
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Search Anything: comparison</title>'
            f"<style>{STYLE}{images}</style><h1>What masking, mask features and hashing do</h1>"
            f"<p>{html_text(about)}</p>{query}{rows}</html>\n"
        )

    def _repr_png_(self) -> bytes:
        return png_bytes(self.plot())

    def _ranking(self, method: Method) -> list[dict[str, Any]]:
        entries = []
        for rank, number in enumerate(method.order, start=1):
            hit = receipt_hit(self.candidates[number])
            entries.append(hit | {"rank": rank, method.measure: method.values[number], "rank_by_code": number + 1})
        return entries

    def _row(self, method: Method) -> str:
        items = []
        for entry, number in zip(self._ranking(method), method.order, strict=True):
            moved = entry["rank_by_code"] - entry["rank"]
            arrow = "" if not moved else f' <span class="{"up" if moved > 0 else "down"}">{moved:+d}</span>'
            name = html_text(entry["key"])
            items.append(
                f'<li><i class="c{number}" role="img" aria-label="{name}"></i>'
                f"<b>{name}</b>"
                f"{entry['rank']}. {entry[method.measure]:g}{arrow}</li>"
            )
        shown = f"CLIP sees {method.crops}; {method.measure.replace('_', ' in ')}"
        if method.name != "clip" and method.name != "clip_masked":
            shown += "; mask features: the segmenter's feature map, averaged over the mask"
        return f"<h2>{html_text(method.label)}</h2><p>{html_text(shown)}</p><ol>{''.join(items)}</ol>"

    def _query_drawing(self) -> RGBImage:
        marks: list[Mark] = [RegionMark(self.selection.mask, SELECTED)] if self.selection.kind == "region" else []
        return draw_marks(self.query_image, marks + prompt_marks(self.prompt_description), longest_side_px=2 * _TILE_PX)

    def _query_tile(self, method: Method) -> Tile:
        return Tile(self._query_drawing(), method.label, method.measure.replace("_", " in "), "query", SELECTED)

    def _tile(self, method: Method, rank: int) -> Tile:
        if rank > len(method.order):
            return Tile(np.full((_TILE_PX, _TILE_PX, 3), DESK, dtype=np.uint8), "")
        number = method.order[rank - 1]
        value = f"{method.values[number]:g} · by code {number + 1}"
        return Tile(self.tiles[number], self.candidates[number].image.key, value, badge=str(rank))


def check_comparison_path(path: str | Path, *, inputs: Iterable[str | Path] = ()) -> Path:
    """The path, if a comparison can be saved under it. Raises: UsageError, as `check_save_path`."""
    return check_save_path(path, (PAGE_SUFFIX, *FORMATS), inputs=inputs)


def tile_of(hit: Hit, image: RGBImage) -> RGBImage:
    """A candidate's image, small, with its region outlined, and enlarged where it is small."""
    return draw_hit(image, hit.mask, longest_side_px=_TILE_PX)


def _url(image: RGBImage) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg_bytes(Image.fromarray(image))).decode('ascii')}"
