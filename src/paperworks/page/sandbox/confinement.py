"""Which confinement this machine has, what a run may read in it, and the command that starts a run there."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import site
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from paperworks.page.sandbox import bubblewrap, landlock
from paperworks.runs.engine import Launch
from paperworks.runs.processes import PARENT
from paperworks.runs.store import home

Kind = Literal["bubblewrap", "Landlock", "none"]
PASSED_ON = (
    "PATH LANG LC_ALL LC_CTYPE TZ OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS NUMBA_NUM_THREADS "
    "TOKENIZERS_PARALLELISM HF_HUB_OFFLINE TRANSFORMERS_OFFLINE CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES "
    "LD_LIBRARY_PATH PYTHONPATH PYTHONHASHSEED PYTHONUTF8"
)
"""Variables of the server that a run gets. All others may hold secrets."""
SYSTEM = "/usr /bin /sbin /lib /lib32 /lib64 /libx32"
SYSTEM_FILES = (
    "/etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d /etc/alternatives /etc/fonts /etc/localtime /etc/timezone "
    "/etc/mime.types /etc/passwd /etc/group /etc/nsswitch.conf"
)
MATPLOTLIB = "home/matplotlib"
FILES_OPEN = 4096
PROCESSES = 4096


@dataclass(frozen=True)
class Limits:
    """Limits that the kernel holds a run to. ``seconds`` of processor time, ``file_bytes`` of one file."""

    seconds: int
    file_bytes: int
    files: int = FILES_OPEN
    processes: int = PROCESSES


@dataclass(frozen=True)
class Confinement:
    """A way to start runs: ``kind`` is what keeps them from the machine, ``said`` the words for the page's owner."""

    kind: Kind
    said: str

    @property
    def confines(self) -> bool:
        """Whether a run can neither reach the network nor read what it was not given."""
        return self.kind != "none"

    def launch(
        self, root: Path, run_id: str, uploads: Mapping[str, Path], limits: Limits, hidden: Iterable[Path] = ()
    ) -> Launch:
        """Start a run of the store ``root``, which is the only folder that it may write.

        ``uploads`` are folders that it reads, under ``uploads/<name>`` of the folder in which it starts. ``hidden`` are
        folders that it must not see even if they lie below one that it reads.
        """
        for part in ("uploads", "home", "tmp"):
            (root / part).mkdir(parents=True, exist_ok=True, mode=0o700)
        _share_fonts(root / MATPLOTLIB)
        readable = _readable()
        inputs = home() / "inputs"
        if self.kind == "bubblewrap":
            place = Path(bubblewrap.ROOT)
            arguments = _child(place, run_id, {"limits": asdict(limits)})
            for name in uploads:
                (root / "uploads" / name).mkdir(exist_ok=True)
            shown = {place / "uploads" / name: folder for name, folder in uploads.items()}
            if inputs.is_dir():
                (root / "inputs").mkdir(exist_ok=True)
                shown[place / "inputs"] = inputs
            command = [*bubblewrap.command(root, readable, shown, [*hidden]), *arguments]
            return Launch(command, _environment(place) | {"PAPERWORKS_HOME": str(place)}, root)
        for name, folder in uploads.items():
            link = root / "uploads" / name
            if not link.is_symlink():
                link.symlink_to(folder, target_is_directory=True)
        settings: dict[str, object] = {"limits": asdict(limits)}
        if self.kind == "Landlock":
            read = [*readable, *uploads.values(), *([inputs] if inputs.is_dir() else [])]
            settings["landlock"] = {"read": [str(path) for path in read], "write": [str(root)]}
        own = {"PAPERWORKS_HOME": str(home()), PARENT: str(os.getpid())}
        return Launch(_child(root, run_id, settings), _environment(root) | own, root)


NONE = Confinement("none", "runs are not confined: they can read what the server can, and reach the network")


@cache
def find_confinement() -> Confinement:
    """The best confinement that works here, found by trying it."""
    refused = bubblewrap.why_not()
    if not refused:
        return Confinement("bubblewrap", "runs are confined by bubblewrap: no network, a read-only system, one folder")
    missing = landlock.why_not()
    if not missing:
        said = f"runs are confined by Landlock and seccomp: no network, one folder to write ({refused})"
        return Confinement("Landlock", said)
    return Confinement("none", f"{NONE.said} ({refused}; {missing})")


def _share_fonts(folder: Path) -> None:
    """Copy what matplotlib found out about the fonts here, which each run would find out again in some seconds."""
    import matplotlib
    import matplotlib.font_manager  # writes the list if there is none

    for known in Path(matplotlib.get_cachedir()).glob("fontlist-*.json"):
        if not (folder / known.name).exists():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(known, folder / known.name)


def _child(root: Path, run_id: str, settings: Mapping[str, object]) -> list[str]:
    return [sys.executable, "-m", "paperworks.page.sandbox.child", str(root), run_id, json.dumps(settings)]


def _environment(root: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in PASSED_ON.split() if name in os.environ}
    return kept | {
        "HOME": str(root / "home"),
        "TMPDIR": str(root / "tmp"),
        "XDG_CACHE_HOME": str(root / "home" / ".cache"),
        "XDG_DATA_HOME": str(root / "home" / ".local"),
        "MPLCONFIGDIR": str(root / MATPLOTLIB),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONSAFEPATH": "1",
    }


def _readable() -> list[Path]:
    """What Python and the papers are made of. Never the folder in which the server was started, unless it is named."""
    found = [Path(p) for p in (*SYSTEM.split(), *SYSTEM_FILES.split(), sys.prefix, sys.base_prefix, sys.exec_prefix)]
    named = {os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p}
    started_in = os.getcwd()
    for entry in (*sys.path, *site.getsitepackages()):
        if entry and (os.path.abspath(entry) != started_in or os.path.abspath(entry) in named):
            found.append(Path(entry).absolute())
    own = importlib.util.find_spec("paperworks")
    found += [Path(place) for place in (own.submodule_search_locations or ()) if own] if own else []
    outermost: list[Path] = []
    for path in sorted({p for p in found if p.exists()}, key=lambda p: len(p.parts)):
        # A link is named itself: what it leads to may lie elsewhere.
        if not any(path.is_relative_to(other) for other in outermost if not other.is_symlink()):
            outermost.append(path)
    return outermost
