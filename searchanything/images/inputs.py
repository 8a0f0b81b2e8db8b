"""What people hand over as an image: a path, bytes, a PIL image, an array, or an object in the bucket."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from searchanything.core.addresses import shown_address, split_s3
from searchanything.core.arguments import no_image
from searchanything.core.errors import ImageError, UsageError
from searchanything.core.reading import read_file
from searchanything.core.types import ImageRef, RGBImage
from searchanything.images.decoding import decode_image, decode_pil_image

ImageInput: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any] | ImageRef

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")  # one slash: a Path has lost the other one
_ACCEPTED: Final = "expected a file's path, file://…, or s3://bucket/key"


def load_image(image: ImageInput, *, read_object: Callable[[ImageRef], bytes], max_pixels: int) -> RGBImage:
    """Any accepted input as (H, W, 3) uint8 RGB, EXIF orientation applied.

    An array must be (H, W, 3) uint8 RGB already. A string is what `named_image` takes.

    Raises: ImageError (unreadable), UsageError (of a kind or shape that is not an image), StoreError.
    """
    match image:
        case np.ndarray():
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
                raise UsageError(
                    f"expected an array (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}{_how_to_convert(image)}"
                )
            return np.array(image, order="C")  # a copy: it is looked at later, too, and a frame's buffer is used again
        case ImageRef():
            return decode_image(read_object(image), name=str(image), max_pixels=max_pixels)
        case bytes():
            return decode_image(image, name="<bytes>", max_pixels=max_pixels)
        case Image.Image():
            return decode_pil_image(image, name="<PIL image>", max_pixels=max_pixels)
        case str() | Path():
            named = named_image(image)
            if isinstance(named, ImageRef):
                return load_image(named, read_object=read_object, max_pixels=max_pixels)
            return decode_image(_file_bytes(named, str(image)), name=str(image), max_pixels=max_pixels)
    raise no_image(image)


def named_image(name: str | Path) -> ImageRef | Path:
    """What a name stands for: `s3://bucket/key` an object, a path (`~` is the home folder) or `file://…` a file.

    Raises: UsageError for another kind of address.
    """
    text = str(name)
    if (named := split_s3(text)) is not None:
        if not all(named):
            raise UsageError(f"expected s3://bucket/key, got {shown_address(text)!r}")
        return ImageRef(*named)
    if text[:7].lower() == "file://":
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise UsageError(f"{text}: expected a file of this machine, as file:///path/to/image.jpg")
        return Path(unquote(text[7 + len(parts.netloc) :]))
    found = _SCHEME.match(text)
    if found and found[1].lower() in ("http", "https", "ftp"):
        raise UsageError(
            f"{shown_address(text)}: addresses are never fetched: download the image and name its file; {_ACCEPTED}"
        )
    if found and not Path(text).exists():
        raise UsageError(f"{text}: images of kind {found[1]}: are not known; {_ACCEPTED}")
    try:
        return Path(name).expanduser()
    except RuntimeError as error:  # no such user
        raise UsageError(f"{text}: {error}; {_ACCEPTED}") from error


def folder_message(name: str) -> str:
    """What to say where a folder is named for an image."""
    command = f"searchanything index {shlex.quote(name)}"
    return f"{name}: this is a folder; name one of its images, or index all of them: {command}"


def _how_to_convert(array: NDArray[Any]) -> str:
    """What to do about an array of another shape or type, where it can be guessed."""
    shape, hints = array.shape, []
    if array.dtype == np.bool_ or array.dtype.kind not in "uif":
        return ""
    if array.dtype.kind == "f":
        hints.append("values of 0 to 1 become uint8 by (255 * array).round().astype('uint8')")
    elif array.dtype != np.uint8:
        hints.append("scale the values to 0 to 255 and convert them by .astype('uint8')")
    if array.ndim == 2:
        hints.append("grey becomes RGB by numpy.stack([array] * 3, axis=-1)")
    elif array.ndim == 3 and shape[2] == 4:
        hints.append("drop the fourth channel: array[..., :3]")
    elif array.ndim == 3 and shape[2] == 1:
        hints.append("grey becomes RGB by array.repeat(3, axis=2)")
    elif array.ndim == 3 and shape[0] == 3:
        hints.append("put the channels last: array.transpose(1, 2, 0)")
    elif array.ndim == 4 and shape[0] == 1:
        hints.append("give one image at a time: array[0]")
    return f": {', '.join(hints)}" if hints else ""


def _file_bytes(path: Path, name: str) -> bytes:
    try:
        is_folder = path.is_dir()
        data = b"" if is_folder else read_file(path)
    except OSError as error:
        raise ImageError(name, f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a null byte in the name
        raise ImageError(name, f"cannot be read: {error}") from error
    if is_folder:
        raise UsageError(folder_message(name))
    return data
