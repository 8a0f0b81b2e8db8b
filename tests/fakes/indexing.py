"""What tests of indexing share: small images, a store, an index and an encoder, and questions to the index."""

from __future__ import annotations

import io
from collections.abc import Sequence

from fakes.models import drawn, fake_encoder, poisoned
from fakes.stores import InMemoryStore
from PIL import Image

from searchanything.client.client import Client
from searchanything.core.rows import ImageRow, Outcome, RegionRow
from searchanything.core.types import ImageRef, RGBImage, StoredObject
from searchanything.encode.fingerprint import manifest_of
from searchanything.ingest.pipeline import index_images
from searchanything.ingest.plan import IndexingJob, IndexingOptions
from searchanything.ingest.reports import IndexReport
from searchanything.stores.memory import MemoryRegionIndex

SMALL_BATCHES = IndexingOptions(batch_images=2, transfer_threads=2)


def png(image: RGBImage) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


RED = png(drawn(30, 40, red=(4, 4, 20, 20)))
GREEN_BLUE = png(drawn(40, 30, green=(2, 2, 12, 20), blue=(14, 4, 28, 36)))
EMPTY = png(drawn(20, 20))
POISONED = png(poisoned(drawn(30, 30, red=(4, 4, 20, 20))))


class Setting:
    """A store, an index and an encoder, and short ways to run and to look."""

    def __init__(self, index: MemoryRegionIndex | None = None, store: InMemoryStore | None = None) -> None:
        self.encoder = fake_encoder()
        self.store = store or InMemoryStore()
        self.index = index or new_index()

    def run(
        self, *, options: IndexingOptions = SMALL_BATCHES, objects: Sequence[StoredObject] | None = None
    ) -> IndexReport:
        job = IndexingJob(self.store, lambda: self.encoder, self.index, options)
        return index_images(job, self.store.list() if objects is None else iter(objects))

    def row(self, key: str) -> ImageRow:
        ref = self.ref(key)
        return self.index.newest([ref])[ref]

    def knows(self, key: str) -> bool:
        return self.ref(key) in self.index.newest([self.ref(key)])

    def ref(self, key: str) -> ImageRef:
        return ImageRef(self.store.bucket, key)

    def visible(self) -> dict[str, tuple[str, Outcome, str, list[tuple[int, bytes]]]]:
        """What the index says of each image: etag, outcome, error, and the codes of its committed regions."""
        rows = self.index.newest({row.image for row in self.index.iterate_images()})
        return {
            image.key: (row.etag, row.outcome, row.error, regions_of(self.index, row)) for image, row in rows.items()
        }


def new_index() -> MemoryRegionIndex:
    return MemoryRegionIndex(manifest_of(fake_encoder(), "fake"))


def all_regions(index: MemoryRegionIndex) -> list[RegionRow]:
    return list(index._regions.rows)


def regions_of(index: MemoryRegionIndex, row: ImageRow) -> list[tuple[int, bytes]]:
    rows = [one for one in all_regions(index) if one.image == row.image and one.generation == row.generation]
    assert all(one.etag == row.etag for one in rows)
    return sorted((one.region, one.code) for one in rows)


def whole(index: MemoryRegionIndex) -> None:
    """Every committed image is complete: as many region rows as its row says, none for empty and failed ones."""
    for row in index.newest({row.image for row in index.iterate_images()}).values():
        assert [number for number, _ in regions_of(index, row)] == list(range(row.regions)), row
        assert (row.outcome is Outcome.INDEXED) == (row.regions > 0), row
        assert row.is_findable == (row.outcome is not Outcome.FAILED), row
        assert (row.outcome is Outcome.FAILED) == bool(row.error), row


def without_garbage(index: MemoryRegionIndex) -> bool:
    newest = index.newest({row.image for row in index.iterate_images()})
    generations = {(image, row.generation) for image, row in newest.items()}
    rows = [*index.iterate_images(), *all_regions(index)]
    return {(row.image, row.generation) for row in rows} == generations


def check_indexed(client: Client, images: int) -> None:
    """So many images, each once, with its two regions, and nothing that belongs to nobody."""
    index = client._parts.connection.read_index()
    rows = list(index.iterate_images())
    assert len(rows) == len({row.image for row in rows}) == images
    assert {(row.outcome, row.regions) for row in rows} == {(Outcome.INDEXED, 2)}
    generations = {row.image: row.generation for row in rows}
    regions = list(index.iterate_regions())
    assert len(regions) == len({(one.image, one.region) for one in regions}) == 2 * images
    assert all(one.generation == generations[one.image] for one in regions)
    counts = index.counts()
    assert (counts.images, counts.regions) == (images, 2 * images), "a server counts an id that is there twice as two"
