"""What the reports of `searchanything eval` have in common as text: tables, numbers, intervals, failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from searchanything.cli.index import SHOWN_FAILURES
from searchanything.core.counting import counted
from searchanything.core.escaping import printable

if TYPE_CHECKING:
    from rich.table import Table

    from searchanything.core.settings import IngestSettings
    from searchanything.evaluation.reading import Reading


def reading_of(ingest: IngestSettings) -> Reading:
    """How images are read, by the settings' batches and limits."""
    from searchanything.evaluation.reading import Reading

    return Reading(ingest.batch_images, ingest.transfer_threads, ingest.max_pixels)


def figure_table(first: str, *others: str) -> Table:
    """An empty table: names on the left, numbers on the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for heading in others:
        table.add_column(heading.replace("_", " "), justify="right")
    return table


def at(tree: Mapping[str, Any], path: str) -> float | None:
    """The figure at a dotted path, None where the report has none."""
    place: Any = tree
    for part in path.split("."):
        place = place.get(part) if isinstance(place, Mapping) else None
    return place if isinstance(place, int | float) else None


def shown_number(value: float | None) -> str:
    """A figure, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def shown_ends(report: Mapping[str, Any], path: str) -> str:
    """The 95 % interval of the figure at a path; empty without one."""
    ends = report["ci95"].get(path)
    return "" if ends is None else f"{ends[0]:.3f} … {ends[1]:.3f}"


def failures_shown(failures: Sequence[Mapping[str, Any]]) -> list[str]:
    """The first failures, and how many more there are."""
    lines = ["failed: " + printable(one["message"]) for one in failures[:SHOWN_FAILURES]]
    if len(failures) > SHOWN_FAILURES:
        lines.append(f"… and {counted(len(failures) - SHOWN_FAILURES, 'more failure')}; --format json lists all")
    return lines
