"""Reading what users bring: NPZ of features, sentences, texts with labels."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from paperworks.errors import InputError, nearest
from paperworks.inputs.kinds import require_text
from paperworks.papers.ladder.corpus import split_captions, split_reports

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("features_train", "vlr_train", "features_val", "y_val")
OPTIONAL = (
    "pred_val",
    "proba_val",
    "vlr_val",
    "ids_val",
    "class_names",
    "head_weight",
    "head_bias",
    "sentence_emb",
    "features_test",
    "y_test",
    "groups_test",
)
CAPTION_COLUMNS = ("caption", "captions", "report", "reports", "sentence", "sentences", "text")
TEXT_COLUMNS, LABEL_COLUMNS = ("text", "body", "sentence", "content", "message"), ("label", "labels", "class", "target")


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an audit. Raises InputError for a file that is none, keys that are missing or not known."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError("features", f"{file}, which is no file", "a .npz file")
    try:
        stored = np.load(file, allow_pickle=False)
        if not hasattr(stored, "files"):
            raise InputError("features", f"{file.name}, a single array", f".npz with {', '.join(REQUIRED)}")
        with stored:
            found = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            "features", f"{file.name} ({type(error).__name__})", "a .npz file of numbers and text"
        ) from None
    known = (*REQUIRED, *OPTIONAL)
    unknown = next((name for name in found if name not in known), None)
    if unknown is not None:
        raise InputError(
            "features", f"key {unknown!r} in {file.name}", f"one of {', '.join(known)}{nearest(unknown, known)}"
        )
    missing = next((name for name in REQUIRED if name not in found), None)
    if missing is not None:
        raise InputError("features", f"{file.name} without {missing}", f"the keys {', '.join(REQUIRED)}")
    if "pred_val" not in found and "proba_val" not in found:
        raise InputError("features", f"{file.name} without pred_val and proba_val", "one of the two")
    if ("head_weight" in found) != ("head_bias" in found):
        raise InputError("features", f"{file.name} with one of head_weight and head_bias", "both or neither")
    if ("features_test" in found) != ("y_test" in found):
        raise InputError("features", f"{file.name} with one of features_test and y_test", "both or neither")
    return found


def read_sentences(path: str | Path, column: str | None, style: Literal["captions", "reports"]) -> list[str]:
    """Unique sentences of a text file or a table's column. Raises InputError for files without any."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError("sentences", f"{file}, which is no file", "a .txt file or a table")
    if file.suffix.lower() in (".csv", ".tsv", ".parquet", ".jsonl"):
        frame = read_frame(file, "sentences")
        name = pick_column(frame, column, CAPTION_COLUMNS, "caption")
        texts = [str(t) for t in frame[name].dropna()]
    else:
        if column is not None:
            raise InputError("caption", repr(column), "no column: the sentences are no table")
        data = file.read_bytes()
        require_text(file, data[:65536], "a text file with a sentence per line")
        try:
            texts = data.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(str(file), f"bytes that are not UTF-8 ({error.reason})", "UTF-8 text") from None
    found = split_captions(texts) if style == "captions" else split_reports(texts)
    if not found:
        raise InputError("sentences", f"{file.name}, without a sentence", "sentences about the validation data")
    return found


def read_frame(file: Path, field: str) -> pd.DataFrame:
    """A table of texts, all cells as they are. Raises InputError naming the option."""
    import pandas as pd

    if not file.is_file():
        raise InputError(field, f"{file}, which is no file", "a .csv, .tsv, .parquet or .jsonl file")
    suffix = file.suffix.lower()
    try:
        if suffix == ".parquet":
            frame = pd.read_parquet(file)
        elif suffix in (".csv", ".tsv", ".jsonl"):
            with file.open("rb") as stream:
                require_text(file, stream.read(65536), "a table as text, or .parquet")
            if suffix == ".jsonl":
                lines = file.read_text(encoding="utf-8").splitlines()
                frame = pd.DataFrame([_record(line, i, file) for i, line in enumerate(lines) if line.strip()])
            else:
                frame = pd.read_csv(file, sep="\t" if suffix == ".tsv" else ",", dtype=str, keep_default_na=False)
        else:
            raise InputError(field, file.name, "a .csv, .tsv, .parquet or .jsonl file")
    except (ValueError, OSError, UnicodeError, ImportError) as error:
        if isinstance(error, InputError):
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(field, f"{file.name} ({first})", "a readable table") from None
    if frame.empty:
        raise InputError(field, f"{file.name}, without rows", "a row per text")
    return frame


def pick_column(frame: pd.DataFrame, wanted: str | None, guesses: tuple[str, ...], option: str) -> str:
    """The column that an option names, or the first whose name is usual."""
    names = [str(c) for c in frame.columns]
    if wanted is not None:
        if wanted not in names:
            raise InputError(option, repr(wanted), f"a column of the table{nearest(wanted, names)}")
        return wanted
    found = next((g for g in guesses if g in names), None)
    if found is None:
        raise InputError(option, f"columns {', '.join(names[:12])}", f"a column {', '.join(guesses)}, or --{option}")
    return found


def _record(line: str, number: int, file: Path) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{file.name}, line {number + 1}", repr(line)[:60], "a JSON object") from None
    if not isinstance(found, dict):
        raise InputError(f"{file.name}, line {number + 1}", repr(line)[:60], "a JSON object")
    return found
