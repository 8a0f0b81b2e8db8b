"""`searchanything hash`: train, judge, apply and import hash layers, from features in files and of an index."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli import hash_layers
from searchanything.cli.options import OutputOptions, expanded, option
from searchanything.cli.progress import hash_progress, rows_progress
from searchanything.cli.session import answer, figure_table, plain, say
from searchanything.core.counting import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from searchanything.hash_training.judging import Judgement
    from searchanything.models.hashing import HashLayer

_HELD_OUT = "held-out region"  # what a training judges on

app = typer.Typer(help="Train, judge, apply and import hash layers.", rich_markup_mode="rich")
app.command("layers")(hash_layers.layers)
app.command("apply")(hash_layers.apply)
app.command("drop")(hash_layers.drop)

Features = Annotated[
    str,
    typer.Option(
        "--features", metavar="FILE", help=".npy or .parquet, a folder of .parquet, or s3://bucket/key or prefix."
    ),
]
MaskDimension = Annotated[
    int | None, option("--mask-dimension", "C", "How many columns of a .npy matrix are mask features; 0 if none are.")
]
HashFile = Annotated[
    Path, typer.Option("--hash", metavar="FILE", exists=True, dir_okay=False, help="Hash layer (safetensors).")
]
LayerOut = Annotated[Path, typer.Option("--out", metavar="FILE.safetensors", help="Where the layer goes.")]
CodesOut = Annotated[Path, typer.Option("--out", metavar="CODES.npy", help="Where the codes go.")]
Bits = Annotated[int, typer.Option("--bits", metavar="L", help="Bits of a code: 64, 128, 256 or 512.")]
CutBits = Annotated[int, typer.Option("--bits", metavar="L", min=8, help="How many of the layer's bits to keep.")]
MethodOption = Annotated[
    str, typer.Option("--method", metavar="NAME", help="deep, itq, pca-rotation or lsh; all are judged for comparison.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed and features give the same layer.")]
MaskShare = Annotated[
    float,
    typer.Option("--mask-share", metavar="X", help="Share of the mask features in similarity, between 0 and 1."),
]
PrefixOrdered = Annotated[
    bool,
    typer.Option(
        "--prefix-ordered",
        help="Make the first 64, 128 and 256 bits codes by themselves, for `hash cut`; not with deep.",
    ),
]
ClassColumn = Annotated[
    str | None,
    option(
        "--class-column",
        "NAME",
        "Column of the .parquet files with regions' classes, null or empty where not known: "
        "directions in which regions of one class differ count less.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted training.")]
Report = Annotated[Path | None, option("--report", "FILE.html", "Write the judgement as an HTML page.")]
LayerFile = Annotated[
    Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A .safetensors or .onnx file.")
]
MaskFeatures = Annotated[
    int, typer.Option("--mask-dimension", metavar="C", min=0, help="Number of mask features that the layer takes.")
]
ImageFeatures = Annotated[
    int, typer.Option("--image-dimension", metavar="D", min=1, help="Number of image features that the layer takes.")
]
Tensor = Annotated[str | None, option("--tensor", "NAME", "Name of the weight, if the file has several.")]


@app.command("train")
@expanded
def train(
    features: Features,
    out: LayerOut,
    bits: Bits = 256,
    method: MethodOption = "deep",
    seed: Seed = 0,
    mask_dimension: MaskDimension = None,
    mask_share: MaskShare = 0.1,
    prefix_ordered: PrefixOrdered = False,
    class_column: ClassColumn = None,
    resume: Resume = False,
    report: Report = None,
    *,
    output: OutputOptions,
) -> None:
    """Train a layer on features, without labels or with some, and compare it with the other methods.

    Example: [bold]searchanything hash train --features s3://features/holiday/ --out holiday.safetensors[/bold]
    """
    from searchanything import wiring
    from searchanything.core.files import check_save_path, check_writable, write_whole
    from searchanything.core.settings import load_settings
    from searchanything.hash_training.checkpoints import remove_state
    from searchanything.hash_training.training import TrainingOptions, train_hash

    settings, target = load_settings(), check_save_path(out, (".safetensors",))
    check_writable(target)
    _check_report(report)
    options = TrainingOptions(
        method=method,  # type: ignore[arg-type]  # checked there
        bits=bits,
        seed=seed,
        mask_share=mask_share,
        prefix_ordered=prefix_ordered,
        checkpoint=target.with_suffix(".state"),
        resume=resume,
        compute=settings.models,
    )
    source = wiring.open_features(features, mask_dimension=mask_dimension, settings=settings, class_column=class_column)
    stated = {"feature_fingerprint": source.fingerprint} if source.fingerprint else {}
    known = {"rows": source.rows, "mask_dimension": mask_dimension, "class_column": class_column, **stated}
    state = target.with_suffix(".state")
    with _state_kept(state, resume=resume), hash_progress(source.rows) as show:
        trained = train_hash(source.batches(), options=replace(options, known=known), provenance=stated, progress=show)
        write_whole(target, lambda file: file.write(trained.layer.to_bytes()))
    if "deep" in trained.layers:  # else the state is of another training
        remove_state(state)
    document = {"file": str(out), **trained.to_dict()}
    _save_report(report, document, trained.judgements, chosen=method)
    answer(document, output.format, lambda: _table(document, trained.judgements, chosen=method))
    _say_not_judged(trained.judgements[method])


@app.command("judge")
@expanded
def judge(
    features: Features,
    hash_file: HashFile,
    mask_dimension: MaskDimension = None,
    seed: Seed = 0,
    report: Report = None,
    *,
    output: OutputOptions,
) -> None:
    """Judge a layer on features, best on others than it was trained on.

    Example: [bold]searchanything hash judge --features others.parquet --hash holiday.safetensors[/bold]
    """
    from searchanything import wiring
    from searchanything.core.settings import load_settings
    from searchanything.hash_training.encoding_files import check_made_for
    from searchanything.hash_training.training import judge_layer
    from searchanything.models.hashing import HashLayer

    _check_report(report)
    layer = HashLayer.from_file(hash_file)
    source = wiring.open_features(features, mask_dimension=mask_dimension, settings=load_settings())
    check_made_for(layer, source)
    with rows_progress("reading", source.rows) as show:
        judgement = judge_layer(layer, source.batches(), seed=seed, seen=show)
    name = layer.provenance.get("method", "layer")
    document = {"file": str(hash_file), "method": name, "bits": layer.bits, "judgement": {name: judgement.to_dict()}}
    _save_report(report, document, {name: judgement}, chosen=name, kind="region")
    answer(document, output.format, lambda: _table(document, {name: judgement}, chosen=name, kind="region"))


@app.command("encode")
@expanded
def encode(
    features: Features,
    hash_file: HashFile,
    out: CodesOut,
    mask_dimension: MaskDimension = None,
    *,
    output: OutputOptions,
) -> None:
    """Turn features into codes: a .npy matrix of uint8, N rows of bits / 8.

    Example: [bold]searchanything hash encode --features f.parquet --hash holiday.safetensors --out codes.npy[/bold]
    """
    from searchanything import wiring
    from searchanything.core.files import check_save_path
    from searchanything.core.settings import load_settings
    from searchanything.hash_training.encoding_files import encode_features
    from searchanything.models.hashing import HashLayer

    check_save_path(out, (".npy",), inputs=(features, hash_file))
    layer = HashLayer.from_file(hash_file)
    source = wiring.open_features(features, mask_dimension=mask_dimension, settings=load_settings())
    with rows_progress("encoding", source.rows) as show:
        rows = encode_features(source, layer, out, encoded=show)
    document = {"file": str(out), "rows": rows, "bits": layer.bits}
    answer(document, output.format, lambda: plain(f"{counted(rows, 'code')} of {layer.bits} bits written to {out}"))


@app.command("cut")
@expanded
def cut(hash_file: HashFile, out: LayerOut, bits: CutBits, *, output: OutputOptions) -> None:
    """Cut a layer of rotations to its first bits; its codes are the beginnings of the whole layer's.

    Example: [bold]searchanything hash cut --hash holiday.safetensors --bits 64 --out short.safetensors[/bold]
    """
    from searchanything.core.files import check_save_path
    from searchanything.models.hashing import HashLayer

    target = check_save_path(out, (".safetensors",), inputs=(hash_file,))
    layer = HashLayer.from_file(hash_file).prefix(bits)
    _write_layer(layer, target, output)


@app.command("import")
@expanded
def import_(
    file: LayerFile,
    out: LayerOut,
    mask_dimension: MaskFeatures,
    image_dimension: ImageFeatures,
    tensor: Tensor = None,
    *,
    output: OutputOptions,
) -> None:
    """Import a dense layer that was trained elsewhere; its input is both features at unit length, concatenated.

    Example: [bold]searchanything hash import mine.onnx --mask-dimension 64 --image-dimension 256 --out h.safetensors[/]
    """
    from searchanything.core.files import check_save_path
    from searchanything.hash_training.importing import import_layer

    target = check_save_path(out, (".safetensors",), inputs=(file,))
    layer = import_layer(file, mask_dimension=mask_dimension, image_dimension=image_dimension, tensor=tensor)
    if "bias" in layer.provenance:
        say(f"{file} has no bias beside its weight: 0 is taken for each bit")
    _write_layer(layer, target, output)


def _write_layer(layer: HashLayer, target: Path, output: OutputOptions) -> None:
    from searchanything.core.files import write_whole

    write_whole(target, lambda file: file.write(layer.to_bytes()))
    document = {"file": str(target), "bits": layer.bits, "sha256": layer.digest, "provenance": dict(layer.provenance)}
    answer(document, output.format, lambda: plain(f"a layer of {layer.bits} bits written to {target}"))


@contextlib.contextmanager
def _state_kept(state: Path, *, resume: bool) -> Iterator[None]:
    """Say what a Ctrl-C leaves of a training, and where there is nothing to resume."""
    from searchanything.hash_training.checkpoints import kept_step

    before = _written(state)
    if resume and before is None:
        say(f"--resume: there is no state {state}, so the training begins anew")
    try:
        yield
    except KeyboardInterrupt:
        step = kept_step(state) if resume or _written(state) != before else None
        kept = f"the training up to step {step} is kept in {state}; the same command with --resume goes on from it"
        say(f"stopped: {'nothing of this training was kept yet' if step is None else kept}")
        raise


def _written(path: Path) -> tuple[int, int] | None:
    """Tells one writing of a file from the next; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _check_report(report: Path | None) -> None:
    """Refuse a place where no page can be written before anything is computed. Raises: UsageError."""
    if report is not None:
        from searchanything.core.files import check_save_path, check_writable

        check_writable(check_save_path(report, (".html",)))


def _save_report(
    report: Path | None,
    document: Mapping[str, Any],
    judgements: Mapping[str, Judgement],
    *,
    chosen: str,
    kind: str = _HELD_OUT,
) -> None:
    if report is not None:
        from searchanything.core.files import save_text
        from searchanything.hash_training.report import render_report

        page = render_report(document, judgements, chosen=chosen, regions=f"{kind}s")
        save_text(page, report, suffixes=(".html",))
        say(f"the judgement's page: {report}")


def _say_not_judged(judgement: Judgement) -> None:
    """Of a training that held out too few regions."""
    if judgement.says_something:
        return
    from searchanything.hash_training.judging import LEAST_JUDGED
    from searchanything.hash_training.training import HELD_OUT_PART

    say(
        f"not judged: figures of {counted(judgement.rows, _HELD_OUT)} would be chance; with at least "
        f"{LEAST_JUDGED * HELD_OUT_PART} regions there are enough, and `hash judge` takes {LEAST_JUDGED} others"
    )


def _table(
    document: Mapping[str, Any], judgements: Mapping[str, Judgement], *, chosen: str, kind: str = _HELD_OUT
) -> RenderableType:
    from rich.console import Group

    from searchanything.hash_training.judging import FIGURE_NAMES, shown_figure

    one = next(iter(judgements.values()))
    made = f"{document['file']}: {chosen}, {document['bits']} bits"
    if not one.says_something:
        return plain(made)
    head = f"{made}; judged on {counted(one.rows, kind)}"
    table = figure_table("method", *(name for name, _ in FIGURE_NAMES.values()))
    for method, judgement in judgements.items():
        figures = judgement.figures()
        style = "bold" if method == chosen else ""
        table.add_row(method, *(shown_figure(figures[name]) for name in FIGURE_NAMES), style=style)
    return Group(plain(head), table, *map(plain, _better(judgements, chosen)))


def _better(judgements: Mapping[str, Judgement], chosen: str) -> list[str]:
    """A line on the method whose recall@10 is the best, if it is another than the one that was written."""
    recalls = {name: recall for name, one in judgements.items() if (recall := one.figures()["recall_10_at_10"])}
    best = max(recalls, key=lambda name: recalls[name], default=chosen)
    if recalls.get(best, 0) <= recalls.get(chosen, 0):
        return []
    return [
        f"{best} finds more of these regions' float neighbours than {chosen}: recall@10 {recalls[best]:.4f}, not "
        f"{recalls.get(chosen, 0):.4f}; --method {best} writes it"
    ]
