"""The demo's work once the bucket is filled: index it, ask, draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from searchanything import wiring
from searchanything.client.client import Client
from searchanything.core.counting import counted
from searchanything.core.protocols import RegionIndex
from searchanything.core.settings import Settings
from searchanything.demo.bucket import BUCKET
from searchanything.demo.control import Control
from searchanything.demo.course import Course
from searchanything.demo.examiner import Examiner, label_regions
from searchanything.demo.figures import Figure, draw_figure
from searchanything.demo.questions import KINDS, QuestionKind, pose_questions
from searchanything.demo.rendering import Rendered
from searchanything.demo.report import Answers, examples_of
from searchanything.demo.trials import ask
from searchanything.encode.encoder import Encoder
from searchanything.encode.fingerprint import manifest_of
from searchanything.ingest.reports import IndexProgress, IndexReport

PRESET: Final = "pico"
SEED: Final = 2026


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """Everything that stands ready once the bucket is filled. `encoder` is the index's own."""

    client: Client
    settings: Settings
    encoder: Encoder
    rendered: Sequence[Rendered]
    course: Course

    def index(self, removed: Sequence[str]) -> IndexReport:
        """Index what is new in the bucket, and forget what is gone from it."""

        def progress(now: IndexProgress) -> None:
            self.course.progress(now.done, len(self.rendered))

        with self.course.step("index", f"indexing s3://{BUCKET} into {self.client.uri}"):
            for key in removed:
                self.client.delete(f"s3://{BUCKET}/{key}")
            report = self.client.index(f"s3://{BUCKET}", progress=progress)
        self.course.note(
            f"{report.indexed} indexed, {report.unchanged} unchanged, {counted(report.regions, 'region')} written"
        )
        return report

    def ask(self, count: int) -> Answers:
        """Ask `count` questions of each kind, then once more with shuffled weights."""
        scenes = [one.truth for one in self.rendered]
        questions = pose_questions(scenes, count, seed=SEED)
        with self._region_index() as index:
            with self.course.step("truth", "comparing the indexed regions with what was pasted into the scenes"):
                examiner = Examiner(scenes, label_regions(index, scenes))
            with self.course.step("questions", f"asking {counted(len(questions), 'question')}, {count} of each kind"):
                trials = ask(self.client, questions, examiner, done=self.course.progress)
            with self.course.step("control", "asking them again with shuffled weights"):
                control = Control(index, self.encoder, self.client.open_image)
                shuffled = control.ask(questions, examiner, done=self.course.progress)
        return Answers(scenes, examiner, trials, shuffled)

    def draw(self, answers: Answers, folder: Path) -> dict[QuestionKind, list[Figure]]:
        """Draw examples of every kind into a folder, and remove the drawings of earlier runs."""
        figures: dict[QuestionKind, list[Figure]] = {}
        with self.course.step("drawings", f"drawing examples into {folder}"):
            for kind in KINDS:
                figures[kind] = [
                    draw_figure(trial, f"{kind}-{number}", folder, open_image=self.client.open_image)
                    for number, trial in enumerate(examples_of(answers.trials, kind), start=1)
                ]
            drawn = {file for of_kind in figures.values() for figure in of_kind for file in figure.files}
            for file in folder.glob("*.png"):
                if file.name not in drawn:
                    file.unlink()
        return figures

    @contextmanager
    def _region_index(self) -> Iterator[RegionIndex]:
        """The index itself, which the control needs: it searches with codes that no client would make."""
        with wiring.open_index_store(self.settings.milvus) as indexes:
            yield indexes.open(manifest_of(self.encoder, PRESET).fingerprint)
