"""Where standing queries that are added through the server may send to: what whoever runs it allows, and nowhere else.

Whoever may add a query would otherwise have the service POST to whatever it reaches.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from urllib.parse import SplitResult, urlsplit

from searchanything.answers.standing_answers import checked_webhook
from searchanything.core.errors import AccessError, SettingsError, UsageError
from searchanything.core.settings_files import ENV_PREFIX

_PORTS = {"http": 80, "https": 443}


def check_allowed(allowed: Iterable[str]) -> None:
    """Raises: SettingsError for what is no address."""
    for one in allowed:
        try:
            checked_webhook(one)
        except UsageError as error:
            raise SettingsError(f"{ENV_PREFIX}SERVE__WEBHOOKS: {one!r}: {error}") from None


def allowed_webhook(address: str | None, allowed: Collection[str]) -> str | None:
    """The address, if what is allowed holds it. Raises: UsageError for what is none; AccessError."""
    checked = checked_webhook(address)
    if checked is None:
        return None
    wanted = urlsplit(checked)
    if checked in allowed or (_is_plain(wanted.path) and any(_holds(urlsplit(one), wanted) for one in allowed)):
        return checked
    raise AccessError(
        "this server sends nothing to that webhook: whoever runs it names those that it may send to, as "
        f"{ENV_PREFIX}SERVE__WEBHOOKS",
        known=True,
    )


def _holds(allowed: SplitResult, wanted: SplitResult) -> bool:
    """Whether an address is an allowed one, or lies below it."""
    if (allowed.scheme, allowed.hostname, _port(allowed)) != (wanted.scheme, wanted.hostname, _port(wanted)):
        return False
    if allowed.query:
        return (allowed.path, allowed.query) == (wanted.path, wanted.query)
    return wanted.path == allowed.path or wanted.path.startswith(f"{allowed.path.rstrip('/')}/")


def _port(parts: SplitResult) -> int:
    return parts.port or _PORTS[parts.scheme]


def _is_plain(path: str) -> bool:
    """False where a server may read another path out of it: one that leads upwards, or is written in codes.

    Servers of Java cut off what follows a semicolon before they look at dots; `%c0%ae` is a dot to some.
    """
    names = {name.partition(";")[0] for name in path.split("/")}
    return not {".", ".."} & names and "%" not in path and "\\" not in path
