"""The live index and the encoder that fits it, opened once each."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from searchanything import wiring
from searchanything.core.errors import IndexMismatchError, IndexNotFoundError, ModelError, PresetError, RegionIndexError
from searchanything.core.libraries import LazyModule
from searchanything.core.manifest import IndexManifest
from searchanything.core.protocols import IndexStore, RegionIndex, Segmenter
from searchanything.core.settings import Settings
from searchanything.wiring import HashChoice

if TYPE_CHECKING:  # who only reads an index needs none of these
    from searchanything.client import made_together
    from searchanything.encode import asked_regions
    from searchanything.encode.encoder import Encoder, OpenEncoder
    from searchanything.encode.segmentation_cache import RememberingSegmenter
    from searchanything.models.hashing import HashLayer
else:
    asked_regions = LazyModule("searchanything.encode.asked_regions")
    made_together = LazyModule("searchanything.client.made_together")

logger = logging.getLogger(__name__)

ASKING_S: Final = 1.0  # a question may go to what was live so long ago: it spares every question a call
WORDS_NOTICED_S: Final = 10.0  # by who writes: it takes calls, of which a server answers one in a tenth of a second
Learn: TypeAlias = "Callable[[Encoder], bytes | None]"  # a trained hash layer for an encoder, None where it cannot be


class LiveIndex:
    """What an index store's live pointer names, ready for use. Thread-safe; models are loaded at the first need."""

    # Over 200 lines: opening and making share one lock and one memory of what is open.

    def __init__(self, indexes: IndexStore, settings: Settings) -> None:
        self._indexes = indexes
        self._settings = settings
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._indexes_opened: dict[str, RegionIndex] = {}
        self._opened: dict[str, tuple[RegionIndex, Encoder]] = {}
        self._remembering: dict[str, RememberingSegmenter] = {}  # by preset and tiles
        self._asking: dict[str, Encoder] = {}
        self._last_live: IndexManifest | None = None  # as `manifest` gave it
        self._words_sought: dict[str, float] = {}  # when
        self._followed: set[str] = set()  # presets that were asked for, and that the index had before
        self._met_makings: dict[str, Hashable] = {}  # of what is open

    def manifest(self, *, within_s: float = 0.0) -> IndexManifest:
        """What the live index was made with, as of `within_s` ago at most. Raises: IndexNotFoundError."""
        manifest = self._indexes.live(within_s=within_s)
        if manifest is None:
            raise IndexNotFoundError(
                f"nothing is indexed at {self._indexes.uri}; run `searchanything index SOURCE` first"
            )
        making = self._indexes.making
        if self._met_makings.get(manifest.fingerprint, making) != making:  # it may have other words, or none
            self.forget(manifest.fingerprint)
        self._met_makings[manifest.fingerprint] = making
        with self._lock:
            before, self._last_live = self._last_live, manifest
        if before is not None and before.fingerprint != manifest.fingerprint:
            self._let_go(before, manifest)
        return manifest

    def _let_go(self, before: IndexManifest, now: IndexManifest) -> None:
        """Free what the index had before it was given another layer or other models; these may need the room."""
        self.forget(before.fingerprint)
        if before.preset != now.preset:
            with self._lock:
                of_others = [one for one in self._remembering.items() if one[0].split()[0] != before.preset]
                self._remembering = dict(of_others)
            wiring.forget_models(before.preset, self._settings)

    def preset_of(self, manifest: IndexManifest) -> str:
        """The index's preset. Raises: PresetError if another one was asked for, but for one that it had before."""
        asked = self._settings.models.preset
        if asked is not None and asked != manifest.preset and not self._had_before(asked, manifest):
            raise PresetError(
                f"the index at {self._indexes.uri} was made with preset {manifest.preset!r}, but {asked!r} was asked "
                f"for; leave the preset out, name another index, or give this one other models: "
                f"searchanything models apply {asked}"
            )
        return manifest.preset

    def _had_before(self, preset: str, manifest: IndexManifest) -> bool:
        """Whether the index had a preset until it was given other models: who still names it follows the index."""
        if preset not in self._followed:
            from searchanything.core.models_before import presets_before

            if preset not in presets_before(self._indexes):
                return False
            self._followed.add(preset)
            logger.warning(
                "the setting models.preset is %r, which the index at %s had before; it has %r now, which is followed",
                *(preset, self._indexes.uri, manifest.preset),
            )
        return True

    def check(self, *, with_models: bool) -> None:
        """Whether an index could be made, or the live one written, with these settings; nothing is loaded or made.

        `with_models`: on this machine, where the weights are looked at, and torch stays unloaded.
        Raises: as `open` and `encoder`.
        """
        preset = self._settings.models.preset
        if self._indexes.live() is None:
            if preset is None:
                raise PresetError(wiring.CHOOSE_PRESET)
            if with_models:
                self._described(preset, wiring.hash_layer_of(preset, None, self._settings), None)
            return
        index, _ = self.open_for_work()
        if with_models:
            wiring.words_hasher(index.words)
            live = index.manifest
            self._check(live, self._described(live.preset, self._indexes.hash_layer(live.fingerprint), live))

    def index(self, *, within_s: float = 0.0, for_words: bool = False) -> RegionIndex:
        """The live index, as of `within_s` ago at most, without its models; `for_words`: as `open_for_words`.

        Raises: as `open`.
        """
        name = self.manifest(within_s=within_s).fingerprint
        if for_words:
            self._notice_words(name)
        with self._lock:
            return self._index(name)

    def _index(self, fingerprint: str) -> RegionIndex:
        """An index, opened once; with the lock held."""
        if fingerprint not in self._indexes_opened:
            self._indexes_opened[fingerprint] = self._indexes.open(fingerprint)
        return self._indexes_opened[fingerprint]

    def open(self) -> tuple[RegionIndex, Encoder]:
        """The live index and its encoder, whose models are loaded at the first need.

        Raises: IndexNotFoundError, IndexMismatchError, PresetError, WeightsMissingError.
        """
        return self._open(self.manifest())

    def _open(self, manifest: IndexManifest) -> tuple[RegionIndex, Encoder]:
        return self._opened_of(manifest, self.preset_of(manifest))

    def _opened_of(self, manifest: IndexManifest, preset: str) -> tuple[RegionIndex, Encoder]:
        with self._lock:
            if manifest.fingerprint not in self._opened:
                index = self._index(manifest.fingerprint)  # first: an index of another version says so itself
                layer = self._indexes.hash_layer(manifest.fingerprint)
                try:
                    encoder = self._load_encoder(preset, layer, manifest)
                except ModelError:  # that the layer does not fit is no fault of the layer, if the models are others
                    self._check(manifest, self._described(preset, layer, manifest))
                    raise
                self._check(manifest, _manifest_of(encoder, preset))
                self._opened[manifest.fingerprint] = index, replace(encoder, words=wiring.words_hasher(index.words))
            return self._opened[manifest.fingerprint]

    def open_for_work(self) -> tuple[RegionIndex, OpenEncoder]:
        """The live index, and what opens its encoder: an index that is up to date needs neither models nor torch.

        Raises: as `open`, of what the settings alone say; the rest where the encoder is opened, and before any model is
        loaded what `IndexStore.check_writable` raises: what is encoded is to be written.
        """
        manifest = self.manifest()
        self.preset_of(manifest)
        asked_regions.policy_of(self._settings, manifest)
        asked_regions.tile_side_of(self._settings, manifest)
        self._notice_words(manifest.fingerprint, within_s=WORDS_NOTICED_S)
        with self._lock:
            index = self._index(manifest.fingerprint)

        def open_encoder() -> Encoder:
            self._indexes.check_writable()
            return replace(self._open(manifest)[1], words=wiring.words_hasher(index.words))

        return index, cache(open_encoder)

    def open_beside(self, index: RegionIndex) -> tuple[RegionIndex, OpenEncoder]:
        """An index that is not live, with its encoder: of its own preset, whatever the settings name.

        Raises: IndexMismatchError, WeightsMissingError, ModelError, where the encoder is opened.
        """
        words = wiring.words_hasher(index.words)
        return index, lambda: replace(self._opened_of(index.manifest, index.manifest.preset)[1], words=words)

    def add_words(self, layer: bytes, *, bits: int) -> tuple[RegionIndex, OpenEncoder]:
        """The live index with words codes from now on, and its encoder. Raises: as `open_for_work`."""
        name = self.manifest().fingerprint
        self._indexes.add_words(name, layer, bits=bits)
        self.forget(name)
        return self.open_for_work()

    def open_to_ask(self) -> tuple[RegionIndex, Encoder]:
        """The same for queries: this encoder remembers the last images, so that they are segmented once."""
        index, encoder = self._open(self.manifest(within_s=ASKING_S))
        name, preset = index.manifest.fingerprint, index.manifest.preset
        with self._lock:
            if name not in self._asking:
                self._asking[name] = replace(encoder, segmenter=self._kept(preset, encoder.segmenter))
            return index, self._asking[name]

    def open_for_words(self) -> tuple[RegionIndex, Encoder]:
        """The same; words codes that another process has added since are seen."""
        self._notice_words(self.manifest(within_s=ASKING_S).fingerprint)
        return self.open_to_ask()

    def _notice_words(self, fingerprint: str, *, within_s: float = 0.0) -> None:
        """Forget an index to which another process has added words codes since; as of `within_s` ago at most."""
        with self._lock:
            opened = self._indexes_opened.get(fingerprint), self._asking.get(fingerprint)
            held = (*opened, *self._opened.get(fingerprint, ()))
            is_whole = all(one.words is not None for one in held if one is not None)
            if is_whole or time.monotonic() - self._words_sought.get(fingerprint, -math.inf) < within_s:
                return
            self._words_sought[fingerprint] = time.monotonic()
        if self._indexes.open(fingerprint).words is not None:
            self.forget(fingerprint)

    def forget(self, fingerprint: str) -> None:
        """Open an index anew when it is asked for next: it was changed, or dropped."""
        with self._lock:
            self._indexes_opened.pop(fingerprint, None)
            self._opened.pop(fingerprint, None)
            self._asking.pop(fingerprint, None)

    def segmenter(self) -> Segmenter:
        """The segmenter of the preset that was asked for, else of the index; it remembers the last images.

        Who has met an index that had it before follows. Raises: PresetError, WeightsMissingError, ModelError.
        """
        preset, live = self._settings.models.preset, None
        if preset is None:
            live = self._indexes.live()
        elif self._met_makings:  # who met an index asks it as well: it may have other models by now
            with contextlib.suppress(RegionIndexError):
                met = self._indexes.live(within_s=ASKING_S)
                live = met if met is not None and preset != met.preset and self._had_before(preset, met) else None
        preset = preset if live is None else live.preset
        encoder = self._load_encoder(preset, wiring.hash_layer_of(preset, None, self._settings), live)
        with self._lock:
            return self._kept(str(preset), encoder.segmenter)

    def encoder(self) -> Encoder:
        """The encoder of the live index, or what a new one would get; nothing is made.

        Raises: PresetError, WeightsMissingError, ModelError, IndexMismatchError.
        """
        if self._indexes.live() is not None:
            return self.open()[1]
        preset = self._settings.models.preset
        return self._load_encoder(preset, wiring.hash_layer_of(preset, None, self._settings))

    def open_or_make(self, choice: HashChoice, learn: Learn) -> tuple[RegionIndex, OpenEncoder]:
        """The live index, or a new one that becomes live; one that holds nothing yet may be replaced.

        `learn` is asked for a hash layer where the new index would have an untrained one that nobody chose.

        Raises: as `open_for_work`; PresetError for a choice that the live index contradicts.
        """
        live = self._indexes.live()
        if live is not None and choice is None and live.hash_trained and live.fingerprint in self._opened:
            return self.open_for_work()
        with self._making:
            live = self._indexes.live()
            if live is None or made_together.is_empty(self._indexes, live):
                return self._make(live, choice, learn)
            return self._open_as_chosen(choice)

    def _open_as_chosen(self, choice: HashChoice) -> tuple[RegionIndex, OpenEncoder]:
        """The live index. Raises: as `open_or_make`."""
        opened = self.open_for_work()
        if choice is not None:
            live = self.open()[0].manifest  # other models than the index's are no other hash layer
            layer = wiring.hash_layer_of(live.preset, choice, self._settings)
            other = _manifest_of(self._load_encoder(live.preset, layer, live), live.preset)
            if other.fingerprint != live.fingerprint:
                raise PresetError(
                    f"the index at {self._indexes.uri} already has another hash layer; "
                    f"{choice} needs an empty index, or: searchanything hash apply"
                )
        return opened

    def _make(self, live: IndexManifest | None, choice: HashChoice, learn: Learn) -> tuple[RegionIndex, OpenEncoder]:
        """A new index in the place of none or an empty one. Until its hash layer is there, nothing is made."""
        self._indexes.check_writable()
        preset = self._settings.models.preset or (live.preset if live else None)
        layer = wiring.hash_layer_of(preset, choice, self._settings)
        encoder = wiring.settle_encoder(self._load_encoder(preset, layer), self._settings)
        is_learnt = choice is None and not encoder.hasher.trained
        if is_learnt:
            layer = self._learnt_before(live, encoder) or learn(encoder) or layer
            encoder = wiring.settle_encoder(self._load_encoder(preset, layer), self._settings)
        if made_together.taken_meanwhile(self._indexes, live):  # models take long to load, and a layer to be learnt
            return self._open_as_chosen(choice)
        manifest = _manifest_of(encoder, str(preset))
        if isinstance(choice, Path):
            _hash_layer(layer).warn_of_other_features(manifest.feature_fingerprint)
        self._remove_replaced(manifest, live)
        self._indexes.create(manifest, layer)
        agreed = made_together.agreed_index(self._indexes, manifest, live) if is_learnt else manifest
        self._indexes.switch(agreed.fingerprint)
        for one in (live, manifest):
            if one is not None and one.fingerprint != agreed.fingerprint:
                made_together.drop_empty(self._indexes, one)
        opened = self.open_for_work()
        if opened[0].manifest.fingerprint != agreed.fingerprint:
            raise PresetError(f"another process has just made the index at {self._indexes.uri} otherwise; try again")
        return opened

    def _remove_replaced(self, manifest: IndexManifest, live: IndexManifest | None) -> None:
        """Remove what an index of that name held when it was replaced once, so that the new one is empty.

        Raises: RegionIndexError where another process fills it.
        """
        if live is not None and live.fingerprint == manifest.fingerprint:
            return
        from searchanything.client.change_lease import check_not_leased

        check_not_leased(self._indexes, manifest.fingerprint)
        there = any(one.fingerprint == manifest.fingerprint for one in self._indexes.manifests())
        if not there or made_together.is_empty(self._indexes, manifest):
            return
        now = self._indexes.live()
        if now is None or now.fingerprint != manifest.fingerprint:  # else another process was faster
            self._indexes.drop(manifest.fingerprint)
            self.forget(manifest.fingerprint)

    def _learnt_before(self, live: IndexManifest | None, encoder: Encoder) -> bytes | None:
        """The trained layer of an index that is empty by now, if it is for these features."""
        if live is None or not live.hash_trained:
            return None
        fits = _manifest_of(encoder, live.preset).feature_fingerprint == live.feature_fingerprint
        return self._indexes.hash_layer(live.fingerprint) if fits else None

    def _kept(self, preset: str, segmenter: Segmenter) -> RememberingSegmenter:
        from searchanything.encode.segmentation_cache import RememberingSegmenter

        key = f"{preset} {segmenter.description.get('tile_px')}"
        return self._remembering.setdefault(key, RememberingSegmenter(segmenter))

    def _load_encoder(self, preset: str | None, layer: bytes, manifest: IndexManifest | None = None) -> Encoder:
        policy = asked_regions.policy_of(self._settings, manifest)
        tile_px = asked_regions.tile_side_of(self._settings, manifest)
        return wiring.load_encoder(preset, layer, self._settings, policy=policy, tile_px=tile_px)

    def _described(self, preset: str, layer: bytes, manifest: IndexManifest | None) -> IndexManifest:
        """What `_load_encoder` gives, as an index would note it; no library of models is loaded."""
        from searchanything.models.unloaded import unloaded_encoder

        policy = asked_regions.policy_of(self._settings, manifest)
        tile_px = asked_regions.tile_side_of(self._settings, manifest)
        models = self._settings.models
        return _manifest_of(
            unloaded_encoder(preset, _hash_layer(layer), models, policy=policy, tile_px=tile_px), preset
        )

    def _check(self, index: IndexManifest, local: IndexManifest) -> None:
        """Raises: IndexMismatchError unless this machine's models are those of the index."""
        if index.fingerprint == local.fingerprint:
            return
        from searchanything.encode.fingerprint import NOTES

        names = sorted({*index.details, *local.details} - NOTES)
        differing = [name for name in names if index.details.get(name) != local.details.get(name)]
        raise IndexMismatchError(
            f"the index at {self._indexes.uri} was made with other models than this machine's preset {local.preset!r} "
            f"(different: {', '.join(differing) or 'hash layer'}); fetch the same weights or make a new index"
        )


def _hash_layer(data: bytes) -> HashLayer:
    from searchanything.models.hashing import HashLayer

    return HashLayer.from_bytes(data)


def _manifest_of(encoder: Encoder, preset: str) -> IndexManifest:
    from searchanything.encode.fingerprint import manifest_of

    return manifest_of(encoder, preset)
