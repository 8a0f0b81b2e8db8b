"""Fingerprints: which codes may meet in one search (design decision 5).

`feature_fingerprint` stands for segmenter, encoder, preprocessing, crops and region policy; `fingerprint` for that
plus hash layer and schema. Device and precision are not in them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from searchanything.core.manifest import SCHEMA_VERSION, IndexManifest
from searchanything.core.protocols import Hasher
from searchanything.encode.encoder import Encoder
from searchanything.features.layout import KEPT_BY, index_name
from searchanything.images.crop_policy import CropPolicy
from searchanything.images.crops import PLAIN

NOTES: Final = frozenset({"arithmetic", KEPT_BY})  # details that no fingerprint is made of
PREPROCESSING_VERSION: Final = 1  # of letterbox, pooling and crops: raise it when features change


def manifest_of(encoder: Encoder, preset: str) -> IndexManifest:
    """The manifest of an index that this encoder would fill."""
    details: dict[str, Any] = {
        "segmenter": dict(encoder.segmenter.description),
        "encoder": dict(encoder.embedder.description),
        "regions": encoder.policy.description,
        "preprocessing": PREPROCESSING_VERSION,
    }
    if encoder.crops is not CropPolicy.PAPER:  # left out there, so that fingerprints from before policies stay
        details["crops"] = encoder.crops.value
    if encoder.resizing != PLAIN:  # likewise
        details["resizing"] = str(encoder.resizing)
    features = _digest(details)
    if encoder.arithmetic:
        details["arithmetic"] = encoder.arithmetic  # a note: codes of all devices are to agree within a few bits
    return _manifest(features, preset, encoder.hasher, details)


def rehashed(manifest: IndexManifest, hasher: Hasher) -> IndexManifest:
    """The manifest of an index of the same features with another hash layer, whose kept features are the same files."""
    details = {**manifest.details, KEPT_BY: index_name(manifest)}
    return _manifest(manifest.feature_fingerprint, manifest.preset, hasher, details)


def _manifest(features: str, preset: str, hasher: Hasher, details: Mapping[str, Any]) -> IndexManifest:
    whole = {"features": features, "hash": hasher.digest, "bits": hasher.bits, "schema": SCHEMA_VERSION}
    return IndexManifest(
        fingerprint=_digest(whole),
        feature_fingerprint=features,
        preset=preset,
        bits=hasher.bits,
        hash_digest=hasher.digest,
        hash_trained=hasher.trained,
        schema_version=SCHEMA_VERSION,
        created_at_ms=time.time_ns() // 1_000_000,
        details=details,
    )


def _digest(value: Mapping[str, Any]) -> str:
    """32 hex digits of a JSON value in canonical form."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return sha256(canonical.encode()).hexdigest()[:32]
