"""Do a bucket and its index agree? Asked of the servers themselves: `python -m deploy.agreement --help`.

It shares no code with the package that it checks: the bucket is listed with minio, the index read with pymilvus, and
what is compared is the design's promise. Every object has exactly one image row, with the object's etag; that row's
regions are there, numbered from 0 without a gap or a double, of the same generation; nothing else lies in the index.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minio import Minio
    from pymilvus import MilvusClient

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
_IMAGE_FIELDS = ["key", "etag", "generation", "outcome", "regions", "image_width", "image_height"]
_REGION_FIELDS = ["key", "etag", "generation", "region", "image_width", "image_height"]
_IMAGES, _REGIONS = "searchanything_images_", "searchanything_regions_"
_SECRETS = ("STORAGE__ACCESS_KEY", "STORAGE__SECRET_KEY", "MILVUS__TOKEN")
_TIMEOUT_S = 30.0

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """What is wrong with one key: `lost`, `stale`, `doubled`, `torn`, `failed`, `orphaned` or `garbage`."""

    kind: str
    key: str
    detail: str


@dataclass(frozen=True, slots=True)
class Holdings:
    """All rows of one bucket in one index."""

    images: list[Row]
    regions: list[Row]


def compare(listing: Mapping[str, str], held: Holdings) -> list[Difference]:
    """What differs between a listing (key → etag) and the rows of the index; empty if they agree exactly."""
    images: dict[str, list[Row]] = defaultdict(list)
    regions: dict[str, list[Row]] = defaultdict(list)
    for row in held.images:
        images[row["key"]].append(row)
    for row in held.regions:
        regions[row["key"]].append(row)
    found: list[Difference] = []
    for key in sorted({*listing, *images, *regions}):
        found += _of_key(key, listing.get(key), images[key], regions[key])
    return found


def _of_key(key: str, etag: str | None, images: list[Row], regions: list[Row]) -> Iterator[Difference]:
    if etag is None:
        if images:
            yield Difference("orphaned", key, f"{len(images)} image rows, no object")
        elif regions:
            yield Difference("garbage", key, f"{len(regions)} regions of no image")
        return
    if not images:
        yield Difference("lost", key, f"no image row, {len(regions)} regions")
        return
    newest = max(images, key=lambda row: row["generation"])
    if len(images) > 1:
        yield Difference("doubled", key, f"{len(images)} image rows")
    if newest["etag"] != etag:
        yield Difference("stale", key, f"indexed {newest['etag']}, the object is {etag}")
    if newest["outcome"] == "failed":
        yield Difference("failed", key, "its last attempt failed")
    yield from _of_regions(key, newest, regions)


def _of_regions(key: str, image: Row, regions: list[Row]) -> Iterator[Difference]:
    current = [row for row in regions if row["generation"] == image["generation"]]
    if len(current) != len(regions):
        yield Difference("garbage", key, f"{len(regions) - len(current)} regions of other generations")
    numbers = Counter(row["region"] for row in current)
    if any(count > 1 for count in numbers.values()):
        yield Difference("doubled", key, f"regions {sorted(n for n, count in numbers.items() if count > 1)}")
    if set(numbers) != set(range(image["regions"])):
        yield Difference("torn", key, f"regions {sorted(numbers)}, expected {image['regions']}")
    for name in ("etag", "image_width", "image_height"):
        if any(row[name] != image[name] for row in current):
            yield Difference("torn", key, f"regions of another {name} than the image's")


def read_bucket(client: Minio, bucket: str, *, prefix: str = "") -> dict[str, str]:
    """Key → etag of the images in a bucket."""
    listed = client.list_objects(bucket, prefix=prefix or None, recursive=True)
    return {
        str(one.object_name): str(one.etag).strip('"')
        for one in listed
        if str(one.object_name).lower().endswith(IMAGE_SUFFIXES)
    }


def read_index(uri: str, bucket: str, *, prefix: str = "", token: str = "") -> Holdings:
    """All rows of a bucket in the one index behind `uri`: `http://…`, or the file of an embedded index that is in use.

    Raises: ValueError unless exactly one index is there.
    """
    from pymilvus import MilvusClient

    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # what goes wrong is raised as well
    client = MilvusClient(_address(uri), token=token, timeout=_TIMEOUT_S, dedicated=True)
    try:
        collections = client.list_collections(timeout=_TIMEOUT_S)
        fingerprints = {name.removeprefix(_IMAGES) for name in collections if _IMAGES in name}
        if not fingerprints:
            return Holdings([], [])
        [fingerprint] = fingerprints
        return Holdings(
            list(_rows(client, _IMAGES + fingerprint, _IMAGE_FIELDS, bucket, prefix)),
            list(_rows(client, _REGIONS + fingerprint, _REGION_FIELDS, bucket, prefix)),
        )
    finally:
        client.close()


def _rows(client: MilvusClient, collection: str, fields: list[str], bucket: str, prefix: str) -> Iterator[Row]:
    chosen = f"bucket == {json.dumps(bucket)}"
    if prefix:
        chosen += f" and key like {json.dumps(prefix + '%')}"
    client.load_collection(collection, timeout=_TIMEOUT_S)
    pages = client.query_iterator(
        collection,
        filter=chosen,
        output_fields=fields,
        batch_size=1000,
        consistency_level="Strong",
        timeout=_TIMEOUT_S,
    )
    try:
        while page := pages.next():
            yield from page
    finally:
        pages.close()


def _address(uri: str) -> str:
    """What pymilvus connects to: for an embedded index, the socket that its host folder names."""
    if "://" in uri or uri.startswith("unix:"):
        return uri
    file = Path(uri).expanduser().resolve()
    return "unix:" + file.with_name(f".{file.name}.host").joinpath("address").read_text()


def main(arguments: Iterable[str] | None = None) -> int:
    """Print the differences as one JSON document; 0 if there are none, 1 if there are."""
    import minio

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--s3", required=True, metavar="HOST:PORT", help="keys: SEARCHANYTHING_STORAGE__ACCESS_KEY, …")
    parser.add_argument("--secure", action="store_true", help="speak TLS to the S3 server")
    parser.add_argument("--milvus", required=True, metavar="URI", help="token: SEARCHANYTHING_MILVUS__TOKEN")
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--prefix", default="")
    given = parser.parse_args(None if arguments is None else list(arguments))
    secrets = {name: os.environ.get(f"SEARCHANYTHING_{name}") for name in _SECRETS}
    client = minio.Minio(given.s3, secrets[_SECRETS[0]], secrets[_SECRETS[1]], secure=given.secure)
    listing = read_bucket(client, given.bucket, prefix=given.prefix)
    held = read_index(given.milvus, given.bucket, prefix=given.prefix, token=secrets[_SECRETS[2]] or "")
    differences = compare(listing, held)
    sys.stdout.write(json.dumps({"checked": len(listing), "differences": [asdict(one) for one in differences]}) + "\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
