"""`searchanything keys`: who may ask a server that others can reach."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from searchanything.cli.moments import utc_text
from searchanything.cli.options import CommonOptions, expanded, option
from searchanything.cli.session import answer, plain, session_of, settings_of
from searchanything.core.errors import UsageError
from searchanything.core.types import source_of

if TYPE_CHECKING:
    from searchanything.serve.keys import ApiKey, KeyRing, Right

app = typer.Typer(
    help="Keys of `searchanything serve`: who may ask, and what they see.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What the key is called.", show_default=False)]
ScopeOption = Annotated[
    list[str] | None,
    option(
        "--scope",
        "SOURCE",
        "s3://bucket/prefix, or an indexed folder: all that the key sees. Repeatable; default: everything.",
    ),
]
RightOption = Annotated[
    list[str] | None,
    option("--right", "RIGHT", "read, refine, or standing (queries); repeatable. Default: read and refine."),
]

ValueOfOption = Annotated[str | None, option("--value-of", "VARIABLE", "Take the key from this environment variable.")]


@app.command("add")
@expanded
def add(
    context: typer.Context,
    name: NameArgument,
    scope: ScopeOption = None,
    right: RightOption = None,
    value_of: ValueOfOption = None,
    *,
    common: CommonOptions,
) -> None:
    """Make a key and print it once: only its digest is kept.

    With --value-of, the key is not made but taken from an environment variable, as a container's secret, and not
    printed. The same again changes nothing; another value replaces the key of that name.

    Examples: [bold]searchanything keys add shop --scope s3://catalogue/shoes/[/bold]

    [bold]searchanything keys add platform --value-of SERVE_KEY[/bold]
    """
    from searchanything.cli.key_scopes import resolved
    from searchanything.serve.keys import USUAL_RIGHTS

    places = resolved(scope or [], session_of(context), common)
    rights = cast("list[Right]", right or USUAL_RIGHTS)  # it checks them
    if value_of is not None:
        taken = _ring(common).take(name, _secret(value_of), places=places, rights=rights)
        answer(_document(taken), common.format, lambda: plain(f"kept {taken.name} ({taken.id})"))
        return
    token, key = _ring(common).add(name, places=places, rights=rights)
    answer(_document(key) | {"key": token}, common.format, lambda: plain(token))


@app.command("list")
@expanded
def list_keys(context: typer.Context, *, common: CommonOptions) -> None:
    """List the keys: names, scopes and rights, not the keys themselves."""
    from searchanything.cli.key_scopes import warn

    keys = _ring(common).all()
    valid = (key for key in keys if key.revoked_at_ms is None)
    warn((place for key in valid for place in key.places), session_of(context), common)
    text = "\n".join(map(_line, keys)) or "no keys: searchanything keys add NAME"
    answer({"keys": [_document(key) for key in keys]}, common.format, lambda: plain(text))


@app.command("revoke")
@expanded
def revoke(name: NameArgument, *, common: CommonOptions) -> None:
    """Refuse a key from now on, by its name or id; running servers follow at once."""
    key = _ring(common).revoke(name)
    answer(_document(key), common.format, lambda: plain(f"revoked {key.name} ({key.id})"))


def _secret(variable: str) -> str:
    value = os.environ.get(variable, "")
    if not value:
        raise UsageError(f"--value-of {variable}: expected an environment variable with a key, it is not set")
    return value


def _ring(common: CommonOptions) -> KeyRing:
    from searchanything.core.state_folders import serve_folder
    from searchanything.serve.keys import KeyRing

    return KeyRing(serve_folder(settings_of(common.uri)))


def _document(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scope": [{"bucket": bucket, "key_prefix": prefix} for bucket, prefix in key.places],
        "rights": list(key.rights),
        "created_at_ms": key.created_at_ms,
        "revoked_at_ms": key.revoked_at_ms,
    }


def _line(key: ApiKey) -> str:
    made = utc_text(key.created_at_ms, "%Y-%m-%d")
    scope = ", ".join(f"{source_of(bucket)}/{prefix}" for bucket, prefix in key.places) or "everything"
    state = "" if key.revoked_at_ms is None else "  revoked"
    return f"{key.id}  {key.name}  {', '.join(key.rights)}  {scope}  since {made}{state}"
