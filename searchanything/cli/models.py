"""`searchanything models`: which weights there are, fetching them, where they lie; other models for an index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.index import HashFile, hash_choice
from searchanything.cli.options import CommonOptions, OutputOptions, expanded, option
from searchanything.cli.progress import download_progress, indexing_progress
from searchanything.cli.session import answer, answer_pairs, client_of, plain, settings_of

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(
    help="List, fetch and locate the models' weights; give an index other models.", rich_markup_mode="rich"
)
PresetArgument = Annotated[
    str, typer.Argument(metavar="PRESET", help="pico, small, base, large, multilingual or paper.", show_default=False)
]

From = Annotated[
    str | None,
    option(
        "--from",
        "FOLDER|MIRROR",
        "A folder, or an http(s) address, that has the files under the names that `models path` shows.",
    ),
]


@app.command("list")
@expanded
def list_models(*, output: OutputOptions) -> None:
    """List the presets, their weights and licences, and which are on this machine."""
    from searchanything.core.settings import load_settings
    from searchanything.models.presets import PRESETS, fetch_statuses

    weights: dict[str, list[dict[str, Any]]] = {name: [] for name in PRESETS}
    for status in fetch_statuses(load_settings().models.weights_dir):
        record = status.record
        weights[record.preset].append(
            {
                "name": record.name,
                "present": status.path is not None,
                "path": None if status.path is None else str(status.path),
                "licence": record.licence,
                "approximate_bytes": record.approximate_bytes,
                "sha256": status.sha256,
                "address": record.address,
                "revision": record.revision,
            }
        )
    presets = [{"name": name, "summary": preset.summary, "weights": weights[name]} for name, preset in PRESETS.items()]
    answer({"presets": presets}, output.format, lambda: _text(presets))


@app.command("fetch")
@expanded
def fetch(preset: PresetArgument, source: From = None, *, output: OutputOptions) -> None:
    """Fetch the weights of a preset, and check them. What was cut off is continued.

    Example: [bold]searchanything models fetch small[/bold]
    """
    from searchanything.core.settings import load_settings
    from searchanything.models.presets import fetch_preset

    with download_progress() as show:
        paths = fetch_preset(preset, load_settings().models.weights_dir, source=source, progress=show)
    answer({"preset": preset, "paths": [str(path) for path in paths]}, output.format, lambda: _lines(paths))


@app.command("path")
@expanded
def path(preset: PresetArgument, *, output: OutputOptions) -> None:
    """Print where the weights of a preset are. Fails if they are not on this machine."""
    from searchanything.core.settings import load_settings
    from searchanything.models.presets import find_preset
    from searchanything.models.weights import locate

    directory = load_settings().models.weights_dir
    paths = [locate(record, directory) for record in find_preset(preset).records]
    answer({"preset": preset, "paths": [str(path) for path in paths]}, output.format, lambda: _lines(paths))


@app.command("apply")
@expanded
def apply(context: typer.Context, other: PresetArgument, hash_file: HashFile = None, *, common: CommonOptions) -> None:
    """Give the index other models: its images are segmented and embedded again, while it answers by the old ones.

    When all is there, the index switches, for every process at once. It can be written meanwhile. After a kill, the
    same command goes on. The old codes stay: to go back, apply the old preset; to remove them, use `hash drop`.

    Example: [bold]searchanything models apply small[/bold]
    """
    from searchanything.models.presets import describe

    describe(other, settings_of(common.uri).models)  # weights that are not there are said before torch is imported
    with client_of(context, common) as client, indexing_progress() as show:
        document = client.models.apply(other, hash_file=hash_choice(hash_file), progress=show).to_dict()
    pairs = [(name.replace("_", " "), "none" if value is None else str(value)) for name, value in document.items()]
    answer_pairs(document, common.format, lambda: pairs)


def _lines(paths: list[Path]) -> RenderableType:
    return plain("\n".join(map(str, paths)))


def _text(presets: list[dict[str, Any]]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("preset", "weights", "size", "licence", "here"):
        table.add_column(heading, justify="right" if heading == "size" else "left")
    for preset in presets:
        table.add_row(f"[bold]{preset['name']}[/bold]", f"[dim]{preset['summary']}[/dim]")
        for weights in preset["weights"]:
            size = f"{weights['approximate_bytes'] / 1e6:,.0f} MB"
            here = "yes" if weights["present"] else f"no: searchanything models fetch {preset['name']}"
            table.add_row("", weights["name"], size, weights["licence"], here)
    return table
