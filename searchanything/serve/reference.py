"""`/docs`: the OpenAPI document as a page for people, without a script and without another host."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

_HEAD: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '<title>Search Anything: REST</title><link rel="stylesheet" href="/page/style.css">'
    '<main class="reference"><h1>REST</h1>'
)


def reference_page(document: Mapping[str, Any]) -> str:
    """Every operation with what it takes and gives."""
    about = html.escape(f"{document['info']['title']} {document['info']['version']}. ")
    link = '<a href="/openapi.json">The OpenAPI document</a> is the reference; this page shows it.'
    return f"{_HEAD}<p>{about}{link}</p>{''.join(_operations(document))}{_schemas(document)}</main></html>\n"


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            name = html.escape(f"{method.upper()} {path}")
            rows = "".join(_parameter(one) for one in operation.get("parameters", []))
            taken = f"<table><tr><th>parameter<th>in<th>form</tr>{rows}</table>" if rows else ""
            statuses = ", ".join(
                f"{status} {html.escape(one['description'].lower())}" for status, one in operation["responses"].items()
            )
            summary = html.escape(operation.get("summary", ""))
            body = _body(operation.get("requestBody"))
            yield f"<section><h2><code>{name}</code></h2><p>{summary}.</p>{body}{taken}<p>{statuses}</p></section>"


def _parameter(one: Mapping[str, Any]) -> str:
    schema = html.escape(json.dumps(one.get("schema", {}), ensure_ascii=False))
    needed = " *" if one.get("required") else ""
    return f"<tr><td><code>{html.escape(one['name'])}{needed}</code><td>{one['in']}<td><code>{schema}</code></tr>"


def _body(body: Mapping[str, Any] | None) -> str:
    if body is None:
        return ""
    taken = []
    for kind, content in body["content"].items():
        name = str(content.get("schema", {}).get("$ref", "")).rpartition("/")[2]
        link = f': <a href="#{name}">{name}</a>' if name else ""
        taken.append(f"<code>{html.escape(kind)}</code>{link}")
    return f"<p>Body: {', '.join(taken)}</p>"


def _schemas(document: Mapping[str, Any]) -> str:
    parts = ["<h1>Forms</h1>"]
    for name, schema in document.get("components", {}).get("schemas", {}).items():
        shown = html.escape(json.dumps(schema, ensure_ascii=False, indent=1))
        parts.append(
            f'<section id="{html.escape(name)}"><h2><code>{html.escape(name)}</code></h2><pre>{shown}</pre></section>'
        )
    return "".join(parts)
