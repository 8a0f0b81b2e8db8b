"""Which parameters of an approximate index suit a set of codes: tried in faiss, whose kinds Milvus has as well.

BIN_IVF_FLAT is faiss' IndexBinaryIVF, HNSW its IndexBinaryHNSW. Recall is the share of the true first `top` that are
found; a row that is as near as the last of them counts, because which of equal ones comes first is chance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any, Final

import numpy as np

from searchanything.core.batching import batches
from searchanything.core.codes import stacked
from searchanything.core.counting import counted
from searchanything.core.errors import UsageError
from searchanything.core.extras import install_command
from searchanything.core.intervals import wilson_interval
from searchanything.core.on_step import OnStep, unseen
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import StoredCode
from searchanything.core.types import Codes
from searchanything.stores.scans import faiss, one_thread

_LEAST_CODES: Final = 1000
_QUERIES: Final = 200  # codes of the index
_ROUNDS: Final = 3
_CODES_AT_ONCE: Final = 8192  # between two steps of progress


@dataclass(frozen=True, slots=True)
class IndexTrial:
    """One setting that reaches the goal, or comes nearest to it: its recall, and what a query takes."""

    kind: str
    settings: dict[str, int]
    recall: float
    ms: float
    reached: bool


def tune(
    codes: Codes, *, top: int = 100, goal: float = 0.95, queries: int | Codes = _QUERIES, on_step: OnStep = unseen
) -> list[IndexTrial]:
    """The cheapest setting of each kind that reaches a recall, on (N, B) codes, quickest first; the exact scan beside.

    The queries are codes (Q, B), or so many codes of the index with an eighth of their bits flipped: near to it, but
    not in it. `on_step` is given what is being made; of the graph, which takes longest by far, also how many codes
    are in it.

    Raises: UsageError without faiss, for few codes, and for a goal that is no share.
    """
    library = _library(len(codes), goal)
    asked = _queries(codes, queries, np.random.default_rng(0)) if isinstance(queries, int) else queries
    with one_thread(library):
        tried = _trials(library, codes, asked, top=top, goal=goal, on_step=on_step)
    return sorted(tried, key=lambda one: (not one.reached, one.ms))


def _library(codes: int, goal: float) -> ModuleType:
    """The library that tries parameters. Raises: as `tune`."""
    library = faiss()
    if library is None:
        raise UsageError(f"parameters are tried in faiss: {install_command('faiss')}")
    if codes < _LEAST_CODES:
        raise UsageError(f"expected at least {_LEAST_CODES} codes, got {codes}: a scan of so few takes no time")
    if not 0 < goal <= 1:
        raise UsageError(f"expected a recall above 0 and at most 1, got {goal}")
    return library


def _trials(
    library: ModuleType, codes: Codes, asked: Codes, *, top: int, goal: float, on_step: OnStep
) -> list[IndexTrial]:
    on_step("scanning", 0, None)
    flat = library.IndexBinaryFlat(codes.shape[1] * 8)
    flat.add(codes)
    farthest = flat.search(asked, top)[0][:, -1:]
    tried = [IndexTrial("BIN_FLAT", {}, 1.0, _ms(flat, asked, top), reached=True)]
    for nlist in _lists(len(codes)):
        on_step(f"making {nlist:,} lists", 0, None)
        tried.append(_least(_inverted(library, codes, nlist), "nprobe", asked, farthest, top=top, goal=goal))
    tried.append(_least(_graph(library, codes, on_step), "ef", asked, farthest, top=top, goal=goal))
    return tried


def tune_index(
    index: RegionIndex,
    *,
    recall: float,
    top: int,
    codes: int,
    asked: Callable[[], Codes] | None = None,
    on_step: OnStep = unseen,
) -> dict[str, Any]:
    """The trials on about so many of an index's codes, and the settings of the quickest, as a document.

    `asked` makes the codes (Q, B) of questions to try in place of the index's own, once nothing else is wrong: that of
    many takes hours. `hint` says where they are too few. `on_step` is given the codes that were read, and what
    `tune` gives.

    Raises: UsageError, RegionIndexError.
    """
    regions = index.counts().regions
    _library(regions, recall)
    questions = None if asked is None else asked()
    stored = index.iterate_codes(share=min(1.0, codes / max(1, regions)))
    sample = stacked(_read(stored, on_step), index.manifest.bits)
    trials = tune(sample, top=top, goal=recall, queries=_QUERIES if questions is None else questions, on_step=on_step)
    best = {"index_type": trials[0].kind, **trials[0].settings}
    return {
        "regions": regions,
        "codes": len(sample),
        "top": top,
        "recall": recall,
        "questions": None if questions is None else len(questions),
        "hint": "" if questions is None else _hint(len(questions), recall),
        "trials": [asdict(one) for one in trials],
        "use": " ".join(f"SEARCHANYTHING_MILVUS__{name.upper()}={value}" for name, value in best.items()),
    }


def _hint(questions: int, goal: float) -> str:
    """What so few questions do not show: Wilson's interval has as many trials, as the hits of one go together."""
    least, _ = wilson_interval(questions, questions)
    if least >= goal:
        return ""
    return (
        f"{counted(questions, 'question')} cannot show a recall of {goal:g}: even where all hits of these are found, "
        f"that of others may be {least:.3f} (95 % interval)"
    )


def _read(stored: Iterable[StoredCode], on_step: OnStep) -> Iterator[bytes]:
    done = 0
    for some in batches(stored, _CODES_AT_ONCE):
        yield from (one.code for one in some)
        done += len(some)
        on_step("reading", done, None)


@dataclass(frozen=True, slots=True)
class _Built:
    kind: str
    settings: dict[str, int]
    index: Any
    values: Sequence[int]  # of the parameter that is searched, rising

    def set(self, value: int) -> None:
        if self.kind == "HNSW":
            self.index.hnsw.efSearch = value
        else:
            self.index.nprobe = value


def _inverted(library: ModuleType, codes: Codes, nlist: int) -> _Built:
    bits = codes.shape[1] * 8
    index = library.IndexBinaryIVF(library.IndexBinaryFlat(bits), bits, nlist)
    index.train(codes[np.random.default_rng(0).permutation(len(codes))[: 64 * nlist]])
    index.add(codes)
    return _Built("BIN_IVF_FLAT", {"nlist": nlist}, index, list(_doubling(1, nlist)))


def _graph(library: ModuleType, codes: Codes, on_step: OnStep) -> _Built:
    settings = {"hnsw_m": 16}
    index = library.IndexBinaryHNSW(codes.shape[1] * 8, settings["hnsw_m"])
    index.hnsw.efConstruction = 100
    for start in range(0, len(codes), _CODES_AT_ONCE):
        on_step("making a graph", start, len(codes))
        index.add(codes[start : start + _CODES_AT_ONCE])
    on_step("trying the graph", 0, None)
    return _Built("HNSW", settings, index, list(_doubling(16, 4096)))


def _least(built: _Built, name: str, asked: Codes, farthest: np.ndarray, *, top: int, goal: float) -> IndexTrial:
    """The least value that reaches the goal, by halving: recall rises with it."""
    low, high = 0, len(built.values) - 1
    recalls: dict[int, float] = {}
    while low < high:
        middle = (low + high) // 2
        recalls[middle] = _recall(built, built.values[middle], asked, farthest, top)
        low, high = (low, middle) if recalls[middle] >= goal else (middle + 1, high)
    recall = recalls.get(low) or _recall(built, built.values[low], asked, farthest, top)
    built.set(built.values[low])
    settings = {**built.settings, name: built.values[low]}
    return IndexTrial(built.kind, settings, recall, _ms(built.index, asked, top), reached=recall >= goal)


def _recall(built: _Built, value: int, asked: Codes, farthest: np.ndarray, top: int) -> float:
    built.set(value)
    distances, numbers = built.index.search(asked, top)
    return float(((distances <= farthest) & (numbers >= 0)).mean())


def _ms(index: Any, asked: Codes, top: int) -> float:  # noqa: ANN401 - one of faiss'
    """Milliseconds of one query at a time, the best of a few rounds."""
    best = float("inf")
    few = asked[:20]
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        for one in few:
            index.search(one[None], top)
        best = min(best, (time.perf_counter() - start) * 1000 / len(few))
    return best


def _queries(codes: Codes, count: int, random: np.random.Generator) -> Codes:
    drawn = codes[random.integers(0, len(codes), count)]
    noise = [random.integers(0, 256, drawn.shape, dtype=np.uint8) for _ in range(3)]
    changed: Codes = drawn ^ (noise[0] & noise[1] & noise[2])
    return changed


def _lists(count: int) -> list[int]:
    """Numbers of lists around four times the root of how many codes there are, as faiss' authors advise."""
    root = 4 * count**0.5
    powers = [1 << power for power in range(5, 17)]
    return [one for one in powers if root / 4 <= one <= root and 39 * one <= count] or [powers[0]]


def _doubling(first: int, last: int) -> Iterator[int]:
    value = first
    while value < last:
        yield value
        value *= 2
    yield last
