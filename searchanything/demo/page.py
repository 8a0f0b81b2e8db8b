"""The demo's page: one HTML file without scripts or outside resources, beside its images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Any, Final

from searchanything.core.counting import counted
from searchanything.core.escaping import html_text
from searchanything.core.types import Hit
from searchanything.demo.bench import PRESET
from searchanything.demo.examiner import Examiner
from searchanything.demo.figures import Figure
from searchanything.demo.judging import Share
from searchanything.demo.questions import QuestionKind
from searchanything.demo.report import Answers, KindFigures
from searchanything.demo.trials import Trial
from searchanything.models.limits import limits_of

IMAGES: Final = "images"
_RUN_BEGINS: Final = '<section id="run"><h2>This run</h2><div class="columns">'
_RUN_ENDS: Final = "</div></section>"
_TITLES: Final[Mapping[QuestionKind, tuple[str, str]]] = {
    "point": ("One point", "The innermost pixel of the object's visible part."),
    "points": ("Two points", "The innermost pixel and one far from it, both well inside the object."),
    "background": ("Background point", "One point on the object, and one on the nearest thing that is not meant."),
    "box": ("Box", "The tight box around the object's visible part."),
    "text": ("Text", "The object's name as one types it; which region it fits is for the models to find out."),
    "mask": ("Mask", "The object's visible pixels themselves."),
    "image": (
        "Whole image",
        "No prompt: images like this one as a whole. Right is an image on a crop of the same photograph.",
    ),
}


def render_page(document: Mapping[str, Any], answers: Answers, figures: Mapping[QuestionKind, Sequence[Figure]]) -> str:
    """The page as HTML: `document` is `report.json`, `figures` are the drawings in the folder `images` beside it."""
    package, kinds = files("searchanything.demo"), answers.kinds
    template = Template((package / "page.html").read_text("utf-8"))
    return template.substitute(
        style=(package / "page.css").read_text("utf-8"),
        limits=html_text(limits_of(PRESET)),
        facts=_facts(document, kinds),
        links=_links(kinds),
        rows="".join(_row(one) for one in kinds),
        sections="".join(_section(one, figures.get(one.kind, ()), answers.examiner) for one in kinds),
        run=_run(document),
    )


def page_of_run(page: str, document: Mapping[str, Any]) -> str:
    """A page of the same answers, with what another run did."""
    head, _, rest = page.partition(_RUN_BEGINS)
    _, ends, tail = rest.partition(_RUN_ENDS)
    return f"{head}{_RUN_BEGINS}{_run(document)}{ends}{tail}"


def _facts(document: Mapping[str, Any], kinds: Sequence[KindFigures]) -> str:
    of_objects = [one for one in kinds if one.kind != "image"]
    hits = Share.together([one.hits for one in of_objects])
    shuffled = Share.together([one.shuffled for one in of_objects])
    chance = sum(one.chance * one.hits.count for one in of_objects) / max(1, hits.count)
    scenes = document["scenes"]
    indexed = Share(scenes["objects_indexed"], scenes["objects"])
    query_ms = sum(document["timings"]["query_ms"].values())
    facts = (
        ("hit@5, region prompts", _decimal(hits), f"{counted(hits.count, 'question')}"),
        ("by chance", f"{chance:.2f}", f"{_decimal(shuffled)} with shuffled weights"),
        ("images in the bucket", f"{scenes['count']:,}", f"{scenes['objects']:,} objects in them"),
        ("regions in the index", f"{scenes['regions']:,}", f"{_percent(indexed)} of the objects"),
        ("one query", f"{query_ms:.0f} ms", "all stages, models included"),
    )
    return "".join(
        f"<div><dt>{html_text(name)}</dt><dd>{html_text(value)}<small>{html_text(more)}</small></dd></div>"
        for name, value, more in facts
    )


def _links(kinds: Sequence[KindFigures]) -> str:
    links = [("comparison", "All prompts"), *((one.kind, _TITLES[one.kind][0]) for one in kinds), ("run", "This run")]
    return "".join(f'<li><a href="#{anchor}">{html_text(title)}</a></li>' for anchor, title in links)


def _row(figures: KindFigures) -> str:
    cells = (
        f'<a href="#{figures.kind}">{html_text(_TITLES[figures.kind][0])}</a>',
        f"<strong>{_decimal(figures.hits)}</strong>",
        _track(figures),
        f"{figures.chance:.2f}",
        _decimal(figures.shuffled),
        _decimal(figures.seen),
        _decimal(figures.zero_shot),
        _decimal(figures.selected),
        str(figures.hits.count),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _track(figures: KindFigures) -> str:
    low, high = figures.hits.interval
    marks = (
        f'<i class="span" style="left:{low:.1%};width:{high - low:.1%}"></i>',
        f'<i class="tick" style="left:{figures.chance:.1%}"></i>',
        f'<i class="ring" style="left:{figures.shuffled.value or 0:.1%}"></i>',
        f'<i class="dot" style="left:{figures.hits.value or 0:.1%}"></i>',
    )
    return f'<div class="track">{"".join(marks)}</div>'


def _section(figures: KindFigures, drawn: Sequence[Figure], examiner: Examiner) -> str:
    title, explained = _TITLES[figures.kind]
    low, high = figures.hits.interval
    beside = f"{low:.2f}–{high:.2f}, chance {figures.chance:.2f}, shuffled {_decimal(figures.shuffled)}"
    return (
        f'<section class="kind" id="{figures.kind}"><header><h2>{html_text(title)}</h2>'
        f'<span class="figure"><strong>{_decimal(figures.hits)}</strong> hit@5 '
        f'<span class="small">({beside})</span></span></header><p class="soft">{html_text(explained)}</p>'
        f"{''.join(_example(one, examiner) for one in drawn)}</section>"
    )


def _example(figure: Figure, examiner: Examiner) -> str:
    trial = figure.trial
    wanted = trial.question.wanted
    name = _words(wanted.concept) if wanted else "images like this one"
    caption = f"<b>Question</b> {html_text(trial.question.scene.key)}<br>{html_text(trial.selection.reason)}"
    shown = [_image("query", figure.query_file, caption, f"the question: {name}")]
    answered = zip(trial.hits, trial.right, figure.hit_files, strict=True)
    for place, (hit, right, file) in enumerate(answered, start=1):
        what = _shown_by(hit, examiner)
        caption = (
            f"<b>{'✓' if right else '✗'} {place}{' · ' if what else ''}{html_text(what)}</b><br>"
            f"{hit.distance_bits} bits<br>{html_text(hit.image.key)}"
        )
        shown.append(_image("right" if right else "wrong", file, caption, f"answer {place}: {what or hit.image.key}"))
    return (
        f"<article><header><h3>{html_text(name)}</h3>{_tags(trial)}</header>"
        f'<div class="row">{"".join(shown)}</div></article>'
    )


def _tags(trial: Trial) -> str:
    wanted = trial.question.wanted
    tags = [("right", "found") if trial.found else ("wrong", "missed")]
    if wanted is not None and wanted.zero_shot:
        tags.append(("new", "zero-shot concept"))
    if not trial.selected:
        tags.append(("wrong", "something else was selected"))
    return "".join(f'<span class="tag {style}">{html_text(text)}</span>' for style, text in tags)


def _shown_by(hit: Hit, examiner: Examiner) -> str:
    """What a hit's region shows, in words; nothing for a whole image."""
    if hit.region is None:
        return ""
    concept = examiner.shown_by(hit)
    return _words(concept) if concept else "no object"


def _image(style: str, file: str, caption: str, words: str) -> str:
    source = html_text(f"{IMAGES}/{file}")
    return (
        f'<figure class="{style}"><a href="{source}"><img src="{source}" alt="{html_text(words)}" loading="lazy"></a>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _run(document: Mapping[str, Any]) -> str:
    index, timings = document["index"], document["timings"]
    counts = {**index["images"], "regions written": index["regions"]}
    sizes = {name: f"{_number(one['hit_at_5'])} of {one['n']}" for name, one in document["by_size"].items()}
    answers = [("answers", document["answers"])]
    blocks = (
        ("Images, as this run found them", [(name, f"{count:,}") for name, count in counts.items()] + answers),
        ("Seconds", [(name.replace("_", " "), f"{value:.1f}") for name, value in timings["seconds"].items()]),
        ("A query's stages, median ms", [(name, f"{value:.1f}") for name, value in timings["query_ms"].items()]),
        ("hit@5 by size of the object's box", list(sizes.items())),
        ("Environment", [(name, str(value)) for name, value in document["environment"].items()]),
    )
    return "".join(f"<div><h3>{html_text(title)}</h3>{_pairs(pairs)}</div>" for title, pairs in blocks)


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    rows = (f'<tr><td class="soft">{html_text(name)}</td><td>{html_text(value)}</td></tr>' for name, value in pairs)
    return f"<table>{''.join(rows)}</table>"


def _words(concept: str) -> str:
    return concept.replace("-", " ")


def _decimal(share: Share) -> str:
    return _number(share.value)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _percent(share: Share) -> str:
    return "–" if share.value is None else f"{share.value:.0%}"
