"""The hash layer: features to binary codes, bit = tanh(W (f_M ⊕ f_I) + b) > 0 (supplement, equation 1).

f_M and f_I are each scaled to unit length (zeros stay zeros) and joined in this order. Whatever training found out
(centring, weights of the two blocks, rotation) is folded into W and b. tanh keeps the sign and is not computed.

The file is safetensors: `weight` (bits, C + D) and `bias` (bits,), float32, and string metadata that names the format,
the dimensions and the layer's provenance. Further tensors (training keeps `mean` and `scale` of the inputs there)
are notes: codes never depend on them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import safetensors
import safetensors.numpy

from searchanything.core.codes import pack_signs
from searchanything.core.errors import ModelError, WeightsMissingError
from searchanything.core.reading import kind_at, read_file
from searchanything.core.types import Codes, FloatArray

logger = logging.getLogger(__name__)

FORMAT = "searchanything-hash-v1"
# Rows of a rotation are alike, so that any of them are a code by themselves: measured in docs/hashing.md.
_ROTATIONS = ("lsh", "random-rotation", "pca-rotation", "itq")
_ROTATION_STEPS = 2**16
_CHUNK_ROWS = 2048  # at a time: what they need then stays in reused memory, which is half as fast again


@dataclass(frozen=True, slots=True, eq=False)
class HashLayer:
    """A `Hasher`: W (bits, C + D) float32, b (bits,) float32, C, and what the file says about its making.

    Raises: ModelError, at construction, for shapes that do not fit together or values that are not finite.
    """

    weight: FloatArray
    bias: FloatArray
    mask_dimension: int
    provenance: Mapping[str, str]
    data: bytes

    def __post_init__(self) -> None:
        bits, columns = self.weight.shape if self.weight.ndim == 2 else (0, 0)
        if bits == 0 or bits % 8 or self.bias.shape != (bits,) or not 0 <= self.mask_dimension < columns:
            raise ModelError(
                "expected a hash weight (a multiple of 8, C + D) and a bias of as many rows, "
                f"got weight {self.weight.shape}, bias {self.bias.shape}, C = {self.mask_dimension}"
            )
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise ModelError("the hash layer holds values that are not finite; train it again")

    @classmethod
    def create(
        cls,
        weight: FloatArray,
        bias: FloatArray,
        *,
        mask_dimension: int,
        provenance: Mapping[str, str],
        notes: Mapping[str, FloatArray] | None = None,
    ) -> Self:
        """A layer from its arrays. `provenance` must say `method` and `trained` ("true" or "false").

        `notes` are further tensors of the file, which codes do not depend on.

        Raises: ModelError.
        """
        rows, columns = weight.shape
        facts = {
            **provenance,
            "format": FORMAT,
            "mask_dimension": str(mask_dimension),
            "image_dimension": str(columns - mask_dimension),
            "bits": str(rows),
        }
        return cls.from_bytes(_serialise({"bias": bias, "weight": weight, **(notes or {})}, facts))

    @classmethod
    def random_rotation(cls, mask_dimension: int, image_dimension: int, *, bits: int, seed: int) -> Self:
        """Orthonormal random projections, untrained: signed random projections of the rotated features.

        More bits than dimensions are several rotations one below the other. Entries are rounded to 2^-16, so that
        machines whose linear algebra differs in the last digit agree on the file's digest.
        """
        columns = mask_dimension + image_dimension
        generator = np.random.default_rng(seed)
        blocks = [uniform_rotation(generator, columns)[:bits] for _ in range(-(-bits // columns))]
        weight = (np.round(np.concatenate(blocks)[:bits] * _ROTATION_STEPS) / _ROTATION_STEPS).astype(np.float32)
        provenance = {"method": "random-rotation", "seed": str(seed), "trained": "false"}
        bias = np.zeros(bits, dtype=np.float32)
        return cls.create(weight, bias, mask_dimension=mask_dimension, provenance=provenance)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Raises: WeightsMissingError, ModelError."""
        if kind_at(path, "a hash layer", raised=ModelError) != "file":
            raise WeightsMissingError(f"expected a hash layer at {path}, there is no such file")
        return cls.from_bytes(read_file(path))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a layer from the bytes of its safetensors file. Raises: ModelError."""
        try:
            tensors = safetensors.numpy.load(data)
            (length,) = struct.unpack_from("<Q", data)
            facts = json.loads(data[8 : 8 + length]).get("__metadata__") or {}  # null, too, is a safetensors file
            if facts.get("format") != FORMAT:
                raise ModelError(f"expected a hash layer of format {FORMAT}, got {facts.get('format')!r}")
            layer = cls(
                weight=tensors["weight"].astype(np.float32),
                bias=tensors["bias"].astype(np.float32),
                mask_dimension=int(facts["mask_dimension"]),
                provenance=facts,
                data=data,
            )
            stated = int(facts["bits"]), int(facts["mask_dimension"]) + int(facts["image_dimension"])
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise ModelError(f"this is no hash layer: {type(error).__name__}: {error}") from error
        if layer.weight.shape != stated:
            raise ModelError(f"the hash layer's metadata states a weight {stated}, it holds {layer.weight.shape}")
        return layer

    @property
    def bits(self) -> int:
        """L, a multiple of 8."""
        return len(self.bias)

    @property
    def image_dimension(self) -> int:
        """D, the length of f_I that the layer takes."""
        return int(self.weight.shape[1]) - self.mask_dimension

    @property
    def trained(self) -> bool:
        """False for a random rotation."""
        return self.provenance.get("trained") == "true"

    @property
    def digest(self) -> str:
        """sha256 of the layer's file."""
        return hashlib.sha256(self.data).hexdigest()

    def prefix(self, bits: int) -> HashLayer:
        """The layer of the first so many bits: its codes are the beginnings of this one's.

        Raises: ModelError for a layer that is no rotation, or a length that is no multiple of 8 within it.
        """
        method = self.provenance.get("method")
        if method not in _ROTATIONS:
            raise ModelError(
                f"expected a layer of {', '.join(_ROTATIONS)}, got one of {method}, no part of which is known to be a "
                "code; train one with: searchanything hash train --method pca-rotation"
            )
        if bits % 8 or not 0 < bits <= self.bits:
            raise ModelError(f"expected a multiple of 8 up to {self.bits} bits, got {bits}")
        tensors = safetensors.numpy.load(self.data)
        return self.create(
            self.weight[:bits],
            self.bias[:bits],
            mask_dimension=self.mask_dimension,
            provenance={**self.provenance, "cut_from": self.digest},
            # Sorted: the library gives them in another order each time, and the digest is of the file.
            notes={name: one for name, one in sorted(tensors.items()) if name not in ("weight", "bias")},
        )

    def warn_of_other_features(self, feature_fingerprint: str) -> None:
        """Say so where the layer was trained on features of another fingerprint than those it is about to hash.

        Only a warning, as the fingerprint also has which regions are kept, on which no layer depends.
        """
        trained_on = self.provenance.get("feature_fingerprint", feature_fingerprint)
        if trained_on != feature_fingerprint:
            logger.warning(
                "the hash layer was trained on features %s, these are %s: if only the choice of regions differs, it "
                "fits; if the models do, codes say nothing: train it on features of this preset",
                trained_on,
                feature_fingerprint,
            )

    def to_bytes(self) -> bytes:
        """The layer as a safetensors file: exactly the bytes it was read from."""
        return self.data

    def encode(self, mask_features: FloatArray, image_features: FloatArray) -> Codes:
        """f_M (N, C) and f_I (N, D) float32 -> (N, bits // 8) uint8, packed as numpy.packbits does.

        Raises: ModelError for features of other shapes or with values that are not finite.
        """
        self._check(mask_features, image_features)
        count = len(mask_features)
        codes = np.empty((count, self.bits // 8), dtype=np.uint8)
        for first in range(0, count, _CHUNK_ROWS):
            part = slice(first, first + _CHUNK_ROWS)
            codes[part] = pack_signs(self._activations(mask_features[part], image_features[part]))
        return codes

    def project(self, mask_features: FloatArray, image_features: FloatArray) -> FloatArray:
        """What the bits are the signs of: f_M (N, C), f_I (N, D) float32 -> (N, bits) float32. Raises: ModelError."""
        self._check(mask_features, image_features)
        return self._activations(mask_features, image_features)

    def _check(self, mask_features: FloatArray, image_features: FloatArray) -> None:
        count = len(mask_features)
        expected = (count, self.mask_dimension), (count, self.image_dimension)
        got = mask_features.shape, image_features.shape
        if got != expected:
            raise ModelError(
                f"the hash layer expected features {expected[0]} and {expected[1]}, got {got[0]} and {got[1]}"
            )

    def _activations(self, mask_features: FloatArray, image_features: FloatArray) -> FloatArray:
        split = self.mask_dimension
        activations = _projected(mask_features, self.weight[:, :split])
        activations += _projected(image_features, self.weight[:, split:])
        activations += self.bias
        if not np.isfinite(activations).all():  # from here on, what is not finite would look like a code
            raise ModelError("the features hold values that are not finite; try SEARCHANYTHING_MODELS__PRECISION=fp32")
        return activations


def _projected(rows: FloatArray, weight: FloatArray) -> FloatArray:
    """(N, d) rows at unit length times (bits, d) -> (N, bits). The product is scaled, not the longer rows: no copy."""
    if not weight.shape[1]:
        return np.zeros((len(rows), len(weight)), dtype=np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    scales: FloatArray = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths != 0)
    products = _product(rows, weight)
    products *= scales[:, None]
    return products


def _product(rows: FloatArray, weight: FloatArray) -> FloatArray:
    """(N, d) times (bits, d) -> (N, bits), by torch.

    NumPy's BLAS has threads of its own, which spin for a tenth of a second after a product, on the cores that torch
    works with: the next image's segmentation then took 185 ms in place of 115 (docs/adr/0077-passes-of-a-cpu.md).
    """
    import torch  # models, which are loaded by then, gave the features; layers are read without it

    with torch.inference_mode():
        # A copy of rows that lie in a file's buffer, as float32 features do: torch warns of what is not writable.
        ours = np.require(rows, requirements=["C", "W"])
        product = torch.from_numpy(ours) @ torch.from_numpy(np.ascontiguousarray(weight)).T
        made: FloatArray = product.numpy()
    return made


def uniform_rotation(generator: np.random.Generator, columns: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """A rotation (columns, columns), uniformly distributed: QR with the signs of R's diagonal made positive."""
    q, r = np.linalg.qr(generator.standard_normal((columns, columns)))
    return q * np.sign(np.diag(r))


def _serialise(arrays: Mapping[str, FloatArray], facts: Mapping[str, str]) -> bytes:
    """A safetensors file, byte for byte the same each time (the library writes metadata in random order).

    Layout: header length as a little-endian 64-bit number, a JSON header padded to 8 bytes, the tensors' bytes.
    """
    tensors = {name: array.astype("<f4") for name, array in arrays.items()}
    header: dict[str, object] = {"__metadata__": dict(sorted(facts.items()))}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(tensor.tobytes() for tensor in tensors.values())
