"""How fast hash layers are trained and applied, and how much memory that takes at different numbers of rows.

python -m benchmarks.hash_scale speed [--rows 100000] [--mask 320] [--image 1024] [--repeat 5] [--json FILE]
python -m benchmarks.hash_scale memory [--rows 1000000 5000000] [--mask 64] [--image 64] [--bits 256] [--json FILE]

Features are made up: rows in float16 around 1,000 centres, in a temporary folder that is deleted afterwards (5 M rows
of 64 + 64 take 1.3 GB). --bits is 256 otherwise. OMP_NUM_THREADS bounds the cores.

`speed` trains in this process and tells where the time goes. It encodes with the layer beside plain numpy,
`packbits(x @ W.T + b > 0)`, in turns on the same rows in float32, of which numpy gets such as are at unit length
already; then whole files, as `hash encode` does.

`memory` runs the verbs on .npy and on Parquet (a million rows in a row group, as pyarrow has it) in processes of their
own, and tells each one's largest resident set.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import measuring
from searchanything.core.batching import batches
from searchanything.core.codes import joined_features
from searchanything.core.settings import Settings
from searchanything.features.parquet import FeatureBatch, feature_schema, parquet_libraries, record_batch
from searchanything.hash_training.encoding_files import encode_features
from searchanything.hash_training.features import BATCH_ROWS, FeatureSource
from searchanything.hash_training.training import METHODS, TrainedHash, TrainingOptions, TrainingProgress, train_hash
from searchanything.models.hashing import HashLayer
from searchanything.wiring import open_features

_CENTRES = 1000
_CHUNK_ROWS = 16_384
_GROUP_CHUNKS = 64
_SUFFIXES = (".npy", ".parquet")
_VERB = "import sys; from searchanything.cli.app import run; sys.exit(run(sys.argv[1:]))"


def made_up(rows: int, columns: int) -> Iterator[NDArray[np.float16]]:
    """Chunks of rows around centres."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((_CENTRES, columns), dtype=np.float32)
    for first in range(0, rows, _CHUNK_ROWS):
        count = min(_CHUNK_ROWS, rows - first)
        noise = generator.standard_normal((count, columns), dtype=np.float32)
        yield (centres[generator.integers(_CENTRES, size=count)] + 0.7 * noise).astype(np.float16)


def write_features(path: Path, rows: int, mask: int, image: int) -> None:
    """The same rows as .npy or as Parquet, by the path's suffix."""
    chunks = made_up(rows, mask + image)
    if path.suffix == ".npy":
        with path.open("wb") as file:
            header = {"descr": "<f2", "fortran_order": False, "shape": (rows, mask + image)}
            np.lib.format.write_array_header_1_0(file, header)
            for chunk in chunks:
                file.write(chunk.data)
        return
    arrow, parquet = parquet_libraries()
    schema = feature_schema(mask, image)
    with parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for group in batches(chunks, _GROUP_CHUNKS):
            tables = [
                record_batch(schema, [""] * len(chunk), FeatureBatch(chunk[:, :mask], chunk[:, mask:]))
                for chunk in (stored.astype(np.float32) for stored in group)
            ]
            writer.write_table(arrow.Table.from_batches(tables), row_group_size=_CHUNK_ROWS * _GROUP_CHUNKS)


class Stages:
    """A training's progress callback that keeps the seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, progress: TrainingProgress) -> None:
        if progress.stage == "reading":
            name = "reading"
        elif progress.stage == "training":
            name = "deep: start" if progress.done == 0 else "deep: steps"
        else:
            name = f"{METHODS[progress.done - 1]}: the rest, judging"
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def opened(path: Path, mask: int) -> FeatureSource:
    """The features as the verbs open them."""
    dimension = mask if path.suffix == ".npy" else None
    return open_features(str(path), mask_dimension=dimension, settings=Settings(_env_file=None))


def train_timed(path: Path, arguments: argparse.Namespace) -> tuple[TrainedHash, dict[str, float]]:
    """A trained layer, and the seconds of each stage and altogether."""
    stages, started = Stages(), time.perf_counter()
    options = TrainingOptions(bits=arguments.bits)
    trained = train_hash(opened(path, arguments.mask).batches(), options=options, progress=stages)
    seconds = {"altogether": time.perf_counter() - started, **stages.seconds}
    return trained, {name: round(value, 2) for name, value in seconds.items()}


def rate(rows: int, work: Callable[[], Any]) -> float:
    """Rows a second."""
    started = time.perf_counter()
    work()
    return rows / (time.perf_counter() - started)


def encoding_rates(layer: HashLayer, path: Path, repeat: int) -> dict[str, float]:
    """Rows a second of the layer and of numpy in turns: medians, and the median of each turn's ratio."""
    split = layer.mask_dimension
    read = list(opened(path, split).batches())
    joined = [joined_features(batch.mask, batch.image) for batch in read]
    rows = sum(map(len, joined))

    def plain() -> None:
        for x in joined:
            np.packbits(x @ layer.weight.T + layer.bias > 0, axis=1)

    def ours() -> None:
        for batch in read:
            layer.encode(batch.mask, batch.image)

    turns = [(rate(rows, ours), rate(rows, plain)) for _ in range(repeat)]
    medians = [round(statistics.median(column)) for column in zip(*turns, strict=True)]
    ratio = statistics.median(mine / numpys for mine, numpys in turns)
    return {"layer": medians[0], "numpy": medians[1], "ratio": round(ratio, 3)}


def file_rates(layer: HashLayer, paths: Sequence[Path], repeat: int) -> dict[str, float]:
    """Rows a second from file to file, the process's start left out: medians."""
    found: dict[str, float] = {}
    for path in paths:
        source = opened(path, layer.mask_dimension)
        target = path.with_name("codes.npy")
        rates = [rate(source.rows or 0, partial(encode_features, source, layer, target)) for _ in range(repeat)]
        found[path.suffix] = round(statistics.median(rates))
    return found


def speed(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Training and encoding at one number of rows."""
    paths = [folder / f"f{suffix}" for suffix in _SUFFIXES]
    for path in paths:
        write_features(path, arguments.rows[0], arguments.mask, arguments.image)
    trained, seconds = train_timed(paths[0], arguments)
    return {
        "training_s": seconds,
        "judgement": {name: one.figures() for name, one in trained.judgements.items()},
        "encoding_rows_per_s": encoding_rates(trained.layer, paths[0], arguments.repeat),
        "file_rows_per_s": file_rates(trained.layer, paths, arguments.repeat),
    }


def largest_resident_mib(*verb: str) -> float:
    """Of a process of its own. Raises: CalledProcessError."""
    with subprocess.Popen([sys.executable, "-c", _VERB, *verb], stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, verb)
    return round(usage.ru_maxrss / 1024, 1)


def memory(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """MiB of each verb, by kind of file and number of rows."""
    layer = str(folder / "layer.safetensors")
    found: dict[str, dict[int, dict[str, float]]] = {}
    for suffix in _SUFFIXES:
        found[suffix] = {}
        for rows in arguments.rows:
            path = folder / f"f{suffix}"
            making = [str(path), str(rows), str(arguments.mask), str(arguments.image)]
            # In another process: on Linux a child's largest resident set is never below its parent's.
            subprocess.run([sys.executable, "-m", "benchmarks.hash_scale", "make", *making], check=True)
            features = ["--features", str(path)]
            features += ["--mask-dimension", str(arguments.mask)] if suffix == ".npy" else []
            found[suffix][rows] = {
                "train": largest_resident_mib(
                    "hash", "train", *features, "--bits", str(arguments.bits), "--out", layer
                ),
                "judge": largest_resident_mib("hash", "judge", *features, "--hash", layer),
                "encode": largest_resident_mib(
                    "hash", "encode", *features, "--hash", layer, "--out", str(folder / "codes.npy")
                ),
            }
            print(f"{suffix:9} {rows:>10,} rows", found[suffix][rows], flush=True)
            path.unlink()
    return {"largest_resident_mib": found}


def main() -> None:
    """Print the figures; write JSON where asked."""
    parser = measuring.parser(__doc__)
    parser.add_argument("what", choices=("speed", "memory"))
    parser.add_argument("--rows", type=int, nargs="+")
    parser.add_argument("--mask", type=int)
    parser.add_argument("--image", type=int)
    parser.add_argument("--bits", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    defaults = ([100_000], 320, 1024) if arguments.what == "speed" else ([1_000_000, 5_000_000], 64, 64)
    for name, default in zip(("rows", "mask", "image"), defaults, strict=True):
        if getattr(arguments, name) is None:
            setattr(arguments, name, default)
    with tempfile.TemporaryDirectory() as folder:
        found = (speed if arguments.what == "speed" else memory)(Path(folder), arguments)
    asked = {name: getattr(arguments, name) for name in ("what", "rows", "mask", "image", "bits")}
    result = {**asked, "batch_rows": BATCH_ROWS, "load_1_min": round(os.getloadavg()[0], 2), **found}
    print(json.dumps(result, indent=1))
    measuring.write(result, arguments.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        write_features(Path(sys.argv[2]), *map(int, sys.argv[3:]))
    else:
        main()
