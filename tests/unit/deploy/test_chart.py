"""The Helm chart, as far as it can be looked at without Helm: values, settings, secrets and probes exist."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import yaml
from fakes.http_servers import web_server

from searchanything.core.settings_table import settings_table
from searchanything.serve.keys import KeyRing

CHART = Path(__file__).parents[3] / "deploy" / "helm" / "searchanything"
SHARED, INGEST, SERVE = (
    (CHART / "templates" / name).read_text("utf-8") for name in ("_shared.tpl", "ingest.yaml", "serve.yaml")
)
TEMPLATES = SHARED + INGEST + SERVE
PROBE = textwrap.dedent(re.findall(r" - python\n +- -c\n +- \|\n((?: {18}.*\n)+)", INGEST)[0])
COMPOSE: dict[str, Any] = yaml.safe_load((CHART.parents[2] / "docker-compose.yml").read_text("utf-8"))["services"]
VALUES_TEXT = (CHART / "values.yaml").read_text("utf-8")
VALUES: dict[str, Any] = yaml.safe_load(VALUES_TEXT)


def test_every_value_that_is_used_is_there_and_every_other_is_gone() -> None:
    def leaves(values: dict[str, Any], path: str = "") -> set[str]:
        found = set()
        for name, value in values.items():
            nested = isinstance(value, dict) and value and name != "resources"
            found |= leaves(value, f"{path}{name}.") if nested else {f"{path}{name}"}
        return found

    assert set(re.findall(r"\.Values\.([\w.]+)", TEMPLATES)) == leaves(VALUES)


def test_every_setting_exists() -> None:
    known = settings_table()
    names = set(re.findall(r"(?:name: |list \"|\" \")(SEARCHANYTHING_\w+)", TEMPLATES))
    assert len(names) > 15
    assert [name for name in names if f"`{name}`" not in known] == []


def test_the_secret_is_made_by_hand_of_what_the_pods_take_from_it() -> None:
    """The servers exist already, so `.env`, whose secrets are random and for new ones, is no source of it."""
    comments = "".join(line for line in VALUES_TEXT.splitlines(keepends=True) if line.startswith("#"))
    (command,) = re.findall(
        r"kubectl create secret generic searchanything \\\n((?:#\s+--from-literal=.*\n)+)", comments
    )
    made = re.findall(r"--from-literal=(\w+)=", command)
    taken = set(re.findall(r"secretKeyRef: {name: {{ \$?\.Values\.secret }}, key: (\w+)", TEMPLATES))
    listed = re.findall(r"range list ((?:\"\w+\" ?)+)", TEMPLATES)
    taken |= {name for names in listed for name in re.findall(r"\w+", names)}
    assert (len(made), set(made)) == (6, taken)
    assert ".env" not in VALUES_TEXT
    assert "make env" not in VALUES_TEXT


def test_the_key_that_the_command_makes_is_taken(tmp_path: Path) -> None:
    (form,) = re.findall(r'SERVE_KEY="(\S+ .*?)"', VALUES_TEXT)
    token = re.sub(r"\$\(openssl rand -hex (\d+)\)", lambda match: "0" * 2 * int(match[1]), form)
    assert KeyRing(tmp_path).take("env", token).id == "0" * 8


def test_both_containers_of_serve_reach_the_same_index_and_can_write_home() -> None:
    """`keys add --scope` looks into the index; without its address it would make one in a root that is read-only."""
    shared = re.search(r'define "searchanything.index" }}\n(.*?){{- end }}', SHARED, re.S)
    assert shared is not None
    for name in ("HOME", "SEARCHANYTHING_MILVUS__URI", "SEARCHANYTHING_MILVUS__TOKEN"):
        assert f"name: {name}" in shared[1]
        assert f"name: {name}" not in SERVE
    containers = re.split(r"^ +(?:initContainers|containers):\n", SERVE, flags=re.M)[1:]
    included = (
        r'env:\n +{{- include "searchanything.index" . }}\n +- {name: SEARCHANYTHING_SERVE__FOLDER, value: /serve}'
    )
    assert [len(re.findall(included, one)) for one in containers] == [1, 1]


def test_ingestion_runs_what_the_compose_file_runs() -> None:
    """Its commands and settings, but for names of hosts; its worker's probe, but for a scheduler that is away."""
    scheduler = [line.strip()[2:] for line in re.findall(r"command:\n((?: +- \S+\n)+)", INGEST)[0].splitlines()]
    assert scheduler == COMPOSE["scheduler"]["command"]
    here = '"tls://{{ .Release.Name }}-scheduler:8786"'
    assert f"command: [searchanything, worker, --scheduler, {here}]" in INGEST
    assert COMPOSE["worker"]["command"] == ["searchanything", "worker", "--scheduler", "tls://scheduler:8786"]
    assert "command: [searchanything, watch, {{ $source | quote }}]" in INGEST
    theirs = COMPOSE["worker"]["healthcheck"]["test"][-1].replace("//scheduler:", "//{{ .Release.Name }}-scheduler:")
    guard = ("try:", "except OSError:", "raise SystemExit(0)")
    ours = [line.strip() for line in PROBE.splitlines() if line.strip() not in guard]
    assert ours == [line.strip() for line in theirs.splitlines()]
    set_here = set(re.findall(r"name: ((?:SEARCHANYTHING|PREFECT)_\w+)", SHARED + INGEST))
    set_here |= {
        name for names in re.findall(r"range list ((?:\"\w+\" ?)+)", SHARED) for name in re.findall(r"\w+", names)
    }
    of_one_machine = {"SEARCHANYTHING_STORAGE__PUBLIC_ENDPOINT", "SEARCHANYTHING_SERVICE__SHEET_IMAGES"}
    assert set(COMPOSE["watcher"]["environment"]) - of_one_machine <= set_here


def test_a_worker_is_restarted_where_the_scheduler_does_not_know_it_and_not_while_that_is_away() -> None:
    """A node that is lost takes the scheduler away for longer than the probe waits; all models would be loaded anew."""

    def exit_code(address: str) -> int:
        script = PROBE.replace("{{ .Release.Name }}-scheduler:8787", address)
        return subprocess.run([sys.executable, "-c", script], check=False, capture_output=True).returncode

    own = socket.getaddrinfo(socket.gethostname(), None)[0][4][0]
    workers: dict[str, Any] = {"tls://1": {"host": own}}
    with web_server(lambda _: (200, {}, json.dumps({"workers": workers}).encode())) as scheduler:
        assert exit_code(scheduler.endpoint) == 0
        workers["tls://1"]["host"] = "192.0.2.1"
        assert exit_code(scheduler.endpoint) == 1
    assert exit_code(scheduler.endpoint) == 0  # it is closed


def test_a_watcher_makes_its_folder_itself() -> None:
    """The root of a volume belongs to root, whatever `fsGroup` says of its group; `watch` wants a folder of its own."""
    (folder,) = re.findall(r"name: SEARCHANYTHING_SERVICE__FOLDER, value: (\S+?)}", INGEST)
    (mounted,) = re.findall(r"{name: state, mountPath: (\S+?)}", INGEST)
    assert Path(folder).parent == Path(mounted)


def test_an_upgrade_goes_on_where_a_pod_cannot_start_or_no_gpu_is_free() -> None:
    (watch,) = (part for part in INGEST.split("\n---\n") if "kind: StatefulSet" in part)
    assert "podManagementPolicy: Parallel" in watch
    (worker,) = (part for part in INGEST.split("\n---\n") if "command: [searchanything, worker," in part)
    assert "rollingUpdate: {maxSurge: 0, maxUnavailable: 25%}" in worker


def test_workers_have_no_password_of_prefect() -> None:
    parts = {part for part in INGEST.split("\n---\n") if 'include "searchanything.flows"' in part}
    assert ["command: [searchanything, watch," in part for part in parts] == [True]
    queue = re.search(r'define "searchanything.queue" }}\n(.*?){{- end }}', SHARED, re.S)
    assert queue is not None
    assert "PREFECT" not in queue[1]


def test_models_have_as_many_threads_as_they_may_use_cores() -> None:
    """By themselves they have one for each core of the node, whatever the limit."""
    threads = "name: SEARCHANYTHING_MODELS__THREADS"
    assert re.search(rf"{threads}.*\n +valueFrom: {{resourceFieldRef: {{resource: limits\.cpu}}}}", SHARED)
    assert 'include "searchanything.images"' in SERVE
    assert 'include "searchanything.images"' in INGEST


def test_names_may_be_numbers_and_those_that_are_refused_are_refused_at_once() -> None:
    """A label `2024` without quotes is a number, which Kubernetes refuses. It makes a label of a StatefulSet's name and
    11 letters more, 63 at most: else there is no pod, and only an event says why. Without weights nothing is indexed.
    """
    labels = re.findall(r"(?:instance|/source): {{ (.*?) }}", INGEST + SERVE)
    assert len(labels) > 15
    assert {label for label in labels if not label.endswith("| quote")} == set()
    assert "gt (len $watch) 52" in INGEST
    assert INGEST.count("name: {{ $watch }}\n") == 2
    refused = r'else if ne \.Values\.models\.preset "pico" }}\n +{{- fail \(printf "models\.weightsClaim: '
    assert re.search(refused, SHARED)


def test_weights_are_filled_and_named_by_the_commands_that_install() -> None:
    comments = "".join(line for line in VALUES_TEXT.splitlines(keepends=True) if line.startswith("#"))
    (pod,) = (json.loads(found) for found in re.findall(r"--overrides='(.*?)'", comments))
    (container,), (volume,) = pod["spec"]["containers"], pod["spec"]["volumes"]
    assert container["command"] == ["searchanything", "models", "fetch", VALUES["models"]["preset"]]
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/weights"}]
    assert f"--set models.weightsClaim={volume['persistentVolumeClaim']['claimName']}" in comments


def test_only_what_is_of_the_queue_reaches_scheduler_and_workers() -> None:
    """Who reaches them with the cluster's key can run code."""
    pods = INGEST.split("\n  template:\n")[1:]
    assert [('searchanything/queue: "true"' in pod.split("spec:")[0]) for pod in pods] == [True, True, False]
    policy = next(part for part in INGEST.split("\n---\n") if "kind: NetworkPolicy" in part)
    assert 'searchanything/queue: "true"' in policy
    assert "operator: In, values: [scheduler, worker, watch]" in policy


def test_nothing_of_ingestion_is_there_without_a_source() -> None:
    assert VALUES["ingest"]["sources"] == {}
    assert INGEST.startswith("{{- if .Values.ingest.sources }}\n")
    assert INGEST.endswith("{{- end }}\n{{- end }}\n")


def test_a_role_of_the_cloud_comes_with_a_service_account() -> None:
    assert VALUES["serviceAccount"] == ""
    assert "serviceAccountName: {{ .Values.serviceAccount }}" in SHARED


def test_every_pod_is_probed_bounded_and_has_no_rights() -> None:
    for probe, path in (("liveness", "/healthz"), ("startup", "/healthz"), ("readiness", "/readyz")):
        assert re.search(rf"{probe}Probe:.*\n\s+httpGet: {{path: {path}, port: http}}", SERVE)
    for part in ("scheduler", "workers", "watch"):
        assert {"cpu", "memory"} <= VALUES["ingest"][part]["resources"]["limits"].keys()
    assert {"cpu", "memory"} <= VALUES["serve"]["resources"]["limits"].keys()
    assert "readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}" in SHARED
    assert "runAsNonRoot: true, runAsUser: 10001" in SHARED
    assert "enableServiceLinks: false" in SHARED
    for template, containers, pods in ((SERVE, 2, 1), (INGEST, 3, 3)):
        assert len(re.findall(r'include "searchanything.rights"', template)) == containers
        assert len(re.findall(r'include "searchanything.pod"', template)) == pods
        assert len(re.findall(r"livenessProbe:", template)) == pods
    assert "tcpSocket" not in TEMPLATES  # Dask warns in its log of each connection without TLS


def test_chart_and_package_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    project = (CHART.parents[2] / "pyproject.toml").read_text("utf-8")
    assert f'version = "{chart["appVersion"]}"' in project
    assert VALUES["image"]["tag"] == VALUES["ingest"]["image"]["tag"] == chart["appVersion"]
