"""What people hand over as an image: a path, bytes, a PIL image, an array, or an object in the bucket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from searchanything.core.errors import ImageError, UsageError
from searchanything.core.types import ImageRef, RGBImage
from searchanything.images.decoding import decode_image, decode_pil_image

ImageInput: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any] | ImageRef


def load_image(image: ImageInput, *, read_object: Callable[[ImageRef], bytes], max_pixels: int) -> RGBImage:
    """Any accepted input as (H, W, 3) uint8 RGB, EXIF orientation applied.

    An array must be (H, W, 3) uint8 RGB already. A string is a path, or `s3://bucket/key`.

    Raises: ImageError (unreadable), UsageError (of a kind or shape that is not an image), StoreError.
    """
    match image:
        case np.ndarray():
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
                raise UsageError(f"expected an array (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
            return np.ascontiguousarray(image)
        case ImageRef():
            return decode_image(read_object(image), name=str(image), max_pixels=max_pixels)
        case bytes():
            return decode_image(image, name="<bytes>", max_pixels=max_pixels)
        case Image.Image():
            return decode_pil_image(image, name="<PIL image>", max_pixels=max_pixels)
        case str() if image.startswith("s3://"):
            bucket, _, key = image.removeprefix("s3://").partition("/")
            if not bucket or not key:
                raise UsageError(f"expected s3://bucket/key, got {image!r}")
            return load_image(ImageRef(bucket, key), read_object=read_object, max_pixels=max_pixels)
        case str() | Path():
            return decode_image(_file_bytes(Path(image)), name=str(image), max_pixels=max_pixels)
    raise UsageError(f"expected a path, bytes, PIL image, array or ImageRef, got {type(image).__name__}")


def _file_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(str(path), f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a null byte in the name
        raise ImageError(str(path), f"cannot be read: {error}") from error
