"""The settings of the models, which `core.settings` holds with all others."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field


class ModelSettings(BaseModel):
    """Which models compute features, and on what."""

    preset: str | None = Field(
        None, description="`pico`, `small`, `base`, `large`, `multilingual` or `paper`; an index remembers its own."
    )
    device: str = Field("auto", description="`auto`, `cpu`, `cuda`, `cuda:1`, `mps`.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Arithmetic of the encoder. `auto` is fp32, but on CUDA fp16 unless `index` has measured that its "
        "embeddings are others or that it is slower.",
    )
    segmenter_precision: Literal["auto", "fp32", "tf32x3", "bf16", "fp16"] = Field(
        "auto",
        description="Arithmetic of the segmenter. `auto` is fp32, but on CUDA tf32x3, sums of TF32 products that come "
        "to fp32, where `index` has measured that its regions are the same and that it is quicker. With bf16 or fp16 "
        "a GPU finds other regions than a CPU, and their codes differ.",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of the models; all cores by default.")
    weights_dir: Path = Field(
        default_factory=lambda: Path.home() / ".cache/searchanything/weights", description="Folder of fetched weights."
    )
    encoder_batch: int | None = Field(
        None,
        ge=1,
        description="Crops per pass of the encoder. By default the number that is fastest: `index` tries some on its "
        "first images, and `measured_dir` keeps which was. Until then 128, on a CPU at most 16 a thread.",
    )
    measured_dir: Path | None = Field(
        default_factory=lambda: Path.home() / ".cache/searchanything/measured",
        description="Where it is kept what was measured on this machine: crops per pass, and the precision on CUDA.",
    )
