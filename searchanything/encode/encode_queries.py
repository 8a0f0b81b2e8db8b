"""Queries whose image no model takes: that is the image's fault, unless a known image says that it is the device's."""

from __future__ import annotations

from collections.abc import Sequence

from searchanything.core.errors import ImageError, ModelError, SearchAnythingError
from searchanything.core.types import RGBImage
from searchanything.encode.canary import check_models, encoding_errors
from searchanything.encode.encoder import EncodedQuery, Encoder, Stopwatch
from searchanything.prompts.prompt import Prompt


def encode_one(encoder: Encoder, image: RGBImage, prompt: Prompt, watch: Stopwatch | None = None) -> EncodedQuery:
    """As `Encoder.encode_query`. Raises: PromptError; ImageError, ModelError and DeviceError where the models fail."""
    (encoded,) = encode_each(encoder, [(image, prompt)], watch)
    if isinstance(encoded, SearchAnythingError):
        raise encoded
    return encoded


def encode_each(
    encoder: Encoder, queries: Sequence[tuple[RGBImage, Prompt]], watch: Stopwatch | None
) -> Sequence[EncodedQuery | SearchAnythingError]:
    """As `Encoder.encode_queries`; of a batch on which the models fail each query by itself, with its own error.

    Raises: DeviceError where a known image fails as well.
    """
    try:
        return encoder.encode_queries(queries, watch)
    except encoding_errors() as error:
        if len(queries) > 1:
            return [one for query in queries for one in encode_each(encoder, [query], watch)]
        check_models(encoder)
        if isinstance(error, ModelError):
            return [error]
        height, width = queries[0][0].shape[:2]
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        made = ImageError(f"an image of {width} × {height}", f"cannot be encoded: {type(error).__name__}: {reason}")
        made.__cause__ = error
        return [made]
