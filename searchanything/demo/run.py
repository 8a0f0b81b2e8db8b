"""The demo: scenes → bucket → index → questions of every kind → `report.json` and `index.html`.

    render ─► upload ─► index ─► ask ─► control ─► report ─► draw

What is made once is kept in `OUT/.state`: the scenes, the bucket, the index. A later run, or one after a run that was
cut off, does only what is missing. Where nothing has changed at all, the answers of the last run stand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from searchanything import wiring
from searchanything.client.client import Client
from searchanything.core.counting import counted
from searchanything.core.settings import Settings, load_settings
from searchanything.demo.bench import PRESET, SEED, Bench
from searchanything.demo.bucket import BUCKET, Filling, fill_bucket
from searchanything.demo.course import Course
from searchanything.demo.files import files_below, held_alone, save_bytes
from searchanything.demo.local_s3 import LocalS3
from searchanything.demo.page import IMAGES, page_of_run, render_page
from searchanything.demo.rendering import Rendered, render_scenes, scenes_digest
from searchanything.demo.report import document_of, with_run
from searchanything.encode.fingerprint import manifest_of
from searchanything.ingest.reports import IndexReport
from searchanything.models.limits import state_limits

STATE: Final = ".state"
_IDLE_S: Final = 2.0  # the embedded index's server ends so soon after us: the demo leaves nothing behind


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
    state_limits(PRESET, say)
    state = out / STATE
    with held_alone(state), ExitStack() as stack:
        server = LocalS3(state / "s3")  # before the scenes: without SeaweedFS they are of no use
        with course.step("scenes", f"rendering {counted(scenes, 'scene')}"):
            rendered = render_scenes(state / "scenes", scenes, seed=SEED, done=course.progress)
        with course.step("s3_server", "starting an S3 server on loopback"):
            stack.enter_context(server)
        settings = _settings(server)
        filling = _upload(settings, rendered, course)
        with course.step("models", f"loading the models of preset {PRESET}"):
            encoder = wiring.load_encoder(PRESET, wiring.hash_layer_of(PRESET, None, settings), settings)
        fingerprint = manifest_of(encoder, PRESET).fingerprint
        settings.milvus.uri = uri or str(_index_file(state, fingerprint))
        bench = Bench(stack.enter_context(Client(settings)), settings, encoder, rendered, course)
        indexed = bench.index(filling.removed)
        inputs = inputs_digest(fingerprint, settings.milvus.uri, scenes_digest(SEED), f"{scenes} {questions}")
        kept = None if filling.changed or _found_new(indexed) else report_of_same_inputs(out, inputs)
        if kept is None:
            document = _answer(bench, out, questions, indexed, inputs)
        else:
            say("nothing has changed since the last run: its answers stand")
            document = with_run({**kept, "answers": "kept from an earlier run"}, indexed, course.seconds)
            page = page_of_run((out / "index.html").read_text("utf-8"), document)
            save_bytes(out / "index.html", page.encode())
    save_bytes(out / "report.json", (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    return document


def _answer(bench: Bench, out: Path, questions: int, indexed: IndexReport, inputs: str) -> dict[str, Any]:
    """Ask the questions, draw examples and write the page; returns the report."""
    answers = bench.ask(questions)
    figures = bench.draw(answers, out / IMAGES)
    drawings = [f"{IMAGES}/{file}" for of_kind in figures.values() for one in of_kind for file in one.files]
    document = with_run(document_of(answers, bench.settings, drawings, inputs), indexed, bench.course.seconds)
    save_bytes(out / "index.html", render_page(document, answers, figures).encode())
    return document


def _found_new(indexed: IndexReport) -> bool:
    return bool(indexed.indexed or indexed.empty or indexed.failed)


def _settings(server: LocalS3) -> Settings:
    """The user's settings, but the demo's own server, preset and embedded index."""
    settings = load_settings().model_copy(deep=True)
    settings.storage = server.settings()
    settings.models.preset = PRESET
    settings.milvus.lite_idle_s = _IDLE_S
    return settings


def _upload(settings: Settings, rendered: Sequence[Rendered], course: Course) -> Filling:
    with course.step("upload", f"uploading what is missing to s3://{BUCKET}"):
        store = wiring.open_s3_bucket(BUCKET, settings.storage)
        filling = fill_bucket(store, {one.truth.key: one.path for one in rendered}, done=course.progress)
    course.note(f"{counted(filling.uploaded, 'object')} uploaded, {filling.unchanged:,} already there")
    return filling


def _index_file(state: Path, fingerprint: str) -> Path:
    """The embedded index of these very models. Those of other models, from before an update, are removed."""
    name = f"index-{fingerprint[:8]}"
    for file in state.glob("index-*"):
        if not file.name.startswith(name) and file.is_file():
            file.unlink()
    return state / f"{name}.db"


def inputs_digest(*parts: str) -> str:
    """A digest of what the answers follow from: the given parts, and all code of this package."""
    digest = sha256(json.dumps(parts).encode())
    for file in files_below(files("searchanything")):
        if file.name.endswith((".py", ".css", ".html")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def report_of_same_inputs(out: Path, inputs: str) -> dict[str, Any] | None:
    """The report in `out`, if it follows from the same inputs and its page and drawings are there; else None."""
    try:
        document = json.loads((out / "report.json").read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if not isinstance(document, dict) or document.get("inputs") != inputs:
        return None
    whole = all((out / file).is_file() for file in ("index.html", *document["drawings"]))
    return document if whole else None
