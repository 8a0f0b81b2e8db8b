"""`searchanything segment`: all regions of one image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from searchanything.cli.options import AskOptions, ImageArgument, Save, expanded
from searchanything.cli.session import answer, check_image, check_save, client_of, save_where_asked
from searchanything.core.counting import counted

if TYPE_CHECKING:
    from rich.console import RenderableType


@expanded
def segment(
    context: typer.Context,
    image: ImageArgument,
    save: Save = None,
    *,
    common: AskOptions,
) -> None:
    """Show every region that the segmenter finds in an image.

    Example: [bold]searchanything segment street.jpg --preset small --save regions.png[/bold]
    """
    check_save(save, image)
    check_image(image)
    with client_of(context, common) as client:
        segments = client.segment(image)
        save_where_asked(save, segments.save)
    document = segments.to_dict()
    answer(document, common.format, lambda: _text(document))


def _text(document: dict[str, Any]) -> RenderableType:
    from rich.table import Table

    size = document["image"]
    regions = document["regions"]
    table = Table(
        title=f"{counted(len(regions), 'region')} in {size['width']} × {size['height']} px",
        title_justify="left",
        box=None,
    )
    for heading in ("#", "score", "area px", "box x1,y1,x2,y2"):
        table.add_column(heading, justify="left" if heading.startswith("box") else "right")
    for number, region in enumerate(regions):
        box = ",".join(f"{side:g}" for side in region["box_xyxy"])
        table.add_row(str(number), f"{region['score']:.2f}", f"{region['area_px']:,}", box)
    return table
