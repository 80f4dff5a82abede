"""Audit of what the project depends on.

    python scripts/audit_dependencies.py            known faults (pip-audit) if its data can be reached, else the list
    python scripts/audit_dependencies.py --list     only the written list
    python scripts/audit_dependencies.py --write    bring versions and licences of the list to those installed

The list is docs/dependencies.md: name, version, licence and purpose of every direct dependency of pyproject.toml. It is
held against pyproject.toml (nothing more, nothing less), constraints.txt (the same versions), and the installed
environment (the same versions and licences). Exit code 1 where something differs or pip-audit found a fault.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "docs" / "dependencies.md"
ROW = re.compile(r"^\| (\S+) \| (\S+) \| ([^|]+) \| ([^|]+) \|$")
AUDIT_SECONDS = 300
_LICENCE = re.compile(r"^License :: (?:OSI Approved :: )?(.+)$")


class Dependency(NamedTuple):
    """A row of the list."""

    name: str
    version: str
    licence: str
    purpose: str


def written(text: str) -> dict[str, Dependency]:
    """The rows of the list, by normalised name."""
    rows = [ROW.match(line) for line in text.splitlines()]
    found = [Dependency(*(cell.strip() for cell in row.groups())) for row in rows if row]
    return {normal(d.name): d for d in found if d.name != "name" and not d.name.startswith("-")}


def declared(project: Path = ROOT / "pyproject.toml") -> dict[str, str]:
    """The direct dependencies of pyproject.toml, all extras included: normalised names to names."""
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    every = [*table["dependencies"], *(r for extra in table["optional-dependencies"].values() for r in extra)]
    names = [re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0] for requirement in every]
    return {normal(name): name for name in names if name != table["name"]}  # an extra may include others


def constrained(file: Path = ROOT / "constraints.txt") -> dict[str, str]:
    """The versions of constraints.txt, by normalised name."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return {normal(n): v.split(";")[0].strip() for n, _, v in (line.partition("==") for line in lines) if v}


def installed(name: str) -> tuple[str, str] | None:
    """Version and licence of an installed distribution, or None."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return None
    data = found.metadata
    classified = [m[1] for c in data.get_all("Classifier") or [] if (m := _LICENCE.match(c))]
    said = data.get("License-Expression") or ", ".join(dict.fromkeys(classified)) or (data.get("License") or "").strip()
    first = said.splitlines()[0].strip() if said else "not stated"
    return found.version.split("+")[0], first.replace("|", "/")[:70]


def differences(rows: dict[str, Dependency]) -> list[str]:
    """What is wrong with the list, a line each. What is not installed here (an extra) is not compared."""
    wanted, pinned = declared(), constrained()
    wrong = [f"{wanted[n]}: not in the list" for n in sorted(wanted.keys() - rows.keys())]
    wrong += [f"{rows[n].name}: in the list, and no dependency" for n in sorted(rows.keys() - wanted.keys())]
    for name in sorted(rows.keys() & wanted.keys()):
        row, here = rows[name], installed(name)
        if row.purpose in ("", "?"):
            wrong.append(f"{row.name}: the list does not say what it is for")
        if name in pinned and pinned[name].split("+")[0] != row.version:
            wrong.append(f"{row.name}: {row.version} in the list, {pinned[name]} in constraints.txt")
        # An environment newer or older than the constraints is its owner's; a licence that changed is everybody's.
        if here is not None and here[0] == row.version and here[1] != row.licence:
            wrong.append(f"{row.name}: licence {row.licence!r} in the list, {here[1]!r} installed")
    return wrong


def rewritten(text: str) -> str:
    """The list with the versions of constraints.txt (else the installed ones), licences, and rows for what is new."""
    rows, wanted, pinned = written(text), declared(), constrained()
    head = text[: text.index("| --- ")].rstrip("\n")
    lines = [head, "| --- | --- | --- | --- |"]
    for name in sorted(wanted):
        old, here = rows.get(name), installed(name)
        version = pinned.get(name, here[0] if here else old.version if old else "?").split("+")[0]
        licence = here[1] if here else old.licence if old else "?"
        lines.append(f"| {wanted[name]} | {version} | {licence} | {old.purpose if old else '?'} |")
    return "\n".join(lines) + "\n"


def known_faults() -> int | None:
    """What pip-audit knows against the versions of constraints.txt, printed: how many faults; None where it or its data
    is not there.

    Packages that it could not look up are named: it calls them skipped, and ends well even if it looked up none.
    """
    if importlib.util.find_spec("pip_audit") is None:
        return None
    options = ["--disable-pip", "--no-deps", "--progress-spinner", "off", "--format", "json"]
    command = [sys.executable, "-m", "pip_audit", *options, "-r", str(ROOT / "constraints.txt")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=AUDIT_SECONDS)
        every = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, LookupError, TypeError):
        return None
    looked_up = [d for d in every if "skip_reason" not in d]
    if not looked_up:
        return None
    faults = [(d, fault) for d in looked_up for fault in d["vulns"]]
    for d, fault in faults:
        fixed = ", ".join(fault.get("fix_versions") or []) or "no version"
        print(f"{d['name']} {d['version']}: {fault['id']}, fixed in {fixed}")
    if skipped := [d["name"] for d in every if "skip_reason" in d]:
        print(f"pip-audit could not look up {len(skipped)} of {len(every)}: {', '.join(skipped)}", file=sys.stderr)
    print(f"pip-audit knows {len(faults)} faults of {len(looked_up)} dependencies")
    return len(faults)


def normal(name: str) -> str:
    """A distribution's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="check only the written list")
    parser.add_argument("--write", action="store_true", help="rewrite the list from what is installed")
    given = parser.parse_args(arguments)
    text = LIST.read_text(encoding="utf-8")
    if given.write:
        LIST.write_text(rewritten(text), encoding="utf-8")
        return 0
    faults = None if given.list else known_faults()
    if faults is None and not given.list:
        print("pip-audit or its data cannot be reached: only the written list is checked", file=sys.stderr)
    wrong = differences(written(text))
    for line in wrong:
        print(line)
    if not wrong:
        print(f"{len(written(text))} dependencies are as docs/dependencies.md says")
    return 1 if wrong or faults else 0


if __name__ == "__main__":
    sys.exit(main())
