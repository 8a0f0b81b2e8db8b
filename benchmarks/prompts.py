"""What a prompt costs on a 640 x 480 image, what the import costs, and how many cases the rules are tested by.

python benchmarks/prompts.py [--preset pico] [--repeat 15] [--json FILE]

Segment and select: medians over different images, each seen for the first time, and once more as the client does it,
which remembers the last images. Import: the best of several fresh interpreters, their own start not counted.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks import measuring
from searchanything import wiring
from searchanything.core.settings import load_settings
from searchanything.core.types import RGBImage
from searchanything.demo.scenes import generate_demo_scenes
from searchanything.encode.encoder import Encoder, Stopwatch
from searchanything.encode.segmentation_cache import RememberingSegmenter
from searchanything.prompts.prompt import Box, Points, Prompt, Prompts, Text

SIZE = (640, 480)
MIDDLE = (320, 240)
AROUND = Box(200, 120, 440, 360)
PROMPTS: Mapping[str, Prompt] = {
    "point": Points((MIDDLE,)),
    "box": AROUND,
    "text": Text("a red apple"),
    "two boxes": Prompts((Box(0, 0, 300, 480), Box(340, 0, 640, 480))),
    "box, points": Prompts((AROUND,), (MIDDLE,), ((10, 10),)),
    "box, text": Prompts((AROUND,), text="a red apple"),
}
TESTS = Path(__file__).parents[1] / "tests" / "unit"
RULE_TESTS = ("test_fastsam_rule.py", "test_prompts.py", "test_combining.py")
MASK_SETS_A_CASE = {"test_fastsam_rule.py": 3}  # each of its examples draws so many


def times_of(encoder: Encoder, images: list[RGBImage], prompt: Prompt) -> dict[str, float]:
    """Median milliseconds of segment, select and both."""
    spent = []
    for image in images:
        watch = Stopwatch()
        encoder.encode_query(image, prompt, watch)
        spent.append([watch.timings_ms["segment"], watch.timings_ms["select"]])
    segment, select = (statistics.median(column) for column in zip(*spent, strict=True))
    both = statistics.median(sum(row) for row in spent)
    return {"segment": round(segment, 1), "select": round(select, 1), "both": round(both, 1)}


def import_seconds(repeat: int) -> float:
    """Of `import searchanything`, in the fastest of some fresh interpreters."""
    code = "import time\nstart = time.perf_counter()\nimport searchanything\nprint(time.perf_counter() - start)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True) for _ in range(repeat)]
    return round(min(float(run.stdout) for run in runs), 4)


def differential_cases() -> dict[str, int]:
    """Generated mask sets per test file of the rules, by their hypothesis settings."""
    counts = {}
    for name in RULE_TESTS:
        examples = re.findall(r"max_examples=(\d+)", (TESTS / name).read_text(encoding="utf-8"))
        counts[name] = sum(map(int, examples)) * MASK_SETS_A_CASE.get(name, 1)
    return counts


def main() -> None:
    """Print a table; write JSON where asked."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--preset", default="pico")
    parser.add_argument("--repeat", type=int, default=15)
    options = parser.parse_args()
    settings = load_settings()
    layer = wiring.hash_layer_of(options.preset, None, settings)
    encoder = wiring.load_encoder(options.preset, layer, settings)
    scenes = [scene.image for _, scene in generate_demo_scenes(options.repeat + 1, seed=7)]
    images = [np.asarray(cv2.resize(image, SIZE), dtype=np.uint8) for image in scenes]
    for prompt in PROMPTS.values():
        encoder.encode_query(images[0], prompt)  # models loaded and warm
    remembering = replace(encoder, segmenter=RememberingSegmenter(encoder.segmenter))
    remembering.encode_query(images[0], PROMPTS["text"])
    found = {name: times_of(encoder, images[1:], prompt) for name, prompt in PROMPTS.items()}
    again = {name: times_of(remembering, [images[0]] * options.repeat, prompt) for name, prompt in PROMPTS.items()}
    print(f"{'prompt':14} {'segment':>9} {'select':>9} {'both, ms':>9} {'image seen before':>18}")
    for name, row in found.items():
        print(f"{name:14} {row['segment']:9.1f} {row['select']:9.1f} {row['both']:9.1f} {again[name]['both']:18.1f}")
    seconds, cases = import_seconds(5), differential_cases()
    print(f"import searchanything: {seconds:.3f} s")
    print(f"differential and property cases of the prompt rules: {sum(cases.values()):,} {cases}")
    measuring.write({"first": found, "again": again, "import_s": seconds, "cases": cases}, options.json)


if __name__ == "__main__":
    main()
