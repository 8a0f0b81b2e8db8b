"""The Helm chart of `serve`, as far as it can be looked at without Helm: values, settings, secrets and probes exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from searchanything.core.settings_table import settings_table
from searchanything.serve.keys import KeyRing

CHART = Path(__file__).parents[3] / "deploy" / "helm" / "searchanything"
TEMPLATE = (CHART / "templates" / "serve.yaml").read_text("utf-8")
VALUES_TEXT = (CHART / "values.yaml").read_text("utf-8")
VALUES: dict[str, Any] = yaml.safe_load(VALUES_TEXT)


def test_every_value_that_is_used_is_there_and_every_other_is_gone() -> None:
    def leaves(values: dict[str, Any], path: str = "") -> set[str]:
        found = set()
        for name, value in values.items():
            nested = isinstance(value, dict) and f"{path}{name}" != "serve.resources"
            found |= leaves(value, f"{path}{name}.") if nested else {f"{path}{name}"}
        return found

    assert set(re.findall(r"\.Values\.([\w.]+)", TEMPLATE)) == leaves(VALUES)


def test_every_setting_exists() -> None:
    known = settings_table()
    names = set(re.findall(r"SEARCHANYTHING_\w+", TEMPLATE))
    assert len(names) > 8
    assert [name for name in names if f"`{name}`" not in known] == []


def test_the_secret_is_made_by_hand_of_what_the_pods_take_from_it() -> None:
    """The servers exist already, so `.env`, whose secrets are random and for new ones, is no source of it."""
    comments = "".join(line for line in VALUES_TEXT.splitlines(keepends=True) if line.startswith("#"))
    (command,) = re.findall(
        r"kubectl create secret generic searchanything \\\n((?:#\s+--from-literal=.*\n)+)", comments
    )
    made = re.findall(r"--from-literal=(\w+)=", command)
    taken = set(re.findall(r"secretKeyRef: {name: \S+ \S*Values.secret }}, key: (\w+)", TEMPLATE))
    listed = re.findall(r"range list ((?:\"\w+\" ?)+)", TEMPLATE)
    taken |= {name for names in listed for name in re.findall(r"\w+", names)}
    assert (len(made), set(made)) == (4, taken)
    assert ".env" not in VALUES_TEXT
    assert "make env" not in VALUES_TEXT


def test_the_key_that_the_command_makes_is_taken(tmp_path: Path) -> None:
    (form,) = re.findall(r'SERVE_KEY="(\S+ .*?)"', VALUES_TEXT)
    token = re.sub(r"\$\(openssl rand -hex (\d+)\)", lambda match: "0" * 2 * int(match[1]), form)
    assert KeyRing(tmp_path).take("env", token).id == "0" * 8


def test_both_containers_reach_the_same_index_and_can_write_home() -> None:
    """`keys add --scope` looks into the index; without its address it would make one in a root that is read-only."""
    shared = re.search(r'define "searchanything.index" }}\n(.*?){{- end }}', TEMPLATE, re.S)
    assert shared is not None
    for name in ("HOME", "SEARCHANYTHING_SERVE__FOLDER", "SEARCHANYTHING_MILVUS__URI", "SEARCHANYTHING_MILVUS__TOKEN"):
        assert f"name: {name}" in shared[1]
        assert TEMPLATE.count(f"name: {name}") == 1
    containers = re.split(r"^ +(?:initContainers|containers):\n", TEMPLATE, flags=re.M)[1:]
    included = r'env:\n +{{- include "searchanything.index" . }}'
    assert [len(re.findall(included, one)) for one in containers] == [1, 1]


def test_a_role_of_the_cloud_comes_with_a_service_account() -> None:
    assert VALUES["serviceAccount"] == ""
    assert "serviceAccountName: {{ .Values.serviceAccount }}" in TEMPLATE


def test_it_is_probed_bounded_and_has_no_rights() -> None:
    for probe, path in (("liveness", "/healthz"), ("startup", "/healthz"), ("readiness", "/readyz")):
        assert re.search(rf"{probe}Probe:.*\n\s+httpGet: {{path: {path}, port: http}}", TEMPLATE)
    assert {"cpu", "memory"} <= VALUES["serve"]["resources"]["limits"].keys()
    assert TEMPLATE.count("readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}") == 2
    assert "runAsNonRoot: true, runAsUser: 10001" in TEMPLATE


def test_chart_and_package_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    project = (CHART.parents[2] / "pyproject.toml").read_text("utf-8")
    assert f'version = "{chart["appVersion"]}"' in project
    assert VALUES["image"]["tag"] == chart["appVersion"]
