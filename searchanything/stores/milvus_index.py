"""The regions and images of one fingerprint in Milvus, Lite and server alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

from searchanything.core.batching import batches
from searchanything.core.errors import FilterError, IndexNotFoundError, IndexUnavailableError, RegionIndexError
from searchanything.core.manifest import IndexCounts, IndexManifest, WordsPart
from searchanything.core.rows import (
    ImageRow,
    ImageState,
    Outcome,
    RegionRow,
    StoredCode,
    WordsMatch,
    least_ids,
    newest_of_each,
)
from searchanything.core.types import CodeKind, Codes, Filter, Hit, ImageRef, Place, lies_in
from searchanything.stores.code_memory import CodeMemory
from searchanything.stores.generation_memory import GenerationMemory
from searchanything.stores.milvus_connection import MilvusConnection
from searchanything.stores.milvus_errors import NotAllowedError
from searchanything.stores.milvus_filters import (
    all_expressions,
    compile_filter,
    objects_expression,
    one_of,
    outcome_expression,
    quote,
    says_all,
)
from searchanything.stores.milvus_portions import Portions
from searchanything.stores.milvus_questions import FoundRows
from searchanything.stores.milvus_rows import RowsOfImages
from searchanything.stores.milvus_schema import (
    IMAGE_HIT_OUTPUT,
    IMAGE_OUTPUT,
    IMAGE_STATE_OUTPUT,
    REGION_HIT_OUTPUT,
    REGION_ROW_OUTPUT,
    WORDS_OUTPUT,
    Entity,
    code_of,
    image_entity,
    image_hit_of,
    image_row_of,
    image_state_of,
    messages,
    region_entity,
    region_hit_of,
    region_row_of,
    stored_code_of,
    words_entity,
    words_match_of,
)
from searchanything.stores.row_checks import MAX_LIMIT, RowLimits, words_part, words_rows

_IDS_PER_READ = 256
_ALWAYS_FIT = 256  # rows of one answer, whatever is in them
_TRIES = 3  # of a search whose rows are deleted before they are read
_ID_OUTPUT = ["id", "generation"]
_SAMPLE_ROWS = 8192  # of one page: for each the server looks at all ids


class MilvusRegionIndex:
    """A `RegionIndex` in two collections. Thread-safe; on Milvus Lite safe between processes.

    A write whose fate is unknown (the server went away meanwhile) raises IndexUnavailableError. Trying again with a
    new generation is always right: what the first attempt may have left is garbage.
    """

    # Over 200 lines: a method for each operation of `RegionIndex`, each an expression or two.

    def __init__(
        self,
        connection: MilvusConnection,
        manifest: IndexManifest,
        collections: tuple[str, str],
        *,
        kind: str,
        words: WordsPart | None = None,
    ) -> None:
        self._connection = connection
        self._manifest = manifest
        self._regions, self._images = collections
        self._kind = kind
        self._words = words
        self._limits = RowLimits(manifest.bits)
        self._portions = Portions(connection.embedded)
        self._rows = RowsOfImages(connection, self._portions)
        self._known_codes = CodeMemory()
        self._known_generations = GenerationMemory()
        self._too_many: dict[str, int] = {}  # rows of a collection that were too large for one answer

    @property
    def manifest(self) -> IndexManifest:
        return self._manifest

    @property
    def collections(self) -> tuple[str, str]:
        return self._regions, self._images

    @property
    def exact(self) -> bool:
        return self._kind == "BIN_FLAT"

    @property
    def max_limit(self) -> int:
        return MAX_LIMIT

    def insert_regions(self, rows: Sequence[RegionRow]) -> None:
        fresh = self._limits.regions(rows)
        with self._connection.writing():
            for batch in messages(region_entity(row) for row in fresh):
                self._connection.insert(self._regions, batch)
            if self._words is not None:
                for batch in messages(map(words_entity, words_rows(self._words, fresh))):
                    self._connection.insert(self._words.collection, batch)

    def insert_images(self, rows: Sequence[ImageRow]) -> None:
        fresh = self._limits.images(rows)
        with self._connection.writing():
            for batch in messages(image_entity(row) for row in fresh):
                self._connection.insert(self._images, batch)

    def newest(self, images: Collection[ImageRef]) -> dict[ImageRef, ImageRow]:
        wanted = {image.image_id for image in images}
        rows = (
            image_row_of(row)
            for ids in self._portions.images(self._images, list(wanted))
            for row in self._rows.of(self._images, ids, IMAGE_OUTPUT)
        )
        return newest_of_each(rows)

    def generations(self, images: Collection[ImageRef]) -> dict[ImageRef, int]:
        wanted = {image.image_id: image for image in images}
        state = self._connection.rows_state()
        newest = self._known_generations.find(state, wanted)
        read = dict.fromkeys((one for one in sorted(wanted) if one not in newest), 0)
        for ids in self._portions.images(self._images, list(read)):
            for image_id, generation in self._rows.generations(self._images, ids, bits=self._manifest.bits):
                read[image_id] = max(generation, read[image_id])
        self._known_generations.keep(state, read)
        return {wanted[one]: generation for one, generation in (newest | read).items() if generation}

    def iterate_images(
        self, *, bucket: str | None = None, key_prefix: str = "", outcome: Outcome | None = None
    ) -> Iterator[ImageRow]:
        expression = all_expressions(outcome_expression(outcome), objects_expression(bucket, key_prefix))
        if outcome is not Outcome.FAILED:
            rows = self._connection.iterate(self._images, expression, IMAGE_OUTPUT)
            return map(image_row_of, _under(rows, bucket, key_prefix))
        # Their codes are zeros, and a server takes longer to read a code than all the rest of a row.
        code = [bytes(self._manifest.bits // 8)]
        fields = [name for name in IMAGE_OUTPUT if name != "code"]
        rows = self._connection.iterate(self._images, expression, fields)
        return (image_row_of({**row, "code": code}) for row in _under(rows, bucket, key_prefix))

    def iterate_regions(self, *, bucket: str | None = None, key_prefix: str = "") -> Iterator[RegionRow]:
        rows = self._connection.iterate(self._regions, objects_expression(bucket, key_prefix), REGION_ROW_OUTPUT)
        return map(region_row_of, _under(rows, bucket, key_prefix))

    def iterate_states(
        self, *, bucket: str | None = None, key_prefix: str = "", outcome: Outcome | None = None
    ) -> Iterator[ImageState]:
        expression = all_expressions(outcome_expression(outcome), objects_expression(bucket, key_prefix))
        rows = self._connection.iterate(self._images, expression, IMAGE_STATE_OUTPUT)
        return map(image_state_of, _under(rows, bucket, key_prefix))

    def iterate_attempts(self, *, bucket: str | None = None, key_prefix: str = "") -> Iterator[tuple[ImageRef, int]]:
        fields = ["bucket", "key", "generation"]
        rows = self._connection.iterate(self._regions, objects_expression(bucket, key_prefix), fields)
        return ((ImageRef(one["bucket"], one["key"]), one["generation"]) for one in _under(rows, bucket, key_prefix))

    def regions(self, ids: Collection[str]) -> dict[str, RegionRow]:
        return {row.id: row for row in map(region_row_of, self._by_ids(self._regions, ids, REGION_ROW_OUTPUT))}

    def _by_ids(self, collection: str, ids: Collection[str], fields: list[str]) -> Iterator[Entity]:
        for portion in batches(sorted(set(ids)), _IDS_PER_READ):
            yield from self._connection.query(collection, one_of("id", portion), fields)

    def iterate_codes(
        self, *, of: CodeKind = "regions", bucket: str | None = None, key_prefix: str = "", share: float = 1.0
    ) -> Iterator[StoredCode]:
        if of == "words" and self._words is None:
            return iter(())
        bound = least_ids(share)
        parts = [objects_expression(bucket, key_prefix), "" if bound is None else f"id < {quote(bound)}"]
        if of == "images":
            parts.append(compile_filter(None, whole_images=True))
        fields = ["bucket", "key", "generation", "code", *([] if of == "images" else ["region"])]
        collection, page_rows = self._collection_of(of), None if bound is None else _SAMPLE_ROWS
        rows = self._connection.iterate(collection, all_expressions(*parts), fields, page_rows=page_rows)
        return map(stored_code_of, _under(rows, bucket, key_prefix))

    def regions_of(self, images: Collection[ImageRef]) -> Iterator[RegionRow]:
        ids, as_of = sorted({image.image_id for image in images}), self._connection.now() if images else 0
        for portion in self._portions.images(self._regions, ids):
            yield from map(region_row_of, self._rows.of(self._regions, portion, REGION_ROW_OUTPUT, as_of=as_of))

    def count_regions(self, *, bucket: str | None = None, key_prefix: str = "") -> int:
        return self._count(self._regions, bucket, key_prefix)

    def search(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[Hit]]:
        found = self._search(self._regions, codes, REGION_HIT_OUTPUT, limit=limit, filter=filter)
        return [list(map(region_hit_of, rows)) for rows in found]

    def search_images(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[Hit]]:
        found = self._search(self._images, codes, IMAGE_HIT_OUTPUT, limit=limit, filter=filter)
        return [list(map(image_hit_of, rows)) for rows in found]

    @property
    def words(self) -> WordsPart | None:
        return self._words

    def insert_words(self, rows: Sequence[RegionRow]) -> None:
        fresh = words_rows(self._words, rows)
        with self._connection.writing():
            self._known_codes.clear()  # another process may have deleted them
            held = self.codes_of([row.id for row in fresh], of="words")
            for batch in messages(words_entity(row) for row in fresh if row.id not in held):
                self._connection.insert(self._words_name, batch)

    def search_words(self, codes: Codes, *, limit: int, filter: Filter | None = None) -> list[list[WordsMatch]]:
        found = self._search(self._words_name, codes, WORDS_OUTPUT, limit=limit, filter=filter)
        return [list(map(words_match_of, rows)) for rows in found]

    def count_words(self, *, bucket: str | None = None, key_prefix: str = "") -> int:
        return 0 if self._words is None else self._count(self._words.collection, bucket, key_prefix)

    def words_of(self, images: Collection[ImageRef]) -> Iterator[tuple[str, bytes]]:
        if self._words is None or not images:
            return
        ids, as_of = sorted({image.image_id for image in images}), self._connection.now()
        for portion in self._portions.images(self._words_name, ids):
            rows = self._rows.of(self._words_name, portion, ["id", "code"], as_of=as_of)
            yield from ((row["id"], code_of(row)) for row in rows)

    @property
    def _words_name(self) -> str:
        return words_part(self._words).collection

    def _bits_of(self, collection: str) -> int:
        words = self._words
        return words.bits if words is not None and collection == words.collection else self._manifest.bits

    @property
    def _collections_to_empty(self) -> list[str]:
        """In the order of a deletion: region rows last, by which what a killed deletion leaves is found."""
        return [self._images, *([] if self._words is None else [self._words.collection]), self._regions]

    def codes_of(
        self, ids: Sequence[str], *, of: CodeKind = "regions", within: Sequence[Place] = ()
    ) -> dict[str, bytes]:
        if of == "words" and self._words is None:
            return {}
        collection = self._collection_of(of)
        found = {} if within else self._known_codes.find(collection, ids)  # ids do not say where an image lies
        fields = ["id", "code", *(["bucket", "key"] if within else [])]
        for portion in batches([one for one in dict.fromkeys(ids) if one not in found], self._portions.codes):
            rows = self._connection.query(collection, one_of("id", portion), fields)
            seen = (row for row in rows if not within or lies_in(ImageRef(row["bucket"], row["key"]), within))
            read = {row["id"]: code_of(row) for row in seen}
            self._known_codes.keep(collection, read)
            found |= read
        return found

    def _collection_of(self, kind: CodeKind) -> str:
        return {"regions": self._regions, "images": self._images}.get(kind) or self._words_name

    def delete_before(self, generations: Mapping[ImageRef, int]) -> None:
        """As the protocol says. Rows are looked for and deleted by their ids: a server answers at once where there are
        none, while it takes a third of a second for any deletion by other fields. Who deletes has inserted before, so
        the look shows all that was written until then (see `ingest/commit.py`). All looks come first: the one after a
        deletion is strong.

        An embedded server looks at all rows for either, so many images of one age, such as are forgotten, are deleted
        by their names.
        """
        self._known_codes.clear()
        ages = {image.image_id: generation for image, generation in generations.items()}
        is_one_age = len(ages) > 1 and len(set(ages.values())) == 1
        with self._connection.writing():
            for collection in self._collections_to_empty:
                if is_one_age and self._connection.embedded:
                    self._delete(collection, "image_id", ages, f" and generation < {next(iter(ages.values())):d}")
                    continue
                looks = self._portions.images_of_ages(collection, sorted(ages))
                older = [self._older(collection, {image_id: ages[image_id] for image_id in ids}) for ids in looks]
                self._delete(collection, "id", [name for names in older for name in names])

    def _delete(self, collection: str, field: str, values: Iterable[str], more: str = "") -> None:
        """Rows with one of these values of a field, for which the rest of an expression holds as well."""
        for portion in batches(sorted(set(values)), self._portions.deleted):
            self._connection.delete(collection, one_of(field, portion) + more)

    def _older(self, collection: str, ages: Mapping[str, int]) -> list[str]:
        """The ids of rows that are older than a generation each."""
        expression = one_of("image_id", list(ages))
        if self._connection.embedded or len(ages) == 1:
            # A server would compare the generations of all rows there are to spare the answer a few hundred.
            expression += f" and generation < {max(ages.values()):d}"
        rows = self._rows.versions(collection, expression, bits=self._bits_of(collection))
        if len(rows) < MAX_LIMIT:
            return [name for name, image_id, generation in rows if generation < ages[image_id]]
        if len(ages) == 1:
            return [row["id"] for row in self._connection.iterate(collection, expression, ["id"])]
        self._portions.too_many(collection, len(ages))  # many generations that nobody has deleted yet
        halves = batches(list(ages), (len(ages) + 1) // 2)
        return [name for ids in halves for name in self._older(collection, {one: ages[one] for one in ids})]

    def delete_regions(self, ids: Collection[str]) -> None:
        self._known_codes.clear()
        with self._connection.writing():
            for collection in self._collections_to_empty[1:]:
                self._delete(collection, "id", ids)

    def delete_images(self, images: Collection[ImageRef]) -> None:
        self._known_codes.clear()
        ids = [image.image_id for image in images]
        with self._connection.writing():
            for collection in self._collections_to_empty:
                self._delete(collection, "image_id", ids)

    def counts(self, *, bucket: str | None = None, key_prefix: str = "") -> IndexCounts:
        images, empty, failed = (
            self._count(self._images, bucket, key_prefix, outcome_expression(outcome))
            for outcome in (Outcome.INDEXED, Outcome.EMPTY, Outcome.FAILED)
        )
        regions = self._count(self._regions, bucket, key_prefix)
        return IndexCounts(images=images, empty=empty, failed=failed, regions=regions)

    def _count(self, collection: str, bucket: str | None, key_prefix: str, expression: str = "") -> int:
        """The rows of a bucket and prefix of which an expression is true."""
        whole = all_expressions(expression, objects_expression(bucket, key_prefix))
        if says_all(bucket, key_prefix):
            return self._connection.count(collection, whole)
        rows = self._connection.iterate(collection, whole, ["bucket", "key"])
        return sum(1 for _ in _under(rows, bucket, key_prefix))

    def _search(
        self, collection: str, codes: Codes, fields: list[str], *, limit: int, filter: Filter | None
    ) -> list[FoundRows]:
        """For each of (Q, B) codes of a collection its nearest rows, with some fields."""
        queries = RowLimits(self._bits_of(collection)).queries(codes, limit=limit)
        is_server, whole_images = not self._connection.embedded, collection == self._images
        expression = compile_filter(filter, whole_images=whole_images, is_server=is_server)
        found: list[FoundRows] = []
        named = filter is not None and bool(filter.images)
        effort = self._connection.effort(self._kind, limit=limit, everywhere=named)
        try:
            for portion in batches(queries, max(1, MAX_LIMIT // limit)):  # bounds the size of an answer
                asked = collection, list(portion), expression
                search = partial(self._connection.search, *asked, limit=limit, effort=effort)
                found += self._found(collection, search, fields, most=len(portion) * limit)
        except (IndexNotFoundError, IndexUnavailableError, NotAllowedError):
            raise
        except RegionIndexError as error:
            if not is_server or filter is None or filter.expression is None:
                raise
            raise FilterError(f"Milvus refused the expression {filter.expression!r}: {error}") from error
        return found

    def _found(
        self, collection: str, search: Callable[[list[str]], list[FoundRows]], fields: list[str], *, most: int
    ) -> list[FoundRows]:
        """What a search finds: `most` rows with some fields.

        A server refuses answers above 64 or 100 MiB: then rows are found first, read next.
        """
        if most < self._too_many.get(collection, most + 1):
            try:
                return search(fields)
            except RegionIndexError as error:
                if type(error) is not RegionIndexError or most <= _ALWAYS_FIT:
                    raise
        for _ in range(_TRIES):  # rows may be deleted before they are read, and fewer would say that there are no more
            found = search(_ID_OUTPUT)
            ids = {row[1] for rows in found for row in rows}
            rows = {row["id"]: [row[name] for name in fields] for row in self._by_ids(collection, ids, fields)}
            if len(rows) == len(ids):
                break
        self._too_many[collection] = min(most, self._too_many.get(collection, most))
        return [[(row[0], *rows[row[1]]) for row in several if row[1] in rows] for several in found]


def _under(entities: Iterable[Entity], bucket: str | None, key_prefix: str) -> Iterator[Entity]:
    """The rows of a bucket and prefix exactly: an expression cannot say every name (see `objects_expression`)."""
    return (one for one in entities if bucket in (None, one["bucket"]) and one["key"].startswith(key_prefix))
