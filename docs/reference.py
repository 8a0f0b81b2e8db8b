"""Builds the generated pages from the package itself: settings, verbs and options, errors, presets."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import typer
from cures import CURES
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from searchanything.cli.app import app
from searchanything.cli.failures import exit_code_of
from searchanything.cli.verbs import ListedVerb
from searchanything.core import errors
from searchanything.core.settings_table import settings_table
from searchanything.models.presets import PRESETS, Preset
from searchanything.models.weights import WeightsRecord

Parameter: TypeAlias = TyperArgument | TyperOption
GENERATED = "Generated from {source} by `python docs/generate.py`.\n"
SETTINGS = f"""# Settings

{GENERATED.format(source="`searchanything/core/settings.py`")}
Nothing needs to be set to begin. `searchanything doctor` says which settings are wrong.

## How a setting is written

These pages name a setting by its group and name: `search.rescore`. It is written differently in each place:

- **In the environment or a settings file**: `SEARCHANYTHING_`, then group and name in capitals with two underscores
  between them: `SEARCHANYTHING_SEARCH__RESCORE=400`.
- **On the command line** some settings have an option that replaces them for one command: `--rescore 400`. For
  `milvus.uri` it is `--uri`, for `models.preset` `--preset`. Any other is set before the command:
  `SEARCHANYTHING_INGEST__TILES=1280 searchanything index scans`.
- **In Python**, for one client:

    ```python
    import searchanything
    from searchanything.core.settings import load_settings

    settings = load_settings()
    settings.search.rescore = 400
    client = searchanything.connect("trial.db", settings=settings)
    ```

A list is written with commas: `SEARCHANYTHING_INGEST__EXCLUDE=*.tif,thumbs/*`. On these pages, `…__NAME` stands for the
part that is the same as in the variable before.

## Where it is read

Each setting is read from the first of these places that has it:

1. the environment;
2. the file that `SEARCHANYTHING_ENV_FILE` names (lines `NAME=value`);
3. your own file `~/.config/searchanything/settings.env`, which nobody else must be able to write.

A `.env` in the working directory is not read unless you ask for it:
`SEARCHANYTHING_ENV_FILE=.env searchanything status`.

A file named by `SEARCHANYTHING_ENV_FILE` may come from a project, so it is trusted less than the environment and your
own file: a token or key from these is never sent to an address, through a proxy, or under a certificate that such a
file names. That is an error; set both in the same place.

A Milvus token is sent only over TLS or within this machine, unless `SEARCHANYTHING_MILVUS__ALLOW_UNENCRYPTED` is set.
An S3 secret key is never sent; it only signs. `SEARCHANYTHING_STORAGE__SECURE=false` turns TLS off for S3.
Secrets are never logged or shown.

If a variable with the prefix is no setting but looks like a misspelt one, such as `SEARCHANYTHING_MILVUS__URL`, a
warning names it and the nearest setting. `searchanything doctor` lists it, too.

[Images in S3](s3.md) explains the settings of `STORAGE` for AWS and other servers.

## All settings

"""
OPTIONS = f"""# Commands and options

{GENERATED.format(source="the command line itself")}
For what scripts can rely on, and for the JSON documents, see [Command line](cli.md). Coordinates are pixels of the
EXIF-corrected image.
"""
ERRORS = f"""# Errors and their cures

{GENERATED.format(source="`searchanything/core/errors.py`")}
All errors that this package raises on purpose are subclasses of `searchanything.SearchAnythingError`. The classes are
in `searchanything.core.errors`. The command line prints `error:` and, where one is known, `cure:` on stderr. With
`--format json` it prints `{{"error": {{"type", "message", "cure"}}}}`, where `type` is the class. Any other class is a
bug: please report it, with the traceback that `SEARCHANYTHING_DEBUG=1` shows.

| error | means | what to do | exit code |
|---|---|---|---|
"""
PRESET_HEAD = f"""# Presets and their licences

{GENERATED.format(source="the weight records in `searchanything/models/presets.py`")}
A preset is a segmenter, an encoder and a hash that belong together. All presets run the same code. An index remembers
its preset, and queries follow it.

{{choice}}
For photographs, begin with `small`: [why](#what-to-know-before-choosing).

## Fetch weights

| to | run |
|---|---|
| fetch the weights of a preset, and check them | `searchanything models fetch PRESET` |
| see what is on this machine | `searchanything models list` |
| take the files from a folder, without a network | `searchanything models fetch PRESET --from FOLDER` |
| take them from a mirror, not the publisher | `searchanything models fetch PRESET --from https://mirror/weights` |

No other command fetches anything. A fetch that was cut off is continued. A folder holds the files under the names of
the tables below.

What is fetched is compared with the sha256 that the table states, or that was recorded here before. If there is
neither, a folder or mirror is trusted, and what it gave is recorded. A mirror on another machine must then be https.

"""
PRESET_TAIL = """## What to know before choosing

- **`small` or `base`? Begin with `small`.** How well either searches was not measured, so no figure says that `base`
  finds more. `base` fetches 1,814 MB in place of 629, and its encoder takes 2.7 to 2.8 times as long for a crop on a
  CPU ([measured](performance.md#figures) with random weights). Its encoder is newer. To find out on your own images,
  compare the two: [Other models](upgrading.md#other-models) says how.
- **`pico` knows pictograms, and has seen street and grocery photographs**, and no others ([card](pico.md)). It is
  loaded by the same classes as the large models. Use it for the demo, tests and trials.
- **{untrained} have no trained hash.** A new index first trains one on a sample of its source
  ([how](features.md#a-hash-layer-of-your-own-from-the-start)). With too few images it starts with a seeded random
  rotation, and `searchanything status` says `untrained`.
- **Only of `pico` it was measured how well it searches.** The weights of all others were not at hand. Their speed was
  measured with random weights ([Performance](performance.md)).
- **{unmeasured}**: their code path is tested with random weights in the published format, against open_clip's own
  transform and tokenizer. Which crops suit them was not measured: they take the paper's rule.
  [`searchanything eval`](evaluation.md) compares presets on your images.
- **`multilingual` needs one more library**: `pip install '.[multilingual]'`. The commit of its repository is
  not known here, so its address names the newest.
- **No preset with MobileCLIP2**: Apple's licence of its weights (`apple-amlr`) allows only research purposes
  ([ADR 70](adr/0070-presets-of-today.md)).

Preprocessing belongs to the preset: the mean and deviation of pixels that its encoder was trained with, how crops are
resized, and a tokenizer of its own. All of it is in an index's fingerprint.

## Checksums

- **The table states a sha256**: it is checked at the fetch and at each start, also for files that you put there by
  hand.
- **The table states none**: the sha256 is recorded beside the file at the first fetch or use (`FILE.sha256`), and
  checked from then on. A file whose size and time are unchanged is not read again.
- **The server states a sha256** in its answer (the hub's `X-Linked-ETag`): the file is checked against it. This was
  tried with a server of our own that answers so, not with the hub itself.
- **The address names a commit**: it gives the same file for ever.

## Licences

FastSAM's weights come with ultralytics' AGPL-3.0. This package is AGPL-3.0-or-later because it ships and loads such
weights. The bundled pictograms and photographs have their own licences: `searchanything/demo/assets/ATTRIBUTION.md`.
"""


def settings_page() -> str:
    """`docs/settings.md`."""
    return SETTINGS + settings_table()


def errors_page() -> str:
    """`docs/errors.md`, one row per class. Raises: LookupError if the cures are not those of the classes there are."""
    classes = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, Exception)]
    names = {one.__name__ for one in classes}
    if names != set(CURES):
        raise LookupError(f"docs/cures.py and searchanything/core/errors.py differ in {sorted(names ^ set(CURES))}")
    return ERRORS + "".join(_error_rows(errors.SearchAnythingError, classes))


def _error_rows(kind: type[Exception], classes: Sequence[type[Exception]], depth: int = 0) -> list[str]:
    """The row of a class, and those of its subclasses below it, in the order of the cures."""
    meaning = (kind.__doc__ or "").partition("\n")[0]
    code = exit_code_of(kind.__new__(kind))  # the class decides, whatever its message needs
    row = f"| {'· ' * depth}`{kind.__name__}` | {meaning} | {CURES[kind.__name__]} | {code} |\n"
    below = sorted((one for one in classes if kind in one.__bases__), key=lambda one: list(CURES).index(one.__name__))
    return [row, *(line for one in below for line in _error_rows(one, classes, depth + 1))]


def presets_page() -> str:
    """`docs/presets.md`."""
    untrained = ", ".join(f"`{name}`" for name, preset in PRESETS.items() if preset.hash_layer is None)
    unmeasured = ", ".join(f"`{name}`" for name in ("base", "large", "multilingual"))
    sections = "\n".join(_preset_section(preset) for preset in PRESETS.values())
    head = PRESET_HEAD.format(choice=_choice())
    return f"{head}{sections}\n{PRESET_TAIL.format(untrained=untrained, unmeasured=unmeasured)}"


def _choice() -> str:
    """A row for each preset: what it is, and how much `models fetch` loads."""
    rows = "".join(
        f"| [`{name}`](#{name}) | {_capitalised(preset.summary)} | {_to_fetch(preset)} |\n"
        for name, preset in PRESETS.items()
    )
    return f"| preset | what it is | to fetch |\n|---|---|---|\n{rows}"


def _to_fetch(preset: Preset) -> str:
    fetched = sum(record.approximate_bytes for record in preset.records if record.address)
    return f"{fetched / 1e6:,.0f} MB" if fetched else "nothing"


def _capitalised(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def _preset_section(preset: Preset) -> str:
    head = "| weights | licence | size | from | sha256 |\n|---|---|---|---|---|\n"
    rows = "".join(_weights_row(record) for record in preset.records)
    bits = "trained, in the package" if preset.hash_layer else "trained on a sample of your images"
    summary = f"{_capitalised(preset.summary)}."
    return (
        f"## {preset.name}\n\n{summary} Features: {_dimensions(preset)}. Hash: {bits}.{_shown(preset)}\n\n{head}{rows}"
    )


def _shown(preset: Preset) -> str:
    """How the encoder sees a crop, where that is not as in the presets from before."""
    options = preset.encoder_options
    if options.mean is None or options.std is None:
        return ""
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (options.mean, options.std))
    return f" Crops: resized by `{preset.resizing}`, mean {mean}, deviation {std}."


def _dimensions(preset: Preset) -> str:
    return f"{preset.feature_dimension} of the segmenter's pyramid and {preset.embedding_dimension} of the encoder"


def _weights_row(record: WeightsRecord) -> str:
    size = f"{record.approximate_bytes / 1e6:,.1f} MB" if record.approximate_bytes < 1e7 else _megabytes(record)
    digest = f"`{record.sha256[:12]}…`" if record.sha256 else "recorded at the first fetch" if record.address else "—"
    place = f"[{record.file_name}]({record.address})" if record.address else "the package"
    return f"| {record.name} | {record.licence} | {size} | {place} | {digest} |\n"


def _megabytes(record: WeightsRecord) -> str:
    return f"{record.approximate_bytes / 1e6:,.0f} MB"


def options_page() -> str:
    """`docs/options.md`: every verb with its arguments and options."""
    root = typer.main.get_command(app)
    if not isinstance(root, TyperGroup):
        raise TypeError(f"expected a group of verbs, got {type(root).__name__}")
    return OPTIONS + "".join(_verb_section(name, command) for name, command in _verbs(root, "searchanything"))


def _verbs(group: TyperGroup, path: str) -> Iterator[tuple[str, TyperCommand]]:
    for name, listed in group.commands.items():
        command = listed.load() if isinstance(listed, ListedVerb) else listed
        if isinstance(command, TyperGroup):
            yield from _verbs(command, f"{path} {name}")
        elif isinstance(command, TyperCommand):
            yield f"{path} {name}", command


def _verb_section(path: str, command: TyperCommand) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    usage = " ".join([path, *(_argument(one) for one in arguments), "[OPTIONS]"])
    sections = [f"\n## {path.partition(' ')[2]}\n\n```text\n{usage}\n```\n\n{_prose(command.help or '')}\n"]
    head = "\n| {title} | meaning | default |\n|---|---|---|\n"
    shown = [one for one in command.params if not one.hidden]
    for title in dict.fromkeys(_panel(one) for one in shown):
        rows = "".join(_parameter_row(one) for one in shown if _panel(one) == title)
        sections.append(head.format(title=title) + rows)
    return "".join(sections)


def _argument(parameter: Parameter) -> str:
    name = (parameter.metavar or parameter.name.upper()).strip("[]")
    return name if parameter.required else f"[{name}]"


def _panel(parameter: Parameter) -> str:
    if parameter.param_type_name == "argument":
        return "argument"
    return (parameter.rich_help_panel or "option").partition(" (")[0]


def _parameter_row(parameter: Parameter) -> str:
    if parameter.param_type_name == "argument":
        name = f"`{parameter.metavar or parameter.name.upper()}`"
    else:
        value = "" if parameter.is_flag else f" {parameter.metavar or _choices(parameter)}"
        name = f"`{', '.join([*parameter.opts, *parameter.secondary_opts])}{value}`"
    default = "required" if parameter.required else parameter.default
    shown = "" if default in (None, False, "", ()) else str(default) if default == "required" else f"`{default}`"
    return f"| {name} | {_cell(parameter.help or '')} | {shown} |\n"


def _choices(parameter: Parameter) -> str:
    annotation = parameter.type_descriptor.annotation
    options = getattr(annotation, "__args__", ())
    named = ",".join(str(option) for option in options if isinstance(option, str))
    return f"{{{named}}}" if named else "TEXT"


def _cell(text: str) -> str:
    """A sentence as it stands: none of its characters is markup."""
    return re.sub(r"([|*_<\[])", r"\\\1", " ".join(text.split()))


def _prose(help_text: str) -> str:
    """A verb's help as Markdown: what it shows in bold is a command line."""
    return re.sub(r"\[bold\](.*?)\[/(?:bold)?\]", r"`\1`", help_text.strip(), flags=re.DOTALL)
