"""Importing the model libraries without their side effects: no network, no files in the user's home, no output.

ultralytics at import creates a settings file in the home, looks for a network, registers analytics, replaces
`torch.save` and Pillow's `Image.open`, turns off OpenCV's threads, sets `OMP_NUM_THREADS` and logs to stdout. open_clip
logs through the root logger, which configures it. All of this belongs to the application: it is prevented or put back.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

_lock = threading.Lock()


def import_ultralytics() -> Any:  # noqa: ANN401 - an untyped module
    """The module `ultralytics.nn.tasks`, imported in silence the first time."""
    with _lock:
        if "ultralytics" not in sys.modules:
            with tempfile.TemporaryDirectory(prefix="searchanything-") as folder, _state_kept():
                _silence(Path(folder))
                importlib.import_module("ultralytics.nn.tasks")
            # Its handler writes to stdout, where the command line promises nothing but its own document.
            logger = logging.getLogger("ultralytics")
            logger.handlers.clear()
            logger.propagate = True
        return importlib.import_module("ultralytics.nn.tasks")


def import_open_clip() -> Any:  # noqa: ANN401 - an untyped module
    """The module `open_clip`, imported without warnings."""
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("open_clip")


@contextmanager
def hub_offline() -> Iterator[None]:
    """While it lasts Hugging Face's client refuses to use the network, and the root logger is not configured."""
    from huggingface_hub import constants

    root, placeholder = logging.getLogger(), logging.NullHandler()
    with _lock:
        before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
        root.addHandler(placeholder)  # logging.info() on a bare root logger would call basicConfig()
        try:
            yield
        finally:
            root.removeHandler(placeholder)
            constants.HF_HUB_OFFLINE = before


def _silence(folder: Path) -> None:
    """Prepare the environment that ultralytics reads at import; `folder` takes the place of the user's home."""
    settings = folder / "Ultralytics" / "settings.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"sync": False}), encoding="utf-8")  # sync: analytics and crash reports
    os.environ.update(
        YOLO_CONFIG_DIR=str(folder),
        YOLO_OFFLINE="1",
        YOLO_AUTOINSTALL="0",
        YOLO_VERBOSE="0",
        ULTRALYTICS_SAFE_LOAD="1",
    )


@contextmanager
def _state_kept() -> Iterator[None]:
    """Put the process' own state back: environment, threads, print options, warnings, `torch.save`, `Image.open`."""
    environment, threads = dict(os.environ), cv2.getNumThreads()
    save, image_open = torch.save, Image.open
    try:
        with np.printoptions(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        cv2.setNumThreads(threads)
        torch.save = save
        Image.open = image_open
        torch.set_printoptions(profile="default")  # type: ignore[no-untyped-call]
