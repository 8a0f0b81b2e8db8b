"""Text from outside, made harmless where it is shown: one function per target.

Keys, metadata and error messages are anybody's. On a terminal an escape sequence in one could rewrite what stands
there, a line break cut off what follows, a bidirectional control turn `gpj.exe` round; in HTML and Markdown one could
be a tag, a link or a table. Pictures have `drawing.text.legible`.
"""

from __future__ import annotations

import copy
import html
import json
import logging
import re
import unicodedata
from typing import Final

_HIDDEN: Final = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS: Final = "\u200c\u200d"  # Persian words and families of emoji need them
_NEVER_HIDDEN: Final = re.compile(r"[ -~\u00a1-\u00ac\u00ae-\u02ff\u0370-\u05ff]*")
# What Markdown may read as more than itself, also in lists, tables and addresses without brackets. Behind a backslash
# it is itself to all; of entities Prefect's page shows most as they stand, and in code it would show both.
_MARKDOWN: Final = re.compile(r"[!#$&()*+:<=>@\[\\\]^_`{|}~]|[-.](?!\w)|(?<=www)\.", re.IGNORECASE)


def printable(text: str) -> str:
    """On one line of a terminal, a log or a message: what cannot be seen is written as its escape (`\\x1b`)."""
    if _NEVER_HIDDEN.fullmatch(text):
        return text
    return "".join(_escape(letter) if _is_hidden(letter) else letter for letter in text)


def printable_lines(text: str) -> str:
    """The same for a text of several lines of our own."""
    return "\n".join(map(printable, text.split("\n")))


def html_text(text: str) -> str:
    """Inside HTML, also inside an attribute's quotes."""
    return html.escape(printable(text))


def markdown_text(text: str) -> str:
    """Inside Markdown, also inside a table, on one line; not inside its code, where a backslash is one."""
    return _MARKDOWN.sub(r"\\\g<0>", printable(" ".join(text.split())))


def json_text(document: str) -> str:
    """A JSON document on a terminal: the same document, what cannot be seen by JSON's own escapes."""
    return "".join(json.dumps(one)[1:-1] if one != "\n" and _is_hidden(one) else one for one in document)


class OneLineFormatter(logging.Formatter):
    """Log records whose message stays on one line, whatever is in it; tracebacks keep their lines."""

    def format(self, record: logging.LogRecord) -> str:
        shown = copy.copy(record)
        shown.msg, shown.args = printable(record.getMessage()), ()
        return printable_lines(super().format(shown))


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter) in _HIDDEN and letter not in _JOINERS


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
