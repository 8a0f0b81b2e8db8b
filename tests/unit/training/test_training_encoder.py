"""The pico encoder's training code: crops, losses, merges, metrics, the hash layer and the files it writes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

from searchanything.models.openclip import OpenClipEncoder  # noqa: E402
from training.crops_dataset import Backgrounds, CropMaker, CropRecipe, Drawings, fit_icon  # noqa: E402
from training.encoder_export import ridge_map  # noqa: E402
from training.encoder_model import BPE_FILE, CONTEXT_LENGTH, build_model, save_folder  # noqa: E402
from training.encoder_trainer import supervised_contrastive  # noqa: E402
from training.pictograms import plain_name  # noqa: E402
from training.retrieval_metrics import mean_average_precision, right_of_choices  # noqa: E402
from training.text_teacher import TEACHER_DIM, TeacherTable, extend, qualified, wordnet_nouns  # noqa: E402
from training.text_tower import VOCAB_SIZE, Lessons, encode_tokens, fit_projection, write_merges  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def a_disc() -> np.ndarray:
    """A white disc on a transparent ground, off the centre, (160, 160, 4) premultiplied."""
    rows, columns = np.mgrid[:160, :160]
    inside = (rows - 60) ** 2 + (columns - 90) ** 2 < 40**2
    return np.repeat((inside * 255).astype(np.uint8)[..., None], 4, axis=2)


def drawings(count: int = 4) -> Drawings:
    return Drawings(np.stack([fit_icon(a_disc())] * count), np.arange(count) // 2, np.arange(count) % 2)


def merges() -> list[tuple[str, str]]:
    """As many merges as the vocabulary holds, `c a` and `ca t</w>` first."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    made = [(a + b, c) for a in letters for b in letters for c in letters][: VOCAB_SIZE - 514 - 2]
    return [("c", "a"), ("ca", "t</w>"), *made]


# --- crops ---


def test_fit_icon_brings_the_visible_part_to_the_whole_square():
    fitted = fit_icon(a_disc())
    covered = np.flatnonzero(fitted[..., 3].max(0) > 127)
    assert fitted.shape == (96, 96, 4)
    assert covered[0] <= 1
    assert covered[-1] >= 94


def test_masked_crops_are_black_around_the_drawing_and_context_crops_are_not():
    bright = Backgrounds([np.full((200, 300, 3), 200, np.uint8)])
    rng = np.random.default_rng(0)
    for view, has_ground in (("masked", False), ("wide", True)):
        recipe = CropRecipe(views=((view, 1.0),), strength=0.0, box_jitter=0.0)
        crops = CropMaker(drawings(), bright, recipe).batch(np.zeros(24, np.int64), rng)
        corner_is_lit = (crops[:, 12, 12].max(-1) > 0) if has_ground else (crops[:, 3, 3].max(-1) > 40)
        assert crops.shape == (24, 96, 96, 3)
        assert crops[:, 48, 48].max(-1).mean() > 150
        assert corner_is_lit.mean() > 0.7 if has_ground else corner_is_lit.mean() < 0.3


def test_the_same_random_state_gives_the_same_crops():
    maker = CropMaker(drawings(), Backgrounds([]), CropRecipe())
    first, second = (maker.batch(np.arange(4), np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, second)


def test_drawings_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="equally many"):
        Drawings(np.zeros((2, 96, 96, 4), np.uint8), np.zeros(1, np.int64), np.zeros(2, np.int64))


# --- image tower ---


def test_supervised_contrastive_equals_the_formula_written_out():
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(6, 5), dim=1)
    labels = [0, 0, 1, 1, 1, 2]
    terms = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        total = sum(math.exp(float(vectors[i] @ vectors[j]) / 0.1) for j in others)
        own = [j for j in others if labels[j] == labels[i]]
        logs = [math.log(math.exp(float(vectors[i] @ vectors[j]) / 0.1) / total) for j in own]
        terms.append(-sum(logs) / max(len(own), 1))
    expected = sum(terms) / 6
    assert float(supervised_contrastive(vectors, torch.tensor(labels))) == pytest.approx(expected, rel=1e-4)


def test_names_are_written_as_people_write_them():
    assert plain_name("sports-car") == "sports car"


# --- words and text tower ---


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    """Three nouns in WordNet's format (wndb(5WN)): tagged, drawable but rare, rare and not drawable."""
    (tmp_path / "data.noun").write_text(
        "  1 the licence\n00000001 05 n 01 cat 0 000 | x\n00000002 20 n 01 x 0 000 | x\n00000003 07 n 01 x 0 000 | x\n"
    )
    (tmp_path / "index.noun").write_text(
        "  1 the licence\ncat n 1 2 @ ~ 1 7 00000001\nsea_fern n 1 0 1 0 00000002\noddness n 1 1 @ 1 0 00000003\n"
    )
    return tmp_path


def test_wordnet_gives_common_nouns_and_rare_ones_that_can_be_drawn(wordnet: Path):
    assert [(noun.text, noun.common) for noun in wordnet_nouns(wordnet)] == [("cat", True), ("sea fern", False)]


class CountingTeacher:
    """Embeds each text as a unit vector and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, sentences, **_options):
        self.asked += sentences
        return np.eye(TEACHER_DIM, dtype=np.float32)[[len(text) for text in sentences]]


def test_the_table_asks_the_teacher_only_for_what_it_lacks(tmp_path: Path):
    teacher = CountingTeacher()
    table = extend(TeacherTable.load(tmp_path / "none.npz"), ["cat", "tiger"], lambda: teacher)
    table = extend(table, ["cat", "bee"], lambda: teacher)
    assert teacher.asked == ["cat", "tiger", "bee"]
    table.save(tmp_path / "table.npz")
    again = TeacherTable.load(tmp_path / "table.npz")
    assert again.rows(["bee", "tiger"]).argmax(1).tolist() == [3, 5]
    with pytest.raises(KeyError):
        again.rows(["dog"])


def test_qualified_phrases_join_a_quality_and_a_short_name():
    phrases = qualified(["apple", "a very long name"], count=20, rng=np.random.default_rng(0))
    assert phrases
    assert all(phrase.endswith(" apple") for phrase in phrases)


def test_merges_are_read_back_by_open_clip(tmp_path: Path):
    write_merges(merges(), tmp_path / BPE_FILE)
    tokenizer = open_clip.SimpleTokenizer(bpe_path=str(tmp_path / BPE_FILE), context_length=6)
    tokens = tokenizer(["Cat"])[0].tolist()
    assert tokenizer.vocab_size == VOCAB_SIZE
    assert tokens == [VOCAB_SIZE - 2, 513, VOCAB_SIZE - 1, 0, 0, 0]


def test_too_few_merges_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="expected 4486 merges, got 1"):
        write_merges([("c", "a")], tmp_path / BPE_FILE)


def test_trimmed_encoding_equals_open_clips_own():
    torch.manual_seed(0)
    model = build_model(VOCAB_SIZE).eval()
    tokens = torch.zeros(2, 20, dtype=torch.long)
    tokens[0, :3] = torch.tensor([VOCAB_SIZE - 2, 7, VOCAB_SIZE - 1])
    tokens[1, :5] = torch.tensor([VOCAB_SIZE - 2, 9, 11, 13, VOCAB_SIZE - 1])
    with torch.inference_mode():
        assert torch.allclose(encode_tokens(model, tokens), model.encode_text(tokens), atol=1e-5)


def test_a_projection_is_fitted_to_what_the_tower_says(tmp_path: Path):
    """Targets that a projection of the tower's states gives are met by the fitted one."""
    torch.manual_seed(0)
    write_merges(merges(), tmp_path / BPE_FILE)
    tokenizer = open_clip.SimpleTokenizer(bpe_path=str(tmp_path / BPE_FILE), context_length=CONTEXT_LENGTH)
    model = build_model(VOCAB_SIZE)
    names = tuple(f"{first}{second}" for first in "abcdefghijklmnopq" for second in "abcdefghijklmnopqrs")
    truth = torch.randn_like(model.text_projection)
    model.text_projection = torch.nn.Parameter(truth)
    with torch.inference_mode():
        targets = encode_tokens(model, tokenizer(list(names))).numpy()
    table = TeacherTable(names, np.zeros((len(names), TEACHER_DIM), np.float32))
    lessons = Lessons(((names, 1.0),), table, targets)
    model.text_projection = torch.nn.Parameter(torch.zeros_like(truth))
    fit_projection(model, lessons, tokenizer)
    with torch.inference_mode():
        states = encode_tokens(model, tokenizer(list(names)))
    found = torch.nn.functional.cosine_similarity(states, torch.from_numpy(targets))
    assert found.mean() > 0.95  # every other text of the batch is a phrase round a name


def test_a_saved_encoder_is_loaded_by_the_package(tmp_path: Path):
    torch.manual_seed(0)
    model = build_model(VOCAB_SIZE).eval()
    save_folder(model, tmp_path, vocab_size=VOCAB_SIZE)
    write_merges(merges(), tmp_path / BPE_FILE)
    encoder = OpenClipEncoder.from_directory(tmp_path)
    crops = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    with torch.inference_mode():
        scaled = torch.from_numpy(crops).permute(0, 3, 1, 2) / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        direct = model.encode_image(scaled / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), normalize=True)
    assert (encoder.embed_crops(crops) * direct.numpy()).sum(1).min() > 0.999
    assert encoder.embed_texts(["cat", "a cat"]).shape == (2, 256)
    assert str(tmp_path) not in (tmp_path / "open_clip_config.json").read_text()


def test_ridge_map_recovers_a_linear_map():
    rng = np.random.default_rng(0)
    names, truth = rng.normal(size=(50, 8)).astype(np.float32), rng.normal(size=(8, 3)).astype(np.float32)
    assert np.allclose(ridge_map(names, names @ truth, penalty=1e-6), truth, atol=1e-3)


# --- metrics ---


def test_mean_average_precision_of_a_ranking_worked_out_by_hand():
    scores = np.array([[9, 8, 7, 6, 5]], np.float32)
    relevant = np.array([[True, False, True, True, False]])
    admissible = np.array([[False, True, True, True, True]])  # the first is the query's own image
    # Ranks among the admissible: miss, hit, hit -> (1/2 + 2/3) / 2 relevant ones.
    assert mean_average_precision(scores, relevant, admissible=admissible) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert mean_average_precision(scores, relevant, admissible=admissible, depth=2) == pytest.approx((1 / 2) / 2)
    assert mean_average_precision(scores, ~admissible, admissible=admissible) == 0.0


def test_right_of_choices_is_one_for_itself_and_chance_for_noise():
    rng = np.random.default_rng(0)
    rows = np.linalg.qr(rng.normal(size=(64, 64)))[0].astype(np.float32)
    noise = rng.normal(size=(64, 64)).astype(np.float32)
    assert right_of_choices(rows, rows, choices=6, rounds=2, rng=rng) == 1.0
    assert right_of_choices(rows, noise, choices=6, rounds=40, rng=rng) == pytest.approx(1 / 6, abs=0.06)


# --- what is shipped ---


SHIPPED = Path(__file__).parents[3] / "searchanything" / "models" / "weights" / "pico"


@pytest.mark.slow
def test_the_shipped_encoder_tells_texts_apart():
    encoder = OpenClipEncoder.from_directory(SHIPPED / "encoder")
    vectors = encoder.embed_texts(["dog", "a photo of a dog", "an emoji of a truck"])
    assert vectors[0] @ vectors[1] > 0.8
    assert vectors[0] @ vectors[2] < 0.5


def test_the_shipped_files_are_small_and_say_where_they_come_from():
    weights = SHIPPED / "encoder" / "open_clip_model.safetensors"
    origin = json.loads((SHIPPED / "encoder.json").read_text())
    assert weights.stat().st_size < 9_500_000
    assert origin["figures"]["zero_shot"]["map_at_10"] > 0.3
    assert "/work/" not in json.dumps(origin)
