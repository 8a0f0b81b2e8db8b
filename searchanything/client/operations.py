"""What services do beside what people ask of a client: workers, watchers and servers call it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from socket import gethostname
from typing import TYPE_CHECKING, Any

from searchanything import wiring
from searchanything.client.client_parts import ClientParts
from searchanything.client.connection import SourceName
from searchanything.client.consistency import Consistency, keep_consistency
from searchanything.core.arguments import check_progress
from searchanything.core.errors import ImageError, SettingsError, StoreError, StoreUnavailableError
from searchanything.core.libraries import LazyModule
from searchanything.core.rows import ImageRow
from searchanything.core.settings import reading_settings
from searchanything.core.types import ImageRef
from searchanything.encode.canary import check_models
from searchanything.encode.encoder import Stopwatch
from searchanything.explain.reencode import SearchContext
from searchanything.ingest.commit import Failed
from searchanything.ingest.contact_sheet import SheetTile
from searchanything.ingest.progress import steps_of
from searchanything.ingest.reports import IndexReport, OnProgress, SyncReport
from searchanything.ingest.vanished import Said
from searchanything.search.stored import list_image_names

if TYPE_CHECKING:
    from searchanything.client import given
else:
    given = LazyModule("searchanything.client.given")


@dataclass(frozen=True, slots=True)
class Operations:
    """The operations of one client: `client.operations`. Thread-safe, as the client is."""

    _parts: ClientParts

    def refresh_with_sheet(
        self,
        source: SourceName,
        keys: Iterable[str],
        *,
        tiles: int,
        force: bool = False,
        said: Said = "named",
        reading: Mapping[str, str] | None = None,
    ) -> tuple[IndexReport, tuple[SheetTile, ...]]:
        """`refresh`, and tiles of up to `tiles` of the images indexed, where `service.sheet_images` asks for them.

        A tile goes with its image, and after a week. What is `said` of keys decides if they are forgotten where they
        are gone. `reading` is `reading_settings` the settings of who asks.

        Raises: as `refresh`; SettingsError where tiles would be indexed, or images read in another way than asked.
        """
        self._check_reading(reading)
        return self._parts.ingestion.refresh(source, keys, force=force, tiles=tiles, said=said)

    def plan_sync(self, source: SourceName, *, forget: bool = False) -> SyncReport:
        """What `sync` finds before it repairs, for whoever repairs by other means: what it holds back is remembered.

        Raises: as `sync`.
        """
        return self._parts.syncing.check(source, forget=forget, keep=True)

    def collect_garbage(self, source: SourceName, *, reading: Mapping[str, str] | None = None) -> SyncReport:
        """Delete a source's rows that belong to nobody, and index again what lost rows, as `sync` does at its end.

        Raises: as `sync`; SettingsError as `refresh_with_sheet`.
        """
        self._check_reading(reading)
        return self._parts.syncing.collect_garbage(source)

    def sweep_tiles(self, source: SourceName) -> int:
        """Erase the tiles of contact sheets that outlived their images or their week; returns how many.

        Raises: IndexNotFoundError, RegionIndexError, SettingsError, StoreError; the last two only where
        `service.sheet_images` asks for tiles.
        """
        return self._parts.syncing.sweep_tiles(source)

    def record_failure(self, source: SourceName, key: str, *, error: str, message: str, begun: int) -> bool:
        """Record that an image failed where no process lived to say so; it counts as one of its attempts.

        An object that is gone is left alone, as is one of which an attempt was committed that is younger than the
        generation `begun` (`next_generation`), in which this one began. Returns whether it was recorded.

        Raises: IndexNotFoundError, RegionIndexError, StoreError.
        """
        return self._parts.failures.record(source, key, Failed(error, message), begun=begun)

    def _check_reading(self, wanted: Mapping[str, str] | None) -> None:
        own = reading_settings(self._parts.connection.settings)
        if differing := [name for name, value in (wanted or own).items() if own.get(name) != value]:
            shown = ", ".join(f"{name} is {own.get(name)!r} and not {(wanted or own)[name]!r}" for name in differing)
            raise SettingsError(
                f"{gethostname()} would read images in another way than who sent them: {shown}; "
                "give watch and its workers the same settings, and restart them"
            )

    def image_names(self, *, bucket: str | None, key_prefix: str, most: int) -> tuple[list[ImageRef], bool]:
        """The names of what `Client.images` lists, and whether these are all. Raises: as `Client.images`."""
        return list_image_names(self._parts.connection.read_index(), bucket=bucket, key_prefix=key_prefix, most=most)

    def image_rows(self, images: Sequence[ImageRef]) -> list[ImageRow]:
        """What the index holds of these images, in their order; those that are gone are left out.

        Raises: IndexNotFoundError, RegionIndexError.
        """
        found = self._parts.connection.read_index().newest(images)
        return [row for one in images if (row := found.get(one)) is not None and row.is_findable]

    def search_context(self) -> SearchContext:
        """The live index, the models that fit it, and the images behind it, for whoever asks many questions.

        Raises: IndexNotFoundError, PresetError, WeightsMissingError, ModelError.
        """
        return self._parts.asking.context()

    def keep_consistency(self, measured: Consistency) -> None:
        """Keep how well the live index recognises its own regions, for `status` to quote. Raises: RegionIndexError."""
        keep_consistency(self._parts.connection.indexes, measured)

    def check_usable(self, *, with_models: bool = True) -> None:
        """Whether `index` could begin with these settings: preset, policy and schema fit, and there are weights.

        `with_models=False` leaves out what only a machine with the models can say. Nothing is loaded or made.

        Raises: PresetError, SettingsError, IndexMismatchError, WeightsMissingError, RegionIndexError.
        """
        self._parts.connection.models.check(with_models=with_models)

    def check_writable(self) -> None:
        """Look whether an index can be written, or made, here. Raises: as `IndexStore.check_writable`."""
        self._parts.connection.indexes.check_writable()

    def presets_before(self) -> set[str]:
        """Presets that the index had before it was given other models; who names one of them follows the index.

        Raises: RegionIndexError.
        """
        from searchanything.core.models_before import presets_before

        return presets_before(self._parts.connection.indexes)

    def load_models(self, *, texts: bool = False) -> None:
        """Load the models of the index now, rather than at the first need; with `texts` what embeds texts as well.

        Raises: IndexNotFoundError, PresetError, WeightsMissingError, ModelError.
        """
        encoder = self._parts.connection.models.open_to_ask()[1]
        wiring.load_models(encoder, Stopwatch())
        if texts:
            encoder.embedder.embed_texts(["anything"])

    def check_models(self) -> None:
        """Encode a built-in image with the models of the index.

        Raises: DeviceError if that fails: then no image is to blame for what fails in this process; as `load_models`.
        """
        check_models(self._parts.connection.models.open()[1])

    def check_readable(self, source: SourceName, key: str) -> None:
        """Ask the store for an object; what it answers does not matter. Raises: StoreUnavailableError."""
        try:
            self._parts.connection.open_source(source)[0].read(key)
        except StoreUnavailableError:
            raise
        except (StoreError, ImageError):  # the latter of an object that is too large
            return

    def tune(
        self,
        *,
        recall: float = 0.95,
        top: int = 100,
        codes: int = 1_000_000,
        questions: Iterable[given.ManyQuestion] | None = None,
        progress: OnProgress | None = None,
    ) -> dict[str, Any]:
        """Which kind of approximate index reaches a recall soonest on this index's codes, as a document.

        It asks with codes of the index, a little changed; with those of `questions`, as of `Client.query_many`, where
        they are given: the models of the index are loaded then, and what chooses no region is left out with a warning.
        Needs the extra `faiss`; nothing is changed.

        Raises: UsageError without faiss, for fewer than 1,000 codes, or where no question chooses a region;
        IndexNotFoundError, RegionIndexError; with questions also as `Client.query_many`.
        """
        check_progress(progress)
        connection, on_step, asked = self._parts.connection, steps_of(progress), None
        if questions is None:
            index = connection.read_index()
        else:
            from searchanything.client.question_codes import question_codes

            index, encoder = connection.open_to_ask()
            asked = partial(question_codes, self._parts.asking, (index, encoder), questions, on_step)
        return wiring.tune_on_codes(index, recall=recall, top=top, codes=codes, asked=asked, on_step=on_step)
