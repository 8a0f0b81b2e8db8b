"""From trials to figures, and when the answers of an earlier run stand."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from fakes.answers import hit as any_hit

from searchanything.core.errors import SettingsError, UsageError
from searchanything.core.extras import install_command
from searchanything.core.types import Hit, ImageRef, MaskRLE, Selection
from searchanything.demo import local_s3
from searchanything.demo.bucket import BUCKET
from searchanything.demo.examiner import Examiner
from searchanything.demo.files import held_alone, save_bytes
from searchanything.demo.judging import TrueObject, TrueScene, chance_of_hit
from searchanything.demo.page import page_of_run
from searchanything.demo.questions import QuestionKind, SceneQuestion
from searchanything.demo.report import Answers, examples_of
from searchanything.demo.run import inputs_digest, report_of_same_inputs, run_demo
from searchanything.demo.trials import Trial
from searchanything.prompts.prompt import WholeImage

MASK = MaskRLE((10, 10), "00d0")


def thing(concept: str, *, zero_shot: bool = False, side: int = 10) -> TrueObject:
    return TrueObject(concept, "style", zero_shot, (0, 0, side, side), 1.0, MASK)


def scene(key: str, *objects: TrueObject, photograph: int = 0) -> TrueScene:
    return TrueScene(key, 10, 10, photograph, objects)


def trial(kind: QuestionKind, right: Sequence[bool], wanted: TrueObject | None, *, selected: bool = True) -> Trial:
    objects = (wanted,) if wanted else ()
    question = SceneQuestion(kind, scene("asked", *objects), 0 if wanted else None, WholeImage())
    selection = Selection("region", (0, 0, 1, 1), 1, MASK, 1.0, "rule", "reason")
    document = {"hits": [{"key": "k"} for _ in right], "prompt": {}, "selection": {}, "timings_ms": {}}
    return Trial(question, (), selection, document, tuple(right), selected, chance=0.25)


def hit(key: str, region: int | None) -> Hit:
    return replace(any_hit(0), image=ImageRef(BUCKET, key), region=region)


class TestFigures:
    def test_each_part_is_counted_apart(self) -> None:
        seen, unseen = thing("cat"), thing("dog", zero_shot=True)
        trials = [
            trial("box", [True, False], seen),
            trial("box", [False, False, True], seen, selected=False),
            trial("box", [False] * 5, seen, selected=False),
            trial("box", [False] * 5 + [True], unseen),
        ]
        shuffled = [(True, False), (False, False), (False, False), (False, False)]
        (box,) = Answers((), Examiner((), {}), trials, shuffled).kinds
        entry = box.to_dict()
        assert (entry["kind"], entry["n"], entry["hit_at_5"], entry["hit_at_1"]) == ("box", 4, 0.5, 0.25)
        assert (entry["hit_at_5_seen"], entry["n_seen"]) == (0.6667, 3)
        assert (entry["hit_at_5_zero_shot"], entry["n_zero_shot"]) == (0.0, 1)
        assert (entry["selected_as_meant"], entry["hit_at_5_if_selected"]) == (0.5, 0.5)
        assert (entry["shuffled_hit_at_5"], entry["shuffled_n"], entry["chance"]) == (0.125, 8, 0.25)

    def test_a_kind_that_was_not_asked_has_no_entry(self) -> None:
        answers = Answers((), Examiner((), {}), [trial("image", [True], None)], [(False,)])
        assert [one.kind for one in answers.kinds] == ["image"]
        assert answers.kinds[0].to_dict()["hit_at_5_seen"] is None


class TestExamples:
    def test_a_miss_is_shown_too(self) -> None:
        found, missed = trial("text", [True], thing("cat")), trial("text", [False], thing("dog"))
        assert examples_of([found, missed], "text") == [found, missed]

    def test_a_lucky_hit_is_not_shown_where_there_is_a_real_one(self) -> None:
        lucky, real = trial("text", [True], thing("cat"), selected=False), trial("text", [True], thing("dog"))
        assert examples_of([lucky, real], "text") == [real]
        assert examples_of([lucky], "text") == [lucky]


SCENES = (
    scene("a", thing("cat"), thing("dog")),
    scene("b", thing("cat"), photograph=1),
    scene("c", thing("cat"), thing("cat")),
)
LABELS = {
    ImageRef(BUCKET, "a"): {0: 0, 1: 1, 2: None},
    ImageRef(BUCKET, "b"): {0: 0, 1: None},
    ImageRef(BUCKET, "c"): {0: 1, 1: 1, 2: None},
}


class TestExaminer:
    examiner = Examiner(SCENES, LABELS)

    def about(self, number: int) -> SceneQuestion:
        return SceneQuestion("box", SCENES[0], number, WholeImage())

    def test_a_hit_is_right_if_its_region_shows_the_wanted_concept(self) -> None:
        hits = [hit("b", 0), hit("b", 1), hit("c", 0), hit("a", 1)]
        assert self.examiner.right(self.about(0), hits) == (True, False, True, False)

    def test_whole_images_are_right_on_the_same_photograph(self) -> None:
        question = SceneQuestion("image", SCENES[0], None, WholeImage())
        assert self.examiner.right(question, [hit("b", None), hit("c", None)]) == (False, True)
        assert self.examiner.chance(question) == 1.0  # both others are drawn

    def test_chance_leaves_the_own_image_out(self) -> None:
        # outside image a: 5 regions, 3 of them cats
        assert self.examiner.chance(self.about(0)) == chance_of_hit(3, 5)
        assert self.examiner.chance(self.about(1)) == 0.0

    def test_recall_counts_objects_once(self) -> None:
        # a: 2 of 2, b: 1 of 1, c: the second of two, by two regions
        assert (self.examiner.recall.right, self.examiner.recall.count) == (4, 5)


class TestStandingReport:
    def write(self, folder: Path, **fields: object) -> None:
        (folder / "report.json").write_text(json.dumps({"inputs": "x", "drawings": ["one.png"], **fields}))
        (folder / "index.html").touch()
        (folder / "one.png").touch()

    def test_it_stands_for_the_same_inputs(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        assert report_of_same_inputs(tmp_path, "x") is not None
        assert report_of_same_inputs(tmp_path, "y") is None

    @pytest.mark.parametrize("file", ["one.png", "index.html", "report.json"])
    def test_it_falls_with_any_of_its_files(self, tmp_path: Path, file: str) -> None:
        self.write(tmp_path)
        (tmp_path / file).unlink()
        assert report_of_same_inputs(tmp_path, "x") is None

    def test_half_a_report_does_not_stand(self, tmp_path: Path) -> None:
        (tmp_path / "report.json").write_text('{"inputs": ')
        assert report_of_same_inputs(tmp_path, "x") is None

    def test_every_input_counts(self) -> None:
        assert len({inputs_digest("a", "b"), inputs_digest("ab"), inputs_digest("a", "c")}) == 3


class TestFiles:
    def test_a_file_is_replaced_as_a_whole(self, tmp_path: Path) -> None:
        target = tmp_path / "new" / "file"
        save_bytes(target, b"one")
        save_bytes(target, b"two")
        assert target.read_bytes() == b"two"
        assert [path.name for path in target.parent.iterdir()] == ["file"]

    def test_a_second_run_in_the_folder_is_refused(self, tmp_path: Path) -> None:
        with held_alone(tmp_path), pytest.raises(UsageError, match="another demo runs"), held_alone(tmp_path):
            pass
        with held_alone(tmp_path):
            pass


def test_a_page_of_the_same_answers_tells_what_another_run_did() -> None:
    template = (files("searchanything.demo") / "page.html").read_text("utf-8")
    before = template.replace("$run", "<div><h3>Seconds</h3>what the first run did</div>")
    document = {
        "index": {"images": {"indexed": 0, "unchanged": 24}, "regions": 0},
        "timings": {"seconds": {"upload": 3.25}, "query_ms": {"search": 2.0}},
        "by_size": {"small": {"hit_at_5": 0.5, "n": 2}},
        "environment": {"python": "3.11"},
        "answers": "kept from an earlier run",
    }
    page = page_of_run(before, document)
    assert "what the first run did" not in page
    for shown in ("24", "kept from an earlier run", "3.2"):
        assert shown in page
    head, tail = before.split("<div><h3>Seconds</h3>what the first run did</div>")
    assert page.startswith(head)
    assert page.endswith(tail)
    assert page_of_run(page, document) == page


def test_without_the_server_no_scene_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_s3, "_BINARY", "not-installed")
    said: list[str] = []
    with pytest.raises(SettingsError, match=re.escape(install_command("demo"))):
        run_demo(tmp_path, scenes=1, say=said.append)
    assert not [line for line in said if "scene" in line]
    assert not list(tmp_path.rglob("scenes"))
