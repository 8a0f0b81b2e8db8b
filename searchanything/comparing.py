"""The paper's Figure 4 for one's own query: the same candidates, ranked by four descriptions of a region.

The candidates are the regions nearest by code. Their images are read once, their regions encoded in batches, and ranked
by the cosine to the query's region of

1. CLIP's embedding of the unmasked crop (of a small region three times its box, as the index does it),
2. CLIP's embedding of the crop with everything outside the mask black,
3. the second joined with f_M, each scaled to unit length,

and by 4. the Hamming distance of the codes in the index, which were made of crops masked by the index' own rule (large
regions alone). Who stands where in one and not in the other shows what masking, f_M and hashing each do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from searchanything.codes import joined_features
from searchanything.comparisons import Comparison, Method, tile_of
from searchanything.crops import CropPolicy
from searchanything.encoding import EncodedQuery, Encoder, RegionJob
from searchanything.errors import PromptError
from searchanything.prompts import Prompt, WholeImage, describe_prompt
from searchanything.reencoding import SearchContext, cosines, reencode
from searchanything.searching import PageRequest, search_regions
from searchanything.selecting import describe
from searchanything.types import Filter, FloatArray, Hit, RGBImage, SizeClass, size_class_of

FloatMethod: TypeAlias = Literal["clip", "clip_masked", "clip_masked_and_mask_features"]
CANDIDATES: Final = 50
POLICIES: Final = (CropPolicy.CONTEXT, CropPolicy.MASKED)


def compare(
    context: SearchContext,
    image: RGBImage,
    prompt: Prompt,
    *,
    candidates: int = CANDIDATES,
    filter: Filter | None = None,
) -> Comparison:
    """Rank the nearest regions by code under each method. A prompt that selects nothing gives empty rankings.

    Raises: PromptError (also without a prompt: whole images have no mask), UsageError, FilterError, StoreError,
    RegionIndexError.
    """
    if isinstance(prompt, WholeImage):
        raise PromptError("a comparison is about a region, and whole images have no mask: add a prompt")
    query = context.encoder.encode_query(image, prompt)
    hits: Sequence[Hit] = ()
    if query.choice.kind != "none":
        request = PageRequest(limit=candidates)
        hits = search_regions(context.index, query.code, request, filter=filter, max_limit=context.max_limit).hits
    found = _encoded_again(context, hits)
    return Comparison(
        query_image=image,
        prompt_description=describe_prompt(prompt),
        selection=describe(query.choice, query.segmentation),
        fingerprint=context.index.manifest.fingerprint,
        candidates=found.hits,
        tiles=found.tiles,
        methods=_methods(context.encoder, image, query, found),
        left_out=found.left_out,
        masked_in_index=sum(size_class_of(hit.box_xyxy) is SizeClass.LARGE for hit in found.hits),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """The candidates that could be encoded again, H of them, nearest by code first, with their features."""

    hits: tuple[Hit, ...]
    tiles: tuple[RGBImage, ...]
    mask_features: FloatArray
    image_features: Mapping[CropPolicy, FloatArray]
    left_out: tuple[tuple[Hit, str], ...]


def _encoded_again(context: SearchContext, hits: Sequence[Hit]) -> _Found:
    """Each image is read once, and only its small drawing is kept."""
    encoder = context.encoder
    none = {policy: np.zeros((0, encoder.embedder.dimension), dtype=np.float32) for policy in POLICIES}
    seen: list[Hit] = []
    tiles: list[RGBImage] = []
    pooled = [np.zeros((0, encoder.segmenter.feature_dimension), dtype=np.float32)]
    embedded = {policy: [rows] for policy, rows in none.items()}
    left_out: list[tuple[Hit, str]] = []
    for batch in reencode(context, hits, policies=POLICIES):
        seen += batch.hits
        tiles += [tile_of(hit, image) for hit, image in zip(batch.hits, batch.images, strict=True)]
        pooled.append(batch.mask_features)
        for policy in POLICIES:
            embedded[policy].append(batch.image_features[policy])
        left_out += [(one.hit, one.reason) for one in batch.left_out]
    places = {(hit.image, hit.region): place for place, hit in enumerate(hits)}
    order = sorted(range(len(seen)), key=lambda number: places[seen[number].image, seen[number].region])
    return _Found(
        hits=tuple(seen[number] for number in order),
        tiles=tuple(tiles[number] for number in order),
        mask_features=np.concatenate(pooled)[order],
        image_features={policy: np.concatenate(rows)[order] for policy, rows in embedded.items()},
        left_out=tuple(left_out),
    )


def _methods(encoder: Encoder, image: RGBImage, query: EncodedQuery, found: _Found) -> tuple[Method, ...]:
    """The four rankings, in the order of the module's docstring."""
    context, masked = (found.image_features[policy] for policy in POLICIES)
    joined = joined_features(found.mask_features, masked)
    cosines_of = [np.zeros(0, dtype=np.float32)] * 3
    if found.hits:
        job = RegionJob.of_choice(image, query.segmentation, query.choice)
        own_context, own_masked = (encoder.embed_regions([job], crops=policy) for policy in POLICIES)
        own_joined = joined_features(encoder.pool_masks([job]), own_masked)
        cosines_of = [cosines(context, own_context), cosines(masked, own_masked), cosines(joined, own_joined)]
    by_clip, by_masked, by_joined = cosines_of
    distances = tuple(float(hit.distance_bits) for hit in found.hits)
    crop, cut_out = "the crop as it is", "the crop with everything outside the mask black"
    bits, stored = encoder.hasher.bits, "crops masked where the region is large"
    return (
        _by_cosine("clip", "CLIP, crop alone", crop, by_clip),
        _by_cosine("clip_masked", "CLIP, masked crop", cut_out, by_masked),
        _by_cosine("clip_masked_and_mask_features", "masked CLIP + f_M", cut_out, by_joined),
        Method("codes", f"{bits}-bit code", stored, "distance_bits", distances, tuple(range(len(distances)))),
    )


def _by_cosine(name: FloatMethod, label: str, crops: str, similar: FloatArray) -> Method:
    order = np.argsort(-similar, kind="stable").tolist()
    values = tuple(round(float(value), 4) for value in similar)
    return Method(name, label, crops, "cosine", values, tuple(order))
