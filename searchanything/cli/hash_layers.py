"""`searchanything hash layers|apply|drop`: which hash layers an index has codes of, and another one in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from searchanything.cli.moments import utc_text
from searchanything.cli.options import CommonOptions, expanded
from searchanything.cli.progress import indexing_progress
from searchanything.cli.session import answer, answer_pairs, client_of, figure_table, plain
from searchanything.core.counting import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from searchanything.client.hash_layers import LayerStatus

Layer = Annotated[
    str, typer.Argument(metavar="FILE|LAYER", help="A layer's file, or 8 digits or more of one that `layers` lists.")
]
ListedLayer = Annotated[
    str, typer.Argument(metavar="LAYER", help="8 digits or more of a layer, or an index, that `layers` lists.")
]
Encode = Annotated[
    bool,
    typer.Option("--encode", help="Segment and embed images whose features are not kept; it takes as long as `index`."),
]
_DIGITS = 12  # of a layer's digest, for people


@expanded
def layers(context: typer.Context, *, common: CommonOptions) -> None:
    """List the hash layers for which the index has codes: the live one and those that it replaced, of all models.

    A layer may be in the making, or hold a part because that was ended: the list says so, with the command to go on.

    Example: [bold]searchanything hash layers[/bold]
    """
    with client_of(context, common) as client:
        found = client.hash_layers.list()
    answer({"layers": [one.to_dict() for one in found]}, common.format, lambda: _shown(found))


@expanded
def apply(context: typer.Context, layer: Layer, encode: Encode = False, *, common: CommonOptions) -> None:
    """Give the index another hash layer, without its images: codes are made of kept features.

    The index answers by the old layer until all codes are there, and can be written meanwhile. The old layer's codes
    stay: to go back, apply it again; to remove them, use `drop`.

    Example: [bold]searchanything hash apply better.safetensors[/bold]
    """
    with client_of(context, common) as client, indexing_progress("hashing") as show:
        document = client.hash_layers.apply(layer, encode=encode, progress=show).to_dict()
    pairs = [(name.replace("_", " "), "none" if value is None else str(value)) for name, value in document.items()]
    answer_pairs(document, common.format, lambda: pairs)


@expanded
def drop(context: typer.Context, layer: ListedLayer, *, common: CommonOptions) -> None:
    """Delete the codes of a layer that is not live.

    Example: [bold]searchanything hash drop 3f2a9c01[/bold]
    """
    with client_of(context, common) as client:
        client.hash_layers.drop(layer)
    answer({"dropped": layer}, common.format, lambda: f"the codes of layer {layer} are gone")


def _shown(found: Sequence[LayerStatus]) -> RenderableType:
    from rich.console import Group

    begun = [
        f"{one.layer[:_DIGITS]} of {one.preset} is not whole, as what filled it was ended: {one.goes_on} goes on, "
        f"searchanything hash drop {one.index[:_DIGITS]} removes it"
        for one in found
        if one.goes_on is not None
    ]
    return Group(_table(found), *map(plain, begun))


def _table(found: Sequence[LayerStatus]) -> Table:
    table = figure_table("layer", "index", "models", "method", "bits", "regions", "made", "")
    for one in found:
        made = utc_text(one.created_at_ms, "%Y-%m-%d %H:%M")
        regions = "not loaded" if one.regions is None else counted(one.regions, "region").split()[0]
        state = "live" if one.live else "being filled" if one.filling else "a part" if one.goes_on else ""
        if not state and not one.same_features:
            state = "other features"
        names = one.layer[:_DIGITS], one.index[:_DIGITS], one.preset
        table.add_row(*names, one.method, str(one.bits), regions, made, state)
    return table
