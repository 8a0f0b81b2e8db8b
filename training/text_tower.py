"""Train the pico encoder's text tower: its byte-pair merges, and a small transformer distilled from MiniLM.

    python -m training.text_tower --pictograms data/pictograms --wordnet FOLDER --street data/street
        --grocery data/grocery --teacher TABLE.npz --run FOLDER

The tower first learns the teacher's vectors of thousands of English names, whatever image tower it will join;
`fit_projection` then turns its output into the image tower's space. A phrase around a name ("a photo of a …") is to
make no difference, so its target is the vector of the bare name.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from training.encoder_model import BPE_FILE, CONTEXT_LENGTH, TEXT_WIDTH, WEIGHTS_FILE, ClipModel, Tokenizer, build_model
from training.photograph_classes import PhotographFolders
from training.pictograms import load_pictograms, plain_name
from training.text_teacher import TEACHER_DIM, TeacherTable, extend, load_teacher, qualified, wordnet_nouns

logger = logging.getLogger(__name__)

VOCAB_SIZE = 5000
# open_clip's SimpleTokenizer starts from 256 bytes with and without the end-of-word mark, and adds two special tokens.
_MERGES = VOCAB_SIZE - 2 * 256 - 2
_CONTRAST_TEMPERATURE = 0.05
_WARMUP_STEPS = 100
_TEXTS_AT_ONCE = 512
_TEXTS_FITTED = 8192

_PHRASES = (
    "a {}", "the {}", "an {}", "{} emoji", "{} icon", "a photo of a {}", "photo of {}", "an emoji of {}",
    "an emoji of a {}", "a drawing of a {}", "a picture of a {}", "image of {}", "find the {}", "a small {}", "one {}",
    "some {}", "this is a {}",
)  # fmt: skip


def train_merges(weighted_words: Sequence[tuple[str, int]]) -> list[tuple[str, str]]:
    """Byte-pair merges of lower-case words, each counted `weight` times, most frequent first."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.trainers import BpeTrainer

    tokenizer = Tokenizer(BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = Whitespace()
    texts = [" ".join([word] * weight) for word, weight in weighted_words if word.isascii() and word.isalpha()]
    alphabet = len({letter for text in texts for letter in text} - {" "})
    size = _MERGES + 2 * alphabet
    trainer = BpeTrainer(vocab_size=size, end_of_word_suffix="</w>", show_progress=False, min_frequency=1)
    tokenizer.train_from_iterator(texts, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges[:_MERGES]]


def write_merges(merges: Sequence[tuple[str, str]], path: Path) -> None:
    """Write merges as open_clip's SimpleTokenizer reads them: gzip, a heading, a pair a line, no newline at the end.

    Raises:
        ValueError: Not as many merges as the vocabulary is sized for: token ids would not fit the embedding.
    """
    if len(merges) != _MERGES:
        raise ValueError(f"expected {_MERGES} merges, got {len(merges)}")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    # A fixed time makes the file the same for the same merges.
    path.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


def weighted_words(names: Sequence[str], nouns: Sequence[tuple[str, bool]]) -> list[tuple[str, int]]:
    """Words with the weights they have in the merges: names before common nouns before rare ones."""
    phrases = [phrase.replace("{}", "") for phrase in _PHRASES]
    texts = [(name, 60) for name in names] + [(text, 4 if common else 1) for text, common in nouns]
    return [(word, weight) for text, weight in [*texts, *((p, 50) for p in phrases)] for word in text.split()]


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """What the tower is taught: groups of names with their share of each batch, and the teacher's table."""

    groups: tuple[tuple[tuple[str, ...], float], ...]
    table: TeacherTable
    targets: NDArray[np.float32]

    def batches(self, *, size: int, rng: np.random.Generator) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Texts and their target rows, for ever."""
        position = {text: i for i, text in enumerate(self.table.texts)}
        while True:
            names = [str(name) for group, share in self.groups for name in rng.choice(group, round(share * size))]
            yield [_phrase(name, rng) for name in names], self.targets[[position[name] for name in names]]


def _phrase(name: str, rng: np.random.Generator) -> str:
    return name if rng.random() < 0.5 else _PHRASES[rng.integers(len(_PHRASES))].format(name)


def centred(table: TeacherTable) -> NDArray[np.float32]:
    """The table's vectors less their mean, unit rows: all sentences share a part that says nothing."""
    vectors = table.vectors - table.vectors.mean(0)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def encode_tokens(model: ClipModel, tokens: torch.Tensor) -> torch.Tensor:
    """What open_clip's `encode_text` computes, (n, d), without the padding that no text of the batch needs."""
    length = int(tokens.argmax(1).max()) + 1  # the end token has the highest id
    tokens = tokens[:, :length]
    states = model.token_embedding(tokens) + model.positional_embedding[:length]
    states = model.ln_final(model.transformer(states, attn_mask=model.attn_mask[:length, :length]))
    pooled: torch.Tensor = states[torch.arange(len(tokens)), tokens.argmax(1)] @ model.text_projection
    return pooled


def distil(model: ClipModel, lessons: Lessons, tokenizer: Tokenizer, *, steps: int, rate: float) -> None:
    """Train the text tower towards the targets: cosine, plus separating the batch's targets."""
    rng = np.random.default_rng(steps)
    parameters = text_parameters(model)
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    batches = lessons.batches(size=256, rng=rng)
    for step in range(steps):
        texts, rows = next(batches)
        targets = torch.from_numpy(rows)
        optimiser.param_groups[0]["lr"] = rate * _schedule(step, steps)
        vectors = functional.normalize(encode_tokens(model, tokenizer(texts)), dim=1)
        cosine = (vectors * targets).sum(1).mean()
        loss = 1 - cosine + 0.3 * _contrast(vectors, targets)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 200 == 0:
            logger.info("step %d, loss %.3f, cosine %.3f", step, float(loss.detach()), float(cosine.detach()))


def _schedule(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / _WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _contrast(vectors: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of finding the right target in the batch; equal targets (a name drawn twice) share the mass."""
    same = (targets @ targets.T > 0.999).float()
    log_probability = functional.log_softmax(vectors @ targets.T / _CONTRAST_TEMPERATURE, dim=1)
    return -(log_probability * same / same.sum(1, keepdim=True)).sum(1).mean()


def text_parameters(model: ClipModel) -> list[nn.Parameter]:
    """The parameters of the model's text tower."""
    modules = [model.token_embedding, model.transformer, model.ln_final]
    return [p for module in modules for p in module.parameters()] + [model.positional_embedding, model.text_projection]


@dataclass(frozen=True, slots=True)
class Words:
    """Where the words come from: the cache of pictograms, WordNet's folder, and photographs with classes."""

    pictograms: Path
    wordnet: Path
    photographs: PhotographFolders


def start_from(model: ClipModel, encoder: Path, lessons: Lessons, tokenizer: Tokenizer) -> None:
    """Take up the text tower of an encoder's folder, its output turned back to the teacher's space by least squares.

    Its merges must be the tokenizer's.
    """
    from safetensors.torch import load_file

    stored = load_file(encoder / WEIGHTS_FILE)
    state = {name: tensor.float() for name, tensor in stored.items() if not name.startswith(("visual.", "text_proj"))}
    model.load_state_dict(state, strict=False)
    fit_projection(model, lessons, tokenizer)


def fit_projection(model: ClipModel, lessons: Lessons, tokenizer: Tokenizer) -> None:
    """The projection that takes the tower's states nearest to the targets, by least squares over one large batch."""
    texts, rows = next(lessons.batches(size=_TEXTS_FITTED, rng=np.random.default_rng(0)))
    model.text_projection = nn.Parameter(torch.eye(TEXT_WIDTH))
    with torch.inference_mode():
        parts = [texts[start : start + _TEXTS_AT_ONCE] for start in range(0, len(texts), _TEXTS_AT_ONCE)]
        states = torch.cat([encode_tokens(model, tokenizer(part)) for part in parts])
    projection = torch.linalg.lstsq(states, torch.from_numpy(rows)).solution
    model.text_projection = nn.Parameter(projection.clone())


def make_lessons(words: Words, teacher: Path) -> Lessons:
    """Names and nouns, embedded by the teacher as far as the table lacks them."""
    names = tuple(plain_name(name) for name in load_pictograms(words.pictograms).names)
    seen = words.photographs.names()
    nouns = wordnet_nouns(words.wordnet)
    qualities = tuple(qualified(names, count=5000, rng=np.random.default_rng(0)))
    of_seen = tuple(qualified(seen, count=1000, rng=np.random.default_rng(1))) if seen else ()
    table = TeacherTable.load(teacher)
    extended = extend(table, [*names, *seen, *qualities, *of_seen, *(noun.text for noun in nouns)], load_teacher)
    if extended is not table:
        extended.save(teacher)
    common = tuple(noun.text for noun in nouns if noun.common)
    rare = tuple(noun.text for noun in nouns if not noun.common)
    groups = ((names, 0.34), (seen, 0.1), (qualities, 0.13), (of_seen, 0.04), (common, 0.26), (rare, 0.13))
    return Lessons(tuple(group for group in groups if group[0]), extended, centred(extended))


def add_word_options(parser: argparse.ArgumentParser) -> None:
    """The options that name sources of words, and the teacher's table."""
    parser.add_argument("--pictograms", type=Path, default=Path("data/pictograms"), help="cache of training.pictograms")
    parser.add_argument("--wordnet", type=Path, required=True, help="folder with index.noun and data.noun")
    parser.add_argument("--street", type=Path, help="street photographs, see training.street_annotations")
    parser.add_argument("--grocery", type=Path, help="grocery photographs, see training.whole_images")
    parser.add_argument("--teacher", type=Path, required=True, help="table of training.text_teacher, extended")


def words_of(arguments: argparse.Namespace) -> Words:
    """The sources that the command line names."""
    folders = PhotographFolders(arguments.street, arguments.grocery)
    return Words(arguments.pictograms, arguments.wordnet, folders)


def main() -> None:
    """Make the merges and teach the text tower the teacher's space."""
    import open_clip

    parser = argparse.ArgumentParser(description=main.__doc__)
    add_word_options(parser)
    parser.add_argument("--run", type=Path, required=True, help="folder for the merges and the tower")
    parser.add_argument("--start", type=Path, help="an encoder's folder whose merges and text tower to go on from")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    arguments.run.mkdir(parents=True, exist_ok=True)
    words = words_of(arguments)
    lessons = make_lessons(words, arguments.teacher)
    if arguments.start:
        (arguments.run / BPE_FILE).write_bytes((arguments.start / BPE_FILE).read_bytes())
    else:
        nouns = [(noun.text, noun.common) for noun in wordnet_nouns(arguments.wordnet)]
        names = [*lessons.groups[0][0], *words.photographs.names()]
        write_merges(train_merges(weighted_words(names, nouns)), arguments.run / BPE_FILE)
    tokenizer = open_clip.SimpleTokenizer(bpe_path=str(arguments.run / BPE_FILE), context_length=CONTEXT_LENGTH)
    model = build_model(VOCAB_SIZE)
    model.text_projection = nn.Parameter(torch.randn(TEXT_WIDTH, TEACHER_DIM) * TEXT_WIDTH**-0.5)
    if arguments.start:
        start_from(model, arguments.start, lessons, tokenizer)
    distil(model, lessons, tokenizer, steps=arguments.steps, rate=arguments.rate)
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("visual.")}
    torch.save(state, arguments.run / "text_tower.pt")


if __name__ == "__main__":
    main()
