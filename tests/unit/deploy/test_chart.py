"""The Helm chart of `serve`, as far as it can be looked at without Helm: values, settings, secrets and probes exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from deploy.environment import lines
from searchanything.core.settings_table import settings_table

CHART = Path(__file__).parents[3] / "deploy" / "helm" / "searchanything"
TEMPLATE = (CHART / "templates" / "serve.yaml").read_text("utf-8")
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))


def test_every_value_that_is_used_is_there_and_every_other_is_gone() -> None:
    def leaves(values: dict[str, Any], path: str = "") -> set[str]:
        found = set()
        for name, value in values.items():
            nested = isinstance(value, dict) and f"{path}{name}" != "serve.resources"
            found |= leaves(value, f"{path}{name}.") if nested else {f"{path}{name}"}
        return found

    assert set(re.findall(r"\.Values\.([\w.]+)", TEMPLATE)) == leaves(VALUES)


def test_every_setting_exists_and_every_secret_is_in_env() -> None:
    known, secrets = settings_table(), set(lines())
    names = set(re.findall(r"SEARCHANYTHING_\w+", TEMPLATE))
    assert len(names) > 8
    assert [name for name in names if f"`{name}`" not in known] == []
    taken = set(re.findall(r'"(SEARCHANYTHING_\w+)"', TEMPLATE)) | {"SERVE_KEY"}
    assert taken <= secrets
    assert "key: SERVE_KEY}" in TEMPLATE


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
