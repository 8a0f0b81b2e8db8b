"""Training of hash layers: what is kept of a stream, what each method gives, resuming, what folds into the layer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from searchanything.core.errors import ModelError, UniformFeaturesError, UsageError
from searchanything.features.parquet import FeatureBatch
from searchanything.hash_training.deep import DeepOptions, fit_deep
from searchanything.hash_training.neighbours import neighbour_whitening
from searchanything.hash_training.rotations import itq, pca_rotation, random_projection
from searchanything.hash_training.sampling import draw_sample
from searchanything.hash_training.standardising import Standardisation
from searchanything.hash_training.training import METHODS, TrainingOptions, TrainingProgress, judge_layer, train_hash
from searchanything.models.hashing import HashLayer


def clustered(rows: int = 300, *, seed: int = 0) -> FeatureBatch:
    """12 clusters: the image features tell them apart, the mask features are noise around another mean."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(12, 24))
    image = centres[np.arange(rows) % 12] + 0.6 * generator.normal(size=(rows, 24)) + 3
    return FeatureBatch((generator.normal(size=(rows, 8)) + 2).astype(np.float32), image.astype(np.float32))


def in_parts(features: FeatureBatch, size: int) -> list[FeatureBatch]:
    starts = range(0, len(features.mask), size)
    return [FeatureBatch(features.mask[i : i + size], features.image[i : i + size]) for i in starts]


def joined(features: FeatureBatch) -> np.ndarray:
    blocks = [block / np.linalg.norm(block, axis=1, keepdims=True) for block in (features.mask, features.image)]
    return np.concatenate(blocks, axis=1)


def test_a_sample_that_is_large_enough_is_everything_and_moments_are_those_of_numpy() -> None:
    features = clustered()
    sample = draw_sample(in_parts(features, 70), rows=1000, seed=1)
    expected = joined(features).astype(np.float64)
    np.testing.assert_allclose(sample.rows, expected, atol=1e-6)
    np.testing.assert_allclose(sample.mean, expected.mean(axis=0), atol=1e-7)
    np.testing.assert_allclose(sample.variance, expected.var(axis=0), atol=1e-7)
    assert (sample.seen, sample.mask_dimension) == (300, 8)


def test_every_row_of_a_long_stream_is_as_likely_to_be_drawn() -> None:
    numbers = np.arange(1, 2001, dtype=np.float32)
    angles = np.stack([np.cos(numbers / 2000), np.sin(numbers / 2000)], axis=1)  # tell rows apart at unit length
    features = FeatureBatch(angles[:, :0], angles)
    drawn = np.concatenate(
        [np.arctan2(*draw_sample(in_parts(features, 130), rows=100, seed=s).rows.T[::-1]) * 2000 for s in range(40)]
    )
    quarters = np.histogram(drawn, bins=4, range=(0.5, 2000.5))[0]
    assert quarters.sum() == 4000
    np.testing.assert_allclose(quarters, 1000, atol=110)  # four standard deviations of a binomial


def test_moments_are_of_all_rows_though_the_sample_is_small() -> None:
    features = clustered(1000)
    sample = draw_sample(in_parts(features, 90), rows=50, seed=1)
    assert sample.rows.shape == (50, 32)
    np.testing.assert_allclose(sample.mean, joined(features).astype(np.float64).mean(axis=0), atol=1e-7)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "no features"),
        ([FeatureBatch(np.ones((0, 2), np.float32), np.ones((0, 3), np.float32))], "no features"),
        (
            [clustered(20), FeatureBatch(np.ones((1, 8), np.float32), np.ones((1, 23), np.float32))],
            r"\(8, 24\).*\(8, 23\)",
        ),
        ([FeatureBatch(np.ones((1, 2), np.float32), np.full((1, 3), np.inf, np.float32))], "not finite"),
        ([clustered(10)], "at least 20 regions to train on, got 10"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_streams_that_cannot_be_trained_on(batches: list[FeatureBatch], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train_hash(batches, options=TrainingOptions(method="lsh", bits=64))


def test_standardised_blocks_have_their_shares_and_fold_into_weight_and_bias() -> None:
    features = clustered()
    sample = draw_sample([features], rows=1000, seed=0)
    standardisation = Standardisation.of(sample, mask_share=0.2)
    rows = standardisation.apply(sample.rows)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-5)
    assert (rows[:, :8] ** 2).sum(axis=1).mean() == pytest.approx(0.2, rel=1e-3)
    assert (rows[:, 8:] ** 2).sum(axis=1).mean() == pytest.approx(0.8, rel=1e-3)
    generator = np.random.default_rng(3)
    projection, offset = (
        generator.normal(size=(16, 32)).astype(np.float32),
        generator.normal(size=16).astype(np.float32),
    )
    weight, bias = standardisation.fold(projection, offset)
    np.testing.assert_allclose(sample.rows @ weight.T + bias, rows @ projection.T + offset, atol=1e-4)


def test_a_block_that_never_changes_counts_nothing() -> None:
    image = clustered().image
    constant = np.full((len(image), 8), 0.3, np.float32)
    standardisation = Standardisation.of(
        draw_sample([FeatureBatch(constant, image)], rows=1000, seed=0), mask_share=0.2
    )
    assert not standardisation.scale[:8].any()
    rows = standardisation.apply(joined(FeatureBatch(constant, image)).astype(np.float32))
    assert (rows**2).sum(axis=1).mean() == pytest.approx(1, rel=1e-3)
    with pytest.raises(UniformFeaturesError, match="all 300 regions have the same features"):
        train_hash([FeatureBatch(constant, constant)], options=TrainingOptions(bits=64))


@pytest.mark.parametrize("fit", [itq, pca_rotation])
def test_rotations_are_orthonormal_and_over_complete_where_bits_exceed_dimensions(fit) -> None:
    rows = np.random.default_rng(0).normal(size=(200, 12)).astype(np.float32)
    few = fit(rows, bits=8, generator=np.random.default_rng(1))
    np.testing.assert_allclose(few @ few.T, np.eye(8), atol=1e-4)
    many = fit(rows, bits=32, generator=np.random.default_rng(1))
    assert many.shape == (32, 12)
    np.testing.assert_allclose(many[:12] @ many[:12].T, np.eye(12), atol=1e-4)
    assert len(np.unique(many.round(4), axis=0)) == 32


def test_itq_is_nearer_to_its_signs_than_where_it_began() -> None:
    rows = clustered().image - clustered().image.mean(axis=0)
    fitted = rows @ itq(rows, bits=16, generator=np.random.default_rng(2)).T
    start = rows @ pca_rotation(rows, bits=16, generator=np.random.default_rng(2)).T
    assert ((np.sign(fitted) - fitted) ** 2).mean() < ((np.sign(start) - start) ** 2).mean()


def test_random_projections_are_orthonormal_within_each_rotation() -> None:
    rows = random_projection(10, bits=24, generator=np.random.default_rng(0))
    for block in (rows[:10], rows[10:20]):
        np.testing.assert_allclose(block @ block.T, np.eye(10), atol=1e-5)


def test_whitening_undoes_the_scatter_of_neighbours_found_one_by_one() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 4)) * [3, 1, 1, 0.5]
    scatter = np.zeros((4, 4))
    for row in rows:
        cosines = [float(row @ other / np.linalg.norm(other)) for other in rows]
        for near in np.argsort(cosines)[-4:-1]:  # the last is the row itself
            scatter += np.outer(row - rows[near], row - rows[near]) / 180
    whitening = neighbour_whitening(rows.astype(np.float32), strength=1.0, generator=np.random.default_rng(1))
    undone = whitening @ whitening @ (scatter + np.trace(scatter) / 4 * np.eye(4))
    np.testing.assert_allclose(undone / undone[0, 0], np.eye(4), atol=1e-4)
    assert np.square(rows @ whitening).sum(axis=1).mean() == pytest.approx(1, rel=1e-3)


def test_every_method_keeps_neighbours_with_more_bits_than_dimensions() -> None:
    trained = train_hash([clustered(400)], options=TrainingOptions(bits=64, mask_share=0.05, steps=20))
    assert set(trained.judgements) == set(trained.layers) == set(METHODS)
    for method, layer in trained.layers.items():
        assert layer.weight.shape == (64, 32)
        shuffled = HashLayer.create(
            layer.weight[:, ::-1].copy(), layer.bias, mask_dimension=8, provenance=layer.provenance
        )
        control = judge_layer(shuffled, [clustered(80, seed=1)])
        assert trained.judgements[method].recall_10_at_10 > control.recall_10_at_10 + 0.1, method


def test_the_layer_says_how_it_was_made_and_keeps_what_was_folded() -> None:
    options = TrainingOptions(method="itq", bits=64, seed=3, mask_share=0.07, steps=1)
    layer = train_hash([clustered()], options=options, provenance={"feature_fingerprint": "abc"}).layer
    facts = layer.provenance
    assert (facts["method"], facts["seed"], facts["mask_share"], facts["rows"]) == ("itq", "3", "0.07", "300")
    assert (facts["feature_fingerprint"], layer.trained) == ("abc", True)
    kept = Standardisation.of_layer(layer)
    expected = Standardisation.of(draw_sample([clustered()], rows=50_000, seed=3), mask_share=0.07)
    np.testing.assert_array_equal(kept.mean, expected.mean)
    np.testing.assert_array_equal(kept.scale, expected.scale)


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("mean", np.zeros(31)),
        ("mean", np.full(32, np.nan)),
        ("scale", np.ones((1, 32))),
        ("whitening", np.eye(3)),
        ("whitening", np.zeros(0)),
    ],
)
def test_notes_that_do_not_fit_a_layer_are_named(name: str, note: np.ndarray) -> None:
    """A layer is anybody's: codes never depend on its notes, but judging does."""
    weight = np.ones((64, 32), np.float32)
    facts = {"method": "itq", "trained": "true"}
    layer = HashLayer.create(weight, weight[:, 0], mask_dimension=8, provenance=facts, notes={name: note})
    with pytest.raises(ModelError, match=f"as the hash layer's {name}, got"):
        judge_layer(layer, [clustered()])


def test_features_without_mask_features() -> None:
    features = FeatureBatch(np.empty((300, 0), np.float32), clustered().image)
    trained = train_hash([features], options=TrainingOptions(bits=64, steps=20))
    assert trained.layer.mask_dimension == 0
    assert trained.layer.encode(features.mask, features.image).shape == (300, 8)


def test_the_same_seed_gives_the_same_file_and_another_seed_another() -> None:
    digests = [
        train_hash(in_parts(clustered(), size), options=TrainingOptions(bits=64, seed=seed, steps=20)).layer.digest
        for size, seed in ((300, 1), (300, 1), (300, 2))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_progress_counts_rows_steps_and_methods() -> None:
    shown: list[TrainingProgress] = []
    train_hash(in_parts(clustered(), 100), options=TrainingOptions(bits=64, steps=20), progress=shown.append)
    assert [one.done for one in shown if one.stage == "reading"] == [100, 200, 300]
    assert [(one.done, one.total) for one in shown if one.stage == "judging"] == [(n, 4) for n in (1, 2, 3, 4)]
    steps = [one for one in shown if one.stage == "training"]
    assert steps[0].done == 0
    assert all(one.loss is not None and one.loss <= steps[0].loss for one in steps)


class InterruptionError(Exception):
    """Raised by a progress callback in place of Ctrl-C."""


def test_an_interrupted_training_goes_on_to_the_same_layer(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows, held = (generator.normal(size=(size, 20)).astype(np.float32) for size in (400, 100))
    options = DeepOptions(seed=4, steps=60, strength=0.2, patience=9, checkpoint=tmp_path / "h.state")
    whole = fit_deep(rows, held, bits=64, options=dataclasses.replace(options, checkpoint=None))

    def interrupt(step: int, _: float) -> None:
        if step == 40:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        fit_deep(rows, held, bits=64, options=options, step_done=interrupt)
    steps: list[int] = []
    resumed = fit_deep(
        rows,
        held,
        bits=64,
        options=dataclasses.replace(options, resume=True),
        step_done=lambda step, _: steps.append(step),
    )
    assert steps == [40, 60]
    np.testing.assert_array_equal(resumed[0], whole[0])
    with pytest.raises(UsageError, match="other features or options"):
        fit_deep(rows + 1, held, bits=64, options=dataclasses.replace(options, resume=True))
    facts = {"origin": "", "settings": "[" * 100_000, "step": "0", "stale": "0", "best_loss": "0"}
    for damaged in (b"damaged", safetensors.numpy.save({"weight": rows}, metadata=facts)):
        options.checkpoint.write_bytes(damaged)
        with pytest.raises(UsageError, match="cannot be resumed from"):
            fit_deep(rows, held, bits=64, options=dataclasses.replace(options, resume=True))


def test_learnt_codes_find_more_neighbours_than_where_they_began() -> None:
    generator = np.random.default_rng(0)
    spread = np.linspace(3, 0.1, 40)
    rows, held = ((generator.normal(size=(size, 40)) * spread).astype(np.float32) for size in (1500, 300))
    losses: list[float] = []
    fit_deep(
        rows, held, bits=64, options=DeepOptions(steps=80, strength=0.0), step_done=lambda _, loss: losses.append(loss)
    )
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"bits": 100}, "got 100"), ({"method": "magic"}, "magic"), ({"mask_share": 1.0}, "mask share")],
)
def test_wrong_options(wrong: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainingOptions(**wrong)


def test_no_row_that_chooses_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which rows `deep` stops by, which the judgement goes by, and which are fitted to: three parts without overlap."""
    from searchanything.hash_training import deep, training

    seen: dict[str, np.ndarray] = {}
    fit, judge = deep.fit_deep, training.judge_codes

    def fitted(rows: np.ndarray, chooses: np.ndarray, **more: object):
        seen["fitted"], seen["chooses"] = rows, chooses
        return fit(rows, chooses, **more)

    def judged(codes: np.ndarray, rows: np.ndarray, **more: object):
        seen["judges"] = rows
        return judge(codes, rows, **more)

    monkeypatch.setattr(deep, "fit_deep", fitted)
    monkeypatch.setattr(training, "judge_codes", judged)
    generator = np.random.default_rng(8)
    features = FeatureBatch(generator.normal(size=(200, 6)), generator.normal(size=(200, 10)))
    train_hash([features], options=TrainingOptions(bits=64, steps=1))
    rows = [{row.tobytes() for row in part} for part in seen.values()]
    assert [len(part) for part in rows] == [120, 40, 40]
    assert len(set.union(*rows)) == 200
