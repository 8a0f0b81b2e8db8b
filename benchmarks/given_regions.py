"""What an index of given regions finds, beside one of the segmenter's: generated scenes whose true masks are known.

python -m benchmarks.given_regions [--preset pico] [--scenes 120] [--questions 150] [--seed 77] [--json FILE]

The same scenes are indexed twice, with the segmenter's regions and with the true masks as sidecars. `things` is the
share of all pasted things that some indexed region covers with a mask IoU of at least 0.5. The questions are the same
for both: a click on, or the box of, a thing whose concept other scenes show; the segmenter selects in the question's
image, and that image is excluded. `mAP` is the mean average precision over the first 200 hits, `hit@5` whether one of
the first five is right: a region of another image that covers a thing of that concept, IoU 0.5; each thing counts once.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import searchanything
from benchmarks import measuring
from searchanything.client.client import Client
from searchanything.core.geometry import encode_rle, innermost_point
from searchanything.core.settings import load_settings
from searchanything.core.types import BoolMask, Filter, ImageRef, MaskRLE
from searchanything.demo.judging import TrueObject, TrueScene, hit_among_first, matched_object
from searchanything.demo.scenes import generate_demo_scenes

Scenes: TypeAlias = dict[str, tuple[TrueScene, list[BoolMask]]]
LIMIT: Final = 200


def main() -> None:
    """Draw, index twice, ask twice."""
    parser = measuring.parser_for_scenes(__doc__)
    parser.set_defaults(scenes=120)
    parser.add_argument("--questions", type=int, default=150)
    options = parser.parse_args()
    rows, precisions = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenes = written_scenes(folder, options.scenes, options.seed)
        asked = questions_of(scenes, options.questions, options.seed)
        sources: tuple[Literal["segmenter", "sidecar"], ...] = ("segmenter", "sidecar")
        for source in sources:
            found, of_questions = measured(folder, scenes, asked, source, options.preset)
            rows.append({"regions from": source, **found})
            precisions.append(of_questions)
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    for kind, given in precisions[1].items():
        low, high = interval(given - precisions[0][kind])
        print(f"{kind} mAP: difference, 95 % over questions: [{low:.3f}, {high:.3f}]")
    measuring.write(rows, options.json)


def interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Of the mean, by resampled questions."""
    drawn = np.random.default_rng(0).integers(len(differences), size=(2000, len(differences)))
    low, high = np.percentile(differences[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def written_scenes(folder: Path, count: int, seed: int) -> Scenes:
    """Scenes as PNG files with their true masks as sidecars."""
    scenes: Scenes = {}
    for number, (name, scene) in enumerate(generate_demo_scenes(count, seed=seed)):
        key = f"{Path(name).stem}.png"
        masks = [one.mask for one in scene.objects]
        things = tuple(
            TrueObject(
                one.concept,
                one.style,
                zero_shot=False,
                box_xyxy=one.box_xyxy,
                visible_fraction=one.visible_fraction,
                mask=encode_rle(one.mask),
            )
            for one in scene.objects
        )
        scenes[key] = TrueScene(key, scene.image.shape[1], scene.image.shape[0], number, things), masks
        Image.fromarray(scene.image).save(folder / key)
        regions = [{"mask": {"size": one.mask.size, "counts": one.mask.counts}} for one in things]
        (folder / f"{key}.json").write_text(json.dumps({"regions": regions}))
    return scenes


def questions_of(scenes: Scenes, count: int, seed: int) -> list[tuple[str, int]]:
    """Things whose concept another scene shows: key and number."""
    shown = [
        (key, number, one.concept) for key, (scene, _) in scenes.items() for number, one in enumerate(scene.objects)
    ]
    places: dict[str, set[str]] = {}
    for key, _, concept in shown:
        places.setdefault(concept, set()).add(key)
    able = [(key, number) for key, number, concept in shown if len(places[concept]) > 1]
    chosen = np.random.default_rng(seed).permutation(len(able))[:count]
    return [able[one] for one in sorted(chosen.tolist())]


def measured(
    folder: Path, scenes: Scenes, asked: Sequence[tuple[str, int]], source: Literal["segmenter", "sidecar"], preset: str
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """An index of regions from this source: how many, what they cover, what is found, and each question's precision."""
    settings = load_settings()
    settings.milvus.uri, settings.models.preset = "memory://", preset
    settings.ingest.sidecar_suffix, settings.ingest.regions_from = ".json", source
    with searchanything.Client(settings) as client:
        report = client.index(folder)
        covered = {(key, number) for key in scenes for number in covered_things(client, folder, scenes, key)}
        total = sum(len(scene.objects) for scene, _ in scenes.values())
        found: dict[str, Any] = {"regions": report.regions, "things": round(len(covered) / total, 3)}
        precisions: dict[str, NDArray[np.float64]] = {}
        for kind in ("click", "box"):
            answers = [answer(client, folder, scenes, one, kind) for one in asked]
            precisions[kind] = np.array([one[0] for one in answers])
            found[f"{kind} mAP"] = round(float(precisions[kind].mean()), 3)
            found[f"{kind} hit@5"] = round(float(np.mean([one[1] for one in answers])), 3)
    return found, precisions


def covered_things(client: Client, folder: Path, scenes: Scenes, key: str) -> set[int]:
    """Numbers of the things of a scene that some indexed region covers."""
    scene, masks = scenes[key]
    regions = client.regions(ImageRef(str(folder), key))
    return {one for region in regions if (one := matched(region.mask, scene, masks)) is not None}


def answer(client: Client, folder: Path, scenes: Scenes, asked: tuple[str, int], kind: str) -> tuple[float, bool]:
    """Average precision of an answer, and whether one of its first five hits is right."""
    key, number = asked
    (scene, masks), own = scenes[key], ImageRef(str(folder), key)
    wanted = scene.objects[number]
    prompt: Any = innermost_point(masks[number]) if kind == "click" else wanted.box_xyxy
    hits = client.query(folder / key, prompt, limit=LIMIT, filter=Filter(exclude=(own,))).hits
    relevant = sum(
        one.concept == wanted.concept for other, (there, _) in scenes.items() for one in there.objects if other != key
    )
    right, seen = [], set()
    for hit in hits:
        there, true = scenes[hit.image.key]
        thing = matched(hit.mask, there, true)
        right.append(
            thing is not None and there.objects[thing].concept == wanted.concept and (there.key, thing) not in seen
        )
        if right[-1]:
            seen.add((there.key, thing))
    precisions = np.cumsum(right) / np.arange(1, len(right) + 1) if right else np.zeros(0)
    return float((precisions * right).sum() / relevant), hit_among_first(right)


def matched(mask: MaskRLE | None, scene: TrueScene, masks: Sequence[BoolMask]) -> int | None:
    """The thing that a region covers."""
    return None if mask is None else matched_object(mask, scene, masks)


if __name__ == "__main__":
    main()
