"""Pictures of a server's answers: the server draws them, by the code that draws an index's own.

Only the standard library is imported here, as in `calls`; `plot` needs Pillow, which is imported when it is called.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from searchanything.answers.showing import open_viewer
from searchanything.core.arguments import check_kind
from searchanything.core.errors import UsageError
from searchanything.core.libraries import LazyModule

if TYPE_CHECKING:
    from PIL import Image
else:
    Image = LazyModule("PIL.Image")


class DrawnThere:
    """What can be done with a picture that the server draws."""

    __slots__ = ()

    @abstractmethod
    def _repr_png_(self) -> bytes:
        """The picture, as the server sends it."""

    @abstractmethod
    def _repr_html_(self) -> str:
        """The picture in a notebook, with what is said of it."""

    def plot(self) -> Image.Image:
        """The picture, drawn by the server. Raises: UsageError without Pillow."""
        try:
            from io import BytesIO

            from PIL import Image
        except ImportError as error:
            raise UsageError("plot needs Pillow: pip install pillow; save() does without") from error
        return Image.open(BytesIO(self._repr_png_()))

    def save(self, path: str | Path) -> None:
        """Write the picture as PNG. Raises: UsageError for another suffix."""
        check_kind(path, str | Path, "path", "the name of a file")
        if Path(path).suffix.lower() != ".png":
            raise UsageError(f"{path}: expected a name that ends in .png")
        Path(path).write_bytes(self._repr_png_())

    def show(self) -> None:
        """Show it in a notebook, else in this machine's image viewer. Raises: UsageError without either."""
        open_viewer(self, self.plot)
