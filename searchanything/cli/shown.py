"""The last look at what goes to a terminal: no text of an answer may steer it, whatever a verb left in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from searchanything.core.escaping import printable_lines


@dataclass(frozen=True, slots=True)
class Shown:
    """Anything that Rich can print, its styles as they are, its texts without control characters."""

    content: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.content, options):
            yield segment if segment.control else Segment(printable_lines(segment.text), segment.style)
