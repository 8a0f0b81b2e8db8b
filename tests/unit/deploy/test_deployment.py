"""docker-compose.yml and its `.env`: the checks of `make compose` find what they are for; the real file passes."""

from __future__ import annotations

import copy
import json
import re
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.http_servers import Answer, Asked, web_server

from deploy.environment import complete
from deploy.validate import ROOT, problems, resolved, secrets_of
from searchanything.core.addresses import is_loopback
from searchanything.serve import keys

Config = dict[str, Any]


@pytest.fixture(scope="module")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compose") / ".env"
    complete(path)
    return path


@pytest.fixture(scope="module")
def config(env_file: Path) -> Config:
    return resolved(env_file, s3_server="seaweedfs", profiles="cpu")


def test_the_real_file_is_in_order(config: Config, env_file: Path) -> None:
    assert problems(config, secrets_of(env_file)) == []
    assert set(config["services"]) == {
        "milvus", "s3", "bucket", "postgres", "prefect", "cluster-key", "scheduler", "worker", "watcher",
        "serve-key", "serve",
    }  # fmt: skip


@pytest.mark.parametrize("s3_server", ["seaweedfs", "minio"])
def test_one_setting_chooses_the_s3_server(env_file: Path, s3_server: str) -> None:
    s3 = resolved(env_file, s3_server=s3_server, profiles="cpu")["services"]["s3"]
    assert s3_server in s3["image"]
    assert [volume["source"] for volume in s3["volumes"]] == [f"s3-{s3_server}"]
    assert s3["ports"][0]["published"] == "8333"


def test_the_gpu_profile_replaces_the_workers(env_file: Path) -> None:
    services = resolved(env_file, s3_server="seaweedfs", profiles="gpu")["services"]
    assert "worker" not in services
    [device] = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_the_page_may_have_credentials_that_only_read(config: Config, tmp_path: Path) -> None:
    complete(env_file := tmp_path / ".env")
    names = {
        "SERVE_MILVUS_TOKEN": "SEARCHANYTHING_MILVUS__TOKEN",
        "SERVE_STORAGE_ACCESS_KEY": "SEARCHANYTHING_STORAGE__ACCESS_KEY",
        "SERVE_STORAGE_SECRET_KEY": "SEARCHANYTHING_STORAGE__SECRET_KEY",
    }
    with env_file.open("a") as file:
        file.writelines(f"{name}=its-own-{name.lower()}\n" for name in names)
    services = resolved(env_file, s3_server="seaweedfs", profiles="cpu")["services"]
    for name, variable in names.items():
        assert services["serve"]["environment"][variable] == f"its-own-{name.lower()}"
        assert "its-own" not in services["worker"]["environment"][variable]
        assert (
            config["services"]["serve"]["environment"][variable]
            == config["services"]["worker"]["environment"][variable]
        )


BREAKAGES: dict[str, Callable[[Config], object]] = {
    "a port open to the world": lambda services: services["milvus"]["ports"][0].pop("host_ip"),
    "a floating image": lambda services: services["postgres"].update(image="postgres:latest"),
    "an image without a release": lambda services: services["postgres"].update(image="postgres"),
    "no limits": lambda services: services["worker"].pop("deploy"),
    "no health check": lambda services: services["watcher"].pop("healthcheck"),
    "a page without a health check": lambda services: services["serve"].pop("healthcheck"),
    "a page open to the world": lambda services: services["serve"]["ports"][0].update(host_ip="0.0.0.0"),  # noqa: S104
    "a page that may write everywhere": lambda services: services["serve"].update(read_only=False),
    "a key in the file": lambda services: services["serve-key"]["environment"].update(SERVE_KEY="k" * 40),
    "a password of its own": lambda services: services["postgres"]["environment"].update(POSTGRES_PASSWORD="prefect"),
    "a misspelt setting": lambda services: services["worker"]["environment"].update(SEARCHANYTHING_MILVUS__URL="x"),
    "a writable root": lambda services: services["prefect"].update(read_only=False),
    "a privileged container": lambda services: services["s3"].update(privileged=True),
    "a folder of the host": lambda services: services["s3"]["volumes"].append(
        {"type": "bind", "source": "/srv", "target": "/data"}
    ),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_what_breaks_the_policy_is_found(config: Config, env_file: Path, name: str) -> None:
    broken = copy.deepcopy(config)
    BREAKAGES[name](broken["services"])
    assert problems(broken, secrets_of(env_file))


def test_the_page_demands_the_key_of_env_and_is_an_image_of_its_own(config: Config, env_file: Path) -> None:
    services = config["services"]
    [key] = [line.partition("=")[2] for line in env_file.read_text().splitlines() if line.startswith("SERVE_KEY=")]
    assert services["serve-key"]["environment"]["SERVE_KEY"] == key
    assert len(key) >= keys.SHORTEST
    assert "SERVE_KEY" not in services["serve"]["environment"]
    folders = {services[name]["environment"]["SEARCHANYTHING_SERVE__FOLDER"] for name in ("serve", "serve-key")}
    assert folders == {"/serve"}
    for name in ("serve", "serve-key"):
        assert "/serve" in [volume["target"] for volume in services[name]["volumes"]]
        assert services[name]["build"]["target"] == "serve"
    assert services["serve"]["environment"]["SEARCHANYTHING_SERVE__HOST"] == "0.0.0.0"  # noqa: S104  in its container
    assert services["serve"]["depends_on"]["serve-key"]["condition"] == "service_completed_successfully"
    assert set(services["serve"]["networks"]) == {"data"}


def test_the_images_have_their_locks_and_every_folder_that_is_mounted(config: Config) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    targets = re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.M)
    assert {"serve", "service"} <= set(targets)
    assert targets[-1] == "service"  # what is built where no target is named
    locks = set(re.findall(r"requirements/(\w+)\.lock", dockerfile))
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert locks == {"build", "serve", "service"}
    assert {f"!requirements/{lock}.lock" for lock in locks} <= set(ignored)
    lines = {lock: (ROOT / "requirements" / f"{lock}.lock").read_text("utf-8") for lock in ("serve", "service")}
    assert "\nfastapi==" in lines["serve"]
    assert "\nprefect==" in lines["service"]
    assert "\nprefect==" not in lines["serve"]
    made = set(re.findall(r"install -d -o searchanything -g searchanything ([^\n]+)", dockerfile)[0].split())
    ours = [one for one in config["services"].values() if one["image"].startswith("searchanything")]
    assert {volume["target"] for one in ours for volume in one.get("volumes", ())} <= made


def stages_of_the_image() -> dict[str, str]:
    parts = re.split(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("status", [200, 503])
def test_the_image_of_serve_says_whether_it_is_healthy(status: int) -> None:
    """Its own check, run here: of the port that is set, and never through a proxy."""
    (line,) = re.findall(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", stages_of_the_image()["serve"], re.M)
    _, *program = json.loads(line)

    def answer(asked: Asked) -> Answer:
        return (status if asked.target == "/healthz" else 404), {}, b"{}"

    def is_healthy(port: str) -> bool:
        environment = {"SEARCHANYTHING_SERVE__PORT": port, "http_proxy": "http://127.0.0.1:9"}
        done = subprocess.run([sys.executable, *program], env=environment, capture_output=True, check=False)
        return done.returncode == 0

    with web_server(answer) as server:
        port = server.endpoint.rpartition(":")[2]
        assert is_healthy(port) == (status == 200)
    assert not is_healthy(port)


def test_everything_that_the_image_copies_is_there_and_reaches_the_engine() -> None:
    stages = stages_of_the_image()
    lets_in = {
        line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"
    }
    copies = [line.split()[1:] for text in stages.values() for line in text.splitlines() if line.startswith("COPY ")]
    assert len(copies) >= 6
    for first, *rest in copies:
        if first.startswith("--from="):
            assert first.removeprefix("--from=") in stages
            continue
        for source in (first, *rest[:-1]):
            assert (ROOT / source).exists(), source
            assert source in lets_in, source


def test_what_the_image_copies_is_all_that_the_wheel_is_made_of() -> None:
    """hatchling fails, or leaves something out, where a file that pyproject.toml names is not copied."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    named = {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"}
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    lines = [line.split()[1:] for line in stages_of_the_image()["wheel"].splitlines() if line.startswith("COPY ")]
    assert named <= {source for *sources, _ in lines for source in sources}
    assert packages <= {target for *_, target in lines}


def test_what_the_image_writes_lies_in_folders_of_its_user() -> None:
    """Each can be a volume: what is written elsewhere is gone with the container."""
    runtime, serve = (stages_of_the_image()[name] for name in ("runtime", "serve"))
    made = set(re.findall(r"install -d -o searchanything -g searchanything ([^\n]+)", runtime)[0].split())
    (index,) = re.findall(r"SEARCHANYTHING_MILVUS__URI=(/\S+)/[^/\s]+", runtime)
    (weights,) = re.findall(r"SEARCHANYTHING_MODELS__WEIGHTS_DIR=(\S+)", runtime)
    (folder,) = re.findall(r"SEARCHANYTHING_SERVE__FOLDER=(\S+)", serve)
    assert {index, weights, folder} <= made
    assert "USER searchanything" in runtime


def test_the_page_of_its_image_is_reached_from_outside_and_demands_keys() -> None:
    """A published port does not lead to a container's loopback."""
    serve = stages_of_the_image()["serve"]
    (host,) = re.findall(r"SEARCHANYTHING_SERVE__HOST=(\S+)", serve)
    assert not is_loopback(host)
    assert 'CMD ["searchanything", "serve"]' in serve


def test_the_unauthenticated_networks_lead_nowhere(config: Config, env_file: Path) -> None:
    broken = copy.deepcopy(config)
    broken["networks"]["queue"]["internal"] = False
    assert problems(broken, secrets_of(env_file))
    assert set(config["services"]["scheduler"]["networks"]) == {"queue"}


def test_workers_have_neither_prefects_password_nor_its_network(env_file: Path) -> None:
    services = resolved(env_file, s3_server="seaweedfs", profiles="cpu,gpu,deployments,tools")["services"]
    flows = {"prefect", "watcher", "deploy", "runner", "cli"}
    assert {name for name, one in services.items() if "PREFECT_API_AUTH_STRING" in one.get("environment", {})} == flows
    assert {name for name, one in services.items() if "flows" in one["networks"]} == flows


def test_secrets_are_random_and_readable_by_their_owner_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for path in (first, second):
        complete(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(secrets_of(first)) == 8
    assert not secrets_of(first) & secrets_of(second)


def test_an_existing_env_that_all_could_read_is_hidden(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("BUCKET=mine\n")
    path.chmod(0o644)
    for _ in range(2):  # also where nothing is added
        complete(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)


def test_an_existing_env_is_kept_and_completed(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("S3_SERVER=minio\nSEARCHANYTHING_MILVUS__TOKEN=root:already-there")
    added = complete(path)
    lines = path.read_text().splitlines()
    assert lines[:2] == ["S3_SERVER=minio", "SEARCHANYTHING_MILVUS__TOKEN=root:already-there"]
    assert "MILVUS_ROOT_PASSWORD=already-there" in lines
    assert "S3_SERVER" not in added
    assert complete(path) == []
    assert path.read_text().splitlines() == lines
