"""Which models an index had before it was given others: who names them follows it, and there is a way back.

By a note beside the index, which is written right before it switches, and is in its backups.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, TypeAlias

from searchanything.core.manifest import IndexManifest
from searchanything.core.protocols import IndexStore

_BEFORE: Final = "presets-before"
Before: TypeAlias = Mapping[str, Mapping[str, str]]  # by preset and features, the index that had them last


def presets_before(indexes: IndexStore) -> set[str]:
    """The presets that the index had, before it was given other models. Raises: RegionIndexError."""
    return set(replaced_models(indexes))


def live_before(indexes: IndexStore, preset: str, features: str) -> IndexManifest | None:
    """What was live when the index had these models last, while its codes are there; `features`: their fingerprint.

    Raises: RegionIndexError.
    """
    name = replaced_models(indexes).get(preset, {}).get(features)
    return next((one for one in indexes.manifests() if one.fingerprint == name), None)


def note_replaced(indexes: IndexStore, manifest: IndexManifest) -> None:
    """Note what is about to be replaced by an index of other models. Raises: RegionIndexError."""
    note_before(indexes, {manifest.preset: {manifest.feature_fingerprint: manifest.fingerprint}})


def note_before(indexes: IndexStore, before: Before) -> None:
    """Note further models that an index had, such as a restored one. Raises: RegionIndexError."""
    known = replaced_models(indexes)
    merged = {preset: {**known.get(preset, {}), **before.get(preset, {})} for preset in {*known, *before}}
    if merged != known:
        indexes.remember(_BEFORE, json.dumps(merged, sort_keys=True).encode())


def replaced_models(indexes: IndexStore) -> Before:
    """All models that the index had before. Raises: RegionIndexError."""
    before: Before = json.loads(indexes.recall(_BEFORE) or b"{}")
    return before
