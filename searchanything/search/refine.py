"""A probe's hits: what lies near any of its codes, ranked by its score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from searchanything.core.codes import hamming
from searchanything.core.errors import ObjectNotFoundError
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import Codes, Filter, Hit, ImageRef, RegionRef, row_id
from searchanything.search.probe import Probe
from searchanything.search.search import Page, PageRequest

DEPTH: Final = 400  # regions that each of the probe's questions brings, or twice the page


def search_by_probe(
    index: RegionIndex, probe: Probe, request: PageRequest, *, filter: Filter | None, max_limit: int
) -> Page:
    """The regions that a probe scores highest, of those near one of its questions.

    Distances are those to the ideal code, and so is the bound `most_bits`.

    `exact` is True only where these were all regions there are: others may score higher and be missed.

    Raises: FilterError, RegionIndexError.
    """
    ranked, exact = ranked_by_probe(index, probe, request, filter=filter, max_limit=max_limit)
    nearest = min(ranked, key=lambda hit: (hit.distance_bits, hit.image, hit.region or 0), default=None)
    page = allowed(ranked, request)[request.offset : request.offset + request.limit]
    return Page(tuple(page), exact=exact, nearest=nearest)


def probe_depth(request: PageRequest, max_limit: int) -> int:
    """How many regions each of a probe's questions brings."""
    return min(max_limit, max(DEPTH, 2 * (request.offset + request.limit)))


def ranked_by_probe(
    index: RegionIndex, probe: Probe, request: PageRequest, *, filter: Filter | None, max_limit: int
) -> tuple[list[Hit], bool]:
    """All regions near one of a probe's questions, best first, and whether these are all that there are."""
    depth = probe_depth(request, max_limit)
    found = index.search(probe.questions, limit=depth, filter=filter)
    matches = {row_id(one.image, one.generation, one.region): one for several in found for one in several}
    images = {one.image for one in matches.values()}
    newest = index.generations(images) if images else {}
    live = {name: one for name, one in matches.items() if newest.get(one.image) == one.generation}
    everything = all(len(several) < depth for several in found)
    return _ranked(index, probe, live), everything and index.exact


def allowed(ranked: list[Hit], request: PageRequest) -> list[Hit]:
    """What an answer is a stretch of: the hits within the bound, and of each image the best alone, if grouped."""
    if request.most_bits is not None:
        ranked = [hit for hit in ranked if hit.distance_bits <= request.most_bits]
    if request.group_by_image:
        best: dict[ImageRef, Hit] = {}
        for match in ranked:
            best.setdefault(match.image, match)
        ranked = list(best.values())
    return ranked


def codes_of(index: RegionIndex, refs: Sequence[RegionRef]) -> Codes:
    """The codes (N, B) of indexed regions. Raises: ObjectNotFoundError for one that is not indexed (any more)."""
    newest = index.newest({ref.image for ref in refs})
    names = {ref: row_id(ref.image, newest[ref.image].generation, ref.region) for ref in refs if ref.image in newest}
    rows = index.regions(list(names.values()))
    for ref in refs:
        if ref not in names or names[ref] not in rows:
            raise ObjectNotFoundError(
                f"{ref} is not in the index: mark hits of this index, by number or s3://bucket/key#N"
            )
    joined = b"".join(rows[names[ref]].code for ref in refs)
    return np.frombuffer(joined, dtype=np.uint8).reshape(len(refs), index.manifest.bits // 8)


def no_codes(index: RegionIndex) -> Codes:
    """(0, B), of a question that has no region of its own."""
    return np.zeros((0, index.manifest.bits // 8), dtype=np.uint8)


def _ranked(index: RegionIndex, probe: Probe, live: dict[str, Hit]) -> list[Hit]:
    found = index.codes_of(list(live))
    names = [name for name in live if name in found]
    if not names:
        return []
    codes = np.frombuffer(b"".join(found[name] for name in names), dtype=np.uint8).reshape(len(names), -1)
    scores = probe.scores(codes)
    order = sorted(
        range(len(names)), key=lambda n: (-float(scores[n]), live[names[n]].image, live[names[n]].region or 0)
    )
    distances = hamming(probe.questions[:1], codes)[0]
    return [replace(live[names[number]], distance_bits=int(distances[number])) for number in order]
