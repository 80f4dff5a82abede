"""Answers to EntityGrid's questions, kept as they come."""

from __future__ import annotations

import json
from pathlib import Path

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.hires_llava.entitygrid.evaluation import AnswerFunction
from paperworks.papers.hires_llava.entitygrid.generation import EntityDataset
from paperworks.papers.hires_llava.entitygrid.parsing import parse_answer


def kept_answers(answer: AnswerFunction, dataset: EntityDataset, run: runs.Run) -> list[tuple[str, str | None]]:
    """Every answer and the choice that it names, or None. A stopped run asks nothing twice."""
    kept = run.state / "answers.jsonl"
    texts = _written(kept)[: len(dataset)]
    with kept.open("a", encoding="utf-8") as out:
        for record in run.progress(dataset.records[len(texts) :], "asking", len(dataset) - len(texts)):
            text = answer(dataset.image(record), record.question, record.choices)
            if not isinstance(text, str):
                raise InputError("answer", type(text).__name__, "a text")
            texts.append(text)
            out.write(json.dumps(text) + "\n")
            out.flush()
    return [(text, parse_answer(text, r.choices, r.task)) for text, r in zip(texts, dataset.records, strict=True)]


def _written(kept: Path) -> list[str]:
    """The answers of a file, without a last line that a killed process did not finish; it is cut off."""
    if not kept.is_file():
        return []
    whole = kept.read_bytes()
    end = whole.rfind(b"\n") + 1
    if end < len(whole):
        with kept.open("r+b") as file:
            file.truncate(end)
    return [json.loads(line) for line in whole[:end].splitlines()]
