"""Another hash layer for an index (`searchanything hash apply`): how long the codes of kept features take.

An index of made-up images whose features are kept in a folder gets another layer, and gets the first one back, which is
there already. Beside it, what the work consists of at least: reading the features and hashing them; and how many bytes
the kept features take. `--uri` names an index of its own, such as a Milvus server with a prefix that is not in use;
default: Milvus Lite in a temporary folder.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

import searchanything
from benchmarks import measuring
from benchmarks.index_rows import image_row, region_row
from searchanything.core.manifest import IndexManifest
from searchanything.core.protocols import ImageFeatures, RegionIndex
from searchanything.core.settings import load_settings
from searchanything.core.types import ImageRef
from searchanything.encode.fingerprint import rehashed
from searchanything.features.keep import ParquetKeeper
from searchanything.features.layout import FeatureCache
from searchanything.models.hashing import HashLayer
from searchanything.wiring import open_feature_cache, open_features, open_index_store

BATCH: Final = 256  # images


def features_of(
    images: list[ImageRef], generation: int, widths: tuple[int, int], *, regions: int
) -> list[ImageFeatures]:
    """Made-up features of regions and whole images."""
    rng = np.random.default_rng(generation)
    return [
        ImageFeatures(
            one, "etag", generation, *(rng.standard_normal((regions + 1, width), np.float32) for width in widths)
        )
        for one in images
    ]


def fill(index: RegionIndex, cache: FeatureCache, layer: HashLayer, count: int, *, regions: int) -> None:
    """The rows of the live index, and their features."""
    keeper = ParquetKeeper(cache)
    widths = layer.mask_dimension, layer.image_dimension
    for first in range(0, count, BATCH):
        images = [ImageRef(cache.bucket, f"{at:07}.jpg") for at in range(first, min(count, first + BATCH))]
        features = features_of(images, first + 1, widths, regions=regions)
        keeper.keep(features)
        codes = [layer.encode(one.mask_features, one.image_features) for one in features]
        index.insert_regions(
            [
                region_row(image, first + 1, number, own[number].tobytes())
                for image, own in zip(images, codes, strict=True)
                for number in range(regions)
            ]
        )
        rows = zip(images, codes, strict=True)
        index.insert_images([image_row(image, first + 1, own[-1].tobytes(), regions=regions) for image, own in rows])


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Print the table; write JSON where asked."""
    options = measuring.parser(__doc__)
    options.add_argument("--uri")
    options.add_argument("--images", type=int, default=4000)
    options.add_argument("--regions", type=int, default=25, help="of an image")
    options.add_argument("--features", type=int, nargs=2, default=(320, 1024), help="of f_M and f_I; those of paper")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings()
        settings.milvus.uri = asked.uri or str(Path(folder) / "index.db")
        settings.ingest.features_dir = Path(folder) / "kept"
        settings.ingest.keep_features = True
        bucket = Path(folder) / "images"
        bucket.mkdir()
        first, second = (HashLayer.random_rotation(*asked.features, bits=256, seed=seed) for seed in (1, 2))
        made_up = IndexManifest(
            "f" * 32, "e" * 32, "paper", 256, "", hash_trained=False, schema_version=2, created_at_ms=1
        )
        manifest = rehashed(made_up, first)
        indexes = open_index_store(settings.milvus)
        indexes.create(manifest, first.to_bytes())
        indexes.switch(manifest.fingerprint)
        file = Path(folder) / "second.safetensors"
        file.write_bytes(second.to_bytes())
        cache = open_feature_cache(str(bucket), manifest, settings)
        fill(indexes.open(manifest.fingerprint), cache, first, asked.images, regions=asked.regions)
        with searchanything.Client(settings, indexes=indexes) as client:
            source = open_features(cache.files.location, mask_dimension=None, settings=settings)
            spent = {
                "reading features": seconds(lambda: list(source.batches())),
                "and hashing them": seconds(lambda: [second.encode(one.mask, one.image) for one in source.batches()]),
                "apply": seconds(lambda: client.hash_layers.apply(file)),
                "apply the first again": seconds(lambda: client.hash_layers.apply(first.digest)),
            }
            kept = client.features.status(str(bucket))
            if client.status().regions != asked.images * asked.regions:
                raise SystemExit("regions were lost")
            client.hash_layers.drop(second.digest)
    regions = asked.images * asked.regions
    rows = [{"what": name, "s": took, "regions/s": round(regions / took)} for name, took in spent.items()]
    rows.append({"what": "features", "bytes/region": round(kept.bytes / kept.rows)})
    measuring.report("rehash", rows, asked)


if __name__ == "__main__":
    main()
