"""Files that no paper can use, for every option of every paper that names a file: one line of words, no raw error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bad_calls import UNSAFE
from bad_paths import png
from paperworks import catalog
from paperworks.errors import InputError, PaperworksError
from paperworks.runs import Cancelled, Run, build_config, load_recipe
from paperworks.runs.config import names_file
from test_resume import tiny_options

HERE = [p for p in catalog.papers() if p.has_recipe and p.module.startswith("paperworks.papers.")]
OPTIONS = [
    (paper, name)
    for paper in HERE
    for name, field in load_recipe(paper.slug, f"{paper.module}.recipe").config.model_fields.items()
    if names_file(field)
]


class Reading(Run):
    """A run that ends where the work begins: what is tested is how files are read."""

    checks = 0

    def check(self) -> None:
        self.checks += 1
        if self.checks > 4:
            raise Cancelled
        super().check()


def bad_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names of faults with a path each."""
    garbage = bytes(range(256)) * 24
    rows = "".join(f"{i},{i}.5,c{i}\n" for i in range(30))
    texts = {
        "empty.csv": b"",
        "empty.jsonl": b"\n\n",
        "empty.npy": b"",
        "empty.npz": b"",
        "cut.npy": b"PK\x03\x04" + garbage,
        "cut.npz": b"PK\x03\x04" + garbage,
        "header.csv": b"a,b,y\n",
        "ragged.csv": b"a,b,y\n1,2,u\n1,2\n1,2,3,4\n",
        "utf16.csv": "a,b,y\n1,2,u\n".encode("utf-16"),
        "latin.csv": "a,b,y\n1,2,\u00e4\n".encode("latin-1"),
        "huge.csv": b"x,y\n1e400,1\n-1e308,2\n1e308,3\nnan,4\ninf,5\n",
        "different.csv": f"a,b,y\n{rows}".encode(),
        "list.json": b"[1, 2, 3]",
        "list.jsonl": b'[1]\n{"a": NaN}\nnonsense\n',
        "cut.png": png(8, 8),
        "parquet.csv": b"PAR1" + bytes(40),
    }
    texts |= {f"garbage{suffix}": garbage for suffix in (".csv", ".npy", ".npz", ".parquet", ".json", ".jsonl", ".bin")}
    for name, data in texts.items():
        (folder / name).write_bytes(data)
        yield name, folder / name
    np.save(folder / "objects.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    np.save(folder / "nan.npy", np.full((4, 3), np.nan))
    np.save(folder / "nothing.npy", np.zeros((0, 3)))
    for name in ("objects.npy", "nan.npy", "nothing.npy", "absent.csv"):
        yield name, folder / name
    for name, config in (
        ("nothing", None),
        ("listed", [1, 2]),
        ("negative", {"model_type": "llama", "hidden_size": -8}),
    ):
        (folder / name).mkdir()
        if config is not None:
            (folder / name / "config.json").write_text(json.dumps(config))
            (folder / name / "model.safetensors").write_bytes(garbage)
        yield name, folder / name


@pytest.mark.parametrize(("paper", "option"), OPTIONS, ids=[f"{p.slug}-{o}" for p, o in OPTIONS])
def test_bad_files_are_refused_with_words(paper: catalog.Paper, option: str, tmp_path: Path, capfd: Any) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "base").mkdir()
    recipe = load_recipe(paper.slug, f"{paper.module}.recipe")
    base = tiny_options(paper, tmp_path / "base")[0]
    column = next((name for name in ("label", "target") if name in recipe.config.model_fields), None)
    wrong = []
    for name, path in bad_files(tmp_path / "bad"):
        values = {**base, option: str(path)}
        if column is not None and option in ("data", "input"):
            values[column] = "y"
        try:
            recipe.function(build_config(recipe.config, values), Reading(tmp_path / "runs" / name))
        except InputError as error:
            words = str(error)
            if not words.isprintable() or "Traceback" in words or any(bad in words for bad in UNSAFE):
                wrong.append(f"{name}: says {words[:300]!r}")
        except (Cancelled, PaperworksError):
            continue
        except Exception as error:
            wrong.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
    assert not wrong, "\n".join(wrong)
    assert "Exception ignored" not in capfd.readouterr().err
