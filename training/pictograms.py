"""The public pictogram sets, rendered once and cached: the raw material of every trained `pico` weight.

Six emoji sets draw the same thousand-odd concepts in six hands. This module fetches them as pinned npm packages
(Iconify JSON: one SVG body per name), agrees on concept names across the sets, sets the zero-shot families apart, and
renders each drawing to pixels.

    python -m training.pictograms --cache data/pictograms
    python -m training.pictograms --cache data/unseen --unseen-of data/pictograms

Packages and their licences are listed in `PICTOGRAM_SETS`. Sets under share-alike licences are left out on purpose: two
of them (`UNSEEN_SETS`) draw the same concepts in hands that no training has seen, and only judge (the second line).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import re
import shutil
import subprocess
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)

RENDER_SIZE_PX = 160
MIN_STYLES_PER_CONCEPT = 3
ZERO_SHOT_MODULUS = 5


@dataclass(frozen=True, slots=True)
class PictogramSet:
    """One published icon set: the style it stands for, its pinned npm package, and whom to credit."""

    style: str
    version: str
    licence: str
    author: str
    source: str

    @property
    def package(self) -> str:
        """The npm name of the set."""
        return f"@iconify-json/{self.style}"


_NOTO = ("Apache-2.0", "Google Inc", "https://github.com/googlefonts/noto-emoji")
_FLUENT = ("MIT", "Microsoft Corporation", "https://github.com/microsoft/fluentui-emoji")

PICTOGRAM_SETS: tuple[PictogramSet, ...] = (
    PictogramSet("noto", "1.2.9", *_NOTO),
    PictogramSet("noto-v1", "1.2.5", *_NOTO),
    PictogramSet(
        "twemoji", "1.2.5", "CC-BY-4.0", "Twitter, Inc and contributors", "https://github.com/jdecked/twemoji"
    ),
    PictogramSet("fluent-emoji", "1.2.7", *_FLUENT),
    PictogramSet("fluent-emoji-flat", "1.2.6", *_FLUENT),
    PictogramSet("emojione", "1.2.3", "CC-BY-4.0", "Emoji One / EmojiTwo", "https://github.com/EmojiTwo/emojitwo"),
)

_SHARE_ALIKE = "CC-BY-SA-4.0"
UNSEEN_SETS: tuple[PictogramSet, ...] = (
    PictogramSet("openmoji", "1.2.29", _SHARE_ALIKE, "OpenMoji", "https://github.com/hfg-gmuend/openmoji"),
    PictogramSet("emojione-v1", "1.2.3", _SHARE_ALIKE, "Emoji One", "https://github.com/joypixels/emojione-legacy"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Pictograms:
    """Every rendered drawing, one row each.

    Attributes:
        images: (N, 160, 160, 4) uint8 RGBA, colours premultiplied by alpha, read-only memory map.
        concept_ids: (N,) int64 index into `names`.
        style_ids: (N,) int64 index into `styles`.
        names: Concept names, hyphenated lower-case words ("sports-car").
        families: Per concept, its name without skin tone, gender and hair words.
        is_zero_shot: (C,) bool per concept: never to be trained on.
        styles: Style names, in the order of `PICTOGRAM_SETS`.
    """

    images: npt.NDArray[np.uint8]
    concept_ids: npt.NDArray[np.int64]
    style_ids: npt.NDArray[np.int64]
    names: tuple[str, ...]
    families: tuple[str, ...]
    is_zero_shot: npt.NDArray[np.bool_]
    styles: tuple[str, ...]

    def rows(self, *, zero_shot: bool) -> npt.NDArray[np.int64]:
        """Row numbers of the drawings of zero-shot concepts, or of all the others."""
        return np.flatnonzero(self.is_zero_shot[self.concept_ids] == zero_shot)


@dataclass(frozen=True, slots=True)
class _Drawing:
    style: str
    concept: str
    svg: str


_SKIN = re.compile(r"(-(medium-light|medium-dark|light|medium|dark)-skin-tone)+$|-tone[1-5]$")
_BARE_TONE = re.compile(r"(-(medium-light|medium-dark|light|medium|dark)){1,2}$")
_HAIR = re.compile(r"-?\b(blonde?|red|curly|white)-hair\b|-?\b(bald|beard|hair)\b")
_PEOPLE = frozenset({"man", "men", "woman", "women", "person", "people", "male", "female", "boy", "girl"})

# Drawn text, arrows and dials: their names say what is written, not what is drawn.
_NOT_A_CONCEPT = re.compile(
    r"^flag-|^(keycap|letter|regional-indicator|mahjong|hair|digit)\b|button|arrow|\boclock$|-thirty$|skin-tone|\bsign$"
    r"|^(family|couple|kiss|copyright|registered|trade-mark|wavy-dash|hash|asterisk|plus|minus|divide|equals)\b"
    r"|^(input|up|new|free|cool|id|top|back|soon|on|end|atm|wc)$|^(tone|input-)|mark$|^[0-9]|-(hair|bald|beard|facing-right)$|holding-hands"
    r"|^(double|heavy|curly|squared|circled|black-small|white-small|black-medium|white-medium)-"
    r"|^(aries|taurus|gemini|cancer|leo|virgo|libra|scorpio|sagittarius|capricorn|aquarius|pisces|ophiuchus)$"
)


def family_of(name: str) -> str:
    """The name without skin tone, gender and hair words; "person" where nothing else is left."""
    stem = _HAIR.sub("", _SKIN.sub("", name)).strip("-")
    words = [word for word in stem.split("-") if word and word not in _PEOPLE]
    return "-".join(words) or "person"


def plain_name(name: str) -> str:
    """A concept's name as people write it: "sports-car" is "sports car"."""
    return name.replace("-", " ")


def is_zero_shot_family(family: str) -> bool:
    """Whether a family is held out of all training: a fifth of them, by the SHA-256 of the name (UTF-8)."""
    return int(hashlib.sha256(family.encode()).hexdigest(), 16) % ZERO_SHOT_MODULUS == 0


def load_pictograms(cache: Path) -> Pictograms:
    """Read what `build_cache` wrote.

    Raises:
        FileNotFoundError: The cache was not built; the message names the command.
    """
    index_path = cache / "pictograms.json"
    if not index_path.is_file():
        raise FileNotFoundError(f"{index_path} is missing: run `python -m training.pictograms --cache {cache}` first")
    index = json.loads(index_path.read_text("utf-8"))
    return Pictograms(
        images=np.load(cache / "pictograms.npy", mmap_mode="r"),
        concept_ids=np.asarray(index["concept_ids"], dtype=np.int64),
        style_ids=np.asarray(index["style_ids"], dtype=np.int64),
        names=tuple(index["names"]),
        families=tuple(family_of(name) for name in index["names"]),
        is_zero_shot=np.asarray([is_zero_shot_family(family_of(name)) for name in index["names"]], dtype=np.bool_),
        styles=tuple(index["styles"]),
    )


def zero_shot_families(pictograms: Pictograms) -> tuple[str, ...]:
    """The families that are held out of training, sorted."""
    return tuple(sorted({family for family in pictograms.families if is_zero_shot_family(family)}))


def build_cache(cache: Path, *, unseen_of: Path | None = None) -> None:
    """Fetch the sets that are not cached yet, render every drawing and write `pictograms.{npy,json}`.

    With `unseen_of`, the cache of what trains, it is the unseen sets' drawings of the concepts there.

    Raises:
        RuntimeError: `npm` is not installed.
        subprocess.CalledProcessError: A package could not be fetched.
        FileNotFoundError: There is no cache at `unseen_of`.
    """
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "pictograms.json").unlink(missing_ok=True)  # written last: its presence says that the cache is whole
    chosen = PICTOGRAM_SETS if unseen_of is None else UNSEEN_SETS
    sets = {item.style: _read_set(item, cache) for item in chosen}
    known = None if unseen_of is None else frozenset(load_pictograms(unseen_of).names)
    drawings = select_drawings(sets, known=known)
    names = sorted({drawing.concept for drawing in drawings})
    styles = [item.style for item in chosen]
    shape = (len(drawings), RENDER_SIZE_PX, RENDER_SIZE_PX, 4)
    images = np.lib.format.open_memmap(cache / "pictograms.npy", mode="w+", dtype=np.uint8, shape=shape)
    for row, drawing in enumerate(drawings):
        images[row] = render_svg(drawing.svg)
    images.flush()
    index = {
        "styles": styles,
        "names": names,
        "concept_ids": [names.index(drawing.concept) for drawing in drawings],
        "style_ids": [styles.index(drawing.style) for drawing in drawings],
    }
    (cache / "pictograms.json").write_text(json.dumps(index), "utf-8")
    logger.info("%d drawings of %d concepts in %s", len(drawings), len(names), cache)


def select_drawings(sets: Mapping[str, Mapping[str, Any]], *, known: frozenset[str] | None = None) -> list[_Drawing]:
    """The drawings of all concepts that enough sets know, or of the concepts that are given, by concept and style.

    Args:
        sets: Per style, the parsed `icons.json` of its package.
        known: Names of concepts; those that enough of the sets know by default.
    """
    chosen: dict[str, dict[str, str]] = defaultdict(dict)
    votes = Counter(known or (name for icons in sets.values() for name in icons["icons"]))
    for style, icons in sets.items():
        for name in sorted(icons["icons"]):
            concept = _agreed_name(name, icons, votes)
            if not _is_variant(name, icons["icons"]) and not _NOT_A_CONCEPT.search(concept):
                chosen[concept].setdefault(style, name)
    enough = {concept for concept, by_style in chosen.items() if len(by_style) >= MIN_STYLES_PER_CONCEPT}
    wanted = enough if known is None else known & set(chosen)
    return [
        _Drawing(style, concept, _svg(sets[style], chosen[concept][style]))
        for concept in sorted(wanted)
        if known is not None or not _has_neutral_form(concept, enough)
        for style in sets
        if style in chosen[concept]
    ]


def render_svg(svg: str, *, size_px: int = RENDER_SIZE_PX) -> npt.NDArray[np.uint8]:
    """Render a square SVG to (size_px, size_px, 4) uint8 RGBA with premultiplied colours."""
    import resvg_py
    from PIL import Image

    png = resvg_py.svg_to_bytes(svg_string=svg, width=size_px, height=size_px, skip_system_fonts=True)
    straight = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"), dtype=np.uint16)
    alpha = straight[..., 3:]
    premultiplied = (straight[..., :3] * alpha + 127) // 255
    return np.concatenate([premultiplied, alpha], axis=2).astype(np.uint8)


def _read_set(item: PictogramSet, cache: Path) -> dict[str, Any]:
    archive = cache / f"{item.package.removeprefix('@').replace('/', '-')}-{item.version}.tgz"
    if not archive.is_file():
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError(f"npm is needed to fetch {item.package}: install Node.js, or place its .tgz in {cache}")
        subprocess.run([npm, "pack", "--silent", f"{item.package}@{item.version}"], cwd=cache, check=True)
    with tarfile.open(archive) as tar:
        member = tar.extractfile("package/icons.json")
        if member is None:
            raise FileNotFoundError(f"{archive} holds no package/icons.json")
        icons: dict[str, Any] = json.load(member)
    return icons


def _agreed_name(name: str, icons: Mapping[str, Any], votes: Mapping[str, int]) -> str:
    # A set may list "unicorn-face" with "unicorn" as an alias: take whichever name most sets use for a drawing.
    synonyms = [alias for alias, target in _plain_aliases(icons) if target == name]
    return max([name, *synonyms], key=lambda candidate: votes.get(candidate, 0))


def _plain_aliases(icons: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    # An alias with a flip or a rotation is another drawing, not another name.
    for alias, target in icons.get("aliases", {}).items():
        if set(target) == {"parent"}:
            yield alias, target["parent"]


def _is_variant(name: str, icons: Mapping[str, Any]) -> bool:
    if _SKIN.search(name):
        return True
    # Some sets write "-dark" for a skin tone, but "police-car-light" is a lamp: a name with tones has all of them.
    base = _BARE_TONE.sub("", name)
    return base != name and f"{base}-medium-dark" in icons


def _has_neutral_form(concept: str, known: set[str]) -> bool:
    family = family_of(concept)
    neutral = {family, f"person-{family}"} - {concept}
    return family != "person" and concept != family and bool(neutral & known)


def _svg(icons: Mapping[str, Any], name: str) -> str:
    icon = icons["icons"][name]
    width = icon.get("width", icons.get("width", 16))
    height = icon.get("height", icons.get("height", 16))
    side = max(width, height)
    left = icon.get("left", 0) - (side - width) / 2
    top = icon.get("top", 0) - (side - height) / 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {side} {side}">{icon["body"]}</svg>'
    )


def main() -> None:
    """Build the cache named on the command line."""
    parser = argparse.ArgumentParser(description="Fetch and render the pictogram sets.")
    parser.add_argument("--cache", type=Path, default=Path("data/pictograms"), help="packages and renderings")
    parser.add_argument("--unseen-of", type=Path, help="the unseen sets' drawings of the concepts in this cache")
    parser.add_argument("--zero-shot-list", type=Path, help="write the held-out families to this file, one a line")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build_cache(arguments.cache, unseen_of=arguments.unseen_of)
    if arguments.zero_shot_list:
        families = zero_shot_families(load_pictograms(arguments.cache))
        arguments.zero_shot_list.write_text("\n".join([*families, ""]), "utf-8")


if __name__ == "__main__":
    main()
