"""The verbs. A verb's module is imported when that verb is asked for: a list of them all needs none.

So the names and the lines of `searchanything --help` stand here; a test compares them with the verbs themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

MARKUP: Final = "rich"

# name: (module, function or application, the first paragraph of its help), in the order of the list
VERBS: Final[Mapping[str, tuple[str, str, str]]] = {
    "index": ("index", "index", "Index the images of a bucket or folder; unchanged ones are skipped."),
    "sidecars": (
        "sidecars",
        "sidecars",
        "Write the instances of a COCO file as regions into the sidecars of a folder's or bucket's images.",
    ),
    "watch": (
        "watch",
        "watch",
        "Keep the index in step with a bucket: uploaded images are found, deleted and overwritten ones are gone.",
    ),
    "worker": (
        "watch",
        "worker",
        "Run a worker for the scheduler of `watch`, or for your own, on this or another machine; the models stay "
        "loaded.",
    ),
    "cluster-key": (
        "watch",
        "cluster_key",
        "Make the key that scheduler, workers and watcher of your own Dask cluster share; an existing file is kept.",
    ),
    "deploy": (
        "deploy",
        "deploy",
        "Register the flows for a source on the Prefect server that PREFECT_API_URL names; repeating it does no harm.",
    ),
    "query": (
        "query",
        "query",
        "Pick a region of an image by a prompt, and list the images that contain a similar region.",
    ),
    "query-many": ("query_many", "query_many", "Ask all questions of a list, and write their answers to a file."),
    "find": (
        "find",
        "find",
        "Query the images of a folder. If the folder is not indexed yet, it is indexed first, if you agree.",
    ),
    "combine": (
        "combine",
        "combine",
        "Find the images that show several things at once, and the region that stands for each thing.",
    ),
    "explain": (
        "explain",
        "explain",
        "Say why an image is not among the hits of a query, step by step and with figures.",
    ),
    "compare": (
        "compare",
        "compare",
        "Rank the nearest regions in several ways: by CLIP, by masked CLIP, by each crop with mask features, by code.",
    ),
    "replay": (
        "replay",
        "replay",
        "Repeat the query of a receipt and report what differs. Exit code 0 if nothing does, 1 otherwise.",
    ),
    "segment": ("segment", "segment", "Show every region that the segmenter finds in an image."),
    "serve": (
        "serve",
        "serve",
        "Serve a web page on which to point at things, and a REST API for programs. Ctrl-C or SIGTERM ends it.",
    ),
    "status": ("status", "status", "Show what the index contains and which models made it."),
    "tune": (
        "tune",
        "tune",
        "Find the parameters of an approximate index that reach a recall on the index's own codes.",
    ),
    "duplicates": (
        "duplicates",
        "duplicates",
        "Find duplicates: group nearly equal regions of different images, or nearly equal whole images.",
    ),
    "standing": ("standing", "app", "Keep queries, and ask them of every image that is indexed from now on."),
    "export": ("export", "export", "Write the index's regions, masks and codes as COCO JSON or Parquet."),
    "backup": (
        "backup",
        "backup",
        "Write the index with its hash layer to a file or a bucket; it can stay in use meanwhile.",
    ),
    "restore": (
        "backup",
        "restore",
        "Make a new index from a backup, in a file or on a server, no matter where the backup was taken.",
    ),
    "delete": (
        "delete",
        "delete",
        "Forget the images of a bucket or folder. The images themselves are not touched.",
    ),
    "demo": (
        "demo",
        "demo",
        "Index generated pictogram scenes from a local S3 server, query them with every kind of prompt, and measure.",
    ),
    "doctor": (
        "doctor",
        "doctor",
        "Check versions, settings, models, store and index, and say how to fix each problem. Exit code 1 if one is "
        "broken.",
    ),
    "sync": ("sync", "app", "Compare a bucket's listing with the index, and repair what differs."),
    "failed": ("failed", "app", "List, try again or forget the images that could not be indexed."),
    "features": ("features", "app", "Maintain the features that indexing keeps (ingest.keep_features)."),
    "keys": ("keys", "app", "Keys of `searchanything serve`: who may ask, and what they see."),
    "eval": ("evaluate", "app", "Measure models on annotated images, and your index without labels."),
    "models": ("models", "app", "List, fetch and locate the models' weights; give an index other models."),
    "hash": ("hash", "app", "Train, judge, apply and import hash layers."),
}


class ListedVerb(TyperCommand):
    """A verb as lists and completions show it. Running it, and everything that needs its options, is the verb's own."""

    def __init__(self, name: str) -> None:
        self._module, self._attribute, line = VERBS[name]
        super().__init__(name, help=line, rich_markup_mode=MARKUP)

    def load(self) -> TyperCommand | TyperGroup:
        """The verb itself. Raises: what importing its module raises."""
        found = getattr(import_module(f"searchanything.cli.{self._module}"), self._attribute)
        around = typer.Typer(add_completion=False, rich_markup_mode=MARKUP)
        if isinstance(found, typer.Typer):
            around.add_typer(found, name=self.name)
        else:
            around.command(self.name)(found)
        command: Any = typer.main.get_command(around)
        return command.commands[self.name] if isinstance(found, typer.Typer) else command  # type: ignore[no-any-return]

    def make_context(  # typer's own classes of contexts are private
        self,
        info_name: str | None,
        args: list[str],
        parent: Any = None,  # noqa: ANN401
        **extra: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Of the verb itself, which is then what runs."""
        return self.load().make_context(info_name, args, parent, **extra)


class Verbs(TyperGroup):
    """All verbs, none of them imported."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - typer's
        super().__init__(**{**attributes, "commands": {name: ListedVerb(name) for name in VERBS}})

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's
        """Run a verb.

        Raises: what it raises; RuntimeError for a BrokenPipeError, at which typer ends the process, and where a library
        wants to end it; SystemExit where the reader of a verb's help went away.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise RuntimeError("a connection or a process was gone while it was written to") from error
        except SystemExit as ended:
            if is_of_broken_pipe(ended):
                raise
            raise RuntimeError(f"a library wanted to end the process: {ended.code}") from ended


def is_of_broken_pipe(ended: SystemExit) -> bool:
    """Whether this is Rich's or typer's way to say that a reader went away (`… | head`)."""
    return isinstance(ended.__context__, BrokenPipeError)
