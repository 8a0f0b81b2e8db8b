"""Known vulnerabilities of the locked libraries: `make audit`.

pip-audit asks the Python Packaging Advisory Database, on PyPI or at OSV. Where neither can be reached, as behind some
mirrors, nothing is audited: that is said, and is no failure. A vulnerability that is known is one, unless
`requirements/audit-ignore.txt` names it with the reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
LOCK: Final = ROOT / "requirements" / "service.lock"
IGNORED: Final = ROOT / "requirements" / "audit-ignore.txt"
SERVICES: Final = ("osv", "pypi")
TIMEOUT_S: Final = 120.0
PIP_AUDIT: Final = ("uv", "tool", "run", "--from", "pip-audit==2.10.1", "pip-audit")


@dataclass(frozen=True, slots=True)
class Audit:
    """What one source knows: how many libraries it has data about, of how many, and their vulnerabilities."""

    audited: int
    asked: int
    found: tuple[str, ...]

    @classmethod
    def of(cls, document: dict[str, Any], ignored: Iterable[str] = ()) -> Audit:
        """Read pip-audit's JSON."""
        dependencies, known = document["dependencies"], frozenset(ignored)
        found = tuple(
            f"{one['name']} {one['version']}: {vulnerability['id']}, fixed in "
            f"{', '.join(vulnerability.get('fix_versions') or ['no release'])}"
            for one in dependencies
            for vulnerability in one.get("vulns", ())
            if not known & {vulnerability["id"], *vulnerability.get("aliases", ())}
        )
        return cls(sum("skip_reason" not in one for one in dependencies), len(dependencies), found)


def ask(service: str) -> dict[str, Any] | None:
    """pip-audit's answer from one source; None where there is none."""
    command = [str(Path(sys.executable).with_name(PIP_AUDIT[0])), *PIP_AUDIT[1:]]
    options = ["-r", str(LOCK), "--disable-pip", "--require-hashes", "-s", service, "-f", "json"]
    try:
        done = subprocess.run(
            [*command, *options, "--progress-spinner", "off"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        document = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    return document if isinstance(document, dict) and "dependencies" in document else None


def ignored_ids(text: str) -> frozenset[str]:
    """The first word of each line; the rest is the reason."""
    return frozenset(line.split()[0] for line in text.splitlines() if line.strip() and not line.startswith("#"))


def main(asking: Callable[[str], dict[str, Any] | None] = ask) -> int:
    """Audit by the first source that has data. 1 where a vulnerability is known, else 0."""
    ignored = ignored_ids(IGNORED.read_text("utf-8"))
    for service in SERVICES:
        document = asking(service)
        audit = Audit(0, 0, ()) if document is None else Audit.of(document, ignored)
        if audit.audited:
            sys.stdout.write(f"{service}: {audit.audited} of {audit.asked} libraries audited\n")
            sys.stdout.writelines(f"vulnerable: {line}\n" for line in audit.found)
            return 1 if audit.found else 0
    sys.stdout.write(f"not audited: none of {', '.join(SERVICES)} gives vulnerability data here\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
