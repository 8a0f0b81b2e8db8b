"""Sidecars written into a real bucket, below a prefix, and read from there."""

from __future__ import annotations

import pytest
from fakes.indexing import RED

from searchanything import wiring
from searchanything.core.settings import Settings
from searchanything.demo.local_s3 import LocalS3
from searchanything.images.coco_regions import NamedImage
from searchanything.stores.s3 import S3Store

pytestmark = [pytest.mark.server, pytest.mark.timeout(120)]


def test_sidecars_of_a_bucket_are_written_beside_its_images(s3_server: LocalS3, s3_store: S3Store) -> None:
    settings, source = Settings(_env_file=None), f"s3://{s3_store.bucket}/2024/"
    settings.storage = s3_server.settings()
    settings.ingest.sidecar_suffix, settings.ingest.regions_from = ".json", "sidecar"
    for key in ("2024/a.png", "2024/ü b.png", "2023/a.png"):
        s3_store.upload(key, RED)
    s3_store.upload("2024/a.png.json", b'{"city": "Ulm"}')
    box = {"bbox": [1, 2, 3, 4]}
    images = [NamedImage(name, [box]) for name in ("a.png", f"s3://{s3_store.bucket}/2024/ü b.png")]
    for expected in ("written", "unchanged"):
        outcomes = wiring.open_sidecar_files(source, settings).write(images, threads=2, progress=lambda *_: None)
        assert [one.outcome for one in outcomes] == [expected] * 2
    store, _ = wiring.open_scoped(source, settings)
    for key, metadata in (("2024/a.png", {"city": "Ulm"}), ("2024/ü b.png", {})):
        found, _ = store.read(key)
        assert (found.metadata, found.regions) == (metadata, [box])
    assert s3_store.stat("2023/a.png.json") is None
