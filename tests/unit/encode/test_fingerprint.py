"""Fingerprints: equal for equal models, different for anything that moves a code, blind to everything else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from fakes.models import CHANNELS, FakeEmbedder, FakeSegmenter, fake_encoder

from searchanything.core.manifest import SCHEMA_VERSION
from searchanything.encode.encoder import Encoder
from searchanything.encode.fingerprint import PREPROCESSING_VERSION, manifest_of
from searchanything.encode.region_policy import RegionPolicy
from searchanything.images.crop_policy import CropPolicy
from searchanything.models.hashing import HashLayer


def test_fingerprints_are_sha256_of_canonical_json() -> None:
    """Written out by hand, so that indexes made by earlier versions keep theirs."""
    encoder = fake_encoder()
    features = (
        '{"encoder":{"weights":"fake-embedder"},'
        '"preprocessing":1,'
        '"regions":{"count":25,"policy":"largest"},'
        '"segmenter":{"input_size_px":64,"iou":0.7,"max_detections":100,"weights":"fake-segmenter"}}'
    )
    feature_digest = hashlib.sha256(features.encode()).hexdigest()[:32]
    layer_digest = hashlib.sha256(encoder.hasher.to_bytes()).hexdigest()
    whole = f'{{"bits":64,"features":"{feature_digest}","hash":"{layer_digest}","schema":2}}'
    manifest = manifest_of(encoder, "fake")
    assert (PREPROCESSING_VERSION, SCHEMA_VERSION) == (1, 2)
    assert manifest.feature_fingerprint == feature_digest
    assert manifest.fingerprint == hashlib.sha256(whole.encode()).hexdigest()[:32]


def other_layer(bits: int = 64, seed: int = 6) -> HashLayer:
    return HashLayer.random_rotation(CHANNELS, FakeEmbedder.dimension, bits=bits, seed=seed)


@pytest.mark.parametrize(
    ("change", "features_change"),
    [
        (lambda one: replace(one, segmenter=FakeSegmenter(weights="other")), True),
        (lambda one: replace(one, segmenter=FakeSegmenter(input_size=96)), True),
        (lambda one: replace(one, embedder=FakeEmbedder(weights="other")), True),
        (lambda one: replace(one, policy=RegionPolicy("largest", 24)), True),
        (lambda one: replace(one, policy=RegionPolicy("stratified", 25)), True),
        (lambda one: replace(one, crops=CropPolicy.BOX), True),
        (lambda one: replace(one, crops=CropPolicy.MASKED), True),
        (lambda one: replace(one, hasher=other_layer()), False),
        (lambda one: replace(one, hasher=other_layer(bits=128, seed=5)), False),
    ],
)
def test_whatever_moves_codes_changes_the_fingerprint(
    change: Callable[[Encoder], Encoder], features_change: bool
) -> None:
    before, after = manifest_of(fake_encoder(), "fake"), manifest_of(change(fake_encoder()), "fake")
    assert before.fingerprint != after.fingerprint
    assert (before.feature_fingerprint != after.feature_fingerprint) is features_change


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one,
        lambda one: replace(one, box_min_iou=0.5),
    ],
)
def test_nothing_else_does(change: Callable[[Encoder], Encoder]) -> None:
    before, after = manifest_of(fake_encoder(), "fake"), manifest_of(change(fake_encoder()), "another name")
    assert before.fingerprint == after.fingerprint
    assert before.feature_fingerprint == after.feature_fingerprint


def test_a_manifest_says_what_it_stands_for() -> None:
    manifest = manifest_of(fake_encoder(), "fake")
    assert (manifest.preset, manifest.bits, manifest.hash_trained) == ("fake", 64, False)
    assert json.loads(json.dumps(manifest.details))["regions"] == {"policy": "largest", "count": 25}
    assert manifest.created_at_ms > 1_700_000_000_000


def test_device_and_precision_are_noted_and_change_no_fingerprint() -> None:
    plain = manifest_of(fake_encoder(), "fake")
    noted = manifest_of(replace(fake_encoder(), arithmetic="cuda: segmenter fp32 without TF32, encoder fp16"), "fake")
    assert noted.details["arithmetic"] == "cuda: segmenter fp32 without TF32, encoder fp16"
    assert "arithmetic" not in plain.details
    assert (noted.fingerprint, noted.feature_fingerprint) == (plain.fingerprint, plain.feature_fingerprint)
