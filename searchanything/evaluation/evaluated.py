"""What one evaluation gave: its report and the table of its queries, in memory and as the files of a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from searchanything.core.errors import UsageError
from searchanything.core.files import check_writable, save_json, write_whole
from searchanything.core.reading import read_file
from searchanything.evaluation.measures import mean
from searchanything.evaluation.query_table import QueryTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Report: TypeAlias = dict[str, Any]
Draw: TypeAlias = Callable[[Mapping[str, Any]], "Figure"]  # of a report

_REPORT: Final = "report.json"
_QUERIES: Final = "queries.csv"
_FORMATS: Final = ("png", "svg")
_ROUNDING: Final = 1e-5  # of a report's figures


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """`report`: means, intervals and counts, a JSON document. `queries`: the figures that they are the means of."""

    report: Report
    queries: QueryTable

    def save(self, folder: Path, *, draw: Draw | None = None) -> list[Path]:
        """Write `report.json`, `queries.csv` and, with `draw`, `figures.png` and `figures.svg`; the folder is made.

        Returns their paths. Raises: UsageError for a folder that cannot be written to.
        """
        make_report_folder(folder)
        save_json(self.report, folder / _REPORT)
        self.queries.save(folder / _QUERIES)
        paths = [folder / _REPORT, folder / _QUERIES]
        drawings = [folder / f"figures.{suffix}" for suffix in _FORMATS]
        for path in drawings:
            _remove(path)  # of an earlier report
        if draw is None:
            return paths
        page = draw(self.report)
        for path in drawings:
            write_whole(path, partial(page.savefig, format=path.suffix[1:], dpi=110))
        return [*paths, *drawings]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What `save` wrote into a folder. Raises: UsageError, which names the file."""
        path = folder / _REPORT
        try:
            report = json.loads(read_file(path))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{path} cannot be read: {getattr(error, 'strerror', None) or error}; `eval` writes it with --out"
            ) from error
        if not isinstance(report, dict) or not isinstance(report.get("bits"), int):
            raise UsageError(f"{path}: expected the report of `eval coco`, `eval voc` or `eval instances`")
        queries = QueryTable.read(folder / _QUERIES)
        for name, values in queries.figures.items():
            _check_mean(folder, name, mean(values), _stated(report, name))
        return cls(report, queries)


def _stated(report: Report, name: str) -> object:
    """What a report says at a dotted name; None where it says nothing."""
    place: Any = report
    for part in name.split("."):
        place = place.get(part) if isinstance(place, dict) else None
    return place


def _check_mean(folder: Path, name: str, got: float | None, stated: object) -> None:
    """Refuse files of two runs: one that was interrupted, or had no --out, leaves the other's behind."""
    if got is None or not isinstance(stated, float | int):
        agree = got is None and stated is None
    else:
        agree = abs(got - stated) <= _ROUNDING
    if not agree:
        raise UsageError(
            f"{folder}: {_REPORT} and {_QUERIES} are not of one run: {name} is {stated} in the first, and the mean of "
            f"the second is {got}; evaluate again with --out"
        )


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be replaced: {error.strerror or error}") from error


def make_report_folder(folder: Path) -> None:
    """Make a folder for the files of an evaluation. Raises: UsageError where nothing can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror or error}") from error
    check_writable(folder / _REPORT)
