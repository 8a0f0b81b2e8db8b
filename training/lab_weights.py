"""Turn the weights of a run on a GPU into the run folder that `training.encoder_export` and `encoder --start` read.

    python -m training.lab_weights --tower image_tower.pt --heads heads.pt --steps 5441 --minutes 24 --run FOLDER

`--tower` holds `trunk.*` and `head.weight`, `head.bias` of the averaged image tower; `--heads` holds `names`, the
(256, 384) map from the teacher's vectors to its space, the classes' prototypes `protos` (n, 256) and the logarithms
`ls` of the three losses' scales. Float16, but for the last.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

_HEADS = {"from_names.weight": "names", "prototypes": "protos", "log_scales": "ls"}
_HEAD = "head."
_PROJECTION = "head.proj."  # as open_clip's TimmModel names it


def run_state(
    tower: Mapping[str, torch.Tensor], heads: Mapping[str, torch.Tensor], *, steps: int, minutes: float
) -> dict[str, Any]:
    """The part of a run's state that export and a second run need, in float32; what the heads have not is left out."""
    average = {f"module.{_renamed(name)}": _single(tensor) for name, tensor in tower.items()}
    known = {name: heads[stored].float() for name, stored in _HEADS.items() if stored in heads}
    return {"average": average, "heads": known, "step": steps, "elapsed_s": 60 * minutes}


def _renamed(name: str) -> str:
    return _PROJECTION + name.removeprefix(_HEAD) if name.startswith(_HEAD) else name


def _single(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def main() -> None:
    """Write the run folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--tower", type=Path, required=True)
    parser.add_argument("--heads", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True, help="that the tower was trained for")
    parser.add_argument("--minutes", type=float, required=True, help="that it was trained for")
    parser.add_argument("--run", type=Path, required=True)
    arguments = parser.parse_args()
    tower, heads = (torch.load(path, weights_only=True) for path in (arguments.tower, arguments.heads))
    arguments.run.mkdir(parents=True, exist_ok=True)
    state = run_state(tower, heads, steps=arguments.steps, minutes=arguments.minutes)
    torch.save(state, arguments.run / "image_tower.pt")


if __name__ == "__main__":
    main()
