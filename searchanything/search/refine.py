"""A probe's hits: what lies near any of its codes, ranked by its score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from searchanything.core.codes import hamming, stacked
from searchanything.core.errors import ObjectNotFoundError
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import RegionRow, row_id
from searchanything.core.types import Codes, Filter, FloatArray, Hit, ImageRef, RegionRef
from searchanything.search.committed import committed
from searchanything.search.probe import Marked, MarkedWords, Probe, layer_name
from searchanything.search.search import Page, PageRequest

_DEPTH: Final = 400  # regions that each of the probe's questions brings, or twice the page


def search_by_probe(index: RegionIndex, probe: Probe, request: PageRequest, *, filter: Filter | None) -> Page:
    """The regions that a probe scores highest, of those near one of its questions.

    Distances are those to the ideal code, and so is the bound `most_bits`.

    `exact` is True only where these were all regions there are: others may score higher and be missed.

    Raises: FilterError, RegionIndexError.
    """
    ranked, exact = ranked_by_probe(index, probe, request, filter=filter)
    nearest = min(ranked, key=lambda hit: (hit.distance_bits, hit.image, hit.region or 0), default=None)
    page = allowed(ranked, request)[request.offset : request.offset + request.limit]
    return Page(tuple(page), exact=exact, nearest=nearest)


def _id_of(hit: Hit) -> str:
    return row_id(hit.image, hit.generation, hit.region)


def probe_depth(index: RegionIndex, request: PageRequest) -> int:
    """How many regions each of a probe's questions brings."""
    return min(index.max_limit, max(_DEPTH, 2 * (request.offset + request.limit)))


def ranked_by_probe(
    index: RegionIndex, probe: Probe, request: PageRequest, *, filter: Filter | None
) -> tuple[list[Hit], bool]:
    """All regions near one of a probe's questions, best first, and whether these are all that there are."""
    matches, everything = near_probe(index, probe, limit=probe_depth(index, request), filter=filter)
    live = {_id_of(hit): hit for hit in committed(index, matches.values())}
    return _ranked(index, probe, live), everything and index.exact


def near_probe(index: RegionIndex, probe: Probe, *, limit: int, filter: Filter | None) -> tuple[dict[str, Hit], bool]:
    """What lies near one of a probe's questions, by id, garbage included; and whether there is nothing else."""
    found = index.search(probe.questions, limit=limit, filter=filter)
    matches = {_id_of(hit): hit for several in found for hit in several}
    matches |= _by_words(index, probe, set(matches), limit=limit, filter=filter)
    return matches, all(len(several) < limit for several in found)


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


def _by_words(
    index: RegionIndex, probe: Probe, known: set[str], *, limit: int, filter: Filter | None
) -> dict[str, Hit]:
    """What lies near the marks' ideal words code, and was not found by codes of regions."""
    if not _judges_words(index, probe) or probe.words is None:
        return {}
    [found] = index.search_words(probe.words.question, limit=limit, filter=filter)
    rows = index.regions([one.id for one in found if one.id not in known])
    return {name: Hit.of(row, 0) for name, row in rows.items()}  # distances are counted to the ideal code


def marked_regions(index: RegionIndex, right: Sequence[RegionRef], wrong: Sequence[RegionRef]) -> Marked:
    """The codes of marked regions; their words codes, if each has one. Raises: as `region_rows`."""
    rows = region_rows(index, [*right, *wrong])
    return marked_codes(index, _codes(index, rows), [row.id for row in rows], right=len(right))


def region_rows(index: RegionIndex, refs: Sequence[RegionRef]) -> list[RegionRow]:
    """The rows of indexed regions. Raises: ObjectNotFoundError for one that is not indexed (any more)."""
    newest = index.newest({ref.image for ref in refs})
    names = {ref: row_id(ref.image, newest[ref.image].generation, ref.region) for ref in refs if ref.image in newest}
    rows = index.regions(list(names.values()))
    for ref in refs:
        if ref not in names or names[ref] not in rows:
            raise ObjectNotFoundError(
                f"{ref} is not in the index: mark hits of this index, by number or s3://bucket/key#N"
            )
    return [rows[names[ref]] for ref in refs]


def _codes(index: RegionIndex, rows: Sequence[RegionRow]) -> Codes:
    return stacked((row.code for row in rows), index.manifest.bits)


def marked_codes(index: RegionIndex, codes: Codes, ids: Sequence[str], *, right: int) -> Marked:
    """The marks of regions by their codes (N, B) and ids, the first so many right ones; with words codes if all have
    one.
    """
    found = {} if index.words is None else index.codes_of(ids, of="words")
    words = None
    if index.words is not None and all(name in found for name in ids):
        both = stacked((found[name] for name in ids), index.words.bits)
        words = MarkedWords(both[:right], both[right:], str(layer_name(index.words)))
    return Marked(codes[:right], codes[right:], words)


def asked_region(index: RegionIndex, code: Codes, words_code: Codes) -> Marked:
    """The mark of a question's own region, which need not be indexed, by its codes (B,) and (V,); V may be 0."""
    layer, none = layer_name(index.words), words_code[None][:0]
    words = None if layer is None or not len(words_code) else MarkedWords(words_code[None], none, layer)
    return Marked(code[None], code[None][:0], words)


def _ranked(index: RegionIndex, probe: Probe, live: dict[str, Hit]) -> list[Hit]:
    found = index.codes_of(list(live))
    names = [name for name in live if name in found]
    if not names:
        return []
    codes = stacked((found[name] for name in names), index.manifest.bits)
    scores = probe_scores(index, probe, names, codes)
    order = sorted(
        range(len(names)), key=lambda n: (-float(scores[n]), live[names[n]].image, live[names[n]].region or 0)
    )
    distances = hamming(probe.questions[:1], codes)[0]
    return [replace(live[names[number]], distance_bits=int(distances[number])) for number in order]


def _judges_words(index: RegionIndex, probe: Probe) -> bool:
    """Whether marks and index have words codes of one layer."""
    return probe.words is not None and probe.words.layer == layer_name(index.words)


def probe_scores(index: RegionIndex, probe: Probe, names: Sequence[str], codes: Codes) -> FloatArray:
    """By both codes where marks and rows have them; a row without a words code counts as the mean of all others'."""
    alone = probe.scores(codes)
    if not _judges_words(index, probe) or index.words is None:
        return alone
    found = index.codes_of(names, of="words")
    places = [place for place, name in enumerate(names) if name in found]
    if not places:
        return alone
    words = stacked((found[names[place]] for place in places), index.words.bits)
    share = index.manifest.bits / (index.manifest.bits + index.words.bits)
    both = probe.scores(codes[places], words)
    scores = share * alone + float((both - share * alone[places]).mean())
    scores[places] = both
    return np.asarray(scores, dtype=np.float32)
