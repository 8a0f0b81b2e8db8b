"""The paper's Figure 4 for any query: the same candidates, ranked by five descriptions of a region.

The candidates are the regions nearest by code. Their images are read once, their regions encoded in batches, and ranked
by the cosine to the query's region of

1. CLIP's embedding of the unmasked crop (of a small region three times its box, where the index does so),
2. CLIP's embedding of the crop with everything outside the mask black,
3. the second joined with f_M (the segmenter's feature map, averaged over the mask), each scaled to unit length,
4. the same of the crops that are indexed, masked by the preset's own rule: what is hashed,

and by 5. the Hamming distance of the codes in the index. Who stands where in one and not in the next shows what
masking, f_M, the crop rule and hashing each do: between the last two lies hashing alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from searchanything.answers.comparison import Comparison, Method, tile_of
from searchanything.core.arguments import whole_number_of
from searchanything.core.codes import joined_features
from searchanything.core.errors import PromptError
from searchanything.core.types import BoxXYXY, Filter, FloatArray, Hit, RGBImage, size_class_of
from searchanything.encode.encode_queries import encode_one
from searchanything.encode.encoder import EncodedQuery, Encoder, RegionJob
from searchanything.explain.reencode import SearchContext, cosines, reencode
from searchanything.images.crop_policy import CropPolicy
from searchanything.prompts.choose import selection_of_choice
from searchanything.prompts.prompt import Prompt, WholeImage, describe_prompt
from searchanything.search.search import PageRequest, refuse_as_a_search, search_regions

FloatMethod: TypeAlias = Literal["clip", "clip_masked", "clip_masked_and_mask_features", "indexed_features"]
CANDIDATES: Final = 50
_INDEXED: Final[Mapping[CropPolicy, str]] = {
    CropPolicy.PAPER: "crops masked where the region is large, as indexed",
    CropPolicy.MASKED: "masked crops, as indexed",
    CropPolicy.CONTEXT: "crops as they are, as indexed",
    CropPolicy.BOX: "crops as they are, as indexed",
}


def _policies(encoder: Encoder) -> tuple[CropPolicy, CropPolicy]:
    """Unmasked and masked; every indexed crop is one of the two."""
    return encoder.crops.unmasked, CropPolicy.MASKED


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
    candidates = whole_number_of(candidates, "candidates", least=1)
    query = encode_one(context.encoder, image, prompt)
    hits: Sequence[Hit] = ()
    request = PageRequest(limit=candidates)
    if query.choice.kind == "none":
        refuse_as_a_search(context.index, request, filter=filter)
    else:
        hits = search_regions(context.index, query.code, request, filter=filter).hits
    found = _encoded_again(context, hits)
    return Comparison(
        query_image=image,
        prompt_description=describe_prompt(prompt),
        selection=selection_of_choice(query.choice, query.segmentation),
        fingerprint=context.index.manifest.fingerprint,
        candidates=found.hits,
        tiles=found.tiles,
        methods=_methods(context.encoder, image, query, found),
        left_out=found.left_out,
        masked_in_index=sum(context.encoder.crops.masks(size_class_of(hit.box_xyxy)) for hit in found.hits),
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
    policies = _policies(encoder)
    none = {policy: np.zeros((0, encoder.embedder.dimension), dtype=np.float32) for policy in policies}
    seen: list[Hit] = []
    tiles: list[RGBImage] = []
    pooled = [np.zeros((0, encoder.segmenter.feature_dimension), dtype=np.float32)]
    embedded = {policy: [rows] for policy, rows in none.items()}
    left_out: list[tuple[Hit, str]] = []
    for batch in reencode(context, hits, policies=policies):
        seen += batch.hits
        tiles += [tile_of(hit, image) for hit, image in zip(batch.hits, batch.images, strict=True)]
        pooled.append(batch.mask_features)
        for policy in policies:
            embedded[policy].append(batch.image_features[policy])
        left_out += batch.left_out
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
    """The five rankings, in the order of the module's docstring."""
    crops = encoder.crops
    rows = _descriptions(crops, found.mask_features, found.image_features, [hit.box_xyxy for hit in found.hits])
    cosines_of = [np.zeros(0, dtype=np.float32)] * len(rows)
    if found.hits:
        job = RegionJob.of_choice(image, query.segmentation, query.choice)
        embedded = {policy: encoder.embed_regions([job], crops=policy) for policy in _policies(encoder)}
        own = _descriptions(crops, encoder.pool_masks([job]), embedded, [query.choice.box_xyxy])
        cosines_of = [cosines(theirs, ours) for theirs, ours in zip(rows, own, strict=True)]
    distances = tuple(float(hit.distance_bits) for hit in found.hits)
    crop, cut_out = "the crop as it is", "the crop with everything outside the mask black"
    bits, indexed = encoder.hasher.bits, _INDEXED[crops]
    labels: list[tuple[FloatMethod, str, str]] = [
        ("clip", "CLIP, crop alone", crop),
        ("clip_masked", "CLIP, masked crop", cut_out),
        ("clip_masked_and_mask_features", "CLIP, masked crop + mask features", cut_out),
        ("indexed_features", "CLIP, indexed crop + mask features", indexed),
    ]
    return (
        *(_by_cosine(*names, similar) for names, similar in zip(labels, cosines_of, strict=True)),
        Method("codes", f"{bits}-bit code", indexed, "distance_bits", distances, tuple(range(len(distances)))),
    )


def _descriptions(
    crops: CropPolicy,
    mask_features: FloatArray,
    image_features: Mapping[CropPolicy, FloatArray],
    boxes: Sequence[BoxXYXY],
) -> list[FloatArray]:
    """N regions' rows under each float method. The indexed crop is one of the two others, by the region's size."""
    context, masked = image_features[crops.unmasked], image_features[CropPolicy.MASKED]
    as_masked = np.array([crops.masks(size_class_of(box)) for box in boxes], dtype=np.bool_)
    indexed = np.where(as_masked[:, None], masked, context)
    return [context, masked, joined_features(mask_features, masked), joined_features(mask_features, indexed)]


def _by_cosine(name: FloatMethod, label: str, crops: str, similar: FloatArray) -> Method:
    order = np.argsort(-similar, kind="stable").tolist()
    values = tuple(round(float(value), 4) for value in similar)
    return Method(name, label, crops, "cosine", values, tuple(order))
