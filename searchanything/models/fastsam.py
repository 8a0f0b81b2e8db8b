"""FastSAM: boxes, masks and the P3 feature map of an image out of one forward pass (design decision 1).

Any YOLOv8-seg `.pt` file of ultralytics' format will do: FastSAM-s, FastSAM-x and ours. All classes count as one.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchanything.core.errors import ModelError, WeightsMissingError
from searchanything.core.geometry import GRID_STRIDE, Letterbox
from searchanything.core.protocols import Segmentation
from searchanything.core.types import RGBImage
from searchanything.models.compute import CPU, Compute
from searchanything.models.device_lane import DeviceLane, check_process, uploaded
from searchanything.models.device_regions import DeviceSegmentation, packed_bits
from searchanything.models.exact import exact_product
from searchanything.models.options import SegmenterOptions
from searchanything.models.p3_map import P3Map, coverage_on
from searchanything.models.passes import Passes
from searchanything.models.quiet import import_torchvision
from searchanything.models.weights import LOADING_ERRORS, digest_of
from searchanything.models.yolo import Output, YoloSegmenter
from searchanything.models.yolo_file import ForeignFileError, read_tensors

_LOADING_ERRORS = (*LOADING_ERRORS, AssertionError)


class FastSAMSegmenter:
    """A `Segmenter` from a FastSAM `.pt` file. The trunk runs in the precision of `compute`, the head in fp32.

    On CUDA fp32 is without TF32, or made of its products: see `ExactConv2d`.
    """

    def __init__(self, weights: Path, *, options: SegmenterOptions | None = None, compute: Compute = CPU) -> None:
        """Raises: WeightsMissingError if there is no such file, ModelError if it is damaged or no FastSAM."""
        check_process()
        self._options = options or SegmenterOptions()
        self._compute = compute
        self._description = self._options.description(digest_of(weights))
        network = _load_network(weights)
        self._network = network.to_device(compute.device, compute.dtype, tensor_cores=compute.tensor_cores)
        self._lane, self._pooling = (DeviceLane(compute.device, urgent=True) for _ in range(2))
        self._stays_on_device = compute.device.type == "cuda"
        self._ops = import_torchvision().ops
        self._passes = Passes(compute.images_at_once())

    @property
    def feature_dimension(self) -> int:
        """C, the channels of P3 (n: 64, s: 128, x: 320)."""
        return self._network.feature_dimension

    @property
    def description(self) -> Mapping[str, str | int | float]:
        """Weights' sha256, input size and thresholds: the segmenter's part of the fingerprint."""
        return dict(self._description)

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        """Segment images of any sizes; those of one input shape share a forward pass. Results in input order."""
        letterboxes = [Letterbox(image.shape[0], image.shape[1], self._options.input_size_px) for image in images]
        by_shape = defaultdict(list)
        for number, letterbox in enumerate(letterboxes):
            by_shape[letterbox.input_shape].append(number)

        def segment_alike(numbers: list[int]) -> list[Segmentation]:
            with self._lane.open(), torch.inference_mode():
                output = self._forward(np.stack([letterboxes[number].apply(images[number]) for number in numbers]))
                return [self._segmentation(letterboxes[number], output, row) for row, number in enumerate(numbers)]

        found: dict[int, Segmentation] = {}
        for alike in by_shape.values():
            found.update(zip(alike, chain(*self._passes.over(alike, segment_alike)), strict=True))
        return [found[number] for number in range(len(images))]

    def _forward(self, batch: NDArray[np.uint8]) -> Output:
        """One pass over (B, height, width, 3) letterboxed RGB."""
        pixels = uploaded(batch, self._compute.device).permute(0, 3, 1, 2)
        output: Output = self._network((pixels.float() / 255).to(self._compute.dtype))
        return output

    def _segmentation(self, letterbox: Letterbox, output: Output, row: int) -> Segmentation:
        boxes, scores, coefficients = self._detections(output.predictions[row])
        coverage = coverage_on(letterbox, boxes.device)
        masks = _masks(coefficients, output.prototypes[row], boxes) & (coverage > 0)
        features = P3Map(output.features[row], letterbox, self._pooling)
        if not self._stays_on_device:
            filled = masks.flatten(1).any(dim=1)
            corners, found, cells = (one[filled].cpu().numpy() for one in (boxes, scores, masks))
            return Segmentation(letterbox, letterbox.boxes_to_image(corners), found, cells, features)
        covered = (masks * coverage).sum(dim=(1, 2))  # sixteenths of cells: exact, in any order
        filled = covered.nonzero().flatten()
        bits = packed_bits(masks[filled])  # before the wait: other lanes read them
        facts = torch.cat([boxes, scores[:, None], covered[:, None]], dim=1)[filled].cpu().numpy()
        boxes_xyxy, areas_px = letterbox.boxes_to_image(facts[:, :4]), letterbox.areas_of(facts[:, 5])
        return DeviceSegmentation(letterbox, boxes_xyxy, facts[:, 4].copy(), bits, areas_px, features)

    def _detections(self, prediction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (N, 4) xyxy in input pixels, scores (N,) falling and coefficients (N, K) after suppression."""
        options, head = self._options, self._network.head
        parts = torch.split(prediction.T, [2, 2, head.classes, head.mask_coefficients], dim=1)
        centre, size, scores, coefficients = parts
        best = scores.amax(dim=1)
        keep = best > options.confidence
        centre, half, best, coefficients = centre[keep], size[keep] / 2, best[keep], coefficients[keep]
        boxes = torch.cat((centre - half, centre + half), dim=1)
        # Not ultralytics' suppression: that one stops after a time limit, and results would depend on the load.
        chosen = self._ops.nms(boxes, best, options.iou)[: options.max_detections]
        return boxes[chosen], best[chosen], coefficients[chosen]


def _masks(coefficients: Tensor, prototypes: Tensor, boxes: Tensor) -> Tensor:
    """Masks (N, gh, gw) bool: where the weighted prototypes are positive, inside the box.

    A cell is inside if its centre is; a box smaller than a cell keeps one cell each way.
    """
    _, height, width = prototypes.shape
    logits = exact_product(coefficients, prototypes.flatten(1)).view(-1, height, width)
    low = torch.floor(boxes[:, :2] / GRID_STRIDE + 0.5)
    high = torch.maximum(torch.floor(boxes[:, 2:] / GRID_STRIDE + 0.5), low + 1)
    columns = torch.arange(width, device=boxes.device)[None, :]
    rows = torch.arange(height, device=boxes.device)[None, :]
    in_columns = (columns >= low[:, :1]) & (columns < high[:, :1])
    in_rows = (rows >= low[:, 1:]) & (rows < high[:, 1:])
    masks: Tensor = (logits > 0) & in_rows[:, :, None] & in_columns[:, None, :]
    return masks


def _load_network(weights: Path) -> YoloSegmenter:
    """The network of a `.pt` file, fp32, in eval mode on the CPU. Nothing in the file is executed."""
    if not weights.is_file():
        raise WeightsMissingError(f"expected segmenter weights at {weights}, there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of odd pickles before it refuses them
            return YoloSegmenter(read_tensors(weights)).eval()
    except ForeignFileError as error:
        raise ModelError(f"{weights} is no FastSAM model: {error}; name another file") from error
    except _LOADING_ERRORS as error:
        raise ModelError(
            f"{weights} cannot be loaded as a FastSAM model: {_first_line(error)}; fetch it again or name another file"
        ) from error


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
