"""Many questions at once: the answers of `query`, in order, in batches, and one bad question stops no other."""

from __future__ import annotations

import asyncio
import json
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.machine import Machine
from fakes.models import SickDevice, drawn, poisoned
from fakes.serving import Served, png_of
from fakes.standing import add_noise
from PIL import Image

from searchanything.client import asking_many, remote_many
from searchanything.client.awaited import AsyncRemoteClient
from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.client.remote import RemoteClient
from searchanything.core.errors import (
    BusyError,
    DeviceError,
    FilterError,
    ImageError,
    IndexNotFoundError,
    IndexUnavailableError,
    ObjectNotFoundError,
    PromptError,
    StoreUnavailableError,
    UsageError,
)
from searchanything.core.types import Filter, ImageRef, RegionRef
from searchanything.prompts.prompt import Points

IMAGES = {
    "a/two.png": drawn(64, 96, red=(4, 4, 40, 60), blue=(50, 8, 90, 40)),
    "a/red.png": drawn(64, 96, red=(8, 4, 44, 60)),
    "b/blue.png": drawn(64, 96, blue=(20, 8, 60, 40)),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The images of an index."""
    for name, image in IMAGES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def client(machine: Machine, folder: Path) -> Client:
    client = connect("memory://", preset="pico")
    client.index(folder, add_words=True)
    machine.segmenter.batch_sizes.clear()
    return client


def questions_of(client: Client, folder: Path) -> list[Any]:
    red = RegionRef(ImageRef(str(folder), "a/red.png"), 0)
    hit = client.query(red, limit=1)[0]
    two = str(folder / "a/two.png")
    return [
        (two, (10, 10)), (two, [60, 10, 85, 38]), red, hit, [red, hit], (red, None), "blue", (two, None),
        (ImageRef(str(folder), "b/blue.png"), (30, 20)), (IMAGES["a/red.png"], (20, 20)),
        (Path(two), "red"), ((folder / "a/red.png").read_bytes(), (20, 20)), (red.image, (2, 2)),
    ]  # fmt: skip


def asked_singly(client: Client, question: Any, **page: Any) -> Any:
    if isinstance(question, str):
        return client.query(text=question, **page)
    return client.query(*question, **page) if isinstance(question, tuple) else client.query(question, **page)


def said(results: Any) -> tuple[Any, ...]:
    """An answer, of figures six digits: one product of many rows rounds otherwise than one of each."""
    figures = [[round(one, 6) for one in (hit.similarity, hit.false_match) if one is not None] for hit in results]
    hits = [(hit.ref, hit.distance_bits, *of_hit) for hit, of_hit in zip(results, figures, strict=True)]
    return hits, results.selection.kind, results.selection.box_xyxy, results.prompt_description


@pytest.mark.parametrize("page", [{}, {"limit": 2, "group_by_image": True, "rescore": 0}, {"max_false_match": 0.5}])
@pytest.mark.parametrize("at_once", [1, 3, 16])
def test_the_answers_are_those_of_single_questions(
    client: Client, folder: Path, page: dict[str, Any], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking_many, "AT_ONCE", at_once)
    add_noise(client)
    questions = questions_of(client, folder)
    page = page | {"filter": Filter(key_prefix="a/")}
    answers = list(client.query_many(iter(questions), **page))
    assert [one.number for one in answers] == list(range(len(questions)))
    assert [one.question is question for one, question in zip(answers, questions, strict=True)] == [True] * 13
    assert [one.error for one in answers] == [None] * 13
    assert json.loads(json.dumps(answers[0].to_dict()))["answer"]["fingerprint"] == client.manifest.fingerprint
    assert [said(one.results) for one in answers] == [said(asked_singly(client, one, **page)) for one in questions]


def test_images_are_segmented_in_batches_and_one_that_is_asked_often_once(
    client: Client, machine: Machine, folder: Path
) -> None:
    questions = [(str(folder / name), (30, 20)) for name in IMAGES for _ in range(5)]
    read = []
    load = asking_many.Asking.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking_many.Asking, "load", lambda asking, image: read.append(image) or load(asking, image))
        assert len(list(client.query_many(questions))) == 15
    assert machine.segmenter.batch_sizes == [3]
    assert sorted(read) == sorted({image for image, _ in questions})


def test_indexed_regions_load_no_model(client: Client, machine: Machine, folder: Path) -> None:
    machine.loads.clear()
    red = RegionRef(ImageRef(str(folder), "a/red.png"), 0)
    assert [one.results[0].ref for one in client.query_many([red] * 3)] == [red] * 3
    assert (machine.loads, machine.segmenter.batch_sizes) == ([], [])


def test_a_question_without_an_answer_has_its_error_and_the_others_go_on(client: Client, folder: Path) -> None:
    (folder / "text.jpg").write_text("no image")
    good = (str(folder / "a/two.png"), (10, 10))
    bad: list[tuple[Any, type[Exception], str]] = [
        ((str(folder / "none.png"), (1, 1)), ImageError, "none.png"),
        ((str(folder / "text.jpg"), (1, 1)), ImageError, "text.jpg"),
        ((good[0], (1000, 10)), PromptError, "1000"),
        ((good[0], "red", "blue"), UsageError, "expected a question"),
        ((good[0], object()), PromptError, "prompt"),
        (RegionRef(ImageRef(str(folder), "a/red.png"), 7), ObjectNotFoundError, "7"),
        (RegionRef(ImageRef(str(folder), "gone.png"), 0), ObjectNotFoundError, "gone.png"),
        ((ImageRef(str(folder), "gone.png"), (1, 1)), ObjectNotFoundError, "gone.png"),
        ((RegionRef(ImageRef(str(folder), "a/red.png"), 0), (1, 1)), PromptError, "prompt"),
        (good[0], UsageError, "is a file"),
        ([], UsageError, "0"),
        (None, UsageError, "expected a question"),
        (" ", PromptError, "text"),
        ((np.zeros((4, 4)), (1, 1)), UsageError, "uint8"),
    ]
    asked = [part for question, _, _ in bad for part in (question, good)]
    answers = list(client.query_many(asked))
    assert [one.results is None for one in answers] == [True, False] * len(bad)
    for answer, (question, kind, match) in zip(answers[::2], bad, strict=True):
        assert (type(answer.error), match in str(answer.error)) == (kind, True), question
    (alone,) = {tuple(hit.ref for hit in answer.results) for answer in answers[1::2]}
    assert alone == tuple(hit.ref for hit in client.query(*good))


def test_what_concerns_all_questions_is_raised_before_any_is_read(client: Client) -> None:
    def never() -> Iterator[Any]:
        raise AssertionError
        yield

    rates = ({"max_false_match": 2.0}, {"max_false_match": 0.1})
    for wrong in ({"limit": 0}, {"group_by_image": "yes"}, {"limit": 10**9}, *rates):
        with pytest.raises(UsageError):
            client.query_many(never(), **wrong)
    with pytest.raises(FilterError):
        client.query_many(never(), filter=Filter(expression="area_px >"))
    for questions in ("blue", 3, None):
        with pytest.raises(UsageError, match="questions: expected a list"):
            client.query_many(questions)  # type: ignore[arg-type]
    with pytest.raises(IndexNotFoundError):
        connect("memory://", preset="pico").query_many(never())
    assert list(client.query_many([])) == []


@pytest.mark.parametrize("error", [IndexUnavailableError("away"), StoreUnavailableError("away")])
def test_an_index_or_store_that_goes_away_ends_it_after_what_was_answered(
    client: Client, folder: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking_many, "AT_ONCE", 1)
    two = str(folder / "a/two.png")
    lost = ImageRef("s3-like", "x.png")
    load = asking_many.Asking.load

    def loaded(asking: Any, image: Any) -> Any:
        if image is lost:
            raise error
        return load(asking, image)

    monkeypatch.setattr(asking_many.Asking, "load", loaded)
    answers = client.query_many([(two, (10, 10)), (two, (60, 10)), (lost, (1, 1)), (two, (10, 10))])
    assert [next(answers).number, next(answers).number] == [0, 1]
    with pytest.raises(type(error), match="away"):
        next(answers)
    assert list(answers) == []


def test_an_image_that_no_model_takes_is_its_own_error(client: Client) -> None:
    good, bad = IMAGES["a/two.png"], poisoned(IMAGES["a/two.png"])
    answers = list(client.query_many([(good, (10, 10)), (bad, (10, 10)), (good, (60, 10))]))
    assert [type(one.error) for one in answers] == [type(None), ImageError, type(None)]
    assert "cannot be encoded: RuntimeError: the segmenter choked" in str(answers[1].error)


def test_one_question_by_it_says_the_same_here_and_of_a_server(client: Client, remote: RemoteClient) -> None:
    bad = poisoned(IMAGES["a/two.png"])
    for ask in (
        lambda: client.query(bad, (10, 10)),
        lambda: client.compare(bad, (10, 10)),
        lambda: client.combine(all_of=[(bad, (10, 10))]),
        lambda: remote.query(png_of(bad), (10, 10)),
    ):
        with pytest.raises(ImageError, match="cannot be encoded: RuntimeError"):
            ask()
    answers = list(remote.query_many([(png_of(bad), (10, 10)), "blue"]))
    assert [type(one.error) for one in answers] == [ImageError, type(None)]


def test_a_sick_device_is_no_question_s_fault(machine: Machine, folder: Path) -> None:
    machine.segmenter = SickDevice(healthy_calls=1)  # the index
    client = connect("memory://", preset="pico")
    client.index(folder)
    with pytest.raises(DeviceError):
        list(client.query_many([(IMAGES["a/two.png"], (10, 10))]))


def test_left_early_it_reads_nothing_more(client: Client, folder: Path) -> None:
    taken = []

    def stream() -> Iterator[Any]:
        for number in range(10_000):
            taken.append(number)
            yield str(folder / "a/two.png"), (10, 10)

    before = set(threading.enumerate())  # threads of other tests may end meanwhile
    answers = client.query_many(stream())
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert len(taken) <= 5 * asking_many.AT_ONCE
    assert set(threading.enumerate()) <= before


def test_an_interrupt_does_not_wait_for_the_batch_under_way(
    client: Client, machine: Machine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released = threading.Event(), threading.Event()
    segment = machine.segmenter.segment

    def slow(*images: Any) -> Any:
        begun.set()
        assert released.wait(60)
        return segment(*images)

    monkeypatch.setattr(machine.segmenter, "segment", slow)
    interrupted_when(begun, client.query_many([(str(folder / "a/two.png"), (10, 10))]), released)


def test_an_interrupt_does_not_wait_for_a_server() -> None:
    begun, released = threading.Event(), threading.Event()

    def ask(**_question: Any) -> Any:
        begun.set()
        assert released.wait(60)

    interrupted_when(begun, remote_many.ask_many(ask, ["red"]), released)


def interrupted_when(begun: threading.Event, answers: Iterator[Any], released: threading.Event) -> None:
    """Ctrl-C once the work has begun, which goes on until it is released.

    A signal that comes just before the system call that waits does not end the wait: it is sent until it was taken.
    """
    me, taken = threading.get_ident(), threading.Event()

    def take_once(*_: object) -> None:
        if not taken.is_set():
            taken.set()
            raise KeyboardInterrupt

    def interrupt() -> None:
        begun.wait(60)
        while not taken.wait(0.1):
            signal.pthread_kill(me, signal.SIGINT)

    before = signal.signal(signal.SIGINT, take_once)  # a shell's job in the background ignores it
    sender = threading.Thread(target=interrupt)
    sender.start()
    after = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            next(answers)
        assert time.monotonic() - after < 30
    finally:
        taken.set()
        sender.join()
        released.set()
        signal.signal(signal.SIGINT, before)


def test_answers_hold_no_pixels_and_read_their_image_again(client: Client, folder: Path) -> None:
    question = (str(folder / "a/two.png"), (10, 10))
    (answer,) = client.query_many([question])
    alone = client.query(*question)
    results = answer.results
    assert callable(results.query_image)
    assert np.array_equal(results.image, alone.image)
    assert results.receipt()["image"] == alone.receipt()["image"]
    image = ImageRef(str(folder), "b/blue.png")
    assert results.explain(image).to_dict()["verdict"] == alone.explain(image).to_dict()["verdict"]
    hit = results[1]
    assert [one.ref for one in results.refine(right=[hit.ref])] == [one.ref for one in alone.refine(right=[hit.ref])]
    large = np.zeros((3000, 3000, 3), dtype=np.uint8)
    large[100:900, 100:900] = IMAGES["a/two.png"][10, 10]
    Image.fromarray(large).save(folder / "large.png")
    (answer,) = client.query_many([(str(folder / "large.png"), (300, 300))])
    assert len(pickle.dumps(replace_image(answer.results))) < 100_000


def replace_image(results: Any) -> Any:
    """The answer without what reads its image again."""
    import dataclasses

    return dataclasses.replace(results, query_image=np.zeros((1, 1, 3), np.uint8), asked={})


def test_a_buffer_that_is_used_again_is_asked_as_it_was(client: Client) -> None:
    """As frames of a video are: each question is of what the array, or PIL image, held when it was taken."""
    frames = [IMAGES["a/red.png"], IMAGES["b/blue.png"], IMAGES["b/blue.png"], IMAGES["a/two.png"]]
    buffer, picture = frames[0].copy(), Image.fromarray(frames[0])

    def stream(*, of_pil: bool) -> Iterator[Any]:
        for frame in frames:
            buffer[:] = frame
            picture.paste(Image.fromarray(frame))
            yield (picture if of_pil else buffer), (30, 20)
        buffer[:] = 0

    alone = [client.query(frame, (30, 20)) for frame in frames]
    for of_pil in (False, True):
        answers = [one.results for one in client.query_many(stream(of_pil=of_pil))]
        assert [said(one) for one in answers] == [said(one) for one in alone]
        assert [np.array_equal(one.image, frame) for one, frame in zip(answers, frames, strict=True)] == [True] * 4
        digests = [one.receipt()["image"]["pixels_sha256"] for one in answers]
        assert digests == [one.receipt()["image"]["pixels_sha256"] for one in alone]


def test_images_asked_before_are_not_segmented_again(client: Client, machine: Machine, folder: Path) -> None:
    questions = [(folder / name, (30, 20)) for name in IMAGES]
    client.query(*questions[0])
    machine.segmenter.batch_sizes.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking_many, "AT_ONCE", 3)
        assert len(list(client.query_many(questions * 3))) == 9
    assert machine.segmenter.batch_sizes == [2]


def test_large_images_are_few_in_a_batch_and_few_are_read_ahead(
    client: Client, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking_many, "BATCH_PIXELS", 2 * 64 * 96)
    monkeypatch.setattr(asking_many, "READERS", 2)
    taken = []

    def stream() -> Iterator[Any]:
        for number in range(40):
            taken.append(number)
            yield drawn(64, 96, red=(number, 4, number + 30, 60)), (number + 10, 20)

    answers = client.query_many(stream())
    next(answers)
    assert len(taken) <= 2 * 5 + 2
    assert [one.error for one in answers] == [None] * 39
    assert machine.segmenter.batch_sizes == [2] * 20


def test_errors_that_are_kept_hold_no_frames(client: Client, folder: Path, served: tuple[Served, str]) -> None:
    (folder / "text.jpg").write_text("no image")
    two = str(folder / "a/two.png")
    bad = [
        (two, (1000, 10)), (str(folder / "text.jpg"), None), (str(folder / "none.png"), None), (two, object()),
        (poisoned(IMAGES["a/two.png"]), (1, 1)), RegionRef(ImageRef(str(folder), "gone.png"), 0),
    ]  # fmt: skip
    with RemoteClient(served[1]) as remote:
        for answers in (client.query_many([(two, (10, 10)), *bad]), remote.query_many([*bad[:4], bad[5]])):
            errors: list[Any] = [one.error for one in answers if one.error]
            assert len(errors) in (5, 6)
            while errors:
                error = errors.pop()
                assert error.__traceback__ is None, repr(error)
                errors += [one for one in (error.__cause__, error.__context__) if one is not None]


def test_answers_by_words_hold_no_canvas(client: Client) -> None:
    (answer,) = client.query_many(["blue"])
    assert answer.results.image.strides == (0, 0, 0)
    assert answer.results.image.shape == (240, 320, 3)
    assert len(answer.results._repr_html_()) > 0


def test_a_receipt_names_its_image_wherever_the_process_goes(
    client: Client, folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    alone = client.query("a/two.png", (10, 10))
    (answer,) = client.query_many([("a/two.png", (10, 10))])
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert answer.results.receipt()["image"] == alone.receipt()["image"]
    assert np.array_equal(answer.results.image, alone.image)


def test_what_was_taken_before_the_questions_fail_is_answered(client: Client, folder: Path) -> None:
    def stream(count: int) -> Iterator[Any]:
        for _ in range(count):
            yield str(folder / "a/two.png"), (10, 10)
        raise LookupError("no more")

    for count in (0, 1, 5, 16, 20):
        answers, numbers = client.query_many(stream(count)), list[int]()
        with pytest.raises(LookupError):
            numbers.extend(one.number for one in answers)
        assert numbers == list(range(count))


def test_a_segmenter_that_falls_sick_is_found_though_it_knew_the_known_image(machine: Machine, folder: Path) -> None:
    client = connect("memory://", preset="pico")
    client.index(folder)
    (answer,) = client.query_many([(poisoned(IMAGES["a/two.png"]), (10, 10))])
    assert isinstance(answer.error, ImageError)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine.segmenter, "segment", SickDevice(healthy_calls=0).segment)
        with pytest.raises(DeviceError):
            list(client.query_many([(IMAGES["b/blue.png"], (30, 20))]))


def test_a_server_answers_the_same(served: tuple[Served, str], remote: RemoteClient) -> None:
    one, url = served
    two, red = str(one.folder / "a/two.png"), RegionRef(ImageRef(one.bucket, "a/red.png"), 0)
    questions = [(two, (10, 10)), red, [red], (red, None), "blue", (red.image, (20, 20)), (two, None)]
    bad = [(two, (1000, 10)), (str(one.folder / "none.png"), None), two, 7, RegionRef(red.image, 9)]
    here = list(one.client.query_many([*questions, *bad], limit=2))
    there = list(remote.query_many(iter([*questions, *bad]), limit=2))

    async def awaited() -> list[Any]:
        async with AsyncRemoteClient(url) as client:
            found = [answer async for answer in client.query_many([*questions, *bad], limit=2)]
            assert await found[0].results.explain(red.image)
            return found

    for answers in (there, asyncio.run(awaited())):
        documents = [json.loads(json.dumps(answer.to_dict())) for answer in answers]
        assert [one["number"] for one in documents] == list(range(12))
        assert documents[0]["answer"]["hits"][0]["key"] == there[0].results[0].image.key
        assert [one["error"] is None for one in documents] == [one["answer"] is not None for one in documents]
        assert documents[7]["error"] == {"type": "PromptError", "message": str(answers[7].error)}
        assert [answer.number for answer in answers] == list(range(12))
        assert [[hit.ref for hit in answer.results] for answer in answers[:7]] == [
            [hit.ref for hit in answer.results] for answer in here[:7]
        ]
        assert [type(answer.error) for answer in answers] == [type(answer.error) for answer in here]
    for wrong in ({"filter": Filter(expression="a > 1")}, {"limit": 0}, {"rescore": 1.5}, {"group_by_image": 2}):
        with pytest.raises(UsageError):
            remote.query_many(questions, **wrong)


def test_a_busy_server_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    times = []
    waits: list[float] = []
    monkeypatch.setattr(remote_many.time, "sleep", waits.append)

    def ask(**question: Any) -> Any:
        times.append(question)
        if len(times) < 4:
            raise BusyError("busy", retry_after_s=2)
        return question

    assert [one.results for one in remote_many.ask_many(ask, ["red"])] == [{"text": "red"}]
    assert waits == [2, 2, 2]
    monkeypatch.setattr(remote_many, "BUSY_TIMES", 2)
    times.clear()
    with pytest.raises(BusyError):
        list(remote_many.ask_many(ask, ["red"]))


def test_in_a_view_of_places_nothing_else_is_asked_or_found(client: Client, folder: Path) -> None:
    view = client.within([(str(folder), "a/")])
    red, blue = (RegionRef(ImageRef(str(folder), name), 0) for name in ("a/red.png", "b/blue.png"))
    questions = [
        red,
        blue,
        [red, blue],
        (blue.image, (30, 20)),
        (red.image, None),
        "blue",
        (red.image, Points([(20, 20)], [(1, 1)])),
    ]
    answers = list(view.query_many(questions))
    found = [None if one.results is None else {hit.image.key for hit in one.results} for one in answers]
    assert [type(one.error) for one in answers if one.results is None] == [ObjectNotFoundError] * 3
    assert [one is None for one in found] == [False, True, True, True, False, False, False]
    assert set.union(*(one for one in found if one is not None)) == {"a/red.png", "a/two.png"}
    for question, answer in zip(questions, answers, strict=True):
        if answer.results is not None:
            assert said(answer.results) == said(asked_singly(view, question))
