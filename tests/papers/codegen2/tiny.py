"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A repository of six small files, few steps, few holes; and holes in a file."""
    root = folder / "repo"
    root.mkdir(exist_ok=True)
    for number in range(6):
        lines = [f"def f{number}_{i}(x):\n    y = x + {i}\n    return y\n" for i in range(8)]
        (root / f"m{number}.py").write_text("\n\n".join(lines))
    (folder / "half.py").write_text("def f(x):\n    <FILL>\n    return x\n\n\ny = <FILL>\n")
    small = {"holes": 2, "max_new_tokens": 3, "batch_size": 4, "length": 64}
    return [
        {"code": str(root), "epochs": 0.3, "warmup_steps": 1, **small},
        {"action": "infill", "file": str(folder / "half.py"), "max_new_tokens": 3},
    ]
