"""The hash layer: its convention, its file, and features that do not fit."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core.codes import hamming
from searchanything.core.errors import ModelError, WeightsMissingError
from searchanything.models.hashing import FORMAT, HashLayer

PROVENANCE = {"method": "by hand", "trained": "true"}


def layer_by_hand() -> HashLayer:
    """C = 2, D = 1, 8 bits: rows that can be worked out on paper."""
    weight = np.array(
        [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1], [1, 1, 0], [0, 0, 0]], dtype=np.float32
    )
    bias = np.array([-0.5, -0.7, 0, 0, 0, 0, 0, 0], dtype=np.float32)
    return HashLayer.create(weight, bias, mask_dimension=2, provenance=PROVENANCE)


def test_bits_worked_out_by_hand() -> None:
    # f_M = (3, 4) -> (0.6, 0.8), f_I = (-2) -> (-1)
    # W x + b = 0.1, 0.1, -1, -0.6, -0.8, 1, 1.4, 0: bits 1 1 0 0 0 1 1 0
    code = layer_by_hand().encode(np.array([[3, 4]], dtype=np.float32), np.array([[-2]], dtype=np.float32))
    assert code.tolist() == [[0b11000110]]


def test_zero_features_stay_zero() -> None:
    code = layer_by_hand().encode(np.zeros((1, 2), np.float32), np.zeros((1, 1), np.float32))
    assert code.tolist() == [[0]]


def test_no_features_give_no_codes() -> None:
    code = layer_by_hand().encode(np.zeros((0, 2), np.float32), np.zeros((0, 1), np.float32))
    assert code.shape == (0, 1)


@given(scale_mask=st.floats(0.01, 1000), scale_image=st.floats(0.01, 1000), seed=st.integers(0, 2**31))
def test_the_length_of_either_feature_does_not_matter(scale_mask: float, scale_image: float, seed: int) -> None:
    layer = HashLayer.random_rotation(6, 10, bits=16, seed=1)
    generator = np.random.default_rng(seed)
    mask, image = (generator.standard_normal((3, size)).astype(np.float32) for size in (6, 10))
    joined = [part / np.linalg.norm(part.astype(np.float64), axis=1, keepdims=True) for part in (mask, image)]
    activations = np.concatenate(joined, axis=1) @ layer.weight.T.astype(np.float64)
    scaled = layer.encode(mask * np.float32(scale_mask), image * np.float32(scale_image))
    certain = np.abs(activations) > 1e-5  # a sign this near to zero is float noise
    np.testing.assert_array_equal(np.unpackbits(scaled, axis=1)[certain], (np.tanh(activations) > 0)[certain])


def test_rows_of_a_rotation_are_orthonormal() -> None:
    layer = HashLayer.random_rotation(20, 44, bits=64, seed=3)
    np.testing.assert_allclose(layer.weight @ layer.weight.T, np.eye(64), atol=1e-3)
    assert not layer.trained
    assert layer.provenance["seed"] == "3"


def test_a_rotation_is_that_of_its_seed_on_every_machine() -> None:
    """QR with a positive diagonal is unique, so that Cholesky's factor of A^T A gives the same Q, up to rounding."""
    drawn = np.random.default_rng(3).standard_normal((16, 16))
    rotation = drawn @ np.linalg.inv(np.linalg.cholesky(drawn.T @ drawn).T)
    weight = HashLayer.random_rotation(4, 12, bits=8, seed=3).weight.astype(np.float64)
    steps = weight * 2**16
    np.testing.assert_array_equal(steps, np.round(steps))
    np.testing.assert_allclose(steps, rotation[:8] * 2**16, atol=0.5 + 1e-4)
    assert np.unique(np.abs(steps) % 2).tolist() == [0, 1], "no coarser than that"


def test_more_bits_than_dimensions_are_several_rotations() -> None:
    layer = HashLayer.random_rotation(4, 6, bits=24, seed=3)
    assert layer.weight.shape == (24, 10)
    for rows in (layer.weight[:10], layer.weight[10:20]):
        np.testing.assert_allclose(rows @ rows.T, np.eye(10), atol=1e-3)
    assert len(np.unique(layer.weight, axis=0)) == 24


def test_distances_follow_angles() -> None:
    """Signed random projections: two vectors at an angle differ in a share angle / pi of the bits (Charikar 2002)."""
    layer = HashLayer.random_rotation(512, 512, bits=1024, seed=5)
    generator = np.random.default_rng(0)
    first = generator.standard_normal((1, 1024)).astype(np.float32)
    # Both blocks orthogonal to the first vector's, so that the whole is at 45 degrees whatever the normalisation.
    other = generator.standard_normal((1, 1024)).astype(np.float32)
    for block in (slice(0, 512), slice(512, 1024)):
        first[:, block] /= np.linalg.norm(first[:, block])
        other[:, block] -= (other[:, block] @ first[:, block].T) * first[:, block]
        other[:, block] /= np.linalg.norm(other[:, block])
    between = first + other
    codes = [layer.encode(rows[:, :512], rows[:, 512:]) for rows in (first, between)]
    assert int(hamming(codes[0], codes[1])[0, 0]) == pytest.approx(1024 / 4, abs=45)  # three standard deviations


def test_the_same_seed_gives_the_same_file() -> None:
    first, second = (HashLayer.random_rotation(320, 1024, bits=256, seed=7) for _ in range(2))
    assert first.to_bytes() == second.to_bytes()
    assert first.digest == hashlib.sha256(first.to_bytes()).hexdigest()
    assert HashLayer.random_rotation(320, 1024, bits=256, seed=8).digest != first.digest


def test_the_file_is_safetensors_and_comes_back_byte_for_byte(tmp_path: Path) -> None:
    layer = layer_by_hand()
    path = tmp_path / "hash.safetensors"
    path.write_bytes(layer.to_bytes())
    np.testing.assert_array_equal(safetensors.numpy.load_file(path)["weight"], layer.weight)
    back = HashLayer.from_file(path)
    assert back.to_bytes() == layer.to_bytes()
    assert (back.bits, back.mask_dimension, back.image_dimension, back.trained) == (8, 2, 1, True)
    assert back.provenance["method"] == "by hand"


def test_files_written_by_the_library_are_read() -> None:
    layer = layer_by_hand()
    data = safetensors.numpy.save(
        {"weight": layer.weight, "bias": layer.bias}, metadata={**layer.provenance, "trained": "false"}
    )
    back = HashLayer.from_bytes(data)
    assert back.to_bytes() == data
    assert not back.trained
    np.testing.assert_array_equal(back.weight, layer.weight)


def altered(**facts: str) -> bytes:
    layer = layer_by_hand()
    return safetensors.numpy.save({"weight": layer.weight, "bias": layer.bias}, {**layer.provenance, **facts})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no hash layer"),
        (b"not a safetensors file at all", "no hash layer"),
        (layer_by_hand().to_bytes()[:-1], "no hash layer"),
        (altered(format="something-else"), FORMAT),
        (altered(image_dimension="5"), r"states a weight \(8, 7\), it holds \(8, 3\)"),
        (altered(mask_dimension="many"), "no hash layer"),
        (altered(mask_dimension="3"), "C = 3"),
        (safetensors.numpy.save({"weight": np.zeros((8, 3), np.float32)}, {"format": FORMAT}), "no hash layer"),
        (struct.pack("<Q", 2) + b"{}", FORMAT),
        (struct.pack("<Q", 21) + b'{"__metadata__":null}', FORMAT),
    ],
)
def test_damaged_files(data: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        HashLayer.from_bytes(data)


@pytest.mark.parametrize("bits", [0, 7])
def test_odd_numbers_of_bits(bits: int) -> None:
    with pytest.raises(ModelError, match="multiple of 8"):
        HashLayer.create(
            np.zeros((bits, 3), np.float32), np.zeros(bits, np.float32), mask_dimension=2, provenance=PROVENANCE
        )


def test_values_that_are_not_finite() -> None:
    layer = layer_by_hand()
    with pytest.raises(ModelError, match="not finite"):
        HashLayer.create(layer.weight * np.float32(np.nan), layer.bias, mask_dimension=2, provenance=PROVENANCE)
    with pytest.raises(ModelError, match="not finite"):
        layer.encode(np.array([[np.nan, 1]], dtype=np.float32), np.ones((1, 1), np.float32))


def test_features_of_other_models_are_refused() -> None:
    with pytest.raises(ModelError, match=r"expected features \(1, 2\) and \(1, 1\), got \(1, 3\) and \(1, 1\)"):
        layer_by_hand().encode(np.ones((1, 3), np.float32), np.ones((1, 1), np.float32))
    with pytest.raises(ModelError, match=r"got \(1, 2\) and \(2, 1\)"):
        layer_by_hand().encode(np.ones((1, 2), np.float32), np.ones((2, 1), np.float32))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match=r"hash\.safetensors"):
        HashLayer.from_file(tmp_path / "hash.safetensors")


def test_metadata_is_strings_in_sorted_order() -> None:
    data = layer_by_hand().to_bytes()
    (length,) = struct.unpack_from("<Q", data)
    facts = json.loads(data[8 : 8 + length])["__metadata__"]
    assert length % 8 == 0
    assert list(facts) == sorted(facts)
    assert facts["bits"] == "8"


def test_a_projection_has_the_signs_of_the_code() -> None:
    generator = np.random.default_rng(2)
    weight, bias = generator.normal(size=(16, 7)).astype(np.float32), generator.normal(size=16).astype(np.float32)
    layer = HashLayer.create(weight, bias, mask_dimension=3, provenance={"method": "test", "trained": "false"})
    mask, image = generator.normal(size=(9, 3)).astype(np.float32), generator.normal(size=(9, 4)).astype(np.float32)
    joined = np.hstack([rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (mask, image)])
    projected = layer.project(mask, image)
    np.testing.assert_allclose(projected, joined @ weight.T + bias, atol=1e-5)
    np.testing.assert_array_equal(np.packbits(projected > 0, axis=1), layer.encode(mask, image))
    with pytest.raises(ModelError, match="expected features"):
        layer.project(mask[:, :2], image)
