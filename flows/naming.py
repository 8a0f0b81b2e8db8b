"""Names of a source in Prefect, where only small letters, digits and dashes are allowed."""

from __future__ import annotations

import hashlib
import re
from typing import Final

_LONGEST: Final = 100  # of a name's readable part


def source_slug(source: str) -> str:
    """The source in small letters, digits and dashes; different sources never share one.

    `s3://images` is `images`; what must be changed to fit, as in `s3://images/2024`, ends with digits of its digest.
    """
    name = source.rstrip("/").rpartition("://")[2]
    slug = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST]
    if slug == name:
        return slug
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{slug}-{digest}" if slug else digest
