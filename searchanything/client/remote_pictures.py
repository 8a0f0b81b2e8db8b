"""Pictures of a server's answers: the server draws them, by the code that draws an index's own.

Only the standard library is imported here, as in `calls`; `plot` needs Pillow, which is imported when it is called.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from searchanything.answers.showing import open_viewer
from searchanything.core.errors import UsageError
from searchanything.core.files import check_save_path, write_whole
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
        """The picture, drawn by the server. Raises: UsageError without Pillow; as `RemoteClient.query`."""
        try:
            from io import BytesIO

            from PIL import Image
        except ImportError as error:
            raise UsageError("plot needs Pillow: pip install pillow; save() does without") from error
        return Image.open(BytesIO(self._repr_png_()))

    def save(self, path: str | Path) -> None:
        """Write the picture as PNG, all or nothing; no other library is needed.

        Raises: UsageError for another suffix or a place that cannot be written; as `RemoteClient.query`.
        """
        target = check_save_path(path, (".png",))
        data = self._repr_png_()
        write_whole(target, lambda file: file.write(data))

    def show(self) -> None:
        """Show it: in a notebook below its cell, elsewhere in this machine's image viewer, which is not waited for.

        Raises: UsageError where there is neither; outside of notebooks as `plot`.
        """
        open_viewer(self, self.plot)
