"""Write `.env` for docker-compose.yml: random secrets, readable by its owner alone. Run by `make env`.

A line that is there already is never changed; what a newer release needs besides is appended.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path


def lines() -> dict[str, str]:
    """Every variable with a value, its secrets fresh."""
    milvus, prefect = secrets.token_hex(24), secrets.token_hex(24)
    return {
        "# What runs: cpu or gpu workers; seaweedfs or minio; the bucket that is watched; the models.": "",
        "COMPOSE_PROFILES": "cpu",
        "S3_SERVER": "seaweedfs",
        "BUCKET": "images",
        "SEARCHANYTHING_MODELS__PRESET": "pico",
        "# Where the commands of this machine find the servers. Inside the containers the names differ.": "",
        "SEARCHANYTHING_STORAGE__ENDPOINT": "127.0.0.1:8333",
        "SEARCHANYTHING_STORAGE__SECURE": "false",
        "SEARCHANYTHING_MILVUS__URI": "http://127.0.0.1:19530",
        "# Secrets.": "",
        "SEARCHANYTHING_STORAGE__ACCESS_KEY": secrets.token_hex(10),
        "SEARCHANYTHING_STORAGE__SECRET_KEY": secrets.token_hex(20),
        "MILVUS_ROOT_PASSWORD": milvus,
        "SEARCHANYTHING_MILVUS__TOKEN": f"root:{milvus}",
        "POSTGRES_PASSWORD": secrets.token_hex(24),
        "PREFECT_AUTH": f"admin:{prefect}",
        "SEARCHANYTHING_SERVICE__WEBHOOK_TOKEN": secrets.token_hex(24),
        "SERVE_KEY": f"sa_{secrets.token_hex(4)}_{secrets.token_hex(32)}",
    }


def complete(path: Path) -> list[str]:
    """Append to `path` what it lacks; return the names that were added. Only its owner can read it from then on."""
    kept = path.read_text() if path.exists() else ""
    known = dict(line.split("=", 1) for line in kept.splitlines() if "=" in line and not line.startswith("#"))
    wanted = lines()
    if "SEARCHANYTHING_MILVUS__TOKEN" in known and "MILVUS_ROOT_PASSWORD" not in known:
        wanted["MILVUS_ROOT_PASSWORD"] = known["SEARCHANYTHING_MILVUS__TOKEN"].partition(":")[2]
    elif "MILVUS_ROOT_PASSWORD" in known:
        wanted["SEARCHANYTHING_MILVUS__TOKEN"] = f"root:{known['MILVUS_ROOT_PASSWORD']}"
    added = {name: value for name, value in wanted.items() if name not in known and (not kept or name[0] != "#")}
    text = "".join(f"{name}\n" if name.startswith("#") else f"{name}={value}\n" for name, value in added.items())
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "a") as file:
        os.fchmod(descriptor, 0o600)  # it may have been there before, for all to read
        file.write("\n" if kept and not kept.endswith("\n") else "")
        file.write(text)
    return [name for name in added if not name.startswith("#")]


if __name__ == "__main__":
    new = complete(Path(".env"))
    sys.stdout.write(f".env: added {', '.join(new)}\n" if new else ".env is complete\n")
