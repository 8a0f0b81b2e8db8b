"""The ingestion service as it runs: real S3 server, real Prefect, real Dask, real Milvus Lite; models are fakes."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from contracts.index_rows import image_row, random_codes, region_row
from fakes.http_servers import web_server
from fakes.models import drawn, fake_encoder
from service_bench import BUCKET, HEAL_S, SOURCE, TOKEN, Bench, png, service_bench, until
from urllib3 import make_headers

from searchanything.answers.standing_answers import StandingQuery
from searchanything.client.standing_features import picture_of
from searchanything.client.standing_memory import Kept, StandingMemory
from searchanything.core.geometry import encode_rle
from searchanything.core.rows import Outcome
from searchanything.core.types import ImageRef
from searchanything.prompts.prompt import Points
from searchanything.service.events import MAX_KEY_BYTES
from searchanything.service.tree import deploy_flows

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
RED = {"red": (8, 8, 40, 40)}
TWO = {"green": (8, 8, 30, 30), "blue": (34, 34, 60, 60)}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One service for all tests of this file, in the order in which they stand."""
    with pytest.MonkeyPatch.context() as patch, service_bench(tmp_path_factory.mktemp("service"), patch) as bench:
        yield bench


def test_an_upload_is_found(bench: Bench) -> None:
    etag = bench.store.upload("watched/ä b+c.png", png(**RED))
    bench.until_indexed({"watched/ä b+c.png": etag})
    row = bench.row("watched/ä b+c.png")
    assert row is not None
    assert (row.outcome, row.regions) == (Outcome.INDEXED, 1)


def test_a_finished_wave_is_a_line(bench: Bench) -> None:
    """Of the coordinator's process, shown by this one; a bad image is named with its reason."""
    bench.store.upload("watched/line.png", png(**RED))
    until(lambda: any(" 1 indexed" in line and " 1 region" in line for line in bench.waves), "the line")
    bench.store.upload("watched/bad-line.png", b"no image")
    until(lambda: any("; failed: watched/bad-line.png: is" in line for line in bench.waves), "the failure's line")
    assert all(re.match(r"\d\d:\d\d:\d\d  \d", line) for line in bench.waves)
    bench.store.delete("watched/bad-line.png")
    until(lambda: bench.row("watched/bad-line.png") is None, "the bad image is forgotten")


def test_what_matches_a_standing_query_is_sent(bench: Bench) -> None:
    """By the coordinator, which has no models: features are kept beside the index."""
    noise = [ImageRef("noise", f"{number}.png") for number in range(300)]
    codes = [code.tobytes() for code in random_codes(300, bits=bench.index.manifest.bits)]
    rows = [region_row(image, generation=1, code=code) for image, code in zip(noise, codes, strict=True)]
    bench.index.insert_regions(rows)
    bench.index.insert_images(
        [image_row(one.image, generation=1, code=one.code, regions=1, etag=one.etag) for one in rows]
    )
    picture = drawn(64, 64, **RED)
    features = fake_encoder().encode_query(picture, Points([(20, 20)])).features
    assert features is not None
    memory = StandingMemory(bench.client._parts.connection.indexes)
    with web_server(lambda _: (200, {}, b"")) as hook:
        address = f"http://{hook.endpoint}/matches"
        mask = encode_rle(np.ones((64, 64), dtype=np.bool_))
        query = StandingQuery(
            "a" * 16, "red", "regions", 1e-3, time.time_ns() // 10**6, {"kind": "points"}, mask=mask, webhook=address
        )
        memory.keep(query, Kept(picture_of(picture), {bench.client.manifest.feature_fingerprint: features}))
        memory.keep_query(query)
        etag = bench.store.upload("watched/match.png", png(**RED))
        bench.until_indexed({"watched/match.png": etag})

        def sent() -> list[str]:
            matches = [one for asked in hook.asked for one in json.loads(asked.body)["data"]["matches"]]
            return [one["etag"] for one in matches if one["key"] == "watched/match.png"]

        until(lambda: bool(sent()), "the match is sent")
        until(lambda: any("standing query red: " in line for line in bench.waves), "the line")
        bench.client.standing.remove("red")
    assert sent() == [etag]
    bench.index.delete_images(noise)


def test_an_overwrite_leaves_the_new_regions_alone(bench: Bench) -> None:
    bench.until_indexed({"watched/o.png": bench.store.upload("watched/o.png", png(**RED))})
    bench.until_indexed({"watched/o.png": bench.store.upload("watched/o.png", png(**TWO))})
    until(lambda: bench.regions("watched/o.png") == 2, "the old region is gone")


def test_a_deletion_is_forgotten(bench: Bench) -> None:
    bench.until_indexed({"watched/d.png": bench.store.upload("watched/d.png", png(**RED))})
    bench.store.delete("watched/d.png")
    until(lambda: bench.row("watched/d.png") is None, "the image is forgotten")
    until(lambda: bench.regions("watched/d.png") == 0, "its region is gone")


def test_objects_beside_the_prefix_are_not_touched(bench: Bench) -> None:
    bench.store.upload("elsewhere/a.png", png(**RED))
    bench.until_indexed({"watched/after.png": bench.store.upload("watched/after.png", png(**RED))})
    assert bench.row("elsewhere/a.png") is None


def test_the_webhook_asks_for_its_token(bench: Bench) -> None:
    url = bench.tree.notes["webhook"]
    body = json.dumps({"Records": []}).encode()
    for headers, status in [({}, 401), ({"Authorization": "Bearer wrong"}, 401), ({"Authorization": TOKEN}, 200)]:
        assert bench.http.request("POST", url, body=body, headers=headers).status == status
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert bench.http.request("POST", url, body=body, headers=bearer).json() == {"hints": 0}
    assert bench.http.request("POST", url, body=b"{", headers=bearer).status == 400
    assert bench.http.request("POST", url, body=b" " * (9 << 20), headers=bearer).status == 413
    assert bench.http.request("GET", url.replace("/events", "/health")).status == 200


def test_doubled_late_and_false_events_do_no_harm(bench: Bench) -> None:
    url, bearer = bench.tree.notes["webhook"], {"Authorization": f"Bearer {TOKEN}"}
    etags = {f"watched/e{n}.png": bench.store.upload(f"watched/e{n}.png", png(**RED)) for n in range(4)}
    names = ["s3:ObjectRemoved:Delete", "s3:ObjectCreated:Put", "s3:ObjectCreated:Put"]
    events = [(name, key) for key in [*etags, "watched/never.png", "watched/" + "k" * MAX_KEY_BYTES] for name in names]
    random.Random(7).shuffle(events)  # noqa: S311
    for name, key in events:
        record = {"eventName": name, "s3": {"bucket": {"name": BUCKET}, "object": {"key": key}}}
        bench.http.request("POST", url, json={"Records": [record]}, headers=bearer)
    bench.until_indexed(etags)
    until(lambda: not bench.client.sync(SOURCE).differs, "listing and index agree")


def test_a_burst_arrives_whole_in_few_runs(bench: Bench) -> None:
    before = bench.prefect("flow_runs/count")
    data = png(**TWO)
    with ThreadPoolExecutor(8) as pool:
        keys = [f"watched/burst/{number:03}.png" for number in range(100)]
        etags = dict(zip(keys, pool.map(lambda key: bench.store.upload(key, data), keys), strict=True))
    bench.until_indexed(etags)
    assert bench.regions("watched/burst/") == 200
    assert bench.prefect("flow_runs/count") - before <= 12  # waves of 32; a few that began before all had come


@pytest.mark.slow
def test_a_burst_of_500_arrives_whole_in_bounded_runs(bench: Bench) -> None:
    data = [png(**RED), png(**TWO)]
    runs, tasks = bench.prefect("flow_runs/count"), bench.prefect("task_runs/count")
    with ThreadPoolExecutor(8) as pool:
        keys = [f"watched/500/{number:03}.png" for number in range(500)]
        etags = pool.map(lambda pair: bench.store.upload(pair[1], data[pair[0] % 2]), enumerate(keys))
        uploaded = dict(zip(keys, etags, strict=True))
    seconds = bench.until_indexed(uploaded, timeout_s=3 * HEAL_S)
    runs, tasks = bench.prefect("flow_runs/count") - runs, bench.prefect("task_runs/count") - tasks
    print(f"500 images {seconds:.1f} s after the last upload, {runs} runs, {tasks} tasks")  # noqa: T201
    assert bench.regions("watched/500/") == 750
    listing = {found.ref.key: found.etag for found in bench.store.list("watched/")}
    rows = bench.index.newest([ImageRef(BUCKET, key) for key in listing])
    assert {ref.key: row.etag for ref, row in rows.items() if row.outcome is Outcome.INDEXED} == listing
    assert runs <= 40  # 16 waves of 32, and those that began before they were full
    assert tasks <= 3 * 63  # 63 batches of 8; smaller ones, and Prefect's own line for each run within another


def test_batches_have_no_tag_whose_slot_they_would_wait_for(bench: Bench) -> None:
    runs = bench.prefect("task_runs/filter", {"sort": "EXPECTED_START_TIME_DESC", "limit": 200})
    batches = [run["tags"] for run in runs if run["task_key"].startswith("index_batch")]
    assert batches
    assert not any(batches)  # flow runs keep ours: the automation for crashed runs looks for it
    tagged = bench.prefect("flow_runs/filter", {"limit": 50})
    assert all("searchanything" in run["tags"] for run in tagged)


def test_runs_read_well_in_prefect(bench: Bench) -> None:
    runs = bench.prefect("flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 50})
    names = {run["name"] for run in runs}
    assert f"watch {SOURCE}" in names
    assert f"sync {SOURCE}" in names
    assert any(name.endswith(f"images of {SOURCE}") for name in names)
    artifacts = bench.prefect("artifacts/filter", {"limit": 50})
    assert any("| segment | " in str(one["data"]) for one in artifacts)
    assert any("| indexed |" in str(one["data"]) and "| worker | process |" in str(one["data"]) for one in artifacts)


def test_an_artifact_shows_its_images_until_they_are_deleted(bench: Bench) -> None:
    bench.until_indexed({"watched/shown.png": bench.store.upload("watched/shown.png", png(**TWO))})

    def link() -> str | None:
        texts = [str(one["data"]) for one in bench.prefect("artifacts/filter", {"sort": "CREATED_DESC", "limit": 20})]
        found = [re.search(r"!\[watched/shown\.png\]\((\S+)\)", text) for text in texts]
        return next((one[1] for one in found if one), None)

    until(lambda: link() is not None, "the artifact shows the image")
    assert bench.http.request("GET", str(link())).headers["Content-Type"] == "image/jpeg"
    bench.store.delete("watched/shown.png")
    until(lambda: bench.http.request("GET", str(link())).status == 404, "the tile goes with its image")
    assert not [one for one in bench.store.list("watched/") if one.ref.key.endswith(".jpg")]


def test_a_killed_worker_heals_and_nothing_is_lost(bench: Bench) -> None:
    [(_, pid)] = bench.workers().items()
    data = png(**RED)
    etags = {f"watched/k{n:02}.png": bench.store.upload(f"watched/k{n:02}.png", data) for n in range(40)}
    os.kill(pid, signal.SIGKILL)
    bench.until_indexed(etags)
    assert bench.regions("watched/k") == 40
    assert pid not in bench.workers().values()


def test_a_worker_whose_device_turns_sick_is_replaced_and_no_image_is_blamed(bench: Bench) -> None:
    [(_, pid)] = bench.workers().items()
    bench.sick.touch()
    etags = {f"watched/s{n:02}.png": bench.store.upload(f"watched/s{n:02}.png", png(**RED)) for n in range(20)}
    bench.until_indexed(etags)
    assert not bench.sick.exists()
    assert bench.client.failures(SOURCE) == []
    assert all(bench.row(key).attempts <= 1 for key in etags)  # type: ignore[union-attr]
    assert pid not in bench.workers().values()


@pytest.mark.slow
def test_an_image_that_kills_its_workers_is_found_and_told(bench: Bench) -> None:
    etags = {f"watched/p{n}.png": bench.store.upload(f"watched/p{n}.png", png(**RED)) for n in range(3)}
    bench.store.upload("watched/p9.png", png(deadly=True, **RED))
    bench.until_indexed(etags, timeout_s=2 * HEAL_S)
    until(lambda: bench.row("watched/p9.png") is not None, "the deadly image is recorded", timeout_s=3 * HEAL_S)
    row = bench.row("watched/p9.png")
    assert row is not None
    assert (row.outcome, row.error) == (Outcome.FAILED, "WorkerLostError")


def test_the_same_command_adds_a_worker(bench: Bench) -> None:
    address = bench.tree.notes["scheduler"]
    until(lambda: len(bench.workers()) == 1, "the service's own worker is there")
    command = [sys.executable, "-m", "searchanything.cli.app", "worker", "--scheduler", address]
    more = subprocess.Popen([*command, "--uri", bench.client.uri, "--preset", "pico"])
    try:
        until(lambda: len(bench.workers()) == 2, "the worker has joined")
        assert all(one.startswith("tls://127.0.0.1:") for one in bench.workers()), "whoever reaches it runs code"
    finally:
        more.terminate()
    assert more.wait(60) == 0
    until(lambda: len(bench.workers()) == 1, "the worker has left")


def test_nobody_else_on_this_machine_reads_the_services_files(bench: Bench) -> None:
    folder = bench.tree.folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [file for file in folder.rglob("*") if not file.is_symlink()]
    assert {"cluster.pem", "prefect-password", "coordinator.json", "prefect.log"} <= {file.name for file in files}
    assert [file.name for file in files if stat.S_IMODE(file.stat().st_mode) & 0o077] == []


def test_prefects_api_asks_for_its_password(bench: Bench) -> None:
    for path in ("flow_runs/filter", "automations/", "block_documents/", "deployments/filter", "admin/settings"):
        for headers in ({}, make_headers(basic_auth="searchanything:guess"), make_headers(basic_auth="admin:pass")):
            for method in ("POST", "GET"):
                answer = bench.http.request(method, f"{bench.tree.api_url}/{path}", headers=headers, json={})
                assert answer.status == 401, path
    assert isinstance(bench.prefect("flow_runs/filter"), list)


def test_a_page_of_elsewhere_gets_no_answer_of_prefects_api(bench: Bench) -> None:
    login = make_headers(basic_auth=bench.tree.password)
    port = bench.tree.api_url.removesuffix("/api").rpartition(":")[2]
    url = f"{bench.tree.api_url}/block_types/filter"
    for headers in (
        {"Host": f"rebound.example:{port}"},
        {"Host": "rebound.example"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{int(port) + 1}"},
    ):
        assert bench.http.request("POST", url, headers=login | headers, json={}).status == 403, headers
        preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        allowed = bench.http.request("OPTIONS", url, headers=preflight | headers).headers
        assert "Access-Control-Allow-Origin" not in allowed
    for origin in (f"http://127.0.0.1:{port}", f"http://localhost:{port}"):
        answer = bench.http.request("POST", url, headers=login | {"Origin": origin}, json={})
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, origin)


def test_models_are_loaded_once_per_worker(bench: Bench) -> None:
    loads = bench.loads()
    assert len(loads) >= 2  # the first worker, and those that replaced killed ones
    assert len(set(loads)) == len(loads)


def test_deployments_are_registered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", bench.tree.api_url)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", bench.tree.password)
    first = deploy_flows(SOURCE, sync_every_s=600)
    flows = {name.partition("/")[0] for name in first["deployments"]}
    assert flows == {"watch", "index", "sync", "reindex", "retry-failed"}
    deployed = bench.prefect("deployments/filter")
    assert len(deployed) == 5
    assert {one["entrypoint"].rpartition(".")[0].partition(".")[0] for one in deployed} == {"searchanything_flows"}
    automations = {one["name"] for one in bench.prefect("automations/filter")}
    assert automations == {"searchanything: runs without a heartbeat have crashed", "searchanything: images failed"}


@pytest.mark.slow
def test_deploying_again_does_no_harm(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", bench.tree.api_url)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", bench.tree.password)
    deploy_flows(SOURCE, sync_every_s=600)
    deploy_flows(SOURCE, sync_every_s=600)
    assert len(bench.prefect("deployments/filter")) == 5
    assert len(bench.prefect("automations/filter")) == 2


def test_a_cancelled_watch_ends_and_the_next_begins(bench: Bench) -> None:
    running = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}

    def watching() -> list[str]:
        runs = bench.prefect("flow_runs/filter", running)
        return [run["id"] for run in runs if run["name"] == f"watch {SOURCE}"]

    [run] = watching()
    bench.prefect(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    until(lambda: watching() not in ([], [run]), "another watch runs")
    [ended] = bench.prefect("flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
    assert ended["state"]["type"] == "CANCELLED"
    bench.until_indexed({"watched/next.png": bench.store.upload("watched/next.png", png(**RED))})


def test_a_watch_that_is_deleted_ends_and_the_next_begins(bench: Bench) -> None:
    """Prefect can keep no state of it then; the coordinator, with its workers and what waits, lives on."""
    pid, loads, login = bench.tree.notes["pid"], bench.loads(), make_headers(basic_auth=bench.tree.password)

    def watching() -> list[str]:
        runs = bench.prefect("flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}})
        return [run["id"] for run in runs if run["name"] == f"watch {SOURCE}"]

    [run] = watching()
    assert bench.http.request("DELETE", f"{bench.tree.api_url}/flow_runs/{run}", headers=login).status == 204
    until(lambda: bool(watching()), "another watch runs")
    bench.until_indexed({"watched/deleted.png": bench.store.upload("watched/deleted.png", png(**RED))})
    os.kill(pid, 0)
    assert (bench.tree.notes["pid"], bench.loads()) == (pid, loads)


def test_a_killed_coordinator_is_started_again_and_its_sync_finds_the_rest(bench: Bench) -> None:
    keeper = threading.Thread(target=bench.tree.run, daemon=True)
    keeper.start()
    pid = bench.tree.notes["pid"]
    os.kill(pid, signal.SIGKILL)
    etag = bench.store.upload("watched/meanwhile.png", png(**RED))
    bench.until_indexed({"watched/meanwhile.png": etag}, timeout_s=2 * HEAL_S)
    assert bench.tree.notes["pid"] != pid


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_runs_of_a_killed_coordinator_end_as_crashed(bench: Bench) -> None:
    """On its own: the coordinator is killed here, also where a test before this one did so."""
    threading.Thread(target=bench.tree.run, daemon=True).start()  # starts the next one, which has the automation
    pid = bench.tree.notes["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: bench.tree.notes.get("pid") not in (None, pid), "a coordinator follows", timeout_s=4 * HEAL_S)

    def crashed() -> bool:
        runs = bench.prefect("flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["CRASHED"]}}}})
        return f"watch {SOURCE}" in {run["name"] for run in runs}

    until(crashed, "the killed run ends as Crashed", timeout_s=1200)  # 400 s of silence


def test_nothing_is_left_behind(bench: Bench) -> None:
    pids = [*bench.tree.pids.values(), *bench.workers().values()]
    assert len(pids) >= 3
    bench.tree.stop()
    bench.tree.close()
    until(lambda: not any(_alive(pid) for pid in pids), "all processes are gone")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
