"""Files and documents of strangers: pipes, devices, huge masks, files elsewhere, parts of pages, and broken filters."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

import searchanything
from searchanything.answers.receipts import Receipt
from searchanything.cli.app import run
from searchanything.core.errors import AnnotationsError, FilterError, ImageError, PromptError, UsageError
from searchanything.core.geometry import check_rle, decode_rle, encode_rle, mask_of_size
from searchanything.core.reading import inside, open_file, read_file
from searchanything.core.settings import Settings
from searchanything.core.types import Filter, ImageRef, MaskRLE
from searchanything.evaluation.coco import read_coco
from searchanything.evaluation.reading import _check_inside
from searchanything.evaluation.voc import read_voc
from searchanything.hash_training.importing import import_layer
from searchanything.images.inputs import load_image, named_image
from searchanything.prompts.prompt import Box, Mask, Prompts, as_prompt

HUGE = MaskRLE((80_000, 80_000), "0ooooo5")  # any text: the size alone must be refused
Ask = Callable[..., searchanything.Client]


def unread(image: ImageRef) -> bytes:
    raise AssertionError(f"nobody should have asked for {image}")


def load(image: Any) -> np.ndarray:
    return load_image(image, read_object=unread, max_pixels=10_000)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe.png")
    return tmp_path / "pipe.png"


@pytest.mark.parametrize("place", ["pipe", "/dev/zero", "/dev/null"])
@pytest.mark.parametrize(
    ("read", "error"),
    [
        (load, ImageError),
        (open_file, OSError),
        (read_file, OSError),
        (read_coco, AnnotationsError),
        (lambda path: import_layer(path.with_suffix(".onnx"), mask_dimension=1, image_dimension=1), UsageError),
    ],
    ids=["image", "open", "read", "coco", "hash"],
)
def test_only_regular_files_are_opened(pipe: Path, place: str, read: Callable[[Path], object], error: type) -> None:
    path = pipe if place == "pipe" else Path(place)
    os.mkfifo(pipe.with_suffix(".onnx"))
    with pytest.raises(error, match=r"expected a regular file, this is a (pipe|device)|No such file"):
        read(path)


def test_a_folder_and_a_long_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this is a folder"):
        load(tmp_path)
    (tmp_path / "long").write_bytes(bytes(11))
    assert read_file(tmp_path / "long", most_bytes=11) == bytes(11)
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_file(tmp_path / "long", most_bytes=10)


def test_names_lead_out_of_no_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to("/etc/hostname")
    assert inside(tmp_path / "in", "a/b.jpg") == tmp_path / "in" / "a" / "b.jpg"
    for name in ("../x", "/etc/passwd", "a/../../x", "link"):
        with pytest.raises(OSError, match="lies outside of"):
            inside(tmp_path / "in", name)
        with pytest.raises(ImageError, match="lies outside of"):
            _check_inside(tmp_path / "in", name)
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("../../../secret\n")
    with pytest.raises(AnnotationsError, match="lies outside of"):
        read_voc(tmp_path)


@pytest.mark.parametrize("size", [(80_000, 80_000), (-3, -3), (10**30, 10**30)])
def test_no_mask_is_made_larger_than_an_image(size: tuple[int, int]) -> None:
    for read in (decode_rle, check_rle, lambda rle: mask_of_size(rle, 8, 8)):
        with pytest.raises(ValueError, match="at most 268,435,456 cells"):
            read(MaskRLE(size, HUGE.counts))
    with pytest.raises(ValueError, match="at most 268,435,456 cells"):
        mask_of_size(encode_rle(np.ones((4, 4), np.bool_)), 80_000, 80_000)


def test_a_mask_is_no_larger_than_its_reader_allows() -> None:
    rle = encode_rle(np.ones((4, 4), np.bool_))
    for read in (decode_rle, check_rle):
        assert read(rle, most_cells=16).sum() == 16
        with pytest.raises(ValueError, match="at most 15 cells, got 4 x 4"):
            read(rle, most_cells=15)


@pytest.mark.parametrize("counts", ["oooooooooooooo0", "ooooooooooooo", "\x7f\x7f", "oooooooO0" * 9, "P" * 99])
def test_numbers_beyond_any_mask_are_refused(counts: str) -> None:
    with pytest.raises(ValueError, match="fill a mask"):
        decode_rle(MaskRLE((1000, 1000), counts))


def coco(tmp_path: Path, image: dict[str, Any], segmentation: Any) -> Path:
    one = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": segmentation, "bbox": [0, 0, 2, 2]}
    document = {"images": [{"id": 1, "file_name": "a.jpg", **image}], "annotations": [one]}
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(document | {"categories": [{"id": 1, "name": "thing"}]}))
    return path


def test_annotations_declare_no_huge_masks(tmp_path: Path) -> None:
    for segmentation in ({"size": [80_000, 80_000], "counts": [6_400_000_000]}, [[0, 0, 4, 0, 4, 4]]):
        with pytest.raises(AnnotationsError, match="at most 268,435,456 pixels"):
            read_coco(coco(tmp_path, {"width": 80_000, "height": 80_000}, segmentation))
    with pytest.raises(AnnotationsError, match="coordinates near the image"):
        read_coco(coco(tmp_path, {"width": 8, "height": 8}, [[0, 0, 1e9, 0, 1e9, 1e9]]))
    assert len(read_coco(coco(tmp_path, {"width": 8, "height": 8}, [[-1, 0, 9, 0, 9, 9]])).images) == 1


# --- receipts --------------------------------------------------------------------------------------------------


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of its own with images of which the first ones are much alike, and models written by hand."""
    Machine().install(monkeypatch)
    (tmp_path / "images").mkdir()
    for number in range(6):
        image = drawn(48, 64, red=(4, 4, 30 + number, 40), blue=(40, 8, 60, 40))
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


@pytest.fixture
def client(place: Path) -> searchanything.Client:
    settings = Settings(_env_file=None)
    settings.milvus.uri, settings.models.preset = "memory://", "pico"
    client = searchanything.connect(settings=settings)
    client.index(place / "images")
    return client


@pytest.mark.parametrize(
    "part", [slice(None), slice(2, 5), slice(1, None, 2), slice(None, None, -1), slice(3, 3), slice(-2, None)]
)
@pytest.mark.parametrize("offset", [0, 2])
def test_any_part_of_a_page_replays_as_the_same(
    client: searchanything.Client, place: Path, part: slice, offset: int
) -> None:
    found = client.query(place / "images" / "0.png", (10, 10), limit=8, offset=offset)
    for results in (found[part], found[1:][part], found[::2][part]):
        replayed = client.replay(json.loads(json.dumps(results.receipt())))
        assert replayed.same, replayed.to_text()


def test_what_is_missing_from_a_part_of_a_page_is_told(client: searchanything.Client, place: Path) -> None:
    results = client.query(place / "images" / "0.png", (10, 10), limit=5)
    receipt = results[1:3].receipt()
    receipt["hits"][0]["key"] = "other.png"
    told = {one.what: (one.then or one.now)["rank"] for one in client.replay(receipt).differences}
    assert told == {"hit lost": 2, "hit gained": 2}
    for places in ([0], [0, 0], ["0", 1], [-1, 0], 3):
        with pytest.raises(UsageError, match="the receipt is damaged"):
            Receipt.parse(receipt | {"positions": places})


def test_nothing_is_hashed_before_a_receipt_is_asked_for(
    client: searchanything.Client, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from searchanything.answers import questions

    hashed: list[int] = []
    real = questions.pixels_digest
    monkeypatch.setattr(questions, "pixels_digest", lambda pixels: hashed.append(1) or real(pixels))
    monkeypatch.chdir(place / "images")
    results = client.query("0.png", (10, 10))
    assert hashed == []
    monkeypatch.chdir("/")
    assert results.receipt()["image"]["path"] == str(place / "images" / "0.png")
    assert hashed == [1]


def test_a_mask_of_a_receipt_is_as_large_as_its_image(client: searchanything.Client, place: Path) -> None:
    mask = np.zeros((48, 64), np.bool_)
    mask[4:30, 4:30] = True
    receipt = json.loads(json.dumps(client.query(place / "images" / "0.png", mask).receipt()))
    assert client.replay(receipt).same
    huge = {"size": [80_000, 80_000], "counts": "0PPPPPn"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for change in (
        {"prompt": receipt["prompt"] | {"mask": huge}},
        {"prompt": receipt["prompt"] | {"mask": huge}, "image": receipt["image"] | {"width": 80_000, "height": 80_000}},
        {"selection": receipt["selection"] | {"mask": huge}},
    ):
        with pytest.raises(UsageError, match="the receipt is damaged"):
            client.replay(receipt | change)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize("named", ["/etc/passwd", "/dev/zero", "{place}/secret.txt", "{place}/elsewhere/../secret.txt"])
def test_a_receipt_opens_no_file_that_its_user_did_not_name(
    client: searchanything.Client, place: Path, named: str
) -> None:
    (place / "secret.txt").write_text("the secret")
    receipt = client.query(place / "images" / "0.png", (10, 10)).receipt()
    path = named.format(place=place)
    folder, _, name = path.rpartition("/")
    for source in ({"source": "file", "path": path}, {"source": "object", "bucket": folder or "/", "key": name}):
        with pytest.raises(UsageError, match=r"outside of this folder: give the image yourself \(--image\)") as told:
            client.replay(receipt | {"image": receipt["image"] | source})
        assert "secret'" not in str(told.value)
    assert client.replay(receipt, place / "images" / "0.png").same


def test_a_receipt_may_name_files_beside_itself_below_this_folder_and_of_the_index(
    client: searchanything.Client, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for where in ("elsewhere", "third"):
        (place / where).mkdir(exist_ok=True)
        (place / where / "q.png").write_bytes((place / "images" / "0.png").read_bytes())
    assert client.replay(client.query("q.png", (10, 10)).receipt()).same
    third = client.query(place / "third" / "q.png", (10, 10)).receipt()
    with pytest.raises(UsageError, match="give the image yourself"):
        client.replay(third)
    assert client.replay(third, folder=place / "third").same
    monkeypatch.chdir("/")  # everything is below it, and nobody meant that
    with pytest.raises(UsageError, match="give the image yourself"):
        client.replay(third)
    assert client.replay(client.query(place / "images" / "0.png", (10, 10)).receipt()).same


@pytest.mark.parametrize("text", ["[" * 200_000, "[]", "\ud800", '{"format": 1e999}'])
def test_a_receipt_that_is_none_is_a_usage_error(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.json").write_text(text, errors="surrogatepass")
    assert run(["replay", str(tmp_path / "r.json"), "--uri", "memory://"]) == 2
    assert "error: " in capsys.readouterr().err


# --- filters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["query", "compare"])
def test_a_filter_is_refused_where_the_prompt_selects_nothing(
    client: searchanything.Client, place: Path, verb: str
) -> None:
    ask = getattr(client, verb)
    image, nowhere = place / "images" / "0.png", (63, 1)
    if verb == "query":
        assert client.query(image, nowhere).selection.kind == "none"
        with pytest.raises(UsageError, match="16,384 at most"):
            client.query(image, nowhere, offset=10**6)
    for wanted in (Filter(expression='nofield == "'), Filter(area_px=(9, 3)), Filter(key_prefix="\n")):
        with pytest.raises(FilterError):
            ask(image, nowhere, filter=wanted)


# --- inputs ----------------------------------------------------------------------------------------------------


def test_names_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert named_image("S3://bucket/a b.jpg") == ImageRef("bucket", "a b.jpg")
    assert named_image("~/a.jpg") == named_image(Path("~/a.jpg")) == tmp_path / "a.jpg"
    for text in ("file:///a/b%20c.jpg", "FILE://localhost/a/b%20c.jpg"):
        assert named_image(text) == Path("/a/b c.jpg")
    assert named_image("a:b.jpg") == Path("a:b.jpg")
    for text in ("https://example.com/a.jpg", "HTTP://x/a.jpg", Path("https://example.com/a.jpg")):
        with pytest.raises(UsageError, match="addresses are never fetched: download the image"):
            named_image(text)
    for text in ("gs://bucket/a.jpg", "file://server/a.jpg", "file://", "~nobody-of-this-name/a.jpg"):
        with pytest.raises(UsageError, match="expected a file"):
            named_image(text)


@pytest.mark.parametrize(
    ("array", "hint"),
    [
        (np.zeros((4, 4, 3)), r"\(255 \* array\)"),
        (np.zeros((4, 4, 3), np.uint16), "scale the values"),
        (np.zeros((4, 4), np.uint8), r"numpy.stack\(\[array\] \* 3"),
        (np.zeros((4, 4, 4), np.uint8), r"array\[..., :3\]"),
        (np.zeros((3, 4, 5), np.uint8), r"transpose\(1, 2, 0\)"),
    ],
)
def test_arrays_that_are_none_say_what_makes_them_one(array: np.ndarray, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        load(array)


def test_masks_of_zeros_and_ones_are_masks() -> None:
    expected = np.zeros((20, 30), np.bool_)
    expected[3:9, 4:20] = True
    for given in (expected * np.uint8(255), expected * np.uint8(1), expected[..., None], expected.astype(np.int64)):
        found = as_prompt(given)
        assert isinstance(found, Mask)
        np.testing.assert_array_equal(found.mask, expected)
        np.testing.assert_array_equal(Mask(given).mask, expected)
    for wrong, hint in ((expected.astype(float), "mask > 0.5"), (np.arange(600).reshape(20, 30), "mask > 127")):
        with pytest.raises(PromptError, match=f"as in {hint}"):
            as_prompt(wrong)


def test_a_box_in_shares_of_the_image_is_told(client: searchanything.Client, place: Path) -> None:
    image = place / "images" / "0.png"
    for prompt in ((0.1, 0.1, 0.5, 0.5), Box(0.1, 0.1, 0.5, 0.5), Prompts((Box(0, 0, 1, 0.5),), text="a cat")):
        with pytest.raises(PromptError, match=r"expected a box in pixels .* give \("):
            client.query(image, prompt)
        with pytest.raises(PromptError, match=r"expected a box in pixels"):
            client.compare(image, prompt)
    assert client.query(image, (0, 0, 1, 1)).selection.kind == "region"
