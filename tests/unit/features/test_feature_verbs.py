"""Keeping features as users meet it: settings, client and command line on a folder of images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.machine import Machine, machine_with_images
from fakes.models import drawn
from PIL import Image

import searchanything
from searchanything.cli.app import run
from searchanything.core import codes
from searchanything.core.errors import IndexNotFoundError, ObjectNotFoundError, SettingsError, StoreError
from searchanything.core.manifest import IndexManifest
from searchanything.core.settings import Settings
from searchanything.ingest.reports import IndexProgress
from searchanything.wiring import open_feature_cache


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return machine_with_images(monkeypatch, tmp_path)


def settings_for(tmp_path: Path, *, keep: bool = True) -> Settings:
    settings = Settings(_env_file=None)
    settings.milvus.uri = "memory://"
    settings.models.preset = "pico"
    settings.ingest.keep_features = keep
    settings.ingest.features_dir = tmp_path / "kept"
    return settings


def test_off_by_default(tmp_path: Path) -> None:
    assert Settings(_env_file=None).ingest.keep_features is False
    with searchanything.connect(settings=settings_for(tmp_path, keep=False)) as client:
        client.index(tmp_path / "images")
        status = client.features.status(tmp_path / "images")
        assert (status.files, status.rows, status.missing) == (0, 0, 3)
        assert status.to_dict()["bytes_per_region"] is None
    assert not (tmp_path / "kept").exists()


def test_every_way_into_the_index_keeps_features(tmp_path: Path) -> None:
    images = tmp_path / "images"
    with searchanything.connect(settings=settings_for(tmp_path)) as client:
        client.index(images)
        assert client.features.status(images).live_rows == 6
        (images / "1.png").rename(images / "new.png")
        client.refresh(images, ["new.png"])
        assert client.features.status(images).live_rows == 8
        Image.fromarray(drawn(48, 64, green=(4, 4, 30, 40))).save(images / "0.png")
        repaired = client.sync(images, repair=True)
        assert (repaired.stale, repaired.orphaned) == (("0.png",), ("1.png",))
        status = client.features.status(images)
        assert (status.rows, status.live_rows, status.images, status.missing) == (9, 5, 3, 0)
        assert client.features.compact(images).rows_dropped == 4
        assert client.delete(images) == 3
        assert (client.features.status(images).live_rows, client.features.status(images).young_rows) == (0, 0)
        client.features.compact(images)
        assert client.features.status(images).rows == 0
        for ask in (client.features.status, client.features.compact):
            with pytest.raises(ObjectNotFoundError, match="mistyped: no such folder"):
                ask(tmp_path / "mistyped")
    assert [path for path in (tmp_path / "kept").rglob("*") if path.is_file()] == []


def test_features_of_a_machine_whose_clock_ran_ahead_are_erased_with_their_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "images"
    with searchanything.connect(settings=settings_for(tmp_path)) as client:
        with monkeypatch.context() as ahead:
            ahead.setattr(codes, "_last", codes.next_generation() + 3600 * 10**9)
            client.index(images)
        assert client.delete(images) == 3
        client.features.compact(images)
        assert client.features.status(images).rows == 0


def test_the_folder_of_images_stays_as_it_is(tmp_path: Path) -> None:
    before = sorted((tmp_path / "images").iterdir())
    with searchanything.connect(settings=settings_for(tmp_path)) as client:
        client.index(tmp_path / "images")
        assert Path(client.features.status(tmp_path / "images").location).is_relative_to(tmp_path / "kept")
    assert sorted((tmp_path / "images").iterdir()) == before


@pytest.mark.parametrize(("place", "refused"), [("images", True), ("images/kept", True), ("images/.kept", False)])
def test_features_are_not_kept_among_the_images(tmp_path: Path, place: str, refused: bool) -> None:
    settings = settings_for(tmp_path)
    settings.ingest.features_dir = tmp_path / place
    with searchanything.connect(settings=settings) as client:
        if refused:
            with pytest.raises(SettingsError, match=r"features_dir .* lies in the folder of images"):
                client.index(tmp_path / "images")
        else:
            assert client.index(tmp_path / "images").indexed == 3
            assert client.index(tmp_path / "images").skipped == 0


def test_a_bucket_without_a_prefix_of_our_own_is_refused() -> None:
    settings = Settings(_env_file=None)
    settings.storage.own_prefix = ""
    manifest = IndexManifest("f" * 32, "e" * 32, "pico", 64, "d", True, 2, 1)
    with pytest.raises(SettingsError, match="own_prefix"):
        open_feature_cache("holiday", manifest, settings)


def test_two_folders_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    manifest = IndexManifest("f" * 32, "e" * 32, "pico", 64, "d", True, 2, 1)
    places = {open_feature_cache(f"/{name}/images", manifest, settings).files.location for name in "ab"}
    assert len(places) == 2
    assert all(place.endswith("e" * 32) for place in places)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = searchanything.connect(settings=settings_for(tmp_path))
    images = str(tmp_path / "images")
    client.index(images)

    def call(*verb: str) -> str:
        assert run(["features", *verb], connect=lambda *_: client) == 0
        return capsys.readouterr().out

    document = json.loads(call("status", images, "--format", "json"))
    assert (document["files"], document["rows"], document["live_rows"]) == (1, 6, 6)
    assert document["bytes_per_region"] > 0
    assert "live rows" in call("status", images)
    document = json.loads(call("compact", images, "--format", "json"))
    assert document["files"] == {"before": 1, "after": 1}
    assert "finished" in call("compact", images)


def test_without_an_index_there_is_nothing_to_tell(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    with searchanything.connect(settings=settings) as client, pytest.raises(IndexNotFoundError):
        client.features.status(tmp_path / "images")


def test_a_place_that_cannot_be_used_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file where a folder should be")
    with searchanything.connect(settings=settings_for(tmp_path)) as client:
        with pytest.raises(StoreError, match="check its permissions and its disk"):
            client.index(tmp_path / "images")
        assert client.status().images == 0
        (tmp_path / "kept").unlink()
        assert client.index(tmp_path / "images").indexed == 3


def test_words_codes_are_made_of_what_is_kept(tmp_path: Path, machine: Machine) -> None:
    settings = settings_for(tmp_path)
    with searchanything.connect(settings=settings) as client:
        client.index(tmp_path / "images")
        machine.segmenter.batch_sizes.clear()
        shown: list[IndexProgress] = []
        report = client.index(tmp_path / "images", add_words=True, progress=shown.append)
        assert machine.segmenter.batch_sizes == [], "no image is encoded again"
        steps = [(one.done, one.total) for one in shown if one.stage == "words codes of kept features"]
        assert (steps[0], steps[-1]) == ((0, None), (6, None))
        assert (report.indexed, client.status().words_regions) == (0, 6)
        assert client.query(text="red", limit=1)[0].box_xyxy[0] == 4.0
        by_features = [(hit.ref, hit.distance_bits) for hit in client.query(text="blue")]

        for file in (tmp_path / "kept").rglob("*.parquet"):
            file.unlink()
        Image.fromarray(drawn(48, 64, green=(4, 4, 30, 40))).save(tmp_path / "images" / "3.png")
        client.index(tmp_path / "images")
        assert client.index(tmp_path / "images", add_words=True).indexed == 0

        settings.ingest.keep_features = False
        with searchanything.connect(settings=settings) as other:  # an index without kept features
            other.index(tmp_path / "images")
            machine.segmenter.batch_sizes.clear()
            assert other.index(tmp_path / "images", add_words=True).indexed == 4
            assert machine.segmenter.batch_sizes != []
            found = [(hit.ref, hit.distance_bits) for hit in other.query(text="blue", limit=3)]
        assert {ref for ref, _ in found} == {ref for ref, _ in by_features[:3]}


def test_images_whose_features_are_not_kept_are_encoded(tmp_path: Path, machine: Machine) -> None:
    settings = settings_for(tmp_path)
    with searchanything.connect(settings=settings) as client:
        client.index(tmp_path / "images")
        for number, file in enumerate(sorted((tmp_path / "kept").rglob("*.parquet"))):
            if number == 0:
                file.unlink()
        machine.segmenter.batch_sizes.clear()
        report = client.index(tmp_path / "images", add_words=True)
        assert client.status().words_regions == client.status().regions == 6
        assert report.indexed > 0
