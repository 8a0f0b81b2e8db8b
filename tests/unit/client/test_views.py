"""A client's view of some places: whatever is asked, nothing that lies elsewhere is found, named, counted or read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.errors import ObjectNotFoundError, UsageError
from searchanything.core.types import Filter, ImageRef, RegionRef
from searchanything.prompts.prompt import Text

COUNT = 60


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("views") / "bucket")


@pytest.fixture(scope="module")
def client(bucket: str) -> Iterator[Client]:
    """120 images with two things each: those of `seen/` and those of `hidden/` are alike."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        Machine().install(monkeypatch)
        yield indexed(Path(bucket))


def indexed(folder: Path) -> Client:
    rng = np.random.default_rng(2)
    for number in range(COUNT):
        noise = rng.integers(0, 60, (64, 96, 3)).astype(np.uint8)
        pixels = np.maximum(drawn(64, 96, red=(4, 4, 40, 60), blue=(50, 8, 90, 40)), noise)
        for name in ("seen", "hidden"):
            path = folder / name / f"{name}-{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    client = connect("memory://", preset="pico")
    client.index(folder, add_words=True)
    return client


@pytest.fixture
def view(client: Client, bucket: str) -> Client:
    return client.within([(bucket, "seen/")])


QUESTIONS: dict[str, Callable[[Client, str], object]] = {
    "region": lambda view, bucket: view.query(RegionRef(ImageRef(bucket, "seen/seen-0.png"), 0), limit=200).to_dict(),
    "regions": lambda view, bucket: view.query(
        [RegionRef(ImageRef(bucket, f"seen/seen-{n}.png"), 0) for n in range(3)], limit=200
    ).to_dict(),
    "image": lambda view, bucket: view.query(ImageRef(bucket, "seen/seen-0.png"), limit=200).to_dict(),
    "point": lambda view, bucket: view.query(ImageRef(bucket, "seen/seen-0.png"), (20, 30), limit=200).to_dict(),
    "prompt words": lambda view, bucket: view.query(ImageRef(bucket, "seen/seen-0.png"), Text("red")).to_dict(),
    "words": lambda view, _: view.query(text="red", limit=200).to_dict(),
    "words grouped": lambda view, _: view.query(text="red", limit=200, group_by_image=True).to_dict(),
    "hidden prefix": lambda view, _: view.query(text="red", filter=Filter(key_prefix="hidden/")).to_dict(),
    "expression": lambda view, _: view.query(text="red", filter=Filter(expression='key like "hidden%"')).to_dict(),
    "refined": lambda view, _: refined(view).to_dict(),
    "receipt": lambda view, _: view.query(text="red", limit=200).receipt(),
    "combined": lambda view, bucket: view.combine(
        all_of=[RegionRef(ImageRef(bucket, "seen/seen-0.png"), n) for n in (0, 1)], limit=200
    ).to_dict(),
    "duplicates": lambda view, _: view.duplicates(max_bits=31).to_dict(),
    "duplicate images": lambda view, _: view.duplicates(whole_images=True, max_bits=31).to_dict(),
    "compared": lambda view, bucket: view.compare(ImageRef(bucket, "seen/seen-0.png"), (20, 30)).to_dict(),
    "explained": lambda view, bucket: (
        view.query(ImageRef(bucket, "seen/seen-0.png"), (20, 30)).explain(ImageRef(bucket, "seen/seen-7.png")).to_dict()
    ),
    "words explained": lambda view, bucket: (
        view.query(text="red").explain(ImageRef(bucket, "seen/seen-7.png")).to_dict()
    ),
    "marks explained": lambda view, bucket: refined(view).explain(ImageRef(bucket, "seen/seen-7.png")).to_dict(),
    "parts explained": lambda view, bucket: (
        view.combine(all_of=[RegionRef(ImageRef(bucket, "seen/seen-0.png"), 0)])
        .explain(ImageRef(bucket, "seen/seen-7.png"))
        .to_dict()
    ),
    "listed": lambda view, _: [str(row) for row in view.images()[0]],
    "failed": lambda view, _: [str(one) for one in view.failures()],
    "status": lambda view, _: view.status().to_dict(),
}


def refined(view: Client):  # type: ignore[no-untyped-def]
    found = view.query(text="red", limit=200)
    return found.refine(right=found[:2], wrong=found[-2:])  # the other drawing: the nearest have one code


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_answer_names_what_lies_elsewhere(view: Client, bucket: str, question: str) -> None:
    answer = json.dumps(QUESTIONS[question](view, bucket), default=str)
    if question not in ("hidden prefix", "expression"):  # which repeat what was asked
        assert "hidden" not in answer
    assert "hidden/" not in json.dumps(json.loads(answer).get("hits", "") if answer[0] == "{" else "")


def test_what_is_counted_is_what_is_seen(client: Client, view: Client, bucket: str) -> None:
    status = view.status()
    assert (status.images, status.regions, status.words_regions) == (COUNT, 2 * COUNT, 2 * COUNT)
    assert client.status().regions == 4 * COUNT
    region = RegionRef(ImageRef(bucket, "seen/seen-0.png"), 0)
    assert len(client.query(region, limit=500)) == 2 * len(view.query(region, limit=500)) == 4 * COUNT
    assert client.query(region).matching.sample == 4 * COUNT
    assert view.query(region).matching.sample == 0, "120 codes are too few to compare with; the others are not used"
    assert view.duplicates().compared == 2 * COUNT
    assert view.combine(all_of=[region]).page.looked_at == COUNT


def test_what_lies_elsewhere_cannot_be_named(view: Client, bucket: str) -> None:
    hidden = ImageRef(bucket, "hidden/hidden-0.png")
    region, seen = RegionRef(hidden, 0), RegionRef(ImageRef(bucket, "seen/seen-0.png"), 0)
    found = view.query(seen, limit=4)
    asked: list[Callable[[], object]] = [
        lambda: view.query(region),
        lambda: view.query([seen, region]),
        lambda: view.query(hidden),
        lambda: view.query(hidden, (20, 30)),
        lambda: view.compare(hidden, (20, 30)),
        lambda: view.segment(hidden),
        lambda: view.open_image(hidden),
        lambda: view.image(hidden),
        lambda: view.regions(hidden),
        lambda: view.combine(all_of=[region]),
        lambda: view.combine(all_of=[(hidden, (20, 30))]),
        lambda: view.combine(all_of=[seen], none_of=[region]),
        lambda: found.refine(right=[region]),
        lambda: found.refine(wrong=[region]),
    ]
    for ask in asked:
        with pytest.raises(ObjectNotFoundError):
            ask()
    assert view.locate("hidden-0.png") not in [row.image for row in view.images()[0]]
    never = ImageRef(bucket, "hidden/never.png")
    for answer in (view.query(seen), view.query(text="red"), refined(view), view.query([seen, found[1]])):
        assert answer.explain(hidden).verdict == answer.explain(never).verdict == "not_indexed"
    assert view.combine(all_of=[seen]).explain(hidden).verdict == "not_indexed"


def test_an_export_holds_the_places_alone(view: Client, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert view.export(tmp_path / "rows.parquet") == 2 * COUNT
    table = parquet.read_table(tmp_path / "rows.parquet")
    assert {key.partition("/")[0] for key in table.column("key").to_pylist()} == {"seen"}


def test_nothing_but_questions_goes_through_it(view: Client, bucket: str, tmp_path: Path) -> None:
    source, begun = Path(bucket), list[object]()
    done: list[Callable[[], object]] = [
        lambda: view.index(source),
        lambda: view.index(source / "seen"),
        lambda: view.estimate(source),
        lambda: view.refresh(source, ["seen/seen-0.png"]),
        lambda: view.sync(source),
        lambda: view.sync(source, repair=True),
        lambda: view.delete(source),
        lambda: view.retry_failed(),
        lambda: view.drop_failed(),
        lambda: view.models.apply("small", progress=begun.append),
        lambda: view.hash_layers.apply(tmp_path / "layer.safetensors"),
        lambda: view.standing.deliver(),
        lambda: view.failures(source),
        lambda: view.backup(tmp_path / "all.tar"),
        lambda: view.restore(tmp_path / "all.tar"),
        lambda: view.operations.plan_sync(source),
        lambda: view.operations.collect_garbage(source),
        lambda: view.operations.record_failure(source, "hidden/hidden-0.png", error="E", message="m", begun=1),
        lambda: view.features.status(source),
        lambda: view.features.compact(source),
    ]
    for do in done:
        with pytest.raises(UsageError, match="for questions"):
            do()
    assert begun == [], "refused before models are loaded"


def test_a_view_of_a_view_is_what_both_see(client: Client, view: Client, bucket: str) -> None:
    assert view.within([(bucket, "seen/seen-1")]).status().images == 11
    assert view.within([(bucket, "")]).status().images == COUNT
    assert view.within([]).status().images == COUNT
    assert view.within([(bucket, "hidden/")]).status().images == 0
    assert view.within([(bucket, "hidden/")]).query(text="red").hits == ()
    assert client.within([]).status().images == 2 * COUNT
