"""Codes that can be cut: the first bits are a code of the strongest directions by themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from searchanything.cli.app import run
from searchanything.core.errors import ModelError, UsageError
from searchanything.features.parquet import FeatureBatch
from searchanything.hash_training.rotations import PREFIXES, itq, pca_rotation, principal_components
from searchanything.hash_training.standardising import Standardisation
from searchanything.hash_training.training import PREFIX_METHODS, TrainingOptions, train_hash
from searchanything.models.hashing import HashLayer

Method = Literal["itq", "pca-rotation", "lsh"]


def drawn(rows: int, dimension: int, *, seed: int = 0) -> FeatureBatch:
    """Features whose directions differ in strength."""
    generator = np.random.default_rng(seed)
    image = generator.standard_normal((rows, dimension)) * np.linspace(2, 0.1, dimension) + 0.3
    return FeatureBatch(generator.standard_normal((rows, 8)).astype(np.float32), image.astype(np.float32))


def trained(features: FeatureBatch, method: Method, *, bits: int = 256, ordered: bool = True) -> HashLayer:
    options = TrainingOptions(method=method, bits=bits, prefix_ordered=ordered)
    return train_hash([features], options=options).layer


@settings(max_examples=12, deadline=None)
@given(
    dimension=st.integers(12, 300),
    whole=st.sampled_from([128, 256, 512]),
    kept=st.sampled_from([8, 64, 120, 128]),
    method=st.sampled_from(PREFIX_METHODS),
    seed=st.integers(0, 2**31),
)
def test_the_codes_of_a_cut_layer_are_the_beginnings_of_the_whole_layer_s(
    dimension: int, whole: int, kept: int, method: Method, seed: int
) -> None:
    features = drawn(60, dimension, seed=seed)
    layer = trained(features, method, bits=whole)
    cut = HashLayer.from_bytes(layer.prefix(kept).to_bytes())
    assert (layer.bits, cut.bits) == (whole, kept)
    np.testing.assert_array_equal(
        cut.encode(features.mask, features.image), layer.encode(features.mask, features.image)[:, : kept // 8]
    )
    assert cut.provenance["cut_from"] == layer.digest
    assert cut.provenance["method"] == method
    mean = safetensors.numpy.load(cut.to_bytes())["mean"]
    np.testing.assert_array_equal(mean, Standardisation.of_layer(layer).mean)


@pytest.mark.parametrize("fit", [pca_rotation, itq])
@pytest.mark.parametrize("dimension", [200, 300])  # fewer directions than 256 bits, and more
def test_a_prefix_projects_the_strongest_directions_and_no_others(fit: object, dimension: int) -> None:
    assert callable(fit)
    rows = drawn(1000, dimension).image
    rows -= rows.mean(axis=0)
    projection = fit(rows, bits=256, generator=np.random.default_rng(1), prefixes=PREFIXES)
    assert projection.shape == (256, dimension)
    for length in (64, 128):
        strongest = principal_components(rows, count=length)
        np.testing.assert_allclose(projection[:length].T @ projection[:length], strongest.T @ strongest, atol=1e-3)
    plain = fit(rows, bits=256, generator=np.random.default_rng(1))
    assert np.abs(plain[:64].T @ plain[:64] - projection[:64].T @ projection[:64]).max() > 0.1


def test_without_the_option_layers_are_what_they_were() -> None:
    """pca-rotation as it always was, stated once more: components under one random rotation."""
    rows = drawn(500, 80).image
    rows -= rows.mean(axis=0)
    components = principal_components(rows, count=64)
    q, r = np.linalg.qr(np.random.default_rng(7).standard_normal((64, 64)))
    expected = ((q * np.sign(np.diag(r))).T @ components).astype(np.float32)
    found = pca_rotation(rows, bits=64, generator=np.random.default_rng(7))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert "prefix_ordered" not in trained(drawn(60, 80), "pca-rotation", ordered=False).provenance


@pytest.mark.parametrize("method", ["deep", "imported", ""])
def test_layers_that_are_no_rotations_are_not_cut(method: str) -> None:
    rotation = HashLayer.random_rotation(8, 80, bits=256, seed=1)
    assert rotation.prefix(64).bits == 64  # all of whose bits are alike
    facts = {**rotation.provenance, "method": method}
    layer = HashLayer.create(rotation.weight, rotation.bias, mask_dimension=8, provenance=facts)
    with pytest.raises(ModelError, match=f"got one of {method}, no part of which is known to be a code"):
        layer.prefix(64)


@pytest.mark.parametrize("bits", [0, -8, 12, 264])
def test_impossible_lengths(bits: int) -> None:
    with pytest.raises(ModelError, match=f"expected a multiple of 8 up to 256 bits, got {bits}"):
        trained(drawn(60, 80), "pca-rotation").prefix(bits)


def test_deep_has_no_order() -> None:
    with pytest.raises(UsageError, match="itq, pca-rotation, lsh for prefix-ordered bits, got 'deep'"):
        TrainingOptions(prefix_ordered=True)


def test_the_verbs_train_and_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = drawn(60, 80)
    np.save(tmp_path / "f.npy", np.concatenate([features.mask, features.image], axis=1))
    whole, short = tmp_path / "whole.safetensors", tmp_path / "short.safetensors"
    train = ["hash", "train", "--features", str(tmp_path / "f.npy"), "--mask-dimension", "8", "--out", str(whole)]
    assert run([*train, "--method", "itq", "--prefix-ordered", "--format", "json"]) == 0
    judged = json.loads(capsys.readouterr().out)
    assert set(judged["judgement"]) == set(PREFIX_METHODS)
    assert run(["hash", "cut", "--hash", str(whole), "--bits", "64", "--out", str(short), "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    layer = HashLayer.from_file(short)
    assert (document["bits"], document["sha256"]) == (64, layer.digest)
    assert layer.to_bytes() == HashLayer.from_file(whole).prefix(64).to_bytes()
