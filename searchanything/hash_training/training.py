"""Train a hash layer on a stream of features, with the baselines beside it: read this first.

batches ──► sample and moments ──► standardise ──► a layer by each method ──► judge ──► the one asked for
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np

from searchanything.core.errors import UsageError
from searchanything.core.settings import ModelSettings
from searchanything.core.types import Codes, FloatArray
from searchanything.features.parquet import FeatureBatch
from searchanything.hash_training import rotations
from searchanything.hash_training.checkpoints import check_state
from searchanything.hash_training.judging import LEAST_JUDGED, Judgement, judge_codes
from searchanything.hash_training.sampling import FeatureSample, RowsSeen, draw_sample
from searchanything.hash_training.standardising import Standardisation
from searchanything.models.hashing import HashLayer

HashMethod: TypeAlias = Literal["deep", "itq", "pca-rotation", "lsh"]
METHODS: Final[tuple[HashMethod, ...]] = get_args(HashMethod)
BITS: Final = (64, 128, 256, 512)
SAMPLE_ROWS: Final = 50_000  # are trained on: they bound memory
JUDGED_ROWS: Final = 10_000
CHOOSING_ROWS: Final = 2_000
_LEAST_ROWS: Final = 20
MASK_SHARE: Final = 0.1
STEPS: Final = 200
STRENGTH: Final = 0.4  # docs/hashing.md has the figures
HELD_OUT_PART: Final = 5  # of few rows, every fifth judges, and another fifth chooses
_ROTATIONS: Final[Mapping[str, Callable[..., FloatArray]]] = {
    "itq": rotations.itq,
    "pca-rotation": rotations.pca_rotation,
}
# Rows of `lsh` are alike, so each prefix of them is such a layer; `deep` moves all bits at once, and has no order.
PREFIX_METHODS: Final[tuple[HashMethod, ...]] = ("itq", "pca-rotation", "lsh")


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What to train. `mask_share` is the mask features' share of the mean squared length of the standardised rows.

    `prefix_ordered`: the first 64, 128 and 256 bits are to be codes by themselves. `steps` (at most) and `strength` (of
    the neighbour whitening) are those of `deep`.
    `checkpoint` names the file from which `resume` goes on; None keeps no state. `known` is what is known of the
    features beforehand, such as their number: a checkpoint of others is refused before any are read. `compute` says on
    which device.

    Raises: UsageError, at construction.
    """

    method: HashMethod = "deep"
    bits: int = 256
    seed: int = 0
    mask_share: float = MASK_SHARE
    prefix_ordered: bool = False
    steps: int = STEPS
    strength: float = STRENGTH
    checkpoint: Path | None = None
    resume: bool = False
    known: Mapping[str, str | int | None] = field(default_factory=dict)
    compute: ModelSettings | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"expected a method of {', '.join(METHODS)}, got {self.method!r}")
        if self.bits not in BITS:
            raise UsageError(f"expected {', '.join(map(str, BITS))} bits, got {self.bits}")
        if not 0 < self.mask_share < 1:
            raise UsageError(f"expected a mask share between 0 and 1, got {self.mask_share}")
        if self.prefix_ordered and self.method not in PREFIX_METHODS:
            raise UsageError(
                f"expected a method of {', '.join(PREFIX_METHODS)} for prefix-ordered bits, got {self.method!r}, which "
                "fits all bits at once"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """What a checkpoint must agree with to be gone on from."""
        names = ("bits", "seed", "mask_share", "prefix_ordered", "steps", "strength")
        return {**{name: getattr(self, name) for name in names}, **self.known}

    @property
    def methods(self) -> tuple[HashMethod, ...]:
        """All that can be judged beside the one asked for."""
        return PREFIX_METHODS if self.prefix_ordered else METHODS


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How far training is: `done` rows read, or steps or methods done, of `total` (None: not known)."""

    stage: Literal["reading", "training", "judging"]
    done: int
    total: int | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TrainedHash:
    """The layer that was asked for; every method's layer, and its judgement on the same held-out rows."""

    layer: HashLayer
    layers: Mapping[str, HashLayer]
    judgements: Mapping[str, Judgement]
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """The answer of `searchanything hash train --format json`."""
        return {
            "method": self.layer.provenance["method"],
            "bits": self.layer.bits,
            "mask_dimension": self.layer.mask_dimension,
            "image_dimension": self.layer.image_dimension,
            "rows": self.rows,
            "sha256": self.layer.digest,
            "judgement": {name: judgement.to_dict() for name, judgement in self.judgements.items()},
        }


OnTrainingProgress: TypeAlias = Callable[[TrainingProgress], None]


def train_hash(
    batches: Iterable[FeatureBatch],
    *,
    options: TrainingOptions,
    provenance: Mapping[str, str] | None = None,
    progress: OnTrainingProgress = lambda _: None,
) -> TrainedHash:
    """Train `options.method` on features as the models gave them, and every other method to compare it with.

    One pass over `batches`; memory does not depend on their number. `provenance` is written into the layer's file.

    Where batches have classes, directions in which regions of one class differ count less, whatever the method.

    Raises: UsageError for too few rows, features that are not finite or change their widths, classes that no two rows
    share, a foreign checkpoint; UniformFeaturesError where all rows are the same.
    """
    if options.checkpoint is not None and (options.resume or "deep" in options.methods):
        check_state(options.checkpoint, settings=options.settings, resume=options.resume)
    sample = draw_sample(
        batches,
        rows=SAMPLE_ROWS,
        seed=options.seed,
        seen=lambda rows: progress(TrainingProgress("reading", rows)),
    )
    if len(sample.rows) < _LEAST_ROWS:
        raise UsageError(
            f"expected at least {_LEAST_ROWS} regions to train on, got {len(sample.rows)}; index more images"
        )
    part = len(sample.rows) // HELD_OUT_PART
    judging, choosing = min(JUDGED_ROWS, part), min(CHOOSING_ROWS, part)
    fitting, choice, judged = sample.split(choosing=choosing, judging=judging, seed=options.seed)
    standardisation = _standardisation(fitting, options)
    rows, chooses, judges = (standardisation.apply(one) for one in (fitting.rows, choice, judged))
    layers: dict[str, HashLayer] = {}
    judgements: dict[str, Judgement] = {}
    for number, method in enumerate(options.methods):
        facts = {**_facts(sample, options), **(provenance or {}), "method": method}
        weight, bias = standardisation.fold(*_fit(method, rows, chooses, options=options, progress=progress))
        layers[method] = HashLayer.create(
            weight,
            bias,
            mask_dimension=sample.mask_dimension,
            provenance=facts,
            notes=standardisation.notes(),
        )
        judgements[method] = judge_codes(_encoded(layers[method], judged), judges, seed=options.seed)
        progress(TrainingProgress("judging", number + 1, len(options.methods)))
    return TrainedHash(layers[options.method], layers, judgements, sample.seen)


def _standardisation(fitting: FeatureSample, options: TrainingOptions) -> Standardisation:
    """Raises: UsageError where there are classes that say nothing."""
    standardisation = Standardisation.of(fitting, mask_share=options.mask_share)
    if fitting.classes is not None and standardisation.whitening is None:
        raise UsageError(
            "fewer than two classes have two of the fitted regions: no two regions have the same class, or all have; "
            "train without classes"
        )
    return standardisation


def judge_layer(
    layer: HashLayer, batches: Iterable[FeatureBatch], *, seed: int = 0, seen: RowsSeen = lambda _: None
) -> Judgement:
    """Judge a layer on a sample of features, by its own standardisation's neighbours.

    Raises: UsageError for too few rows or such that are not finite; ModelError for features of another width.
    """
    sample = draw_sample(batches, rows=JUDGED_ROWS, seed=seed, seen=seen)
    if len(sample.rows) < LEAST_JUDGED:
        raise UsageError(f"expected at least {LEAST_JUDGED} regions to judge by, got {len(sample.rows)}")
    codes = _encoded(layer, sample.rows)
    return judge_codes(codes, Standardisation.of_layer(layer).apply(sample.rows), seed=seed)


def _encoded(layer: HashLayer, rows: FloatArray) -> Codes:
    return layer.encode(rows[:, : layer.mask_dimension], rows[:, layer.mask_dimension :])


def _facts(sample: FeatureSample, options: TrainingOptions) -> dict[str, str]:
    """What the layer's file says about its making."""
    return {
        "created_by": "searchanything hash train",
        "trained": "true",
        "seed": str(options.seed),
        "rows": str(sample.seen),
        "mask_share": str(options.mask_share if sample.mask_dimension else 0),
        **({"prefix_ordered": "true"} if options.prefix_ordered else {}),
        **({"classes": str(len(sample.known_classes))} if sample.classes is not None else {}),
    }


def _fit(
    method: HashMethod, rows: FloatArray, chooses: FloatArray, *, options: TrainingOptions, progress: OnTrainingProgress
) -> tuple[FloatArray, FloatArray]:
    """Projection (bits, d) and offset (bits,) over standardised rows; `chooses` are rows by which `deep` stops."""
    generator = rotations.rotation_generator(options.seed)
    if method == "lsh":
        projection = rotations.random_projection(rows.shape[1], bits=options.bits, generator=generator)
        return projection, np.zeros(options.bits, np.float32)
    if method in _ROTATIONS:
        prefixes = rotations.PREFIXES if options.prefix_ordered else ()
        projection = _ROTATIONS[method](rows, bits=options.bits, generator=generator, prefixes=prefixes)
        return projection, np.zeros(options.bits, np.float32)
    from searchanything.hash_training.deep import DeepOptions, fit_deep  # loads torch
    from searchanything.models.compute import prepare_compute

    compute = prepare_compute(options.compute or ModelSettings(), "encoder")
    deep = DeepOptions(
        steps=options.steps,
        strength=options.strength,
        seed=options.seed,
        device=str(compute.device),
        checkpoint=options.checkpoint,
        resume=options.resume,
        settings=options.settings,
    )
    return fit_deep(
        rows,
        chooses,
        bits=options.bits,
        options=deep,
        step_done=lambda step, loss: progress(TrainingProgress("training", step, options.steps, loss)),
    )
