"""What single pages promise is so: fields that Attu shows, shares and licences of pictures, files the site needs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from searchanything.core.rows import Outcome
from searchanything.core.serve_settings import ServeSettings
from searchanything.core.types import SizeClass
from searchanything.serve.frontier import MAX_JSON_BYTES
from searchanything.stores.milvus_schema import images_spec, regions_spec

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"


def section(page: str, heading: str) -> str:
    text = (DOCS / page).read_text("utf-8")
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def fields_of(heading: str) -> list[str]:
    """The names in the first column of a section's table, in order."""
    rows = [line.split("|")[1] for line in section("attu.md", heading).splitlines() if line.startswith("| `")]
    return re.findall(r"`(\w+)`", "".join(rows))


def test_the_page_on_attu_names_every_field_of_a_region_in_order() -> None:
    assert fields_of("Fields of a region") == [field.name for field in regions_spec("", 256).fields]


def test_the_page_on_attu_names_every_field_of_an_image() -> None:
    shared = fields_of("Fields of a region")[:10]
    assert shared[-1] == "metadata"
    own = set(fields_of("Fields of an image"))
    assert own == {field.name for field in images_spec("", 256).fields} - set(shared)


@pytest.mark.parametrize(("heading", "values"), [("Fields of a region", SizeClass), ("Fields of an image", Outcome)])
def test_the_page_on_attu_names_values_that_there_are(heading, values) -> None:
    text = section("attu.md", heading)
    assert [value for value in values if f"`{value}`" not in text] == []


def config() -> dict:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    return yaml.safe_load(text)


def test_the_site_loads_nothing_from_elsewhere() -> None:
    """Material's offline plugin adds a script from a server unless a file of its name is given."""
    site = config()
    files = [*site["extra"]["polyfills"], *site["extra_css"], *site["extra_javascript"], site["theme"]["logo"]]
    assert [file for file in files if not (DOCS / file).is_file()] == []
    assert any("iframe-worker" in file for file in site["extra"]["polyfills"])
    assert "offline" in site["plugins"]
    texts = [(DOCS / file).read_text("utf-8") for file in files]
    assert [text for text in texts if re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)] == []


def test_the_navigation_has_its_four_parts() -> None:
    parts = [next(iter(entry)) for entry in config()["nav"]]
    assert parts == ["Start", "Tutorial", "How-to", "Reference", "Explanation"]


def test_every_statement_about_other_tools_has_a_source_or_says_that_it_has_none() -> None:
    page = (DOCS / "comparison.md").read_text("utf-8")
    tools = re.split(
        r"^## ", page.partition("\n## FiftyOne\n")[2].partition("\n## What we found")[0], flags=re.MULTILINE
    )
    assert len(tools) == 5
    for tool in tools:
        for part in ("**Do", "**Better than us.**", "**Not there.**"):
            assert part in tool
        does = tool.partition("**Better than us.**")[0]
        assert "](https://" in does


def test_photographs_come_with_their_author_and_licence() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    licence = "searchanything/demo/assets/licences/Apache-2.0.txt"
    for needed in ("docs/images/photographs.webp", "bearpaw/clothing-co-parsing", f"[Apache-2.0]({licence})"):
        assert needed in readme
    assert "Apache License" in (ROOT / licence).read_text("utf-8")
    assert (DOCS / "images" / "photographs.webp").stat().st_size < 300_000


def pages() -> dict[str, str]:
    found = [ROOT / "README.md", ROOT / "milvus" / "README.md", *sorted(DOCS.rglob("*.md"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in found}


def blocks_of(text: str) -> list[str]:
    """The code blocks of a page, fenced or indented."""
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.M | re.S)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return fenced + re.findall(r"(?:^ {4}[^\n]*\n(?:\n(?= {4}))*)+", rest, re.M)


def test_no_block_mixes_python_and_commands() -> None:
    """So that each can be pasted as a whole."""
    python, command = (
        re.compile(r"^ *(import |from |client\.|\w+ = \w+\.|[A-Z]\w+\()", re.M),
        re.compile(r"^ *searchanything ", re.M),
    )
    mixed = {
        name: block
        for name, text in pages().items()
        for block in blocks_of(text)
        if python.search(block) and command.search(block)
    }
    assert mixed == {}


def test_no_document_or_command_is_taken_for_a_further_paragraph_of_a_list() -> None:
    """Four columns after a list continue its last point, so that lines run together: words stand between the two."""
    code = re.compile(
        r"^(?:[-*]|\d+\.) .*\n(?:  +\S.*\n)*\n    (?=\{|searchanything |python |pip |curl )", re.MULTILINE
    )
    assert code.search('- a point\n  and more\n\n    {"file"}\n')
    assert not [name for name, text in pages().items() if code.search(text)]


def test_the_proxy_of_the_docs_lets_through_what_the_server_takes() -> None:
    [nginx] = [block for block in blocks_of(pages()["docs/serve.md"]) if "proxy_pass" in block]
    largest, longest = (
        re.search(r"client_max_body_size (\d+)m;", nginx),
        re.search(r"proxy_read_timeout (\d+)s;", nginx),
    )
    assert largest is not None
    assert longest is not None
    settings = ServeSettings()
    assert int(largest[1]) * 2**20 >= settings.upload_bytes + MAX_JSON_BYTES, "a form has a question as well"
    assert int(longest[1]) > settings.timeout_s
    assert f"proxy_pass http://127.0.0.1:{settings.port};" in nginx


ENDLESS = re.compile(
    r"^(?:\$ )?(?:\w+=\S+ )*(?:searchanything (?:watch(?!.*--once)|worker|serve)|dask scheduler|prefect worker start)\b"
)


def test_what_runs_until_it_is_stopped_ends_its_block() -> None:
    """A second one below it would never start."""
    blocks = [(name, block) for name, text in pages().items() for block in blocks_of(text)]
    endless = [
        (name, [bool(ENDLESS.match(line.strip())) for line in block.replace("\\\n", " ").splitlines() if line.strip()])
        for name, block in blocks
    ]
    assert sum(any(lines) for _, lines in endless) > 8
    assert [name for name, lines in endless if any(lines[:-1])] == []


def test_what_is_pasted_to_install_works_where_the_system_has_a_python_of_its_own() -> None:
    """PEP 668: pip refuses without an environment, and so does uv. One way a block, so that it is pasted as a whole."""
    for name in ("README.md", "docs/install.md"):
        blocks = [block for block in blocks_of(pages()[name]) if re.search(r"^(uv )?pip install", block, re.M)]
        assert len(blocks) == 2, name
        for block in blocks:
            first, *others = block.splitlines()
            assert first in ("python3 -m venv .venv && . .venv/bin/activate", "uv venv && . .venv/bin/activate")
            assert len(others) == 1
            assert others[0].startswith("uv pip install" if first.startswith("uv") else "pip install")


def test_pages_install_from_the_checkout_while_there_is_no_release() -> None:
    places = {
        **pages(),
        **{path.name: path.read_text("utf-8") for path in (ROOT / "examples").iterdir() if path.is_file()},
    }
    named = {name: re.findall(r"pip install '?searchanything\b[^-].*", text) for name, text in places.items()}
    assert {name: found for name, found in named.items() if found and not name.startswith("docs/adr/")} == {}


def arguments_of(program: Path) -> tuple[set[str], int]:
    """The options that a program cannot do without, and how many arguments."""
    calls = [node for node in ast.walk(ast.parse(program.read_text("utf-8"))) if isinstance(node, ast.Call)]
    required, positional = set(), 0
    for call in (one for one in calls if getattr(one.func, "attr", "") == "add_argument"):
        name = ast.literal_eval(call.args[0])
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name.startswith("-") and given.get("required") == "True":
            required.add(name)
        positional += not name.startswith("-") and given.get("nargs") not in ("'?'", "'*'")
    return required, positional


PROGRAM = re.compile(
    r"^python (?:-m ((?:benchmarks|training|deploy)[\w.]*)|((?:benchmarks|training|deploy)/\w+\.py))\b(.*)"
)


def test_commands_of_our_programs_have_the_arguments_that_they_need() -> None:
    """Each in backticks or in a block; the card of pico names programs without their options."""
    seen = 0
    for name, text in pages().items():
        spans = [
            " ".join(span.split())
            for span in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
        ]
        for line in [*spans, *(line.strip() for block in blocks_of(text) for line in block.splitlines())]:
            match = PROGRAM.match(line)
            if match is None or name == "docs/pico.md":
                continue
            program = ROOT / (match[2] or f"{match[1].replace('.', '/')}.py")
            required, positional = arguments_of(program)
            words = match[3].split()
            assert required <= set(words), f"{name}: {line}"
            assert len([word for word in words if word[0] != "-"]) >= positional, f"{name}: {line}"
            seen += 1
    assert seen > 15


BENCHMARK = re.compile(r"^(?:python )?(?:-m )?benchmarks[./](\w+)(?:\.py)?((?: .*)?)$")


def options_of(program: Path) -> set[str]:
    """The options that a program and what all of them share name."""
    text = program.read_text("utf-8") + (ROOT / "benchmarks" / "measuring.py").read_text("utf-8")
    return set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', text))


def test_benchmarks_that_pages_name_are_there_and_have_the_options_of_their_commands() -> None:
    """Tables name them without `python`."""
    found = set()
    for name, text in pages().items():
        for span in re.findall(r"`([^`]+)`", text):
            if (match := BENCHMARK.match(" ".join(span.split()))) is not None:
                program = ROOT / "benchmarks" / f"{match[1]}.py"
                assert program.is_file(), f"{name}: {span}"
                assert set(re.findall(r"--[a-z-]+", match[2])) <= options_of(program), f"{name}: {span}"
                found.add(match[1])
    assert {"ingest", "growth", "search", "same_codes", "service", "query"} <= found


def test_powers_are_written_as_people_write_them() -> None:
    assert [name for name, text in pages().items() if re.search(r"\b10\^\d", text)] == []
