"""Run the notebooks of docs/notebooks from their first cell to the last, and store what the cells show.

    python scripts/execute_notebooks.py [NAME ...]

Each runs in a new folder and with a store of its own, so that nothing is written beside the notebook. What is
stored has no path of that folder and no warnings of libraries.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "notebooks"
SECONDS = 600


def execute(path: Path) -> Any:
    """The notebook with the outputs of this run. Raises CellExecutionError where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(prefix="notebook-") as folder, _environment(PAPERWORKS_HOME=f"{folder}/home"):
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources).execute()
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
            if cell.cell_type == "code":
                cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
                for output in cell.outputs:
                    _clean(output, folder)
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return notebook


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _clean(output: Any, folder: str) -> None:
    """Leave the temporary folder out of an output."""
    for place in (os.path.realpath(folder), folder):
        if "text" in output:
            output.text = output.text.replace(f"{place}/", "")
        for kind, data in output.get("data", {}).items():
            if isinstance(data, str):
                output.data[kind] = data.replace(f"{place}/", "")


def main() -> None:
    """Execute and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="notebooks without .ipynb; all by default")
    names = parser.parse_args().names
    for path in [FOLDER / f"{name}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb")):
        nbformat.write(execute(path), path)
        print(path.relative_to(FOLDER.parent.parent))


if __name__ == "__main__":
    main()
