"""OpenCLIP: embeddings of crops and texts in one space.

What embeds crops is loaded at once, open_clip itself where it is needed: for texts, and for every image tower but
pico's, which `lite_tower` computes.
"""

from __future__ import annotations

import json
import logging
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import safetensors
import torch
from torch import Tensor, nn

from searchanything.core.errors import ModelError, ModelLoadError, WeightsMissingError
from searchanything.core.escaping import printable
from searchanything.core.types import FloatArray, RGBImage
from searchanything.models.compute import CPU, Compute
from searchanything.models.device_lane import DeviceLane, check_process, uploaded
from searchanything.models.lite_tower import TOWER_PREFIX, LiteTower, is_lite_tower
from searchanything.models.measurements import NOT_KEPT, Measurements, ModelFacts
from searchanything.models.options import FROM_FILE, EncoderOptions
from searchanything.models.passes import Passes, measured_passes
from searchanything.models.quiet import hub_offline, import_open_clip
from searchanything.models.text_context import beginning_read
from searchanything.models.tokenizer_file import FileTokenizer
from searchanything.models.weights import BPE_FILE, CONFIG_FILE, LOADING_ERRORS, WEIGHTS_FILE, digest_of

logger = logging.getLogger(__name__)

_SHOWN_LETTERS: Final = 30  # of what is read of a text, its end
_LOADING_ERRORS = (*LOADING_ERRORS, safetensors.SafetensorError, zlib.error)


@dataclass(frozen=True, slots=True)
class _Source:
    """What open_clip loads: `model` as it names it, `checkpoint` where the model does not bring its own.

    `tokenizer` is a file that stands in for the tokenizer which open_clip would fetch.
    """

    name: str
    model: str
    checkpoint: Path | None
    dimension: int
    tokenizer_options: Mapping[str, str]
    weights_sha256: str
    options: EncoderOptions = FROM_FILE
    tokenizer: Path | None = None
    folder: Path | None = None  # with configuration and weights, where `model` names one


@dataclass(frozen=True, slots=True, eq=False)
class _ImageTower:
    """What embeds normalised pixels (B, 3, S, S), and what they are normalised by."""

    embed: Callable[[Tensor], Tensor]
    side_px: int
    mean: Sequence[float]
    std: Sequence[float]


class OpenClipEncoder:
    """A `RegionEncoder` from an open_clip model on this machine; nothing is ever downloaded."""

    def __init__(
        self,
        source: _Source,
        *,
        compute: Compute = CPU,
        batch: int | None = None,
        measurements: Measurements = NOT_KEPT,
    ) -> None:
        self._compute = compute
        self._dimension = source.dimension
        vocabulary = None if source.tokenizer is None else digest_of(source.tokenizer)
        self._description = source.options.description(source.name, source.weights_sha256, vocabulary)
        self._source = source
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None
        self._lane = DeviceLane(compute.device)
        tower = _lite_tower(source, compute) or _image_tower(source, self._whole()[0])
        self._embed, self._crop_size_px = tower.embed, tower.side_px
        model: ModelFacts = {**self._description, "crop_px": tower.side_px}
        self._passes = Passes(batch) if batch is not None else measured_passes(model, compute, measurements)
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=compute.device).view(1, 3, 1, 1) * 255
            for values in (source.options.mean or tower.mean, source.options.std or tower.std)
        )
        self._lane.follow()

    @classmethod
    def from_directory(
        cls,
        folder: Path,
        *,
        compute: Compute = CPU,
        batch: int | None = None,
        measurements: Measurements = NOT_KEPT,
    ) -> Self:
        """Load a folder with `open_clip_config.json`, `open_clip_model.safetensors` and, if it has any, its BPE merges.

        `batch` is how many crops or texts go through it at once; with None runs over many images find out how many are
        fastest, and `measurements` keeps that.
        Raises: WeightsMissingError, ModelError.
        """
        config, weights, merges = folder / CONFIG_FILE, folder / WEIGHTS_FILE, folder / BPE_FILE
        for path in (config, weights):
            if not path.is_file():
                raise WeightsMissingError(f"expected an open_clip model in {folder}, there is no {path.name}")
        try:
            dimension = int(json.loads(config.read_text(encoding="utf-8"))["model_cfg"]["embed_dim"])
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{config} is no open_clip configuration: {error!r}") from error
        source = _Source(
            name=folder.name,
            model=f"local-dir:{folder.resolve()}",
            checkpoint=None,
            dimension=dimension,
            tokenizer_options={"bpe_path": str(merges.resolve())} if merges.is_file() else {},
            weights_sha256=digest_of(folder),
            folder=folder,
        )
        return cls(source, compute=compute, batch=batch, measurements=measurements)

    @classmethod
    def from_checkpoint(
        cls,
        architecture: str,
        checkpoint: Path,
        *,
        options: EncoderOptions | None = None,
        tokenizer: Path | None = None,
        compute: Compute = CPU,
        batch: int | None = None,
        measurements: Measurements = NOT_KEPT,
    ) -> Self:
        """Load a checkpoint file of an architecture that open_clip knows, e.g. `ViT-H-14`.

        `tokenizer` is the `tokenizer.json` of an architecture whose tokenizer is not in open_clip.
        Raises: WeightsMissingError, ModelError.
        """
        if not checkpoint.is_file():
            raise WeightsMissingError(f"expected {architecture} weights at {checkpoint}, there is no such file")
        config = import_open_clip().get_model_config(architecture)
        if config is None:
            raise ModelError(f"open_clip knows no architecture {architecture!r}")
        if tokenizer is None and "hf_tokenizer_name" in config["text_cfg"]:
            raise ModelError(f"{architecture} needs a tokenizer file of its own, and none was given")
        if tokenizer is not None and not tokenizer.is_file():
            raise WeightsMissingError(f"expected {architecture}'s tokenizer at {tokenizer}, there is no such file")
        source = _Source(
            name=architecture,
            model=architecture,
            checkpoint=checkpoint,
            dimension=int(config["embed_dim"]),
            tokenizer_options={},
            weights_sha256=digest_of(checkpoint),
            options=options or FROM_FILE,
            tokenizer=tokenizer,
        )
        return cls(source, compute=compute, batch=batch, measurements=measurements)

    @property
    def dimension(self) -> int:
        """D, the length of an embedding."""
        return self._dimension

    @property
    def crop_size_px(self) -> int:
        """S, the side of the square crops that `embed_crops` takes."""
        return self._crop_size_px

    @property
    def crops_at_once(self) -> int | None:
        """How many crops go through it at once, where they are not timed: chosen, asked for or usual."""
        return self._passes.at_once

    @property
    def description(self) -> Mapping[str, str | int | float]:
        """Architecture and weights' sha256: the encoder's part of the fingerprint."""
        return dict(self._description)

    def embed_crops(self, crops: RGBImage) -> FloatArray:
        """(N, S, S, 3) uint8 RGB -> (N, D) float32 of unit length. N may be 0.

        Raises: ValueError for crops of another shape or type.
        """
        return self._embed_passes(crops, timed=False)

    def embed_many(self, crops: RGBImage) -> FloatArray:
        """The same, in passes that are timed until it is known how many crops at once are fastest.

        Takes crops that lie on the device as well, as a tensor.
        """
        return self._embed_passes(crops, timed=True)

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """N texts -> (N, D) float32 of unit length; words beyond the model's context are cut off, with a warning.

        Raises: ModelLoadError where what embeds texts is loaded now, and cannot be.
        """
        check_process()
        if not texts:
            return self._joined([])
        try:
            model, tokenizer = self._whole()
        except ModelError as error:
            raise ModelLoadError(f"{self._source.name}: {error}") from error
        for text in texts:
            self._warn_of_cut(text, beginning_read(tokenizer, text))

        def embed(some: list[str]) -> Tensor:
            with torch.inference_mode():
                return _unit_rows(model.encode_text(tokenizer(some).to(self._compute.device)))

        with self._lane.open():
            return self._joined(self._passes.over(list(texts), embed))

    def _warn_of_cut(self, text: str, read: str) -> None:
        if read != text:
            logger.warning(
                "the text of %d letters is longer than %s reads: what follows its first %d, “…%s”, is left out",
                len(text),
                self._source.name,
                len(read),
                printable(read[-_SHOWN_LETTERS:]),
            )

    def _whole(self) -> tuple[Any, Any]:
        """open_clip's model and tokenizer, loaded once. Raises: ModelError."""
        with self._lock:
            if self._loaded is None:
                self._loaded = _load(self._source, self._compute)
                self._lane.follow()
            return self._loaded

    def _embed_passes(self, crops: Any, *, timed: bool) -> FloatArray:  # noqa: ANN401 - an array, or a tensor
        side = self._crop_size_px
        kinds = np.uint8, torch.uint8
        if crops.ndim != 4 or tuple(crops.shape[1:]) != (side, side, 3) or crops.dtype not in kinds:
            raise ValueError(f"expected crops (N, {side}, {side}, 3) uint8, got {tuple(crops.shape)} {crops.dtype}")
        if isinstance(crops, Tensor):
            self._lane.follow()  # some of a batch's crops were picked in the thread's own queue a moment ago
        with self._lane.open():
            return self._joined(self._passes.over(crops, self._embed_images, timed=timed))

    def _embed_images(self, crops: Any) -> Tensor:  # noqa: ANN401 - an array, or a tensor on the device
        """Embeddings (N, D) on the device: a GPU still computes them while the next pass is prepared."""
        with torch.inference_mode():
            there = crops if isinstance(crops, Tensor) else uploaded(crops, self._compute.device)
            pixels = there.permute(0, 3, 1, 2)  # stays channels-last
            scaled = ((pixels.float() - self._mean) / self._std).to(self._compute.dtype)
            return _unit_rows(self._embed(scaled))

    def _joined(self, parts: list[Tensor]) -> FloatArray:
        """What the passes made, in the host's memory."""
        if not parts:
            return np.zeros((0, self._dimension), dtype=np.float32)
        found: FloatArray = torch.cat(parts).cpu().numpy()
        return found


def _unit_rows(rows: Tensor) -> Tensor:
    return nn.functional.normalize(rows.float(), dim=-1)


def _lite_tower(source: _Source, compute: Compute) -> _ImageTower | None:
    """The image tower of a folder without open_clip, where that is known here. Raises: ModelError."""
    if source.folder is None:
        return None
    with _loading(source):
        config = json.loads((source.folder / CONFIG_FILE).read_text(encoding="utf-8"))
        vision, seen = config["model_cfg"]["vision_cfg"], config.get("preprocess_cfg", {})
        if not is_lite_tower(vision) or not {"mean", "std"} <= seen.keys():
            return None
        with safetensors.safe_open(source.folder / WEIGHTS_FILE, framework="pt") as file:
            tower = LiteTower(
                {name: file.get_tensor(name) for name in file.offset_keys() if name.startswith(TOWER_PREFIX)},
                folded=compute.device.type == "cpu" and compute.dtype == torch.float32,
            )
    tower.to(compute.device, compute.dtype).to(memory_format=torch.channels_last)
    return _ImageTower(tower.eval(), vision["image_size"], seen["mean"], seen["std"])


def _image_tower(source: _Source, model: Any) -> _ImageTower:  # noqa: ANN401 - untyped
    """The image tower of open_clip's model. Raises: ModelError."""
    visual = model.visual
    sides = set(np.atleast_1d(visual.image_size).tolist())
    if len(sides) != 1:
        raise ModelError(f"{source.name} takes images of {visual.image_size} px; expected square ones")
    return _ImageTower(model.encode_image, int(sides.pop()), visual.image_mean, visual.image_std)


@contextmanager
def _loading(source: _Source) -> Iterator[None]:
    """Raises: ModelError for whatever damaged or foreign files provoke."""
    try:
        yield
    except _LOADING_ERRORS as error:
        line = str(error).strip().partition("\n")[0]
        raise ModelError(f"the weights of {source.name} cannot be loaded: {type(error).__name__}: {line}") from error


def _load(source: _Source, compute: Compute) -> tuple[Any, Any]:
    """The model in eval mode on the device, and its tokenizer."""
    open_clip = import_open_clip()
    with _loading(source), hub_offline():
        model = open_clip.create_model(
            source.model,
            pretrained=None if source.checkpoint is None else str(source.checkpoint.resolve()),
            precision=compute.precision,
            device=compute.device,
            require_pretrained=True,  # open_clip's default is silent random weights
            weights_only=True,
        )
        tokenizer = _tokenizer(open_clip, source)
    model.visual.to(memory_format=torch.channels_last)
    return model.requires_grad_(requires_grad=False).eval(), tokenizer


def _tokenizer(open_clip: Any, source: _Source) -> Any:  # noqa: ANN401 - untyped
    """open_clip's own, or one from a file with the context and cleaning that open_clip gives this architecture."""
    if source.tokenizer is None:
        return open_clip.get_tokenizer(source.model, **source.tokenizer_options)
    text = open_clip.get_model_config(source.model)["text_cfg"]
    clean = text.get("tokenizer_kwargs", {}).get("clean", "whitespace")
    # Handed over, as the hub is locked while models are loaded, and importing open_clip would wait for it.
    return FileTokenizer(
        source.tokenizer, context=text["context_length"], clean=open_clip.tokenizer.get_clean_fn(clean)
    )
