"""Child processes end with what started them, and say how they ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from paperworks.runs.processes import ChildProcess, on_interrupt

CHILD = "from paperworks.runs.processes import end_with_parent; end_with_parent(); "


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("", "code 0"),
        ("import sys; sys.exit(3)", "code 3"),
        ("raise SystemExit('no room left')", "code 1: no room left"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9 (SIGKILL)"),
        ("import sys; sys.stderr.write('x\\n' * 9999 + 'last'); sys.exit(1)", "code 1: last"),
    ],
)
def test_how_it_ended(code: str, ending: str) -> None:
    with ChildProcess(python(code)) as child:
        for _ in child.watch(0.02):
            pass
    assert child.ending == ending


def test_output_and_errors_go_to_files(tmp_path: Path) -> None:
    code = "import sys, os; print(os.getcwd(), os.environ['WORD']); print('bad', file=sys.stderr)"
    out, errors = tmp_path / "out", tmp_path / "errors"
    with ChildProcess(python(code), environment={"WORD": "yes"}, folder=tmp_path, output=out, errors=errors) as child:
        for _ in child.watch(0.02):
            pass
    assert out.read_text() == f"{tmp_path} yes\n"
    assert errors.read_text() == "bad\n"
    assert child.last_words == "bad"


def test_output_may_go_where_this_process_writes(capfd: pytest.CaptureFixture[str]) -> None:
    with ChildProcess(python("import sys; print('out'); sys.exit('bad')"), inherit_output=True) as child:
        for _ in child.watch(0.02):
            pass
    assert capfd.readouterr() == ("out\n", "bad\n")
    assert (child.ending, child.last_words) == ("code 1", "")


def test_leaving_the_block_ends_the_child_and_what_it_started(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        f"open({str(note)!r}, 'w').write(str(p.pid)); time.sleep(60)"
    )
    with pytest.raises(RuntimeError), ChildProcess(python(code)) as child:
        wait_for(lambda: note.exists() and note.read_text() != "")
        raise RuntimeError
    assert child.ending == "signal 9 (SIGKILL)"
    wait_for(lambda: gone(int(note.read_text())))


def test_a_grandchild_does_not_outlive_a_child_that_ended_first(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        f"open({str(note)!r}, 'w').write(str(p.pid))"
    )
    with ChildProcess(python(code)) as child:
        for _ in child.watch(0.02):
            pass
    assert child.code == 0
    wait_for(lambda: gone(int(note.read_text())))


def test_patience_lets_a_child_end_in_its_own_way(tmp_path: Path) -> None:
    ready, mark = tmp_path / "ready", tmp_path / "ended"
    code = (
        "import signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (open({str(mark)!r}, 'w').close(), sys.exit(0)))\n"
        f"open({str(ready)!r}, 'w').close()\ntime.sleep(60)"
    )
    with ChildProcess(python(code), patience=20) as child:
        wait_for(ready.exists)
    assert mark.exists()
    assert child.code == 0


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    child = CHILD + f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = (
        "from paperworks.runs.processes import ChildProcess\nimport sys, time\n"
        f"with ChildProcess([sys.executable, '-c', {child!r}]):\n    time.sleep(60)"
    )
    process = subprocess.Popen(python(parent))
    wait_for(lambda: note.exists() and note.read_text() != "")
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: gone(int(note.read_text())))


def test_interrupts_are_handled_only_in_the_block() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[int] = []
    with on_interrupt(lambda: seen.append(1)):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert seen == [1, 1]
    assert signal.getsignal(signal.SIGINT) is before


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
