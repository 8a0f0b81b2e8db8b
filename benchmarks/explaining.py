"""What questions about one answer cost: each of a new answer (nothing is remembered), and all of the same one.

python benchmarks/explaining.py [--scenes 40] [--questions 12] [--json FILE]

Demo scenes, the pico models, an index in memory. Each question takes another image of the index; a warm-up question
comes first, so that the models are loaded.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from PIL import Image

import searchanything
from benchmarks import measuring
from searchanything.answers.results import SearchResults
from searchanything.demo.scenes import generate_demo_scenes


def measure(scenes: int, questions: int) -> dict[str, float | int]:
    """Seconds of each question, as medians, first and sum."""
    with tempfile.TemporaryDirectory() as folder, searchanything.connect("memory://", preset="pico") as client:
        drawn = dict(generate_demo_scenes(scenes, seed=3))
        for name, scene in drawn.items():
            Image.fromarray(scene.image).save(Path(folder, name))
        client.index(folder)
        names = list(drawn)
        thing = max(drawn[names[0]].objects, key=lambda one: one.mask.sum()).mask

        def ask() -> SearchResults:
            return client.query(Path(folder, names[0]), thing)

        ask().explain(names[0])
        expected = names[1 : questions + 1]
        anew = [_seconds(ask(), name) for name in expected]
        results = ask()
        same = [_seconds(results, name) for name in expected]
    return {
        "scenes": scenes,
        "questions": len(expected),
        "anew_median_s": round(statistics.median(anew), 3),
        "anew_sum_s": round(sum(anew), 2),
        "same_first_s": round(same[0], 3),
        "same_others_median_s": round(statistics.median(same[1:]), 3),
        "same_sum_s": round(sum(same), 2),
    }


def _seconds(results: SearchResults, name: str) -> float:
    start = time.perf_counter()
    results.explain(name)
    return time.perf_counter() - start


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--questions", type=int, default=12)
    options = parser.parse_args()
    found = measure(options.scenes, options.questions)
    for name, value in found.items():
        print(f"{name:24} {value}")
    measuring.write(found, options.json)


if __name__ == "__main__":
    main()
