"""How long near-equal codes take to find, and whether planted ones are found.

python -m benchmarks.duplicates [--regions REGIONS.npz] [--codes 100000 1000000] [--bits 8] [--json FILE]

Codes in crowds: drawn around real codes (REGIONS.npz of `benchmarks.scene_regions`; random ones without), a sixth of
the bits changed. One in a hundred is then replaced by another one's code with up to `--bits` bits changed: these pairs
are known, and must be found.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np

from benchmarks import measuring
from searchanything.core.types import Codes
from searchanything.search.duplicates import duplicate_groups, near_pairs


def crowded(centres: Codes, count: int, *, max_bits: int) -> tuple[Codes, list[tuple[int, int]]]:
    """Codes (N, B), and the pairs that were planted among them."""
    rng = np.random.default_rng(count)
    codes = np.empty((count, centres.shape[1]), dtype=np.uint8)
    for start in range(0, count, 50_000):
        portion = slice(start, min(count, start + 50_000))
        length = portion.stop - portion.start
        noise = np.packbits(rng.random((length, 8 * centres.shape[1]), dtype=np.float32) < 1 / 6, axis=1)
        codes[portion] = centres[rng.integers(0, len(centres), length)] ^ noise
    drawn = rng.permutation(count)
    planted = count // 100
    pairs = list(zip(drawn[:planted].tolist(), drawn[planted : 2 * planted].tolist(), strict=True))
    for copy, source in pairs:
        bits = np.unpackbits(codes[source])
        bits[rng.choice(len(bits), int(rng.integers(0, max_bits + 1)), replace=False)] ^= 1
        codes[copy] = np.packbits(bits)
    return codes, pairs


def main() -> None:
    """Print a line per size; write JSON where asked."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--regions", type=Path)
    parser.add_argument("--codes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--bits", type=int, default=8)
    arguments = parser.parse_args()
    if arguments.regions:
        with np.load(arguments.regions, allow_pickle=False) as stored:
            centres = stored["codes"]
    else:
        centres = np.random.default_rng(1).integers(0, 256, (3000, 32), dtype=np.uint8)
    rows = []
    for count in arguments.codes:
        codes, planted = crowded(centres, count, max_bits=arguments.bits)
        start = time.perf_counter()
        groups = duplicate_groups(codes, max_bits=arguments.bits)
        seconds = time.perf_counter() - start
        together = {one: number for number, group in enumerate(groups) for one in group.members}
        found = sum(1 for copy, source in planted if copy in together and source in together) / max(1, len(planted))
        pairs = len(near_pairs(codes, max_bits=arguments.bits)) if count <= 100_000 else None
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows.append(
            {
                "codes": count,
                "seconds": round(seconds, 1),
                "groups": len(groups),
                "found": round(found, 4),
                "pairs": pairs,
            }
        )
        print(f"{count:,} codes: {seconds:.1f} s, {len(groups):,} groups, planted found {found:.4f}, {memory:.1f} GiB")
    measuring.write({"bits": arguments.bits, "rows": rows}, arguments.json)


if __name__ == "__main__":
    main()
