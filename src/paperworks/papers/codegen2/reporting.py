"""The report of a training on code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paperworks import runs
from paperworks.papers.codegen2.checkpoints import Loaded
from paperworks.papers.codegen2.figures import bits_figure, holes_figure, loss_figure
from paperworks.papers.codegen2.fitting import Trained
from paperworks.papers.codegen2.repository import CodeFiles

KIND_WORDS = {"line": "a line", "multiline": "several lines", "span": "a span of characters"}


@dataclass
class Code:
    """What was read, and its two parts."""

    found: CodeFiles
    train: list[str]
    test: list[str]
    note: str


def adaptation_report(
    loaded: Loaded,
    code: Code,
    prose: list[str],
    trained: Trained,
    before: dict[str, Any],
    after: dict[str, Any],
    files: list[runs.ReportFile],
) -> runs.Report:
    """The report of a training on code: held-out code before and after, what was read, holes that were filled."""
    rows: list[list[Any]] = [
        ["from left to right", None, before["left"]["bits_per_byte"], after["left"]["bits_per_byte"], None, None, None]
    ]
    for kind, new in after["kinds"].items():
        old = before["kinds"][kind]
        rows.append(
            [
                KIND_WORDS[kind],
                new["holes"],
                old["bits_per_byte"],
                new["bits_per_byte"],
                new["bits_per_byte_left_to_right"],
                old["exact_match"],
                new["exact_match"],
            ]
        )
    kinds = list(after["kinds"])
    metrics = {
        "bits per byte from left to right, before": before["left"]["bits_per_byte"],
        "bits per byte from left to right": after["left"]["bits_per_byte"],
    }
    labels = {"bits per byte from left to right": "bits per byte of held-out code, from left to right"}
    for kind in kinds:
        metrics[f"bits per byte of holes, {kind}"] = after["kinds"][kind]["bits_per_byte"]
        metrics[f"exact matches, {kind}"] = after["kinds"][kind]["exact_match"]
    if "line" in kinds:
        labels["bits per byte of holes, line"] = "bits per byte of held-out lines, given both sides"
        labels["exact matches, line"] = "share of held-out lines written exactly"
    names = ["left to right", *(KIND_WORDS[kind] for kind in kinds)]
    first = [before["left"]["bits_per_byte"], *(before["kinds"][k]["bits_per_byte"] for k in kinds)]
    last = [after["left"]["bits_per_byte"], *(after["kinds"][k]["bits_per_byte"] for k in kinds)]
    examples = _examples(after)
    figures = []
    if examples:
        figures.append(
            runs.Figure(
                "Holes in held-out code",
                holes_figure(examples, "Held-out code; the model saw what stands around the hole"),
                "Blue: what the model wrote. Green: it is what stood there. Orange: what stood there.",
            )
        )
    figures += [
        runs.Figure("Before and after", bits_figure(names, first, last), "Less is better."),
        runs.Figure("Training", loss_figure(trained.result.losses), "Loss of the objective, all tokens of a step."),
    ]
    return runs.Report(
        headline=_headline(before, after),
        metrics=metrics,
        labels=labels,
        tables=[
            runs.Table(
                "Held-out code",
                [
                    "what is predicted",
                    "holes",
                    "bits per byte before",
                    "bits per byte after",
                    "the same after, text before the hole only",
                    "exact before",
                    "exact after",
                ],
                rows,
                _note(after),
            ),
            _read_table(code),
            *([_passed_over(code)] if code.found.skipped else []),
        ],
        figures=figures,
        files=files,
        lead=_lead(loaded, code, prose, trained),
        notes=loaded.notes,
    )


def _headline(before: dict[str, Any], after: dict[str, Any]) -> str:
    old, new = before["left"]["bits_per_byte"], after["left"]["bits_per_byte"]
    said = f"Held-out code costs the model {new:.2f} bits per byte from left to right, {old:.2f} before training"
    if "line" not in after["kinds"]:
        return f"{said}."
    line, was = after["kinds"]["line"], before["kinds"]["line"]
    right = round(line["exact_match"] * line["holes"])
    return (
        f"{said}; a line, {line['bits_per_byte']:.2f} with both sides in view ({was['bits_per_byte']:.2f} before). "
        f"It writes {right} of {line['holes']} missing lines exactly."
    )


def _note(after: dict[str, Any]) -> str:
    said = [f"{KIND_WORDS[k]}: {s['exact_low']:.0%} to {s['exact_high']:.0%}" for k, s in after["kinds"].items()]
    return (
        "A hole's bits are those of what stood in it, in the infill format; beside it the same with the text before "
        f"it only, from left to right. 95% intervals of exact matches after training: {'; '.join(said) or 'no holes'}."
    )


def _lead(loaded: Loaded, code: Code, prose: list[str], trained: Trained) -> list[str]:
    size = sum(count for _, count in code.found.by_language().values())
    passed = sum(map(len, code.found.skipped.values()))
    packed = trained.packed["code"]
    lead = [
        f"Read {len(code.found.files)} files ({size / 1e6:.2f} MB), {code.note}; {passed} paths passed over. "
        f"Trained {trained.result.steps} steps on {packed.tokens:,} tokens of code"
        + (
            f" and {trained.packed['prose'].tokens:,} of prose ({len(prose)} texts), each with equal probability."
            if prose
            else "."
        )
    ]
    if loaded.bundled:
        lead.append("The bundled model is small: it shows how training goes, and is no help in writing.")
    if packed.dropped:
        lead.append(f"{packed.dropped:,} tokens at the ends of files were too short for a sequence, and left out.")
    return lead


def _read_table(code: Code) -> runs.Table:
    rows: list[list[Any]] = [[name, files, size] for name, (files, size) in code.found.by_language().items()]
    return runs.Table("What was read", ["language", "files", "size, bytes"], rows)


def _passed_over(code: Code) -> runs.Table:
    rows: list[list[Any]] = [
        [reason, len(paths), ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")]
        for reason, paths in sorted(code.found.skipped.items(), key=lambda item: -len(item[1]))
    ]
    return runs.Table("What was passed over", ["why", "files and folders", "such as"], rows, "All of them: code.json.")


def _examples(after: dict[str, Any]) -> list[dict[str, str]]:
    """A few holes to show: of each kind one that was written exactly, if there is one, and one that was not."""
    shown = []
    for scores in after["kinds"].values():
        right = [e for e in scores["examples"] if e["exact"] and len(e["middle"].strip()) > 4]
        wrong = [e for e in scores["examples"] if not e["exact"]]
        shown += right[:1] + wrong[: 1 if right else 2]
    return shown[:5]
