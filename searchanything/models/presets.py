"""Presets: sets of models on one code path, and how to load their parts.

Free of torch until something is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from searchanything.core.errors import ModelError, PresetError
from searchanything.core.libraries import importing
from searchanything.core.protocols import Hasher, RegionEncoder, Segmenter
from searchanything.core.reading import kind_at
from searchanything.core.settings import ModelSettings
from searchanything.encode.cut_batch import Cutter
from searchanything.images.crop_policy import CropPolicy
from searchanything.images.crops import PLAIN
from searchanything.images.resizing import Interpolation, ResizeMode, Resizing
from searchanything.models.hashing import HashLayer
from searchanything.models.lazy import LazyEncoder, LazySegmenter
from searchanything.models.options import FROM_FILE, EncoderOptions, SegmenterOptions
from searchanything.models.weights import WeightsRecord, digest_of, fetch_weights, locate, recorded_digest

RecordProgress: TypeAlias = Callable[[WeightsRecord, int, int | None], None]  # bytes so far, bytes in all if known
Description: TypeAlias = Mapping[str, str | int | float]

HASH_BITS = 256
HASH_SEED = 256  # of the random rotations that stand in for a trained hash
_ULTRALYTICS = "https://github.com/ultralytics/assets/releases/download/v8.3.0"
_HUB = "https://huggingface.co"
_LAION = f"{_HUB}/laion"
_HALF = EncoderOptions(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@dataclass(frozen=True, slots=True)
class Preset:
    """A segmenter, an encoder and a hash that belong together.

    `architecture` is open_clip's name for the encoder, None where the encoder is a folder with its own configuration.
    `hash_layer` is None where nothing could be trained: then a seeded random rotation takes its place. `crops` is how
    regions are shown to the encoder: the paper's rule unless another was measured to be better. `resizing` and
    `encoder_options` are the preprocessing that the encoder was trained with; `tokenizer` is a file of its own where
    open_clip has none. `limits` says what the models do not know, where that is much: `limits.py` states it once.
    """

    name: str
    summary: str
    segmenter: WeightsRecord
    options: SegmenterOptions
    feature_dimension: int
    encoder: WeightsRecord
    architecture: str | None
    embedding_dimension: int
    hash_layer: WeightsRecord | None = None
    crops: CropPolicy = CropPolicy.PAPER
    resizing: Resizing = PLAIN
    encoder_options: EncoderOptions = FROM_FILE
    tokenizer: WeightsRecord | None = None
    limits: str = ""

    @property
    def records(self) -> tuple[WeightsRecord, ...]:
        """All files of this preset."""
        found = (self.segmenter, self.encoder, self.tokenizer, self.hash_layer)
        return tuple(record for record in found if record is not None)


@dataclass(frozen=True, slots=True)
class FetchStatus:
    """Whether weights are on this machine: `path` is None where they are not, `sha256` where none is recorded."""

    record: WeightsRecord
    path: Path | None
    sha256: str | None


def _packaged(name: str, file_name: str, approximate_bytes: int) -> WeightsRecord:
    return WeightsRecord(
        name=name,
        preset="pico",
        address=None,
        sha256=None,
        licence="AGPL-3.0-or-later",
        approximate_bytes=approximate_bytes,
        file_name=f"pico/{file_name}",
    )


def _published(
    repository: str,
    *,
    preset: str,
    approximate_bytes: int,
    file: str = "open_clip_model.safetensors",
    revision: str = "main",
) -> WeightsRecord:
    """A file on Hugging Face, whose checksums are not known here: the first fetch records them."""
    name = repository.partition("/")[2]
    return WeightsRecord(
        name=name if file.endswith(".safetensors") else f"{name} {file}",
        preset=preset,
        address=f"{_HUB}/{repository}/resolve/{revision}/{file}",
        sha256=None,
        licence="Apache-2.0",
        approximate_bytes=approximate_bytes,
        file_name=f"{name}.safetensors" if file.endswith(".safetensors") else f"{name}.{file}",
        revision=None if revision == "main" else revision,
    )


def _fastsam(name: str, *, preset: str, approximate_bytes: int) -> WeightsRecord:
    """A segmenter as its publisher offers it, who states no checksum."""
    return WeightsRecord(
        name=name,
        preset=preset,
        address=f"{_ULTRALYTICS}/{name}.pt",
        sha256=None,
        licence="AGPL-3.0",
        approximate_bytes=approximate_bytes,
        file_name=f"{name}.pt",
    )


def _laion(
    repository: str, *, name: str, preset: str, approximate_bytes: int, sha256: str | None = None
) -> WeightsRecord:
    """A checkpoint of OpenCLIP's own training runs."""
    return WeightsRecord(
        name=f"OpenCLIP {name}",
        preset=preset,
        address=f"{_LAION}/{repository}/resolve/main/open_clip_pytorch_model.bin",
        sha256=sha256,
        licence="MIT",
        approximate_bytes=approximate_bytes,
        file_name=f"{repository}.bin",
    )


def _for_another_encoder(like: Preset, name: str) -> Preset:
    """A preset's segmenter under another name, for encoders in half precision that squash what they see."""
    segmenter = replace(like.segmenter, preset=name)
    return replace(like, name=name, segmenter=segmenter, resizing=SQUASHED, encoder_options=_HALF)


SQUASHED = Resizing(ResizeMode.SQUASH, Interpolation.BILINEAR)
PICO = Preset(
    name="pico",
    summary="knows pictograms and has seen street and grocery photographs; in the package",
    segmenter=_packaged("pico-segmenter", "segmenter.pt", 6_700_000),
    options=SegmenterOptions(input_size_px=640, confidence=0.12),
    feature_dimension=64,
    encoder=_packaged("pico-encoder", "encoder", 9_400_000),
    architecture=None,
    embedding_dimension=256,
    hash_layer=_packaged("pico-hash", "hash.safetensors", 741_000),
    crops=CropPolicy.BOX,  # docs/adr/0054
    limits="pico knows pictograms, and has seen street photographs and groceries; on other photographs its answers are "
    "often arbitrary: for those, use the preset small",
)
SMALL = Preset(
    name="small",
    summary="FastSAM-s and OpenCLIP ViT-B-32-256; for CPUs and trials on photographs",
    segmenter=_fastsam("FastSAM-s", preset="small", approximate_bytes=24_000_000),
    options=SegmenterOptions(),
    feature_dimension=128,
    encoder=_laion(
        "CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
        name="ViT-B-32-256 datacomp_s34b_b86k",
        preset="small",
        approximate_bytes=605_000_000,
    ),
    architecture="ViT-B-32-256",
    embedding_dimension=512,
)
PAPER = Preset(
    name="paper",
    summary="FastSAM-x and OpenCLIP ViT-H-14, the paper's models; needs a GPU",
    segmenter=_fastsam("FastSAM-x", preset="paper", approximate_bytes=145_000_000),
    options=SegmenterOptions(),
    feature_dimension=320,
    encoder=_laion(
        "CLIP-ViT-H-14-laion2B-s32B-b79K",
        name="ViT-H-14 laion2b_s32b_b79k",
        preset="paper",
        approximate_bytes=3_945_000_000,
        # The file's Git LFS object id in the publisher's repository.
        sha256="9a78ef8e8c73fd0df621682e7a8e8eb36c6916cb3c16b291a082ecd52ab79cc4",
    ),
    architecture="ViT-H-14",
    embedding_dimension=1024,
)
BASE = replace(
    _for_another_encoder(SMALL, "base"),
    summary="FastSAM-s and PE-Core-B-16; a newer encoder for photographs, nearly three times as slow as small's",
    encoder=_published(
        "timm/PE-Core-B-16",
        revision="0038414f37721c5eafc1a5e0da802d291c909de3",
        preset="base",
        approximate_bytes=1_790_000_000,
    ),
    architecture="PE-Core-B-16",
    embedding_dimension=1024,
)
LARGE = replace(
    _for_another_encoder(PAPER, "large"),
    summary="FastSAM-x and PE-Core-L-14-336; needs a GPU",
    encoder=_published(
        "timm/PE-Core-L-14-336",
        revision="8eff41b3f687e50a323662c2dda5eb3588c6dd35",
        preset="large",
        approximate_bytes=2_680_000_000,
    ),
    architecture="PE-Core-L-14-336",
    embedding_dimension=1024,
)
MULTILINGUAL = replace(
    _for_another_encoder(SMALL, "multilingual"),
    summary="FastSAM-s and SigLIP 2 ViT-B-16-256; words in many languages",
    encoder=_published("timm/ViT-B-16-SigLIP2-256", preset="multilingual", approximate_bytes=1_500_000_000),
    architecture="ViT-B-16-SigLIP2-256",
    embedding_dimension=768,
    resizing=Resizing(ResizeMode.SQUASH, Interpolation.BICUBIC),
    tokenizer=_published(
        "timm/ViT-B-16-SigLIP2-256", file="tokenizer.json", preset="multilingual", approximate_bytes=34_400_000
    ),
)
PRESETS: Mapping[str, Preset] = {one.name: one for one in (PICO, SMALL, PAPER, BASE, LARGE, MULTILINGUAL)}


def find_preset(name: str) -> Preset:
    """Raises: PresetError, which names the presets there are."""
    if name not in PRESETS:
        raise PresetError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def load_segmenter(name: str, settings: ModelSettings, precision: str | None = None) -> Segmenter:
    """The preset's segmenter, on the device of the settings, in a precision that was measured to be best there.

    Raises: WeightsMissingError, ModelError, PresetError.
    """
    with importing():
        from searchanything.models.compute import prepare_compute
        from searchanything.models.fastsam import FastSAMSegmenter

    preset = find_preset(name)
    path = locate(preset.segmenter, settings.weights_dir)
    compute = prepare_compute(settings, "segmenter", precision)
    segmenter = FastSAMSegmenter(path, options=preset.options, compute=compute)
    _check_dimension(preset.segmenter, preset.feature_dimension, segmenter.feature_dimension)
    return segmenter


def load_region_encoder(name: str, settings: ModelSettings, precision: str | None = None) -> RegionEncoder:
    """The preset's encoder, likewise. Raises: as the above."""
    with importing():
        from searchanything.models.compute import prepare_compute
        from searchanything.models.measurements import Measurements
        from searchanything.models.openclip import OpenClipEncoder

    preset = find_preset(name)
    path = locate(preset.encoder, settings.weights_dir)
    compute = prepare_compute(settings, "encoder", precision)
    batch, measurements = settings.encoder_batch, Measurements(settings.measured_dir)
    if preset.architecture is None:
        encoder = OpenClipEncoder.from_directory(path, compute=compute, batch=batch, measurements=measurements)
    else:
        encoder = OpenClipEncoder.from_checkpoint(
            preset.architecture,
            path,
            options=preset.encoder_options,
            tokenizer=None if preset.tokenizer is None else locate(preset.tokenizer, settings.weights_dir),
            compute=compute,
            batch=batch,
            measurements=measurements,
        )
    _check_dimension(preset.encoder, preset.embedding_dimension, encoder.dimension)
    return encoder


def lazy_models(name: str, settings: ModelSettings) -> tuple[LazySegmenter, LazyEncoder]:
    """The preset's segmenter and encoder, loaded when they are first used. Raises: what `describe` raises."""
    with importing():
        from searchanything.models.precision import ENCODERS, SEGMENTERS, known_precision, settling

    preset = find_preset(name)
    of_segmenter, of_encoder = describe(name, settings)
    # Once: what is loaded must be what `settling` takes it for, though another process may measure meanwhile.
    of_regions = known_precision(SEGMENTERS, of_segmenter, settings)
    of_crops = known_precision(ENCODERS, of_encoder, settings)
    segmenter = LazySegmenter(
        preset.segmenter.name,
        lambda: load_segmenter(name, settings, of_regions),
        dimension=preset.feature_dimension,
        description=of_segmenter,
        precision=of_regions,
        settle=settling(SEGMENTERS, of_segmenter, settings, lambda one: load_segmenter(name, settings, one)),
    )
    encoder = LazyEncoder(
        preset.encoder.name,
        lambda: load_region_encoder(name, settings, of_crops),
        dimension=preset.embedding_dimension,
        description=of_encoder,
        precision=of_crops,
        settle=settling(ENCODERS, of_encoder, settings, lambda one: load_region_encoder(name, settings, one)),
    )
    return segmenter, encoder


def settle(segmenter: LazySegmenter, encoder: LazyEncoder) -> None:
    """Decide what two models leave open, before a run's first code. Raises: ModelLoadError."""
    segmenter.settle()
    encoder.settle()


def open_cutter(settings: ModelSettings) -> Cutter | None:
    """What makes crops on the device of the settings, one for all; None where the host does. Raises: SettingsError."""
    with importing():
        from searchanything.models.compute import prepare_compute

    device = prepare_compute(settings, "segmenter").device
    if device.type != "cuda":
        return None
    from searchanything.models.device_cut import cutter_of

    return cutter_of(device)


def load_hash(name: str) -> Hasher:
    """The preset's hash: the trained one of the package, or a seeded random rotation.

    Raises: WeightsMissingError, ModelError, PresetError.
    """
    record = find_preset(name).hash_layer
    return untrained_hash(name) if record is None else HashLayer.from_file(record.path_in(Path()))


def untrained_hash(name: str) -> Hasher:
    """A seeded random rotation of the preset's features. Raises: PresetError."""
    preset = find_preset(name)
    return HashLayer.random_rotation(
        preset.feature_dimension, preset.embedding_dimension, bits=HASH_BITS, seed=HASH_SEED
    )


def describe(name: str, settings: ModelSettings) -> tuple[Description, Description]:
    """The descriptions that the loaded segmenter and encoder will give, without loading them.

    Raises: WeightsMissingError, ModelError, PresetError.
    """
    preset = find_preset(name)
    segmenter, encoder = (locate(record, settings.weights_dir) for record in (preset.segmenter, preset.encoder))
    vocabulary = None if preset.tokenizer is None else digest_of(locate(preset.tokenizer, settings.weights_dir))
    name_of = preset.architecture or encoder.name
    of_encoder = preset.encoder_options.description(name_of, digest_of(encoder), vocabulary)
    return preset.options.description(digest_of(segmenter)), of_encoder


def fetch_preset(name: str, directory: Path, *, source: str | None, progress: RecordProgress) -> list[Path]:
    """Fetch all files of a preset that are not there, from their publishers or from a folder or mirror that has them.

    Raises: ModelError, PresetError.
    """
    return [
        fetch_weights(record, directory, source=source, progress=partial(progress, record))
        for record in find_preset(name).records
    ]


def fetch_statuses(directory: Path) -> list[FetchStatus]:
    """All weights of all presets, and whether they are on this machine."""
    statuses = []
    for preset in PRESETS.values():
        for record in preset.records:
            path = record.path_in(directory).absolute()
            present = kind_at(path, record.name, raised=ModelError) is not None
            sha256 = recorded_digest(path) if present else None
            statuses.append(FetchStatus(record, path if present else None, record.sha256 or sha256))
    return statuses


def _check_dimension(record: WeightsRecord, expected: int, got: int) -> None:
    if got != expected:
        raise ModelError(f"{record.name} gives {got} features, the preset {record.preset} expected {expected}")
