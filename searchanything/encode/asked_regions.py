"""Which regions the settings ask for, beside what an index was made with."""

from __future__ import annotations

from searchanything.core.errors import SettingsError
from searchanything.core.manifest import IndexManifest
from searchanything.core.settings import Settings
from searchanything.encode.region_policy import RegionPolicy


def policy_of(settings: Settings, manifest: IndexManifest | None) -> RegionPolicy:
    """The region policy of an index, or of a new one. Raises: SettingsError if the settings contradict the index."""
    ingest = settings.ingest
    if manifest is None:
        if ingest.tiles is None:
            return RegionPolicy(ingest.region_policy or "largest", ingest.regions or 25)
        return RegionPolicy(ingest.region_policy or "stratified", ingest.regions or 100)
    kept = RegionPolicy.described(manifest.details["regions"])
    asked = _asked(settings, kept)
    if asked != kept:
        raise SettingsError(
            f"the index keeps the {kept.count} regions of policy {kept.name!r}, the settings ask for {asked.count} of "
            f"{asked.name!r}; leave them out, or name another index"
        )
    return kept


def tile_side_of(settings: Settings, manifest: IndexManifest | None) -> int | None:
    """The side of an index's tiles, or of a new one's; None for none.

    Raises: SettingsError if the settings contradict the index.
    """
    asked = settings.ingest.tiles
    if manifest is None:
        return asked
    made = _made_with_tiles(manifest)
    if asked not in (None, made):
        raise SettingsError(
            f"the index was made with {f'tiles of {made} px' if made else 'no tiles'}, the settings ask for tiles of "
            f"{asked} px; leave ingest.tiles out, or name another index"
        )
    return made


def regions_beside(settings: Settings, live: IndexManifest) -> tuple[RegionPolicy, int | None]:
    """Region policy and side of tiles of an index that is to replace the live one: what no setting names stays."""
    kept, made = made_with(live)
    if made is None and settings.ingest.tiles is not None:
        return policy_of(settings, None), settings.ingest.tiles
    return _asked(settings, kept), settings.ingest.tiles or made


def made_with(manifest: IndexManifest) -> tuple[RegionPolicy, int | None]:
    """Region policy and side of tiles of an index. Raises: SettingsError for a policy that this version does not know;
    AttributeError, KeyError, ValueError for a manifest that no index has.
    """
    return RegionPolicy.described(manifest.details["regions"]), _made_with_tiles(manifest)


def _asked(settings: Settings, kept: RegionPolicy) -> RegionPolicy:
    """An index's region policy, but for what the settings name."""
    return RegionPolicy(settings.ingest.region_policy or kept.name, settings.ingest.regions or kept.count)


def _made_with_tiles(manifest: IndexManifest) -> int | None:
    side = manifest.details["segmenter"].get("tile_px")
    return None if side is None else int(side)
