"""Evidence → every figure of the report, as values per query: `docs/evaluation.md` says what each means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything.core.digests import Numbers
from searchanything.core.types import MEDIUM_AREA_PX, SMALL_AREA_PX
from searchanything.encode.encoder import Encoder
from searchanything.encode.region_policy import RegionPolicy
from searchanything.evaluation.clicking import CLICKS
from searchanything.evaluation.evidence import PROMPTS, Evidence
from searchanything.evaluation.measures import DEPTH, Values, average_precision, mean, retrieval_values
from searchanything.evaluation.ranking import NOBODY, nearest
from searchanything.evaluation.relevance import Relevance
from searchanything.evaluation.spaces import Space, ablated_spaces, main_spaces, space_name

FigurePath: TypeAlias = tuple[str, ...]  # where a figure stands in the report
Figures: TypeAlias = dict[FigurePath, Values]  # (Q,) each, NaN where a figure does not apply to a query

RECALL_IOUS: Final = (0.5, 0.75)
FUNNEL_DEPTH: Final = 10  # the funnel takes map_10 apart
LONG_SIDE_PX: Final = 96


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """Computes figures of Q queries: every instance that is no crowd.

    The index is that of the first policy, in an order drawn by `seed`: among equally near rows nobody is favoured.
    """

    evidence: Evidence
    encoder: Encoder
    queries: Numbers
    seed: int

    def main_figures(self, *, other: str | None) -> tuple[Figures, dict[str, str]]:
        """All figures but the ablations', and the sources of the compared spaces."""
        instances = self.evidence.instances
        figures: Figures = {
            ("segmentation", f"recall_iou{bound * 100:.0f}"): _flags(instances.paired_iou[self.queries] >= bound)
            for bound in RECALL_IOUS
        }
        figures |= {("prompts", name): instances.prompts[name][self.queries] for name in PROMPTS}
        figures |= {("clicks", name): instances.clicks[name][self.queries] for name in CLICKS}
        spaces = main_spaces(self.evidence.rows, self.encoder, seed=self.seed)
        relevance = Relevance.of(self.evidence, self.queries)
        figures |= self.retrieval(("retrieval",), spaces, relevance)
        figures |= self._funnel(figures, relevance)
        if other is not None:
            differing = Relevance.of(self.evidence, self.queries, other=other)
            figures |= self.retrieval(("retrieval_other",), spaces, differing)
        return figures, {name: space.source for name, space in spaces.items()}

    def ablations(self, policies: tuple[RegionPolicy, ...]) -> Figures:
        """Figures of other features over the same index, and of the same features over other indexes."""
        relevance = Relevance.of(self.evidence, self.queries)
        figures: Figures = {}
        for name, ablated in ablated_spaces(self.evidence.rows, self.encoder).items():
            figures |= self.retrieval(("ablations", name), ablated, relevance)
        spaces = main_spaces(self.evidence.rows, self.encoder, seed=self.seed)
        compared = {name: spaces[name] for name in ("float", space_name(self.encoder.hasher.bits))}
        kept = self.evidence.rows.kept
        on_instances = kept[:, 0] & self.on_instances
        figures |= self.retrieval(("ablations", "index_without_background"), compared, relevance, indexed=on_instances)
        for number, policy in enumerate(policies[1:], start=1):
            path = ("ablations", "policies", policy_name(policy))
            figures |= self.retrieval(path, compared, relevance, indexed=kept[:, number])
            figures[*path, "instances_indexed"] = _flags(self._covered(kept[:, number]))
        return figures

    def retrieval(
        self,
        path: FigurePath,
        spaces: Mapping[str, Space],
        relevance: Relevance,
        *,
        indexed: NDArray[np.bool_] | None = None,
    ) -> Figures:
        """Retrieval figures of each space over the evaluated index, or one of other rows (R,) bool."""
        figures: Figures = {}
        rows_kept = self.evidence.rows.kept[:, 0] if indexed is None else indexed
        index = np.random.default_rng(self.seed).permutation(np.flatnonzero(rows_kept))
        rows, possible = self.evidence.instances.row[self.queries], relevance.possible
        for name, space in spaces.items():
            ranked = nearest(space.rows_of, rows, index, barred=relevance.barred, depth=DEPTH)
            ranked = ranked if space.again is None else space.again(rows, ranked)
            right = relevance.found(ranked) != NOBODY
            figures |= {(*path, name, figure): one for figure, one in retrieval_values(right, possible).items()}
        return figures

    def policy_costs(self, policies: tuple[RegionPolicy, ...]) -> dict[str, dict[str, float]]:
        """By policy: regions and bytes (codes and masks) per image, and instances with a region there per KiB."""
        rows, costs = self.evidence.rows, {}
        for number, policy in enumerate(policies[1:], start=1):
            kept = rows.kept[:, number]
            bytes_per_image = float(rows.stored_bytes[kept].sum() / self.evidence.images)
            covered = mean(_flags(self._covered(kept))) or 0.0
            costs[policy_name(policy)] = {
                "regions_per_image": float(kept.sum() / self.evidence.images),
                "stored_bytes_per_image": bytes_per_image,
                "instances_indexed_per_kib": covered / max(bytes_per_image / 1024, 1e-9),
            }
        return costs

    def subsets(self, group_by: tuple[str, ...]) -> dict[FigurePath, NDArray[np.bool_]]:
        """Which queries (Q,) belong to each size class and to each group, by its place in the report."""
        instances = self.evidence.instances
        areas, sides = instances.area_px[self.queries], instances.longest_side_px[self.queries]
        found: dict[FigurePath, NDArray[np.bool_]] = {
            ("by_size", "small"): areas <= SMALL_AREA_PX,
            ("by_size", "medium"): (areas > SMALL_AREA_PX) & (areas <= MEDIUM_AREA_PX),
            ("by_size", "large"): areas > MEDIUM_AREA_PX,
            ("by_size", f"side_{LONG_SIDE_PX}_px_or_more"): sides >= LONG_SIDE_PX,
        }
        for name in group_by:
            values = instances.attributes[name][self.queries]
            levels = instances.attribute_values[name]
            found |= {("groups", name, level): values == number for number, level in enumerate(levels)}
        return found

    def _funnel(self, figures: Figures, relevance: Relevance) -> Figures:
        """What each stage takes from map_10: the best possible ranking of what is left, less that of the next stage."""
        possible = relevance.possible
        asked = np.where(possible > 0, 1.0, np.nan)
        segmented, kept = (
            _best_ap(relevance.countable(self._holding(rows)), possible)
            for rows in (self.evidence.rows.is_region, self.evidence.rows.kept[:, 0])
        )
        of_float = figures["retrieval", "float", "map_10"]
        of_codes = figures["retrieval", space_name(self.encoder.hasher.bits), "map_10"]
        wrong_query = self.evidence.instances.prompts["box"][self.queries] == 0
        losses = {
            "not_segmented": asked - segmented,
            "not_kept": segmented - kept,
            "float": kept - of_float,
            "float_with_wrong_query_region": np.where(wrong_query, kept - of_float, 0.0 * asked),
            "hash": of_float - of_codes,
            "left": of_codes,
        }
        return {("funnel", name): values for name, values in losses.items()}

    @property
    def on_instances(self) -> NDArray[np.bool_]:
        """(R,) bool: which rows lie on an instance, crowds included."""
        matched = np.zeros(len(self.evidence.rows.image), dtype=np.bool_)
        matched[self.evidence.matches[0]] = True
        return matched

    def _holding(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(M,) bool: which instances some of the given rows (R,) lies on."""
        row, instance, _ = self.evidence.matches
        holding = np.zeros(len(self.evidence.instances.image), dtype=np.bool_)
        holding[instance[rows[row]]] = True
        return holding

    def _covered(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return self._holding(rows)[self.queries]


def policy_name(policy: RegionPolicy) -> str:
    """`largest_25`."""
    return f"{policy.name}_{policy.count}"


def _best_ap(available: Numbers, possible: Numbers) -> Values:
    """AP@10 of a ranking that has everything available first."""
    right = np.arange(FUNNEL_DEPTH)[None, :] < available[:, None]
    return average_precision(right, possible, depth=FUNNEL_DEPTH)


def _flags(right: NDArray[np.bool_]) -> Values:
    return right.astype(np.float64)
