"""The image tower's training: crops made on a device, batches, losses, and runs that go on where they stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from training.device_crops import CANVAS_PX, ICON_PX, Views, composed, cut, shown_backdrops, windows  # noqa: E402
from training.encoder_lessons import BatchSizes, LessonMaker  # noqa: E402
from training.encoder_material import Labelled, Material, MaterialFolders, load_material, part_window  # noqa: E402
from training.encoder_trainer import (  # noqa: E402
    FEATURE_DIM,
    ClassHeads,
    ImageRun,
    ImageTrainer,
    Pupil,
    averaged_tower_state,
    taught_loss,
)
from training.photograph_classes import PhotographFolders  # noqa: E402
from training.text_teacher import TEACHER_DIM, TeacherTable  # noqa: E402

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


def discs(count: int) -> torch.Tensor:
    """White discs that fill their icons, (count, 4, 112, 112) uint8."""
    line = torch.arange(ICON_PX) - (ICON_PX - 1) / 2
    inside = (line[:, None] ** 2 + line[None] ** 2 < (ICON_PX / 2) ** 2).to(torch.uint8) * 255
    return inside.expand(count, 4, -1, -1).contiguous()


def material() -> Material:
    """Three concepts of two drawings and one of one; two clothes; two groceries; grey backdrops."""
    street = torch.zeros(2, 4, CANVAS_PX, CANVAS_PX, dtype=torch.uint8)
    street[:, :, 60:100, 50:110] = 200
    grocery = torch.full((2, 3, CANVAS_PX, CANVAS_PX), 90, dtype=torch.uint8)
    return Material(
        Labelled(discs(7), torch.tensor([0, 0, 1, 1, 2, 2, 3])),
        Labelled(street, torch.tensor([4, 5])),
        Labelled(grocery, torch.tensor([6, 7])),
        torch.full((3, 3, 224, 224), 60, dtype=torch.uint8),
        ("cat", "dog", "bee", "cow", "bag", "shoes", "apple", "milk"),
    )


# --- crops ---


def test_masked_crops_are_black_around_the_drawing_and_box_crops_are_not():
    torch.manual_seed(0)
    backdrops = shown_backdrops(torch.full((1, 3, 224, 224), 200, dtype=torch.uint8), 24)
    scenes, visible = composed(discs(24).float() / 255, torch.zeros(24, 4, ICON_PX, ICON_PX), backdrops)
    assert scenes.shape == (24, 3, CANVAS_PX, CANVAS_PX)
    assert visible.shape == (24, 1, CANVAS_PX, CANVAS_PX)
    masked = cut(scenes, visible, Views(masked=1, box=0, wide=0, jitter=0, native_px=96))
    boxed = cut(scenes, visible, Views(masked=0, box=1, wide=0, jitter=0, native_px=96))
    lit = [(crops.amax(1) > 0.02).float().mean() for crops in (masked, boxed)]
    assert masked.shape == boxed.shape == (24, 3, 96, 96)
    assert 0.6 < lit[0] / lit[1] < 0.92  # a disc fills pi / 4 of its box


def test_a_crop_is_the_box_letterboxed():
    """Worked out by hand: a box of 80 x 40 pixels fills 96 x 48 of the crop, black above and below."""
    torch.manual_seed(1)
    scenes = torch.full((8, 3, CANVAS_PX, CANVAS_PX), 0.5)
    visible = torch.zeros(8, 1, CANVAS_PX, CANVAS_PX)
    visible[:, :, 60:100, 40:120] = 1
    crops = cut(scenes, visible, Views(masked=0, box=1, wide=0, jitter=0, native_px=96))
    lit = crops.amax(1) > 0
    assert lit[:, 24:72].float().mean() > 0.99
    assert not lit[:, :23].any()
    assert not lit[:, 73:].any()


def test_wide_crops_show_three_times_the_box():
    torch.manual_seed(1)
    scenes = torch.zeros(8, 3, CANVAS_PX, CANVAS_PX)
    scenes[:, :, 70:90, 70:90] = 1
    crops = cut(scenes, scenes[:, :1], Views(masked=0, box=0, wide=1, jitter=0, native_px=96))
    shown = (crops.amax(1) > 0.35).float().mean((1, 2))
    assert shown == pytest.approx(1 / 9, abs=0.03)


def test_windows_are_rectangles_of_the_asked_size():
    torch.manual_seed(0)
    seen = windows(16, sides=(0.5, 0.5), off=0.0, like=torch.zeros(1))
    assert seen.sum((1, 2, 3)).tolist() == [80 * 80] * 16


# --- batches ---


def test_a_batch_holds_pairs_then_photographs_then_backdrops():
    torch.manual_seed(0)
    lesson = LessonMaker(material(), BatchSizes(concepts=2, street=3, grocery=4, backdrops=5)).lesson()
    assert lesson.drawn == 4
    assert len(lesson.labels) == 4 + 3 + 4
    assert lesson.crops.shape == lesson.plain.shape == (16, 3, 96, 96)
    pairs = lesson.labels[:4].tolist()
    assert pairs[0] == pairs[1] != pairs[2] == pairs[3]
    assert 3 not in pairs  # drawn once alone
    assert set(lesson.labels[4:7].tolist()) <= {4, 5}
    assert set(lesson.labels[7:].tolist()) <= {6, 7}
    assert 0 <= float(lesson.crops.min()) <= float(lesson.crops.max()) <= 1


def test_pictograms_alone_make_a_batch_too():
    torch.manual_seed(0)
    none = Labelled(torch.zeros(0, 4, CANVAS_PX, CANVAS_PX, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    whole = material()
    alone = Material(whole.icons, none, none, whole.backdrops, whole.names[:4])
    lesson = LessonMaker(alone, BatchSizes(concepts=3, backdrops=2)).lesson()
    assert (lesson.drawn, len(lesson.labels), len(lesson.crops)) == (6, 6, 8)


def test_a_part_stands_in_the_middle_of_its_window():
    image = np.full((60, 80, 3), 100, np.uint8)
    mask = np.zeros((60, 80), np.bool_)
    mask[5:25, 10:30] = True
    window = part_window(image, mask)
    rows, columns = (np.flatnonzero((window[..., 3] > 127).any(axis)) for axis in (1, 0))
    assert window.shape == (CANVAS_PX, CANVAS_PX, 4)
    for line in (rows, columns):  # 20 of int(2.2 * 20) + 4 = 48 pixels, in the middle
        assert line[0] == pytest.approx(CANVAS_PX / 2 - 10 * CANVAS_PX / 48, abs=2)
        assert line[-1] == pytest.approx(CANVAS_PX / 2 + 10 * CANVAS_PX / 48, abs=2)


# --- losses and runs ---


def test_features_that_are_said_rightly_cost_nothing():
    torch.manual_seed(0)
    heads = ClassHeads(torch.zeros(2, TEACHER_DIM), torch.zeros(2, TEACHER_DIM))
    embeddings = nn.functional.normalize(torch.randn(6, 256), dim=1)
    features = heads.to_features(embeddings).detach()
    apart = torch.cat([features[:2] - features[:2].mean(0), features[2:] - features[2:].mean(0)])
    heads.to_features = nn.Identity()
    assert float(taught_loss(apart, features, heads, drawn=2)) == pytest.approx(0, abs=1e-5)
    assert float(taught_loss(-apart, features, heads, drawn=2)) == pytest.approx(2, abs=1e-5)


class TinyTower(nn.Module):
    """Named as open_clip's image tower is."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.AvgPool2d(24), nn.Flatten(), nn.BatchNorm1d(48))
        self.head = nn.Linear(48, 256)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(crops))


def tiny_teacher(crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    features = nn.functional.adaptive_avg_pool2d(crops, (20, 64)).mean(1).flatten(1)
    assert features.shape[1] == FEATURE_DIM
    return features, features[:, :5]


class Clock:
    """A second for every look; an interruption after so many."""

    def __init__(self, breaks_after: int = 10**9) -> None:
        self.now, self._left = 0.0, breaks_after

    def __call__(self) -> float:
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        self.now += 1
        return self.now


def trainer(folder: Path, clock: Clock, **options) -> ImageTrainer:
    torch.manual_seed(3)
    folder.mkdir(exist_ok=True)
    names = nn.functional.normalize(torch.randn(8, TEACHER_DIM), dim=1)
    pupil = Pupil(TinyTower(), ClassHeads(names, names[:5]), CPU)
    lessons = LessonMaker(material(), BatchSizes(concepts=2, street=2, grocery=2, backdrops=2))
    run = ImageRun(folder, every_s=options.pop("every_s", 2), **options)
    return ImageTrainer(run, pupil, lessons, teacher=tiny_teacher, clock=clock)


def state_of(folder: Path) -> dict:
    return torch.load(folder / "image_tower.pt", weights_only=True)


def same(first, second) -> bool:
    """Whether two states are equal to the last bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


@pytest.mark.parametrize("until", [{"minutes": 10 / 60}, {"steps": 10}])
def test_an_interrupted_run_goes_on_to_the_same_state(tmp_path: Path, until: dict):
    trainer(tmp_path / "whole", Clock(), **until).fit()
    broken = trainer(tmp_path / "broken", Clock(breaks_after=6), **until)
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    assert state_of(tmp_path / "broken")["step"] == 4  # saved every two seconds; the fifth step is lost
    again = trainer(tmp_path / "broken", Clock(), **until)
    assert again.resume()
    again.fit()
    whole, found = state_of(tmp_path / "whole"), state_of(tmp_path / "broken")
    assert whole["step"] == found["step"] == 10
    assert same(whole, found)


def test_the_state_is_what_export_reads(tmp_path: Path):
    trainer(tmp_path, Clock(), steps=2).fit()
    tower = averaged_tower_state(tmp_path / "image_tower.pt")
    assert tower.keys() == TinyTower().state_dict().keys()
    assert state_of(tmp_path)["heads"]["from_names.weight"].shape == (256, TEACHER_DIM)


def test_a_second_run_starts_from_the_first_ones_average(tmp_path: Path):
    trainer(tmp_path / "first", Clock(), steps=3).fit()
    second = trainer(tmp_path / "second", Clock(), steps=3)
    assert not second.resume()
    second.start_from(tmp_path / "first" / "image_tower.pt")
    second.save()
    assert same(state_of(tmp_path / "second")["tower"], averaged_tower_state(tmp_path / "first" / "image_tower.pt"))
    assert state_of(tmp_path / "second")["step"] == 0


def test_a_run_starts_from_one_that_kept_some_of_its_heads(tmp_path: Path):
    trainer(tmp_path / "first", Clock(), steps=3).fit()
    kept = state_of(tmp_path / "first")
    kept["heads"] = {"prototypes": kept["heads"]["prototypes"]}
    torch.save({name: kept[name] for name in ("average", "heads")}, tmp_path / "kept.pt")
    second = trainer(tmp_path / "second", Clock(), steps=3)
    second.save()
    new = state_of(tmp_path / "second")["heads"]
    second.start_from(tmp_path / "kept.pt")
    second.save()
    assert same(state_of(tmp_path / "second")["heads"], {**new, **kept["heads"]})
    kept["heads"] = {"prototypes": torch.zeros(2, 256)}
    torch.save(kept, tmp_path / "kept.pt")
    with pytest.raises(RuntimeError, match="prototypes"):
        second.start_from(tmp_path / "kept.pt")


def test_training_learns_its_batch(tmp_path: Path):
    learns = trainer(tmp_path, Clock(), steps=1)
    learns.fit()
    first = learns.loss
    longer = trainer(tmp_path / "longer", Clock(), steps=30, trunk_rate=1e-2, head_rate=1e-2, every_s=1000)
    longer.fit()
    assert longer.loss < first - 0.3


# --- the command ---


@pytest.fixture
def caches(tmp_path: Path) -> Path:
    """A cache of everything that the command reads, as small as it can be."""
    icons = np.stack([np.moveaxis(disc, 0, -1) for disc in discs(8).numpy()])
    (tmp_path / "pictograms").mkdir()
    np.save(tmp_path / "pictograms" / "pictograms.npy", icons)
    index = {
        "styles": ["noto", "twemoji"],
        "names": ["cat", "dog", "bee", "cow"],
        "concept_ids": [0, 0, 1, 1, 2, 2, 3, 3],
        "style_ids": [0, 1] * 4,
    }
    (tmp_path / "pictograms" / "pictograms.json").write_text(json.dumps(index))
    rng = np.random.default_rng(0)
    for name in ("photographs/images", "street", "grocery"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(2):
        photograph = Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8))
        photograph.save(tmp_path / "photographs" / "images" / f"{number}.jpg")
    labels = np.zeros((60, 80), np.uint8)
    labels[5:25, 10:30], labels[30:50, 10:20] = 1, 2
    for number in (6, 7):
        Image.fromarray(labels).save(tmp_path / "street" / f"{number:04d}.png")
        Image.fromarray(np.full((60, 80, 3), 99, np.uint8)).save(tmp_path / "street" / f"{number:04d}.jpg")
    (tmp_path / "street" / "labels.json").write_text(json.dumps(["null", "bag", "shoes"]))
    rows = [[f"{place}.jpg", place % 2, 0] for place in range(6)]
    for file, _, _ in rows:
        Image.fromarray(np.full((30, 30, 3), 50, np.uint8)).save(tmp_path / "grocery" / file)
    (tmp_path / "grocery" / "index.json").write_text(
        json.dumps({"rows": rows, "fine": ["Pink-Lady", "Milk"], "coarse": ["Apple", "Milk"]})
    )
    return tmp_path


def folders_of(caches: Path) -> MaterialFolders:
    return MaterialFolders(
        caches / "pictograms",
        caches / "photographs",
        PhotographFolders(caches / "street", caches / "grocery"),
    )


def test_material_is_labelled_by_concepts_clothes_and_groceries_in_this_order(caches: Path):
    found = load_material(folders_of(caches), seed=0)
    seen = len(found.names) - 4
    assert found.names[seen:] == ("bag", "shoes", "pink lady", "milk")
    assert set(found.names[:seen]) < {"cat", "dog", "bee", "cow"} or seen == 4
    assert found.icons.images.shape[1:] == (4, ICON_PX, ICON_PX)
    assert sorted(found.street.labels.tolist()) == [seen, seen, seen + 1, seen + 1]
    assert found.grocery.labels.tolist() == [seen + 2 + fine for fine in (1, 0, 1, 0)]  # without the judged fifth
    assert found.backdrops.shape[1:] == (3, 224, 224)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_command_goes_on_to_the_same_weights(caches: Path):
    """The real tower on the CPU; minutes on a busy machine."""
    from training.encoder_teacher import imagenet_names

    names = sorted({*load_material(folders_of(caches), seed=0).names, *imagenet_names()})
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(names), TEACHER_DIM)).astype(np.float32)
    TeacherTable(tuple(names), vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).save(caches / "table.npz")

    def started(run: str) -> subprocess.Popen:
        options = {
            **{name: caches / name for name in ("pictograms", "photographs", "street", "grocery")},
            "teacher": caches / "table.npz",
            "run": caches / run,
            "steps": 6,
            "batch-share": 0.01,
            "every-seconds": 0,
            "thin": 1,
        }
        words = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        root = Path(__file__).parents[3]
        return subprocess.Popen([sys.executable, "-m", "training.encoder", *words, "--no-imagenet"], cwd=root)

    assert started("whole").wait() == 0
    killed = started("killed")
    state = caches / "killed" / "image_tower.pt"
    while killed.poll() is None and not state.exists():
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert 1 <= state_of(caches / "killed")["step"] < 6
    assert started("killed").wait() == 0
    whole, found = state_of(caches / "whole"), state_of(caches / "killed")
    assert whole.pop("elapsed_s") > 0
    assert found.pop("elapsed_s") > 0
    assert same(whole, found)
    record = json.loads((caches / "killed" / "run.json").read_text())
    assert record["trained_steps"] == 6
    assert record["photographs"] == ["street", "grocery"]
    assert str(caches) not in json.dumps(record)
