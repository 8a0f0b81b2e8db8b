"""Importing the model libraries changes nothing for the rest of the process."""

from __future__ import annotations

import torch
from PIL import Image

from searchanything.models.quiet import import_ultralytics


def test_other_libraries_functions_stay_their_own() -> None:
    """ultralytics puts its own in their place, and its `Image.open` wants to install a package for odd files."""
    import_ultralytics()
    assert Image.open.__module__ == "PIL.Image"
    assert torch.save.__module__ == "torch.serialization"
