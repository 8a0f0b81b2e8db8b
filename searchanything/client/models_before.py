"""Which models an index had before it was given others: who names them follows it, and there is a way back.

By a note beside the index, which is written right before it switches.
"""

from __future__ import annotations

import json
from typing import Final

from searchanything.core.manifest import IndexManifest
from searchanything.core.protocols import IndexStore

_BEFORE: Final = "presets-before"


def presets_before(indexes: IndexStore) -> set[str]:
    """The presets that the index had, before it was given other models. Raises: RegionIndexError."""
    return set(_replaced(indexes))


def live_before(indexes: IndexStore, preset: str, features: str) -> IndexManifest | None:
    """What was live when the index had these models last, while its codes are there; `features`: their fingerprint.

    Raises: RegionIndexError.
    """
    name = _replaced(indexes).get(preset, {}).get(features)
    return next((one for one in indexes.manifests() if one.fingerprint == name), None)


def note_replaced(indexes: IndexStore, manifest: IndexManifest) -> None:
    """Note what is about to be replaced by an index of other models. Raises: RegionIndexError."""
    before = _replaced(indexes)
    before.setdefault(manifest.preset, {})[manifest.feature_fingerprint] = manifest.fingerprint
    indexes.remember(_BEFORE, json.dumps(before, sort_keys=True).encode())


def _replaced(indexes: IndexStore) -> dict[str, dict[str, str]]:
    """By preset and features, the index that had them last."""
    kept = json.loads(indexes.recall(_BEFORE) or b"{}")
    return kept if isinstance(kept, dict) else {preset: {} for preset in kept}  # names alone, at first
