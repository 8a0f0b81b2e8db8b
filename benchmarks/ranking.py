"""How answers get better: rescoring, words, marks, several regions, clicks; one table with paired 95 % intervals.

    python -m benchmarks.ranking [--scenes 120] [--street FOLDER --photographs 160] [--regions REGIONS.npz]
        [--rows 100000] [--features FOLDER] [--json FILE]

Rescoring and words: labelled regions of scenes and of annotated photographs (`ranking_data`), and synthetic rows.
Marks and several regions: REGIONS.npz of `benchmarks.scene_regions`. Clicks: the same images. Photographs are of the
fifth that pico's hash and text tower were not fitted to; its segmenter and image tower were trained on them.
`--features` keeps what the models computed, so that a second run needs none.
Each line compares two ways to answer the same questions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measuring
from benchmarks.ranking_clicks import clicks_lines, scene_clicks, street_clicks
from benchmarks.ranking_data import Regions, load_preset, scene_regions, street_regions
from benchmarks.ranking_marks import marks_lines
from benchmarks.ranking_parts import parts_lines
from benchmarks.ranking_rescoring import figures, labelled_tasks, rescoring_lines, synthetic_tasks
from benchmarks.ranking_table import Line, markdown
from benchmarks.ranking_words import words_table
from searchanything.encode.encoder import Encoder
from training.photograph_classes import JUDGED_FIFTH
from training.street_annotations import fifth_of


def rescoring_and_words(encoder: Encoder, options: argparse.Namespace) -> tuple[list[Line], dict[str, Any]]:
    """Both over labelled regions, rescoring over synthetic ones as well; and the words' table by method."""
    folder: Path | None = options.features
    places = {name: folder / f"{name}.npz" if folder else None for name in ("scenes", "street")}
    data = {"scenes": _kept(places["scenes"], lambda: scene_regions(encoder, options.scenes, seed=options.seed))}
    if options.street:
        files = fifth_of(options.street, JUDGED_FIFTH)[: options.photographs]
        data["street"] = _kept(places["street"], lambda: street_regions(encoder, options.street, files))
    lines, words = [], {}
    for name, regions in data.items():
        lines += rescoring_lines(name, figures(labelled_tasks(regions, encoder.hasher)))
    for rows in options.rows:
        lines += rescoring_lines(f"{rows:,} rows", figures(synthetic_tasks(data["scenes"], encoder.hasher, rows)))
    for name, regions in data.items():
        print(f"\n{name}")
        words[name], found = words_table(encoder, regions, name)
        lines += found
    return lines, words


def _kept(path: Path | None, make: Callable[[], Regions]) -> Regions:
    """Regions from a file where there is one, else made and kept there."""
    if path is not None and path.exists():
        return Regions.load(path)
    regions = make()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        regions.save(path)
    return regions


def main() -> None:
    """Print tables; write JSON where asked."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--preset", default="pico")
    parser.add_argument("--scenes", type=int, default=120)
    parser.add_argument("--seed", type=int, default=4242)
    parser.add_argument("--street", type=Path, help="folder of annotated photographs (training/street_annotations.py)")
    parser.add_argument("--photographs", type=int, default=160)
    parser.add_argument("--regions", type=Path, help="of benchmarks.scene_regions; without it no marks, no two things")
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000], help="synthetic rows; none: leave out")
    parser.add_argument("--features", type=Path, help="folder in which the regions' features are kept")
    options = parser.parse_args()
    encoder = load_preset(options.preset)
    lines, words = rescoring_and_words(encoder, options)
    if options.regions:
        with np.load(options.regions, allow_pickle=False) as stored:
            regions = dict(stored)
        lines += marks_lines(regions, encoder, queries=6) + parts_lines(regions, encoder, count=150)
    lines += clicks_lines(encoder, "scenes", scene_clicks(options.scenes, seed=options.seed))
    if options.street:
        files = fifth_of(options.street, JUDGED_FIFTH)[: options.photographs]
        lines += clicks_lines(encoder, "street", street_clicks(files))
    print("\n" + markdown(lines))
    document = {"preset": options.preset, "lines": [one.to_dict() for one in lines], "words": words}
    measuring.write(document, options.json)


if __name__ == "__main__":
    main()
