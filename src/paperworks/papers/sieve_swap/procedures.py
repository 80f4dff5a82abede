"""The knowledge base: written procedures from JSONL, JSON, CSV, or a folder of Markdown and plain text."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.kinds import require_text
from paperworks.papers.sieve_swap.words import content_words, tokens

STEP_KEYS = ("steps", "directions", "instructions", "method")
TITLE_KEYS = ("title", "name")
ID_KEYS = ("id", "uid", "slug")
INGREDIENT_KEYS = ("ingredients", "materials", "tools")
TEXT_SUFFIXES = (".md", ".markdown", ".txt")
LEAST_WORDS = 3
MOST_SHARE = 0.005
"""A step that more than this share of the procedures has is boilerplate."""
LEAST_REPEATS = 3
"""A small collection may repeat a step: fewer procedures than this never make it boilerplate."""
_BOILERPLATE = re.compile(
    r"^(note|notes|tip|tips|variation|variations|source|credit|warning|enjoy|serve and enjoy|bon app[eé]tit|yield|"
    r"serves|makes|nutrition)\b[^.]{0,3}[:!.]|^(enjoy|serve|serve (immediately|hot|warm|cold|and enjoy))\W*$",
    re.IGNORECASE,
)
_ITEM = re.compile(r"^\s*(?:[-*+•]|\(?\d{1,3}[.)]|step\s+\d{1,3}\s*[:.)-])\s+(.*)$", re.IGNORECASE)
_HEADING = re.compile(r"^\s{0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_INGREDIENT_TITLE = re.compile(r"^(ingredient|material|tool|equipment|you will need|parts)", re.IGNORECASE)


@dataclass(frozen=True)
class Procedure:
    """A written procedure.

    Attributes
    ----------
    id : unique in its collection.
    title : may be empty.
    steps : the written instructions, in their order; at least one.
    ingredients : what is needed; may be empty.
    """

    id: str
    title: str
    steps: tuple[str, ...]
    ingredients: tuple[str, ...] = ()

    def words(self) -> frozenset[str]:
        """Content words of title, steps and ingredients."""
        return content_words("\n".join((self.title, *self.steps, *self.ingredients)))


@dataclass(frozen=True)
class KnowledgeBase:
    """Procedures with all their usable steps in one list.

    Attributes
    ----------
    procedures : in the order of the files.
    steps : text of every usable step.
    owner : int64 ``[steps]``, the procedure of each step.
    place : int64 ``[steps]``, its number in the procedure, from 0.
    left_out : reason -> number of steps that were not used.
    """

    procedures: tuple[Procedure, ...]
    steps: tuple[str, ...]
    owner: np.ndarray
    place: np.ndarray
    left_out: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, procedures: Iterable[Procedure], *, exclude: Sequence[str] = (), filter_steps: bool = True
    ) -> KnowledgeBase:
        """Collect the usable steps.

        Parameters
        ----------
        exclude : ids and titles of procedures that must not be used: those of the evaluation videos. Case and
            surrounding blanks do not count.
        filter_steps : leave out steps of fewer than 3 words, notes and "enjoy!", and steps that more than 0.5 % of
            the procedures (at least 3) share.

        Raises
        ------
        InputError : no procedure, two with one id, or no usable step.
        """
        banned = {name.strip().casefold() for name in exclude}
        every = tuple(procedures)
        kept = tuple(p for p in every if not {p.id.casefold(), p.title.strip().casefold()} & banned)
        if not kept:
            raise InputError("procedures", "none" if not every else "only excluded ones", "at least one procedure")
        ids = Counter(p.id for p in kept)
        if ids.most_common(1)[0][1] > 1:
            raise InputError(
                "procedures", f"{ids.most_common(1)[0][1]} with the id {ids.most_common(1)[0][0]!r}", "ids that differ"
            )
        common = _common_steps(kept)
        steps, owner, place = [], [], []
        left_out: Counter[str] = Counter()
        for number, procedure in enumerate(kept):
            for position, step in enumerate(procedure.steps):
                reason = _unusable(step, common) if filter_steps else ""
                if reason:
                    left_out[reason] += 1
                    continue
                steps.append(step)
                owner.append(number)
                place.append(position)
        if not steps:
            raise InputError(
                "procedures", f"{len(kept)} without a usable step", f"steps of {LEAST_WORDS} words or more"
            )
        if len(every) > len(kept):
            left_out["procedures excluded"] = len(every) - len(kept)
        return cls(kept, tuple(steps), np.array(owner, np.int64), np.array(place, np.int64), dict(left_out))

    def __len__(self) -> int:
        return len(self.procedures)


def _normal(step: str) -> str:
    return " ".join(tokens(step))


def _common_steps(procedures: Sequence[Procedure]) -> frozenset[str]:
    limit = max(LEAST_REPEATS, MOST_SHARE * len(procedures))
    counts: Counter[str] = Counter()
    for procedure in procedures:
        counts.update({_normal(step) for step in procedure.steps})
    return frozenset(step for step, count in counts.items() if count > limit)


def _unusable(step: str, common: frozenset[str]) -> str:
    """Why a step is no instruction to match; empty if it is one.

    Whether a sentence has a verb is not decided by a tagger: a sentence of three words that is no note has one as a
    rule, and headings ("For the sauce:") are caught by their colon.
    """
    words = tokens(step)
    if len(words) < LEAST_WORDS:
        return f"fewer than {LEAST_WORDS} words"
    if _BOILERPLATE.search(step.strip()) or (step.strip().endswith(":") and len(words) < 8):
        return "notes, headings and good wishes"
    return "in too many procedures" if " ".join(words) in common else ""


def read_procedures(source: str | Path) -> list[Procedure]:
    """Read written procedures.

    Parameters
    ----------
    source : JSONL with an object ``{id, title, steps[, ingredients]}`` a line; JSON with a list of such objects or a
        mapping from id to object; CSV with these columns, ``steps`` holding a JSON list or one step a line; or a folder
        of Markdown or text files, a procedure each. RecipeNLG's ``directions`` are steps, too.

    Raises
    ------
    InputError : naming file and line, for what cannot be read, has no steps, or is no text.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _from_folder(path)
    if not path.is_file():
        raise InputError("procedures", f"{path}, which is not there", "a file (.jsonl, .json, .csv, .md) or a folder")
    text = _text_of(path)
    suffix = path.suffix.lower()
    if suffix in TEXT_SUFFIXES:
        return [_from_text(path, text)]
    if suffix in (".csv", ".tsv"):
        records = _csv_records(path, text)
    elif suffix == ".json":
        records = _json_records(path, text)
    elif suffix in (".jsonl", ".ndjson"):
        records = _jsonl_records(path, text)
    else:
        raise InputError("procedures", f"{path.name}, of an unknown kind", ".jsonl, .json, .csv, .tsv, .md or .txt")
    found = [_procedure(where, record, number) for number, (where, record) in enumerate(records)]
    if not found:
        raise InputError("procedures", f"{path}, without any", "at least one procedure with steps")
    return found


def _text_of(path: Path) -> str:
    data = path.read_bytes()
    require_text(path, data[:4096], "text: procedures as JSONL, JSON, CSV or Markdown")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _from_folder(folder: Path) -> list[Procedure]:
    files = sorted(
        p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in (*TEXT_SUFFIXES, ".jsonl", ".json", ".csv")
    )
    if not files:
        raise InputError("procedures", f"{folder}, without a text in it", "Markdown or text files, one procedure each")
    found: list[Procedure] = []
    for path in files:
        if path.suffix.lower() in TEXT_SUFFIXES:
            one = _from_text(path, _text_of(path))
            found.append(
                Procedure(str(path.relative_to(folder).with_suffix("")), one.title, one.steps, one.ingredients)
            )
        else:
            found += read_procedures(path)
    return found


def _from_text(path: Path, text: str) -> Procedure:
    """A Markdown or plain text: the first heading is the title; list items are steps, or else paragraphs are."""
    title, section = "", ""
    items: list[str] = []
    needed: list[str] = []
    paragraphs: list[str] = [""]
    for line in text.splitlines():
        heading = _HEADING.match(line)
        if heading:
            section = heading[2]
            title = title or heading[2]
            paragraphs.append("")
            continue
        item = _ITEM.match(line)
        of_needed = bool(_INGREDIENT_TITLE.match(section))
        if item:
            (needed if of_needed else items).append(_plain(item[1]))
        elif line.strip():
            if items and line.startswith((" ", "\t")) and not of_needed:
                items[-1] += " " + _plain(line)
            elif not of_needed:
                paragraphs[-1] += (" " if paragraphs[-1] else "") + _plain(line)
        else:
            paragraphs.append("")
    prose = [p for p in paragraphs if p]
    if not title and prose and not items and len(prose) > 1 and len(tokens(prose[0])) <= 8:
        title = prose.pop(0)
    steps = items or prose
    if not steps:
        raise InputError("procedures", f"{path}, without a step", "list items or paragraphs, one step each")
    return Procedure(path.stem, title or path.stem.replace("_", " ").replace("-", " "), tuple(steps), tuple(needed))


def _plain(text: str) -> str:
    """Markdown's emphasis, links and check boxes taken off."""
    text = re.sub(r"^\[[ xX]\]\s+", "", text.strip())
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"(\*\*|__|`)(.+?)\1", r"\2", text).strip()


def _jsonl_records(path: Path, text: str) -> list[tuple[str, Any]]:
    records = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            where = f"{path.name}, line {number}"
            try:
                records.append((where, json.loads(line)))
            except (ValueError, RecursionError):
                raise InputError(where, repr(line[:60]), "one JSON object a line") from None
    return records


def _json_records(path: Path, text: str) -> list[tuple[str, Any]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(path.name, f"no JSON ({error})", "a list or a mapping of procedures") from None
    if isinstance(content, Mapping) and not any(key in content for key in STEP_KEYS):
        return [
            (f"{path.name}, {key}", {"id": key, **value} if isinstance(value, Mapping) else value)
            for key, value in content.items()
        ]
    listed = content if isinstance(content, list) else [content]
    return [(f"{path.name}, number {number}", value) for number, value in enumerate(listed, 1)]


def _csv_records(path: Path, text: str) -> list[tuple[str, Any]]:
    csv.field_size_limit(2**31 - 1)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        rows = list(csv.DictReader(text.splitlines(keepends=True), delimiter=delimiter))
    except csv.Error as error:
        raise InputError(path.name, f"no CSV ({error})", "columns id, title and steps") from None
    if rows and not any(_key(rows[0], (key,)) for key in STEP_KEYS):
        raise InputError(
            path.name, f"columns {', '.join(map(str, rows[0]))[:80]}", f"a column {' or '.join(STEP_KEYS)}"
        )
    return [(f"{path.name}, row {number}", row) for number, row in enumerate(rows, 1)]


def _key(record: Mapping[str, Any], names: Sequence[str]) -> str | None:
    lower = {str(key).strip().lower(): key for key in record}
    return next((lower[name] for name in names if name in lower), None)


def _procedure(where: str, record: Any, number: int) -> Procedure:
    if not isinstance(record, Mapping):
        raise InputError(where, type(record).__name__, "an object with title and steps")
    steps_key = _key(record, STEP_KEYS)
    if steps_key is None:
        raise InputError(where, f"keys {', '.join(map(str, list(record)[:6]))}", f"a key {' or '.join(STEP_KEYS)}")
    steps = _texts(where, record[steps_key])
    if not steps:
        raise InputError(where, "steps that are empty", "at least one step")
    title_key, id_key, needed_key = (_key(record, names) for names in (TITLE_KEYS, ID_KEYS, INGREDIENT_KEYS))
    title = str(record[title_key] or "").strip() if title_key else ""
    name = record[id_key] if id_key else None
    needed = _texts(where, record[needed_key]) if needed_key else ()
    return Procedure(str(number) if name in (None, "") else str(name), title, steps, needed)


def _texts(where: str, value: Any) -> tuple[str, ...]:
    """A list of texts: given as one, as JSON in a text, or one a line."""
    if value is None:
        return ()
    if isinstance(value, str):
        stripped = value.strip()
        if stripped.startswith("["):
            try:
                value = json.loads(stripped)
            except (ValueError, RecursionError):
                raise InputError(where, repr(stripped[:60]), "a JSON list, or one step a line") from None
        else:
            value = stripped.splitlines()
    if not isinstance(value, Sequence):
        raise InputError(where, f"steps of type {type(value).__name__}", "a list of texts")
    out = []
    for item in value:
        if isinstance(item, Mapping):  # schema.org's HowToStep
            item = item.get("text") or item.get("name") or ""
        if not isinstance(item, str):
            raise InputError(where, f"a step of type {type(item).__name__}", "texts")
        text = " ".join(item.split())
        if text:
            out.append(_plain(text))
    return tuple(out)


def wikibooks_recipes(language: str = "en-us") -> list[Procedure]:
    """Recipes of Wikibooks from the data set ``wikibooks-recipes`` (``paperworks data get wikibooks-recipes``).

    Parameters
    ----------
    language : ``en-us`` (3,129 recipes), ``de-de`` or ``da-dk``.
    """
    from paperworks.inputs import path

    found = path("wikibooks-recipes")
    file = found / f"recipes_{language}.json"
    if not file.is_file():
        raise InputError("language", language, "en-us, de-de or da-dk")
    content = json.loads(file.read_text(encoding="utf-8"))
    records = [(key, {"id": key, **value}) for key, value in content.items() if value.get("steps")]
    return [_procedure(where, record, number) for number, (where, record) in enumerate(records)]
