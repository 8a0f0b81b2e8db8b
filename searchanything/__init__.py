"""Search Anything: point at a thing in an image and find every image that shows one like it.

    import searchanything
    results = searchanything.query("query.jpg", (320, 240))

Names are loaded when they are first used: `import searchanything` imports neither torch nor pymilvus.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from searchanything.answers.combined import CombinedResults
    from searchanything.answers.comparison import Comparison
    from searchanything.answers.duplicates import Duplicates
    from searchanything.answers.explanation import Explanation
    from searchanything.answers.receipts import Replay
    from searchanything.answers.results import SearchResults, Segments
    from searchanything.client.awaited import AsyncRemoteClient
    from searchanything.client.client import Client
    from searchanything.client.connecting import connect
    from searchanything.client.opening import query
    from searchanything.client.remote import RemoteClient
    from searchanything.core.conditions import Where
    from searchanything.core.errors import SearchAnythingError
    from searchanything.core.many_answers import ManyAnswer
    from searchanything.core.settings import Settings
    from searchanything.core.types import Filter, Hit, ImageRef, RegionRef, Selection, SizeClass
    from searchanything.images.scopes import Patterns
    from searchanything.ingest.reports import IndexReport, IndexStatus
    from searchanything.prompts.prompt import Box, Mask, Points, Prompts, Text, WholeImage
    from searchanything.search.probe import Probe

__all__ = [
    "AsyncRemoteClient",
    "Box",
    "Client",
    "CombinedResults",
    "Comparison",
    "Duplicates",
    "Explanation",
    "Filter",
    "Hit",
    "ImageRef",
    "IndexReport",
    "IndexStatus",
    "ManyAnswer",
    "Mask",
    "Patterns",
    "Points",
    "Probe",
    "Prompts",
    "RegionRef",
    "RemoteClient",
    "Replay",
    "SearchAnythingError",
    "SearchResults",
    "Segments",
    "Selection",
    "Settings",
    "SizeClass",
    "Text",
    "Where",
    "WholeImage",
    "connect",
    "query",
]

_HOMES = {
    "client.client": ("Client",),
    "client.opening": ("query",),
    "client.connecting": ("connect",),
    "client.awaited": ("AsyncRemoteClient",),
    "client.remote": ("RemoteClient",),
    "answers.combined": ("CombinedResults",),
    "answers.comparison": ("Comparison",),
    "core.conditions": ("Where",),
    "core.errors": ("SearchAnythingError",),
    "core.many_answers": ("ManyAnswer",),
    "answers.duplicates": ("Duplicates",),
    "answers.explanation": ("Explanation",),
    "prompts.prompt": ("Box", "Mask", "Points", "Prompts", "Text", "WholeImage"),
    "images.scopes": ("Patterns",),
    "search.probe": ("Probe",),
    "answers.receipts": ("Replay",),
    "ingest.reports": ("IndexReport", "IndexStatus"),
    "answers.results": ("SearchResults", "Segments"),
    "core.settings": ("Settings",),
    "core.types": ("Filter", "Hit", "ImageRef", "RegionRef", "Selection", "SizeClass"),
}


if not TYPE_CHECKING:  # which would take any name that is imported from here

    def __getattr__(name: str) -> object:
        for home, names in _HOMES.items():
            if name in names:
                with import_module(f"{__name__}.core.libraries").importing():
                    value = getattr(import_module(f"{__name__}.{home}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
