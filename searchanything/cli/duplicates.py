"""`searchanything duplicates`: what is in the index more than once, or nearly so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.export import BucketOption, KeyPrefixOption
from searchanything.cli.options import CommonOptions, Save, expanded
from searchanything.cli.progress import passing_progress
from searchanything.cli.session import answer, check_save, client_of, plain, save_where_asked
from searchanything.core.counting import counted
from searchanything.core.types import ImageRef, RegionRef

if TYPE_CHECKING:
    from rich.console import RenderableType

_SHOWN = 50  # groups in the table

WholeImages = Annotated[bool, typer.Option("--images", help="Compare whole images instead of regions.")]
Bits = Annotated[
    int | None,
    typer.Option(
        "--bits",
        metavar="N",
        min=0,
        max=31,
        help="How many bits two codes may differ in. Default: 4 for regions, 8 for images.",
        show_default=False,
    ),
]


@expanded
def duplicates(
    context: typer.Context,
    images: WholeImages = False,
    bits: Bits = None,
    bucket: BucketOption = None,
    key_prefix: KeyPrefixOption = "",
    save: Save = None,
    *,
    common: CommonOptions,
) -> None:
    """Find duplicates: group nearly equal regions of different images, or nearly equal whole images.

    No model is loaded. All codes are compared, exactly; the codes of a group differ from its first in at most --bits.

    Example: [bold]searchanything duplicates --images --save duplicates.png[/bold]
    """
    check_save(save)
    with client_of(context, common) as client:
        with passing_progress("comparing") as show:
            found = client.duplicates(
                whole_images=images, max_bits=bits, bucket=bucket, key_prefix=key_prefix, progress=show
            )
        save_where_asked(save, found.save)
    document = found.to_dict()
    answer(document, common.format, lambda: _text(document))


def _text(document: dict[str, Any]) -> RenderableType:
    what, groups = "images" if document["whole_images"] else "regions", document["groups"]
    found = counted(len(groups), "group")
    lines = [f"{document['compared']:,} {what} compared, {found} within {document['max_bits']} bits"]
    for number, group in enumerate(groups[:_SHOWN], start=1):
        lines.append(f"{number}: {len(group)} {what}")
        lines += [f"   {one['distance_bits']:>2} bits  {_name(one)}" for one in group]
    if len(groups) > _SHOWN:
        lines.append(f"… {len(groups) - _SHOWN:,} more: --format json has all")
    return plain("\n".join(lines))


def _name(member: dict[str, Any]) -> str:
    return str(RegionRef(ImageRef(member["bucket"], member["key"]), member["region"]))
