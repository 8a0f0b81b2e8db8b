"""`index` end to end beside the bare models on the same images, and what a region costs on disk.

python benchmarks/indexing.py [--preset pico] [--scenes 120] [--json FILE]

Bare: the images decoded beforehand, through `Encoder.encode_images` in the same batches. Index: `Client.index` of a
folder into a new embedded index: listing, reading, decoding, models, commit. Both in one process with loaded models.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from PIL import Image

import searchanything
from searchanything import wiring
from searchanything.core.settings import load_settings
from searchanything.demo.scenes import generate_demo_scenes


def bytes_in(folder: Path) -> int:
    """What all files below a folder hold."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Print a table; write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="pico")
    parser.add_argument("--scenes", type=int, default=120)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    settings = load_settings()
    settings.models.preset = options.preset
    encoder = wiring.load_encoder(None, wiring.hash_layer_of(None, None, settings), settings)
    images = [scene.image for _, scene in generate_demo_scenes(options.scenes, seed=1)]
    size = settings.ingest.batch_images
    encoder.encode_images(images[:size])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        for number, image in enumerate(images):
            Image.fromarray(image).save(folder / "images" / f"{number:05d}.jpg", quality=92)
        bare_s = []
        indexed_s = []
        for repeat in range(3):  # in turn, so that a machine that slows down slows both
            start = time.perf_counter()
            for first in range(0, len(images), size):
                encoder.encode_images(images[first : first + size])
            bare_s.append(time.perf_counter() - start)
            store = folder / f"index{repeat}"
            settings.milvus.uri = str(store / "index.db")
            with searchanything.connect(settings=settings) as client:
                report = client.index(folder / "images")
            indexed_s.append(report.seconds)
            disk = bytes_in(store)
    ratios = sorted(bare / indexed for bare, indexed in zip(bare_s, indexed_s, strict=True))
    result = {
        "images": len(images),
        "regions": report.regions,
        "bare_images_per_s": round(len(images) / sorted(bare_s)[1], 2),
        "index_images_per_s": round(len(images) / sorted(indexed_s)[1], 2),
        "index_over_bare": round(ratios[1], 3),
        "bytes_per_region_on_disk": round(disk / max(1, report.regions)),
    }
    for key, value in result.items():
        print(f"{key:26} {value}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
