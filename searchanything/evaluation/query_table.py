"""The figures of an evaluation query by query: a table, and the CSV file beside a report."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Self

import numpy as np

from searchanything.core.errors import UsageError
from searchanything.core.files import save_text
from searchanything.core.reading import read_file
from searchanything.evaluation.measures import Values
from searchanything.evaluation.truth import Instance

ATTRIBUTE: Final = "attribute:"  # before the name of an annotations' key, as a column


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """What a query asked about, as text: the file's name, the annotation's id in it, and the thing itself.

    `box` is written as `--box` takes it: x1,y1,x2,y2 in pixels.
    """

    image: str
    annotation: str
    category: str
    box: str
    area_px: str

    @classmethod
    def about(cls, image: str, one: Instance) -> Self:
        """A query about an annotated instance of an image."""
        box = ",".join(f"{round(side, 2):.10g}" for side in one.box_xyxy)
        return cls(image, one.annotation, one.category, box, f"{one.area_px:.10g}")


_ASKED: Final = tuple(field.name for field in fields(JudgedQuery))


@dataclass(frozen=True, slots=True, eq=False)
class QueryTable:
    """Q queries: `further` columns (Q,) of text, and `figures` (Q,) float64 by dotted name.

    NaN where a figure does not apply to a query.
    """

    asked: Sequence[JudgedQuery]
    further: Mapping[str, Sequence[str]]
    figures: Mapping[str, Values]

    def save(self, path: Path) -> None:
        """Write a CSV file, a line for each query; an empty cell where a figure does not apply.

        Raises: UsageError for a place that cannot be written.
        """
        text = io.StringIO()
        writer = csv.writer(text)  # with its own line ends, "\r\n": with others it quotes no "\r" in a cell
        writer.writerow([*_ASKED, *self.further, *self.figures])
        figures = (_cells(values) for values in self.figures.values())
        named = ([getattr(one, name) for one in self.asked] for name in _ASKED)
        writer.writerows(zip(*named, *self.further.values(), *figures, strict=True))
        save_text(text.getvalue(), path, suffixes=(".csv",))

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `save` wrote. Raises: UsageError, which names the file, and the line where one is at fault."""
        try:
            lines = list(csv.reader(io.StringIO(read_file(path).decode("utf-8-sig"), newline="")))  # Excel's mark
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UsageError(
                f"{path} cannot be read: {getattr(error, 'strerror', None) or error}; `eval` writes it with --out"
            ) from error
        names = lines[0] if lines else []
        if tuple(names[: len(_ASKED)]) != _ASKED:
            raise UsageError(f"{path}: expected the columns {', '.join(_ASKED)} first; `eval` writes it with --out")
        for number, line in enumerate(lines[1:], start=2):
            if len(line) != len(names):
                raise UsageError(f"{path}, line {number}: expected {len(names)} cells, got {len(line)}")
        columns = dict(zip(names, zip(*lines[1:], strict=True) if lines[1:] else [()] * len(names), strict=True))
        asked = [JudgedQuery(*line[: len(_ASKED)]) for line in lines[1:]]
        figures = {name: column for name, column in columns.items() if "." in name and not name.startswith(ATTRIBUTE)}
        further = {name: column for name, column in columns.items() if name not in figures and name not in _ASKED}
        return cls(asked, further, {name: _values(path, name, column) for name, column in figures.items()})


def _cells(values: Values) -> list[str]:
    """As short as they can be read back exactly."""
    return ["" if np.isnan(value) else repr(value) for value in values.tolist()]


def _values(path: Path, name: str, cells: Sequence[str]) -> Values:
    try:
        return np.array([cell or "nan" for cell in cells], dtype=np.float64)
    except ValueError as error:
        raise UsageError(f"{path}, column {name}: {error}") from error
