"""Why is this image not among the hits? The funnel, step by step, up to the first step that explains.

    prompt ─► indexed ─► unchanged ─► mask ─► kept ─► features ─► codes ─► filter ─► chance ─► grouping ─► page ─► hit
    (query)   (row of    (object)     (seg-   (policy) (float,    (Hamming,
               the index)              menter)          no hash)   all rows)

Features and codes are judged by one measure: a place among the first N, or on the page or before it. The N nearest by
code, the candidates, are encoded again. What stands behind all N of them by its float features is not similar enough
for the models; what does not, and yet has no such place by code, was lost by hashing. A rank by features is one among
the candidates: the true one may be larger, never smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from searchanything.answers.explanation import Explanation
from searchanything.core.errors import PromptError
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageRow
from searchanything.explain import index_steps, steps
from searchanything.explain.expected_region import TargetRegion
from searchanything.explain.index_steps import Note
from searchanything.explain.rank import Ranking
from searchanything.explain.reencode import SearchContext
from searchanything.explain.steps import Expected, Inquiry, SearchQuestion, View
from searchanything.prompts.choose import candidates, selection_of_choice
from searchanything.search.rescoring import QueryValues

_CANDIDATES: Final = 50  # N
_Seen: TypeAlias = tuple[Note, View | None, TargetRegion | None]  # a step, and what is known of the image at it


def explain(
    context: SearchContext,
    question: SearchQuestion,
    expected: Expected,
    *,
    others: Iterable[RegionIndex] = (),
    first: int = _CANDIDATES,
) -> Explanation:
    """Walk down the funnel for an expected image. `others` are indexes of other fingerprints, `first` is N.

    Without an expected box, the image's region on the page is the target, or else the one most similar to the query.

    Of a page that reaches beyond N, the ranks by code alone are looked up: N regions are encoded again at most.

    Raises: PromptError (also for a box outside the expected image), FilterError, UsageError, StoreError, ImageError,
    RegionIndexError.
    """
    query = context.recollection.query(context, question.image, question.prompt)
    whole_images = query.choice.kind == "image"
    if whole_images and expected.box_xyxy is not None:
        raise PromptError("whole images are searched without a prompt: leave the expected box out, or add a prompt")
    asked = QueryValues(query.code, query.projection) if question.asked is None else question.asked
    ranking = Ranking.of(context.index, asked, question.request, whole_images=whole_images)
    inquiry = Inquiry(context, question, expected, query, ranking, min(first, context.index.max_limit), others)
    walked: list[_Seen] = []
    for seen in _walk(inquiry):
        walked.append(seen)
        if seen[0].verdict is not None:
            break
    return _explanation(inquiry, walked)


def _walk(inquiry: Inquiry) -> Iterator[_Seen]:
    """The steps in their order, until one has a verdict."""
    yield steps.prompt(inquiry), None, None
    index, whole_images = inquiry.context.index, inquiry.ranking.whole_images
    expected = inquiry.expected
    note, image = index_steps.indexed(index, expected.image, others=inquiry.others, whole_images=whole_images)
    yield note, None, None
    if image is None:
        return
    for note, view, target in _behind(inquiry, image):
        yield index_steps.unless_replaced(index, image, note), view, target


def _behind(inquiry: Inquiry, image: ImageRow) -> Iterator[_Seen]:
    """The steps behind `indexed`."""
    note, view = steps.unchanged(inquiry, image)
    yield note, view, None
    if view is None:
        return
    target, found = None, None
    if inquiry.ranking.whole_images:
        found = steps.whole_image(inquiry, image)
        if found is None:
            yield index_steps.gone("codes"), view, None
    else:
        note, target = steps.mask(inquiry, view)
        yield note, view, target
        if target.row is not None:
            note, found = steps.kept(inquiry, image, view, target.row)
            yield note, view, target
    if found is None:
        return
    note, place = steps.features(inquiry, image, view, None if target is None else target.row, found)
    yield note, view, target
    yield steps.codes(inquiry, found, place), view, target
    request, rank = inquiry.question.request, place.rank
    if inquiry.question.filter is not None:
        yield index_steps.passes_filter(place.excluded_by), view, target
    if request.most_bits is not None:
        yield index_steps.chance(found.distance_bits, request.most_bits, rank.rank), view, target
    if request.group_by_image and target is not None and rank.hit is not None:
        by_box = inquiry.expected.box_xyxy is not None
        yield index_steps.grouping(found.region, rank.hit, rank.rank, by_box=by_box), view, target
    by_features = f" (by features it is number {place.features_rank})"
    yield index_steps.page(request, rank.rank or 0, besides=by_features), view, target


def _explanation(inquiry: Inquiry, walked: Sequence[_Seen]) -> Explanation:
    """What was found out, the last step with its verdict."""
    _, view, target = walked[-1]
    shown = None if view is None or inquiry.ranking.whole_images else view.segmentation
    wanted = [target.row] if target is not None and target.row is not None else []
    kept = [] if shown is None else inquiry.context.encoder.policy.keep(shown).tolist()
    regions = [] if shown is None else candidates(shown, wanted + kept)
    return Explanation(
        expected=inquiry.expected.image,
        expected_box_xyxy=inquiry.expected.box_xyxy,
        verdict=next(one.verdict for one, _, _ in walked if one.verdict is not None),
        steps=tuple(one.step for one, _, _ in walked),
        selection=selection_of_choice(inquiry.query.choice, inquiry.query.segmentation),
        prompt_description=inquiry.question.description,
        fingerprint=inquiry.context.index.manifest.fingerprint,
        query_image=inquiry.question.image,
        expected_image=None if view is None else view.pixels,
        region=regions[0] if wanted else None,
        kept=tuple(regions[len(wanted) :]),
    )
