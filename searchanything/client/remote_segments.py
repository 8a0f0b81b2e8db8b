"""What a server's segmenter found in an image, in a program: as `Segments`, but drawn by the server.

Only the standard library is imported here, as in `calls`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from searchanything.answers.showing import sheet_html
from searchanything.client.calls import Call, candidate_of, sender
from searchanything.client.remote_pictures import DrawnThere
from searchanything.core.counting import counted
from searchanything.core.documents import region_document
from searchanything.core.sliced import Sliced, kept_places
from searchanything.core.types import Candidate


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RemoteRegions(Sliced[Candidate]):
    """All regions that the server's segmenter finds in an image, best first, and the image's size in pixels.

    `positions` are the regions' places in the server's answer, None where they are the whole answer.
    """

    regions: tuple[Candidate, ...]
    width: int
    height: int
    asked: Mapping[str, Any] = field(default_factory=dict)
    send: Callable[[Call[Any]], Any] | None = None
    positions: tuple[int, ...] | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any], asked: Mapping[str, Any], send: Callable[[Call[Any]], Any]) -> Self:
        """The answer that the server sent."""
        size = document["image"]
        return cls(tuple(map(candidate_of, document["regions"])), size["width"], size["height"], asked, send)

    @property
    def _items(self) -> tuple[Candidate, ...]:
        return self.regions

    def _sliced(self, index: slice) -> Self:
        places = kept_places(self.positions, index, count=len(self.regions))
        return replace(self, regions=self.regions[index], positions=places)

    def __repr__(self) -> str:
        what = counted(len(self), "region")
        return f"<{type(self).__name__}: {what} in an image of {self.width} × {self.height} px>"

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `searchanything segment --format json`: plain types only."""
        return {
            "image": {"width": self.width, "height": self.height},
            "regions": [region_document(region) for region in self.regions],
        }


class RemoteSegments(RemoteRegions, DrawnThere):
    """`RemoteRegions` that can be drawn: every region in its own colour, numbered by its place in the sequence."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return sheet_html(self._repr_png_(), (), caption=repr(self))

    def _repr_png_(self) -> bytes:
        places = {} if self.positions is None else {"positions": list(self.positions)}
        return bytes(sender(self.send)(Call("POST", "/v1/segment/sheet", bytes, {**self.asked, **places})))
