"""Uploads: query images that nobody indexed, kept for a while under names that cannot be guessed.

Whoever has the name and may search may use the upload, so that a link to a query can be shared. They are files in a
folder: servers that share it share the uploads.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from searchanything.core.errors import ImageError, ObjectNotFoundError, ServeError, TooLargeError, UsageError
from searchanything.core.files import write_whole
from searchanything.core.types import RGBImage
from searchanything.images.decoding import decode_image, image_size

logger = logging.getLogger(__name__)

UPLOAD_ID: Final = re.compile(r"[0-9a-f]{32}")
MOST_UPLOADS: Final = 16_384  # a folder of very many small ones takes seconds to look through
_NAME: Final = re.compile(r"([0-9a-f]{32})-(\d+)x(\d+)")


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that is there. Sizes are of the EXIF-corrected image."""

    id: str
    width: int
    height: int
    expires_at_ms: int
    path: Path


class Uploads:
    """The uploads in a folder; of more than `max_bytes`, or `MOST_UPLOADS`, the oldest go.

    Thread-safe, and safe between processes.
    """

    def __init__(self, folder: Path, *, max_bytes: int, max_pixels: int, age_s: float) -> None:
        self._folder = folder
        self._max_bytes, self._max_pixels, self._age_s = max_bytes, max_pixels, age_s

    def keep(self, data: bytes) -> Upload:
        """Keep the bytes of an image file. Raises: ImageError, TooLargeError; ServeError (they cannot be written)."""
        height, width = image_size(data, name="the upload", max_pixels=2**62)
        if width * height > self._max_pixels:
            raise TooLargeError(f"expected at most {self._max_pixels:,} pixels, got {width} × {height}")
        pixels = decode_image(data, name="the upload", max_pixels=self._max_pixels)
        name = f"{secrets.token_hex(16)}-{pixels.shape[1]}x{pixels.shape[0]}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(self._folder / name, lambda file: file.write(data))
        except (OSError, UsageError) as error:  # whoever asks is shown no path of the server
            logger.warning("an upload cannot be kept: %s", error)
            raise ServeError("the server cannot keep uploads now: its disk is full, or cannot be written") from error
        self.tidy()
        return self._upload(self._folder / name)

    def find(self, identity: str) -> Upload:
        """Raises: ObjectNotFoundError for one that is not there (any more)."""
        found = list(self._folder.glob(f"{identity}-*")) if UPLOAD_ID.fullmatch(identity) else []
        upload = None if not found else self._upload(found[0])
        if upload is None or upload.expires_at_ms < time.time() * 1000:
            raise ObjectNotFoundError(f"there is no upload {identity!r} (any more): upload the image again")
        return upload

    def read(self, upload: Upload) -> RGBImage:
        """Its pixels, (H, W, 3) uint8 RGB. Raises: ObjectNotFoundError, ImageError."""
        try:
            data = upload.path.read_bytes()
        except OSError:
            raise ObjectNotFoundError(f"there is no upload {upload.id!r} any more: upload the image again") from None
        return decode_image(data, name="the upload", max_pixels=self._max_pixels)

    def tidy(self) -> None:
        """Delete what is too old, and the oldest of too much."""
        kept, now = 0, time.time()
        for number, (path, age_s, size) in enumerate(sorted(self._files(now), key=lambda one: one[1])):
            kept += size
            if age_s > self._age_s or kept > self._max_bytes or number >= MOST_UPLOADS:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _files(self, now: float) -> list[tuple[Path, float, int]]:
        found = []
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                with contextlib.suppress(OSError):
                    state = path.stat()
                    found.append((path, now - state.st_mtime, state.st_size))
        return found

    def _upload(self, path: Path) -> Upload:
        parts = _NAME.fullmatch(path.name)
        if parts is None:
            raise ImageError(path.name, "not an upload")
        try:
            expires_s = path.stat().st_mtime + self._age_s
        except OSError:
            raise ObjectNotFoundError(f"there is no upload {parts[1]!r} any more: upload the image again") from None
        return Upload(parts[1], int(parts[2]), int(parts[3]), round(expires_s * 1000), path)
