"""The extras of the package: optional dependencies by field, as pyproject.toml declares them.

The base installation has what the catalogue, the command line and the methods for tables and traces need. A paper names
the extra that it needs in its ``paper.toml`` (``extra = "llm"``). What needs an extra calls ``require_extra`` first, so
that a user reads one line with the command that installs it, and nothing is half done.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

from paperworks.errors import InputError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "paperworks"


def require_extra(extra: str, what: str) -> None:
    """Raise InputError, with the command that installs the extra, if a package of it is not installed.

    Parameters
    ----------
    extra : an extra of this package; nothing is checked if it is empty.
    what : what needs it, for the message, such as ``paperworks page``.
    """
    missing = missing_packages(extra) if extra else []
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(what, f"{missing[0]}{more} not installed", f"pip install '{DISTRIBUTION}[{extra}]'")


def missing_packages(extra: str) -> list[str]:
    """The packages of an extra that are not installed, in the order of pyproject.toml."""
    return [name for name in packages_of(extra) if not _installed(name)]


def declared_extras() -> list[str]:
    """The extras that the installed package declares, without those of its own development."""
    try:
        names = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return []
    return [name for name in names if name not in ("dev", "docs")]


def packages_of(extra: str) -> list[str]:
    """The distributions that an extra installs on this platform, those of the extras that it includes among them.

    Empty for an extra that the installed package does not declare.
    """
    try:
        requirements = [_requirement(text) for text in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:  # a source tree that was never installed
        return []
    found: dict[str, None] = {}
    pending, seen = [extra], set()
    while pending:
        current = pending.pop()
        seen.add(current)
        for requirement in requirements:
            marker = requirement.marker
            if marker is None or marker.evaluate({"extra": ""}) or not marker.evaluate({"extra": current}):
                continue
            if requirement.name == DISTRIBUTION:
                pending += requirement.extras - seen
            else:
                found[requirement.name] = None
    return list(found)


@cache
def _requirement(text: str) -> Requirement:
    """Parsed once: a page and a run in a notebook ask for the extras of many papers."""
    from packaging.requirements import Requirement

    return Requirement(text)


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
