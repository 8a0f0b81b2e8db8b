"""Search Anything: point at a thing in an image and find every image that holds such a thing.

    import searchanything
    results = searchanything.query("query.jpg", (320, 240))

Names are loaded when they are first used: `import searchanything` imports neither torch nor pymilvus.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from searchanything.client import Client, connect, query
    from searchanything.comparisons import Comparison
    from searchanything.errors import SearchAnythingError
    from searchanything.explanations import Explanation
    from searchanything.prompts import Box, Mask, Points, Prompts, Text, WholeImage
    from searchanything.receipts import Replay
    from searchanything.reports import IndexReport, IndexStatus
    from searchanything.results import SearchResults, Segments
    from searchanything.settings import Settings
    from searchanything.types import Filter, Hit, ImageRef, Selection, SizeClass

__all__ = [
    "Box",
    "Client",
    "Comparison",
    "Explanation",
    "Filter",
    "Hit",
    "ImageRef",
    "IndexReport",
    "IndexStatus",
    "Mask",
    "Points",
    "Prompts",
    "Replay",
    "SearchAnythingError",
    "SearchResults",
    "Segments",
    "Selection",
    "Settings",
    "SizeClass",
    "Text",
    "WholeImage",
    "connect",
    "query",
]

_HOMES = {
    "client": ("Client", "connect", "query"),
    "comparisons": ("Comparison",),
    "errors": ("SearchAnythingError",),
    "explanations": ("Explanation",),
    "prompts": ("Box", "Mask", "Points", "Prompts", "Text", "WholeImage"),
    "receipts": ("Replay",),
    "reports": ("IndexReport", "IndexStatus"),
    "results": ("SearchResults", "Segments"),
    "settings": ("Settings",),
    "types": ("Filter", "Hit", "ImageRef", "Selection", "SizeClass"),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"{__name__}.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
