"""The demo: scenes → bucket → index → questions of every kind → `report.json` and `index.html`.

    render ─► upload ─► index ─► ask ─► control ─► report ─► draw

What is made once is kept in `OUT/.state`: the scenes, the bucket, the index. A later run, or one after a run that was
cut off, does only what is missing; the questions are asked anew each time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from searchanything import wiring
from searchanything.client import Client
from searchanything.demo.bucket import BUCKET, fill_bucket
from searchanything.demo.control import Control
from searchanything.demo.course import Course
from searchanything.demo.examiner import Examiner, label_regions
from searchanything.demo.figures import Figure, draw_figure
from searchanything.demo.files import held_alone, write_whole
from searchanything.demo.page import IMAGES, render_page
from searchanything.demo.questions import KINDS, Kind, pose_questions
from searchanything.demo.rendering import Rendered, render_scenes
from searchanything.demo.report import Answers, document_of, examples_of
from searchanything.demo.trials import ask
from searchanything.encoding import Encoder
from searchanything.fingerprints import manifest_of
from searchanything.protocols import RegionIndex
from searchanything.servers import LocalS3
from searchanything.settings import Settings, load_settings
from searchanything.stores.s3 import S3Store
from searchanything.types import IndexProgress, IndexReport

PRESET: Final = "pico"
SEED: Final = 2026
STATE: Final = ".state"
_IDLE_S: Final = 2.0  # the embedded index' server ends so soon after us: the demo leaves nothing behind


def run_demo(
    out: Path = Path("demo"),
    *,
    uri: str | None = None,
    scenes: int = 240,
    questions: int = 40,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run the demo in the folder `out`, and return what it wrote to `out/report.json`.

    `uri` names another index than the embedded one in `out`; `questions` are asked of each kind; `say` is told what
    happens. The S3 server listens on loopback only, and is stopped at the end, however that comes.

    Raises: SettingsError (SeaweedFS is missing), UsageError (another demo runs in `out`), WeightsMissingError,
    StoreError, RegionIndexError.
    """
    course = Course(say)
    state = out / STATE
    with held_alone(state), ExitStack() as stack:
        with course.step("scenes", f"rendering {scenes} scenes"):
            rendered = render_scenes(state / "scenes", scenes, seed=SEED, done=course.progress)
        server = LocalS3(state / "s3")
        with course.step("s3_server", "starting an S3 server on loopback"):
            stack.enter_context(server)
        settings = _settings(server)
        removed = _upload(settings, rendered, course)
        with course.step("models", f"loading the models of preset {PRESET}"):
            encoder = wiring.load_encoder(PRESET, wiring.hash_layer_of(PRESET, None, settings), settings)
        settings.milvus.uri = uri or str(_index_file(state, encoder))
        bench = _Bench(stack.enter_context(Client(settings)), settings, encoder, rendered, course)
        indexed = bench.index(removed)
        answers = bench.ask(questions)
        figures = bench.draw(answers, out / IMAGES)
    document = document_of(indexed, answers, settings, course.seconds)
    write_whole(out / "index.html", render_page(document, answers, figures).encode())
    write_whole(out / "report.json", (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    return document


@dataclass(frozen=True, slots=True, eq=False)
class _Bench:
    """Everything that stands ready once the bucket is filled."""

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
        self.course.note(f"{report.indexed} indexed, {report.unchanged} unchanged, {report.regions} regions written")
        return report

    def ask(self, count: int) -> Answers:
        """Ask `count` questions of each kind, then once more with shuffled weights."""
        scenes = [one.truth for one in self.rendered]
        questions = pose_questions(scenes, count, seed=SEED)
        with self._region_index() as index:
            with self.course.step("truth", "comparing the indexed regions with what was pasted into the scenes"):
                examiner = Examiner(BUCKET, scenes, label_regions(index, BUCKET, scenes))
            with self.course.step("questions", f"asking {len(questions)} questions, {count} of each kind"):
                trials = ask(self.client, BUCKET, questions, examiner, done=self.course.progress)
            with self.course.step("control", "asking them again with shuffled weights"):
                control = Control(BUCKET, index, self.encoder, self.client.open_image)
                shuffled = control.ask(questions, examiner, done=self.course.progress)
        return Answers(scenes, examiner, trials, shuffled)

    def draw(self, answers: Answers, folder: Path) -> dict[Kind, list[Figure]]:
        """Draw examples of every kind into a folder, and remove the drawings of earlier runs."""
        figures: dict[Kind, list[Figure]] = {}
        with self.course.step("drawings", f"drawing examples into {folder}"):
            for kind in KINDS:
                figures[kind] = [
                    draw_figure(trial, f"{kind}-{number}", folder, bucket=BUCKET, open_image=self.client.open_image)
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


def _settings(server: LocalS3) -> Settings:
    """The user's settings, but the demo's own server, preset and embedded index."""
    settings = load_settings().model_copy(deep=True)
    settings.storage = server.settings()
    settings.models.preset = PRESET
    settings.milvus.lite_idle_s = _IDLE_S
    return settings


def _upload(settings: Settings, rendered: Sequence[Rendered], course: Course) -> tuple[str, ...]:
    """Bring the bucket up to date; returns the keys that are gone from it."""
    with course.step("upload", f"uploading to s3://{BUCKET} what is not there yet"):
        store = S3Store(settings.storage, BUCKET)
        filling = fill_bucket(store, {one.truth.key: one.path for one in rendered}, done=course.progress)
    course.note(f"{filling.uploaded} objects uploaded, {filling.unchanged} were there")
    return filling.removed


def _index_file(state: Path, encoder: Encoder) -> Path:
    """The embedded index of these very models. Those of other models, from before an update, are removed."""
    name = f"index-{manifest_of(encoder, PRESET).fingerprint[:8]}"
    for file in state.glob("index-*"):
        if not file.name.startswith(name) and file.is_file():
            file.unlink()
    return state / f"{name}.db"
