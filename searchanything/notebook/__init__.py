"""Widgets for notebooks: an image to point at, with the answers below it."""

from searchanything.core.libraries import importing

with importing():
    from searchanything.notebook.picker import Picker

__all__ = ["Picker"]
