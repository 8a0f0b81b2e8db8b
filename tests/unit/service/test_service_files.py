"""What the service ships: flows that load lazily and read well, and deployments that agree in both places."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from searchanything.core.errors import ServeError, ServiceError, SettingsError, UsageError
from searchanything.core.escaping import printable
from searchanything.core.settings import Settings
from searchanything.core.state_folders import service_folder
from searchanything.ingest.contact_sheet import SheetTile
from searchanything.ingest.reports import Failure, IndexReport
from searchanything.serve.keys import KeyRing
from searchanything.service.children import Child
from searchanything.service.private import make_private
from searchanything.service.reports import BatchReport, WaveReport, failure_lines, in_table, summary, wave_markdown
from searchanything.service.tree import child_settings, deploy_flows, listening_on
from searchanything_flows.deployments import FLOWS
from searchanything_flows.naming import source_slug

ROOT = Path(__file__).parents[3]


def test_prefect_yaml_and_deploy_name_the_same_flows() -> None:
    document = yaml.safe_load((ROOT / "flows" / "prefect.yaml").read_text())
    assert {one["entrypoint"] for one in document["deployments"]} == set(FLOWS)
    assert {one["work_pool"]["name"] for one in document["deployments"]} == {"searchanything"}


@pytest.mark.parametrize("entrypoint", sorted(FLOWS))
def test_every_parameter_is_described(entrypoint: str) -> None:
    flow = FLOWS[entrypoint]
    schema = flow.parameters.model_dump()["properties"]
    assert flow.description
    assert schema
    assert all(one.get("description") for one in schema.values())


def test_the_package_and_its_commands_load_no_prefect_and_no_dask() -> None:
    code = (
        "import sys; import searchanything.cli.app, searchanything.service.watcher, searchanything.service.tree;"
        "print([name for name in ('prefect', 'distributed', 'dask', 'fastapi', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_what_vanished_counts_as_looked_for_once() -> None:
    """What a listing lacked and held back is not in a wave's batches."""
    batch = BatchReport(IndexReport(indexed=3, gone=2), 1.0, "host", 11)
    held = WaveReport(listing=IndexReport(failed=1, gone=40))
    assert (held + WaveReport((batch,))).images == 5
    assert summary(held + WaveReport((batch,))) == "3 indexed, 1 failed, 42 gone but not forgotten"


def test_reports_add_up() -> None:
    bad = Failure("b|<img>.jpg", "ImageError", "broken")
    first = BatchReport(IndexReport(indexed=3, failed=1, regions=7, failures=(bad,)), 2.0, "host", 11)
    second = BatchReport(IndexReport(indexed=2, deleted=4, regions=1), 1.0, "host", 12)
    wave = WaveReport((first,), (), 2.5) + WaveReport((second,), (Failure("c", "WorkerLostError", "died"),), 1.5)
    assert (wave.images, wave.total.regions, wave.total.failed, wave.seconds) == (7, 8, 2, 4.0)
    assert summary(wave) == "5 indexed, 2 failed, 4 deleted"
    text = wave_markdown("s3://images", wave)
    assert "| indexed | 5 |" in text
    assert "| work, summed over 2 workers | 3.00 s |" in text
    assert "| host | 11 | 1 | 4 | 2.00 s |\n| host | 12 | 1 | 2 | 1.00 s |" in text
    assert "| b\\|\\<img\\>.jpg | ImageError | broken |" in text
    assert summary(WaveReport()) == "nothing to do"


def test_warnings_are_counted_and_named() -> None:
    ghost = Failure("ghost.png", "ObjectNotFoundError", "nothing to read")
    wave = WaveReport((BatchReport(IndexReport(warnings=(ghost,)), 1.0, "host", 11),))
    assert summary(wave) == "1 warning"
    lines = wave_markdown("s3://images", wave).splitlines()
    start = lines.index("| warning | error | reason |")
    assert lines[start + 2] == "| ghost.png | ObjectNotFoundError | nothing to read |"


def test_stage_times_are_summed_over_all_batches_and_told_in_the_order_of_the_pipeline() -> None:
    first = IndexReport(timings_ms={"commit": 500.0, "segment": 1000.0})
    second = IndexReport(timings_ms={"segment": 250.0, "cut": 40.0, "read": 120.0, "a|b": 10.0})
    wave = WaveReport(tuple(BatchReport(report, 1.0, "host", 11) for report in (first, second)), (), 2.0)
    assert wave.total.timings_ms == {"commit": 500.0, "segment": 1250.0, "cut": 40.0, "read": 120.0, "a|b": 10.0}
    lines = wave_markdown("s3://images", wave).splitlines()
    start = lines.index("| stage, summed over its threads | |")
    told = {"read": 0.12, "segment": 1.25, "cut": 0.04, "commit": 0.5, "a\\|b": 0.01}
    rows = [f"| {stage} | {seconds:.2f} s |" for stage, seconds in told.items()]
    assert lines[start + 2 : start + 7] == rows
    assert "| host | 11 | 2 | 0 | 2.00 s |" in lines


def test_an_artifact_shows_tiles_by_their_links_and_names_files() -> None:
    linked = BatchReport(IndexReport(), 1.0, "h", 1, (SheetTile("a](x)|.png", "https://s3/tiles/1.jpg?X=1"),))
    local = BatchReport(IndexReport(), 1.0, "h", 1, (SheetTile("b.png", "/state/tiles/2.jpg"),))
    text = wave_markdown("s3://images", WaveReport((linked, local)))
    assert "![a\\]\\(x\\)\\|.png](https://s3/tiles/1.jpg?X=1)" in text
    assert "- b.png: /state/tiles/2.jpg" in text
    assert "![" not in wave_markdown("s3://images", WaveReport((BatchReport(IndexReport(), 1.0, "h", 1),)))


def test_failures_in_an_artifact_are_capped() -> None:
    lines = failure_lines([Failure(f"k{number}", "ImageError", "x") for number in range(60)])
    assert len([line for line in lines if "ImageError" in line]) == 50
    assert lines[-1] == "… and 10 more"
    assert failure_lines([]) == []


def test_keys_cannot_write_markdown() -> None:
    assert in_table("a\n| [x](http://y) `<b>`") == r"a \| \[x\]\(http\://y\) \`\<b\>\`"
    # no brackets are needed for an address to become a link
    addresses = "https://a.example www.b.example WWW.c.example d@e.example"
    assert in_table(addresses) == r"https\://a.example www\.b.example WWW\.c.example d\@e.example"


@given(
    st.text(st.sampled_from("aZ1 .-_*#>|[]()!`~:@&<=+\\/;\n\x1b") | st.characters(exclude_categories=()), max_size=30)
)
@example("1. x")
@example("- - x")
@example("---")
@example("_a_ __b__")
@example("&lt;b&gt; &#60;i&#62;")
def test_keys_are_read_in_markdown_as_they_are(key: str) -> None:
    """CommonMark's own reader, and GFM's tables, as an independent one."""
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    assume(key.strip())
    for around in ("- {}", "### x {}", "| h |\n|---|\n| {} |", "![{}](y)"):
        tokens, plain = reader.parse(around.format(in_table(key))), reader.parse(around.format("x"))
        assert [one.type for one in tokens] == [one.type for one in plain]
        [*_, inline] = [one for one in tokens if one.type == "inline"]
        children = inline.children or [] if around[0] != "!" else inline.children[0].children or []
        assert {one.type for one in children} == {"text"}
        assert "".join(one.content for one in children).removeprefix("x ") == printable(" ".join(key.split()))


def test_the_service_keeps_its_state_beside_the_index(tmp_path: Path) -> None:
    settings = Settings(_env_file=None)
    settings.milvus.uri = str(tmp_path / "index.db")
    assert service_folder(settings) == tmp_path / ".index.db.service"
    settings.service.folder = tmp_path / "elsewhere"
    assert service_folder(settings) == tmp_path / "elsewhere"


def test_a_folder_that_cannot_be_written_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError, match=r"state cannot be made: .*SEARCHANYTHING_SERVICE__FOLDER"):
        make_private(tmp_path / "file" / "state")
    with pytest.raises(ServeError, match=r"keys are kept, cannot be written: .*SEARCHANYTHING_SERVE__FOLDER"):
        KeyRing(tmp_path / "file" / "state").add("me")


def test_the_services_folder_is_closed_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o755)
    make_private(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr("os.getuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(ServiceError, match=r"belongs to another user; set SEARCHANYTHING_SERVICE__FOLDER"):
        make_private(folder)


def test_children_see_the_settings_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(_env_file=None)
    settings.milvus.uri, settings.models.preset, settings.service.workers = "trial.db", "pico", 3
    given = child_settings(settings)
    assert given["SEARCHANYTHING_MILVUS__URI"] == str(tmp_path / "trial.db")
    assert given["SEARCHANYTHING_SERVICE__WORKERS"] == "3"
    assert given["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert "SEARCHANYTHING_SERVICE__SCHEDULER" not in given


def test_a_taken_port_is_replaced() -> None:
    with listening_on(0) as first, listening_on(first.getsockname()[1]) as second:
        assert first.getsockname()[1] != second.getsockname()[1]


def test_deploy_needs_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(SettingsError, match="PREFECT_API_URL"):
        deploy_flows("s3://images", sync_every_s=None)
    assert issubclass(SettingsError, UsageError)


def test_a_long_log_is_put_aside_while_its_child_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("searchanything.service.children._LOG_BYTES", 10)
    log = tmp_path / "child.log"
    program = "import sys\nfor line in sys.stdin: print(line.strip(), flush=True)"
    child = Child("child", [sys.executable, "-c", program], {}, log)
    child.start()
    assert child.process is not None
    assert child.process.stdin is not None
    try:
        for text in (b"short\n", b"and a longer one\n", b"the last\n"):
            before = log.stat().st_size
            child.process.stdin.write(text)
            child.process.stdin.flush()
            while log.stat().st_size == before:
                assert child.process.poll() is None
                time.sleep(0.01)
            child.bound_log()
    finally:
        child.stop()
    assert log.read_bytes() == b"the last\n"
    assert log.with_suffix(".log.1").read_bytes() == b"short\nand a longer one\n"


def test_a_child_that_cannot_be_started_again_yet_is_started_later(tmp_path: Path) -> None:
    child = Child("child", [sys.executable, "-c", "input()"], {}, tmp_path / "child.log", pause_s=0.0)
    child.start()
    assert child.process is not None
    child.process.kill()
    child.process.wait()
    child.revive()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4, limits[1]))  # there are as many already
    try:
        child.revive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert child.process is None
    child.revive()
    assert child.process is not None
    child.stop()


SOURCES = st.text("abAB01-/._é", min_size=1, max_size=12).map("s3://{}".format)


@given(SOURCES, SOURCES)
@example("s3://a/b-c", "s3://a-b/c")
@example("s3://a", "s3://A")
def test_sources_have_names_of_their_own_in_prefect(one: str, other: str) -> None:
    assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", source_slug(one))
    same = one.rstrip("/") == other.rstrip("/")
    assert (source_slug(one) == source_slug(other)) == same


def test_a_bucket_keeps_its_name_in_prefect() -> None:
    assert source_slug("s3://holiday-2024/") == "holiday-2024"
    assert source_slug("s3://images/a/b").startswith("images-a-b-")
