"""Stated false-match rates against observed ones: a table, JSON, and a reliability plot.

python -m benchmarks.calibrating --regions REGIONS.npz [--json FILE] [--plot FILE.png] [--queries 600]

REGIONS.npz is of `benchmarks.scene_regions`. Each query is a region of an object; the sample is the other images'
codes, as the index draws it, with whatever is related among them (nobody tells the calibration). Observed: the share of
unrelated regions (another concept, or background; another image) whose stated rate is at most so much. The intervals
are of 1,000 bootstrap rounds over the queries' images. Confidence: of the 24 nearest hits, how many of each word that
`searchanything serve` says show the query's concept.

Words: each concept's name asks all scenes by words codes; unrelated is every region of another concept, or of none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks import measuring
from benchmarks.ranking_data import load_preset
from searchanything.answers.hit_confidence import SHARES, confidence_of
from searchanything.answers.matching import Scale
from searchanything.core.codes import hamming, pack_signs
from searchanything.core.types import Hit, ImageRef
from searchanything.encode.encoder import Encoder
from searchanything.hash_training.words_training import train_words
from searchanything.search.calibration import SAMPLE_CODES, SHAPES, Background, false_match_rates
from searchanything.search.search import Page

HITS: Final = 24  # of a page
STATED: Final = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
_UNCLEAR: Final = -2


def judged(regions: dict[str, NDArray[Any]], queries: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Per query, how many unrelated regions are stated to be so rare: (Q, T); and how many there are, (Q,)."""
    codes, concepts, images = regions["codes"], regions["concepts"], regions["images"]
    rng = np.random.default_rng(17)
    objects = np.flatnonzero(concepts >= 0)
    chosen = rng.permutation(objects)[:queries]
    below, totals = [], []
    for query in chosen:
        distances = hamming(codes[query][None], codes)[0]
        other = images != images[query]
        sample = rng.permutation(np.flatnonzero(other))[:SAMPLE_CODES]
        rates = false_match_rates(np.bincount(distances[sample], minlength=8 * codes.shape[1] + 1))
        unrelated = other & (concepts != concepts[query]) & (concepts != _UNCLEAR)
        stated = rates[distances[unrelated]]
        below.append([int((stated <= rate).sum()) for rate in STATED])
        totals.append(int(unrelated.sum()))
    return np.array(below, dtype=np.float64), np.array(totals)


def judged_words(regions: dict[str, NDArray[Any]], encoder: Encoder) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """As `judged`, each name that some region has being a query by words codes."""
    concepts, dimension = regions["concepts"], encoder.embedder.dimension
    image_features = np.ascontiguousarray(regions["features"][:, -dimension:])
    layer = train_words(image_features, encoder.everyday_words())
    codes, asked = layer.encode(image_features), np.unique(concepts[concepts >= 0])
    texts = layer.project_texts(encoder.embedder.embed_texts(regions["names"][asked].tolist()))
    sample = np.random.default_rng(17).permutation(len(codes))[:SAMPLE_CODES]
    below, totals = [], []
    for number, code in zip(asked, pack_signs(texts), strict=True):
        distances = hamming(code[None], codes)[0]
        counts = np.bincount(distances[sample], minlength=8 * codes.shape[1] + 1)
        rates = false_match_rates(counts, shape=SHAPES["words"])
        stated = rates[distances[(concepts != number) & (concepts != _UNCLEAR)]]
        below.append([int((stated <= rate).sum()) for rate in STATED])
        totals.append(len(stated))
    return np.array(below, dtype=np.float64), np.array(totals)


def said(regions: dict[str, NDArray[Any]], queries: int) -> dict[str, dict[str, float]]:
    """By word of confidence, how many hits have it and which share of them is right."""
    codes, concepts, images = regions["codes"], regions["concepts"], regions["images"]
    bits, rng = 8 * codes.shape[1], np.random.default_rng(17)
    words: dict[str, list[bool]] = {}
    for query in rng.permutation(np.flatnonzero(concepts >= 0))[:queries]:
        distances = hamming(codes[query][None], codes)[0]
        other = np.flatnonzero(images != images[query])
        sample = rng.permutation(other)[:SAMPLE_CODES]
        background = Background(codes[sample], len(codes))
        nearest = other[np.argsort(distances[other], kind="stable")[:HITS]]
        hits = tuple(hit_at(int(distances[place])) for place in nearest)
        judged_hits = Scale(background, background.rates(codes[query])).matching(Page(hits, exact=True))
        for place, hit, share in zip(nearest, hits, judged_hits.chance_shares(), strict=True):
            if concepts[place] != _UNCLEAR:
                word = confidence_of(hit.distance_bits, bits, share).word
                words.setdefault(word, []).append(bool(concepts[place] == concepts[query]))
    order = [*(word for _, word in SHARES), "none"]
    return {
        word: {"hits": len(words[word]), "right": round(float(np.mean(words[word])), 3)}
        for word in order
        if word in words
    }


def hit_at(distance_bits: int) -> Hit:
    """A hit of which the distance alone matters."""
    return Hit(
        image=ImageRef("scenes", "one"),
        etag="",
        region=0,
        box_xyxy=(0.0, 0.0, 1.0, 1.0),
        mask=None,
        area_px=1,
        score=1.0,
        distance_bits=distance_bits,
        image_width=1,
        image_height=1,
        metadata={},
    )


def table(below: NDArray[np.float64], totals: NDArray[np.int64]) -> list[dict[str, float]]:
    """Observed rates with their 95 % intervals, one row a stated rate."""
    rng = np.random.default_rng(95)
    weights = rng.multinomial(len(totals), np.full(len(totals), 1 / len(totals)), size=1000)
    drawn = (weights @ below) / (weights @ totals)[:, None]
    rows = []
    for column, stated in enumerate(STATED):
        low, high = np.quantile(drawn[:, column], (0.025, 0.975))
        observed = below[:, column].sum() / totals.sum()
        rows.append(
            {
                "stated": stated,
                "observed": float(f"{observed:.3e}"),
                "low": float(f"{low:.3e}"),
                "high": float(f"{high:.3e}"),
                "ratio": round(float(observed / stated), 3),
            }
        )
    return rows


def show(what: str, rows: list[dict[str, float]], totals: NDArray[np.int64]) -> None:
    """Print a table."""
    print(f"{len(totals)} {what}, {int(totals.sum()):,} unrelated pairs")
    print("  stated   observed  95 %                  ratio")
    for row in rows:
        print(
            f"  {row['stated']:.0e}   {row['observed']:.2e}  {row['low']:.2e} to {row['high']:.2e}  {row['ratio']:.2f}"
        )


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """The reliability plot: observed over stated, both logarithmic, with the band of a factor of two."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    stated = np.array([row["stated"] for row in rows])
    observed = np.array([row["observed"] for row in rows])
    errors = np.array([[row["observed"] - row["low"], row["high"] - row["observed"]] for row in rows]).T
    figure, axes = plt.subplots(figsize=(5, 4.6), layout="constrained")
    axes.fill_between(stated, stated / 2, stated * 2, color="#d8e6f3", label="a factor of two")
    axes.plot(stated, stated, color="#7f9bb3", linewidth=1, label="stated = observed")
    axes.errorbar(stated, observed, yerr=errors, marker="o", color="#b3392f", capsize=3, label="observed, 95 %")
    axes.set(xscale="log", yscale="log", xlabel="stated false-match rate", ylabel="observed share of unrelated regions")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the table; write JSON and plot where asked."""
    parser = measuring.parser(__doc__, plots=True)
    parser.add_argument("--regions", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=600)
    arguments = parser.parse_args()
    with np.load(arguments.regions, allow_pickle=False) as stored:
        regions = dict(stored)
    below, totals = judged(regions, arguments.queries)
    rows = table(below, totals)
    show("queries", rows, totals)
    by_words, pairs = judged_words(regions, load_preset("pico"))
    words = table(by_words, pairs)
    show("names", words, pairs)
    confidence = said(regions, arguments.queries)
    for word, one in confidence.items():
        print(f"  {word:12} {one['hits']:6} hits, {one['right']:.3f} right")
    found = {"queries": len(totals), "pairs": int(totals.sum()), "rows": rows, "words": words}
    found["confidence"] = confidence
    measuring.write(found, arguments.json)
    if arguments.plot:
        draw(rows, arguments.plot)


if __name__ == "__main__":
    main()
