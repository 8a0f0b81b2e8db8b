"""Answers in a notebook: a figure of HTML whose every text is escaped, and `show()` for wherever one is."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from searchanything.core.errors import UsageError
from searchanything.core.escaping import html_text

if TYPE_CHECKING:
    from PIL.Image import Image

    from searchanything.drawing.sheets import Tile

_QUALITY: Final = 82
# Notebooks are light or dark: colours that are see-through suit both.
_CARD: Final = "width:200px;border:1px solid #8886;border-radius:6px;padding:6px;box-sizing:border-box"
_LINES: Final = "overflow-wrap:anywhere;font-size:12px;line-height:1.35"
_BADGE: Final = "border-radius:4px;padding:0 5px;font-weight:600;color:#fff;background:"
_AMBER, _GREY = "#b45309", "#475569"


def figure_html(cells: Sequence[tuple[Tile, str]], *, caption: str, verdict: str) -> str:
    """A grid of tiles, each with what makes it doubtful ("weak match") or "", under the verdict on all of them."""
    banner = f"<p>{_badge(verdict, _AMBER)}</p>" if verdict else ""
    cards = "".join(_card(tile, doubt) for tile, doubt in cells)
    grid = f'<div style="display:flex;flex-wrap:wrap;gap:8px">{cards}</div>'
    return f'<figure style="margin:0">{banner}{grid}<figcaption>{html_text(caption)}</figcaption></figure>'


def sheet_html(sheet: bytes, lines: Sequence[tuple[str, str]], *, caption: str, verdict: str = "") -> str:
    """A picture that is drawn already, as PNG, with a numbered line for each hit and what makes it doubtful."""
    banner = f"<p>{_badge(verdict, _AMBER)}</p>" if verdict else ""
    said = "".join(f"<li>{html_text(line)}{f' {_badge(doubt, _AMBER)}' if doubt else ''}</li>" for line, doubt in lines)
    said = f'<ol style="{_LINES}">{said}</ol>' if said else ""
    data, text = base64.b64encode(sheet).decode("ascii"), html_text(caption)
    shown = f'<img style="max-width:100%" alt="{text}" src="data:image/png;base64,{data}">'
    return f'<figure style="margin:0">{banner}{shown}{said}<figcaption>{text}</figcaption></figure>'


def image_html(image: Image, *, caption: str) -> str:
    """One image with its caption."""
    text = html_text(caption)
    return f'<figure style="margin:0">{_img(image, text)}<figcaption>{text}</figcaption></figure>'


def open_viewer(answer: object, picture: Callable[[], Image]) -> None:
    """Show an answer where a notebook runs, else its picture in the machine's viewer.

    Raises: UsageError where there is neither, and what drawing the picture raises.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and type(shell).__name__ != "TerminalInteractiveShell":
        from IPython.display import display

        display(answer)
        return
    drawn = picture()  # it says so where Pillow is not installed
    from PIL import ImageShow

    if not ImageShow.show(drawn):
        raise UsageError("there is no notebook and no image viewer here: save the picture, as in save('hits.png')")


def _card(tile: Tile, doubt: str) -> str:
    from PIL import Image

    badge = f"{_badge(tile.badge, _GREY)} " if tile.badge else ""
    weak = f" {_badge(doubt, _AMBER)}" if doubt else ""
    name = html_text(tile.title)
    return (
        f'<div style="{_CARD}">{_img(Image.fromarray(tile.image), name)}'
        f'<div style="{_LINES}">{badge}{name}{weak}<br>{html_text(tile.subtitle)}</div></div>'
    )


def _badge(text: str, color: str) -> str:
    return f'<span style="{_BADGE}{color}">{html_text(text)}</span>'


def _img(image: Image, alt: str) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="JPEG", quality=_QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img style="max-width:100%" alt="{alt}" src="data:image/jpeg;base64,{data}">'
