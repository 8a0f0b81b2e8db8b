"""What the reports of `searchanything eval` have in common as text: numbers, intervals, failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchanything.cli.session import first_lines, say
from searchanything.core.escaping import printable

if TYPE_CHECKING:
    from searchanything.core.settings import IngestSettings
    from searchanything.evaluation.evaluated import Draw, Evaluated
    from searchanything.evaluation.reading import Reading


def reading_of(ingest: IngestSettings) -> Reading:
    """How images are read, by the settings' batches and limits."""
    from searchanything.evaluation.reading import Reading

    return Reading(ingest.batch_images, ingest.transfer_threads, ingest.max_pixels)


def check_report_folder(folder: Path | None) -> None:
    """Make the folder that `--out` names, before an hour of work. Raises: UsageError where it cannot be written to."""
    from searchanything.evaluation.evaluated import make_report_folder

    if folder is not None:
        make_report_folder(folder)


def save_evaluated(evaluated: Evaluated, folder: Path | None, *, draw: Draw | None = None) -> None:
    """Write the files of an evaluation where `--out` says, and name them on stderr."""
    for path in evaluated.save(folder, draw=draw) if folder is not None else ():
        say(f"saved {path}")


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
    return first_lines(["failed: " + printable(one["message"]) for one in failures], "more failure")
