"""One way to do each thing: what one function does for all is written in its module and nowhere else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from fakes.sources import parsed

ROOT = Path(__file__).parents[3]
# By what it looks like: the module that may, and what others call instead.
ONLY_IN = {
    r"\bS3Store\(": ("stores/sources.py", "stores.sources.open_s3, or wiring.open_s3_bucket"),
    r"frombuffer\(\s*(?:joined|b\"\"\.join)": ("core/codes.py", "core.codes.stacked"),
    r"\[:5\]\.lower|startswith\(\(?[\"']s3:|removeprefix\([\"']s3:": ("core/addresses.py", "core.addresses.split_s3"),
    r"is_absolute\(\) else f?[\"']s3:": ("core/types.py", "core.types.source_of"),
    r"\bislice\(\w+, size\)": ("core/batching.py", "core.batching.batches"),
    r"Callable\[\[\], BinaryIO\]": ("core/protocols/storage.py", "core.protocols.Opener"),
    r"^ENV_PREFIX\b.*=": ("core/settings_files.py", "core.settings_files.ENV_PREFIX"),
}
MODULES = {
    path.relative_to(ROOT / "searchanything").as_posix(): parsed(path)
    for path in sorted((ROOT / "searchanything").rglob("*.py"))
}


@pytest.mark.parametrize("looks", ONLY_IN)
def test_one_module_does_it_for_all(looks: str) -> None:
    only, instead = ONLY_IN[looks]
    found = {name for name, (text, _) in MODULES.items() if re.search(looks, text, re.MULTILINE) is not None}
    assert found <= {only}, f"call {instead} instead"


@pytest.mark.parametrize(
    "line",
    [
        "    return S3Store(storage, bucket)",
        'codes = np.frombuffer(b"".join(row.code for row in rows), dtype=np.uint8)',
        "    if location[:5].lower() != 's3://':",
        'if text.startswith("s3://"):',
        'source = bucket if Path(bucket).is_absolute() else f"s3://{bucket}"',
        "    while batch := list(islice(remaining, size)):",
    ],
)
def test_a_second_way_is_found(line: str) -> None:
    assert [looks for looks in ONLY_IN if re.search(looks, line, re.MULTILINE)]


def shape(function: ast.FunctionDef) -> str:
    """A function's body without its docstring and with its own names numbered: equal for what was copied."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    numbers: dict[str, str] = {}
    text = ast.unparse(ast.Module(body, []))
    own = {one.arg for one in ast.walk(function) if isinstance(one, ast.arg)}
    own |= {one.id for one in ast.walk(function) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    return re.sub(
        r"\b\w+\b", lambda word: numbers.setdefault(word[0], f"n{len(numbers)}") if word[0] in own else word[0], text
    )


def copies() -> list[list[str]]:
    """Functions of modules, of at least two statements, that are the same but for their names."""
    known: dict[str, list[str]] = {}
    for name, (_, tree) in MODULES.items():
        for node in tree.body:
            statements = [one for one in ast.walk(node) if isinstance(one, ast.stmt)]
            if isinstance(node, ast.FunctionDef) and len(statements) > 2:
                known.setdefault(shape(node), []).append(f"{name}:{node.name}")
    return sorted(places for places in known.values() if len(places) > 1)


def test_a_copy_under_other_names_is_found() -> None:
    first, second = (
        ast.parse(f"def f({a}):\n    '''{a}'''\n    {b} = {a} + 1\n    return {b}").body[0] for a, b in ("xy", "pq")
    )
    assert isinstance(first, ast.FunctionDef)
    assert isinstance(second, ast.FunctionDef)
    assert shape(first) == shape(second)


def test_no_function_is_written_twice() -> None:
    assert copies() == []
