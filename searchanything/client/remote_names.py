"""From what people name an indexed image by to the image, asked of a server: as `search.locate` does in an index.

Only the standard library is imported here, as in `calls`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from searchanything.client.calls import Call, document, image_document
from searchanything.core.addresses import check_image_name, check_one_bucket, names_of, unmarked
from searchanything.core.errors import ObjectNotFoundError
from searchanything.core.types import ImageRef

Send = Callable[[Call[Any]], Any]


def image_id(image: ImageRef) -> str:
    """An image's name in addresses: bucket and key, in letters that an address may hold."""
    return (
        base64.urlsafe_b64encode(f"{image.bucket}\0{image.key}".encode("utf-8", "surrogatepass")).decode().rstrip("=")
    )


def located(image: object, send: Send) -> dict[str, Any]:
    """Bucket and key of an `ImageRef`, a hit, `s3://bucket/key`, the path of a file that was indexed, or a key.

    An image that the server does not know gets the name that it would have. Raises: UsageError, and what `send` raises.
    """
    named = image_document(image)
    if named is not None:
        return {name: named[name] for name in ("bucket", "key")}
    check_image_name(image)
    refs = names_of(Path(str(image)))
    known = next((ref for ref in refs if _is_known(ref, send)), None) or _of_key(str(image), send) or refs[0]
    return {"bucket": known.bucket, "key": known.key}


def _is_known(ref: ImageRef, send: Send) -> bool:
    try:
        send(Call("GET", f"/v1/images/{image_id(ref)}", document))
    except ObjectNotFoundError:
        return False
    return True


def _of_key(key: str, send: Send) -> ImageRef | None:
    """The image with exactly this key, or with this bucket and key. Raises: UsageError for a key of several buckets."""
    whole = unmarked(key)
    found = [ref for ref in _images_under(key, send) if ref.key == key]
    found += [] if whole is None or not _is_known(whole, send) else [whole]
    check_one_bucket(key, found)
    return found[0] if found else None


def _images_under(prefix: str, send: Send) -> Iterator[ImageRef]:
    """All images whose keys begin so, page by page."""
    asked = {"prefix": prefix, "limit": "500"}
    while True:
        page = send(Call("GET", f"/v1/images?{urlencode(asked)}", document))
        yield from (ImageRef(one["bucket"], one["key"]) for one in page["images"])
        if page["next"] is None:
            return
        asked["after"] = page["next"]
