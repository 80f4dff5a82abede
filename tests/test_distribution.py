"""What is released: the source archive, the wheel that is built from it, and the commands of the installed wheel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import paperworks
from paperworks import catalog

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(catalog.checkout() is None, reason="not a checkout")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive of the checkout, and the wheel that its content alone gives."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder], cwd=ROOT, check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=source, check=True)
    (wheel,) = folder.glob("*.whl")
    return archive, wheel


def tracked() -> set[str]:
    """The files of the package that are under version control."""
    listed = subprocess.run(
        ["git", "ls-files", "src/paperworks"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode or not listed.stdout:
        pytest.skip("no version control here")
    return {name.removeprefix("src/") for name in listed.stdout.splitlines() if (ROOT / name).is_file()}


@pytest.mark.over_budget("builds the source archive and the wheel")
def test_the_wheel_has_every_file_of_the_package_and_no_other(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        inside = {name for name in wheel.namelist() if not name.split("/")[0].endswith(".dist-info")}
    assert tracked() - inside == set()
    assert {name for name in inside if not name.startswith("paperworks/")} == set()
    assert paperworks.__version__ in built[1].name
    assert paperworks.__version__ in built[0].name


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment in which pip has installed the wheel; dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("environment") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    programs = folder / "bin"
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", programs / "python"]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", "--no-compile", built[1]], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return programs


@pytest.mark.over_budget("builds the source archive and the wheel")
def test_the_wheel_runs_from_another_folder_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = os.environ | {"PAPERWORKS_HOME": str(tmp_path / "home")}
    environment.pop("PYTHONPATH", None)

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [installed / "paperworks", *arguments],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    where = [installed / "python", "-c", "import paperworks; print(paperworks.__file__)"]
    found = subprocess.run(where, cwd=elsewhere, env=environment, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()).is_relative_to(installed.parent)
    assert command("--version").strip() == paperworks.__version__
    listed = json.loads(command("list", "--json"))
    assert {row["slug"] for row in listed} >= {paper.slug for paper in catalog.papers()}
    assert {row["slug"]: row["works"] for row in listed} == {paper.slug: paper.works for paper in catalog.papers()}
    place = command("show", "--json", listed[0]["slug"])
    assert json.loads(place)["slug"] == listed[0]["slug"]
    assert list(elsewhere.iterdir()) == []
