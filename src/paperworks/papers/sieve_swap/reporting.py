"""Reports of what needs no training: sieving, alignment, evaluation."""

from __future__ import annotations

import csv
import io
import json
import warnings
from pathlib import Path
from textwrap import shorten

from paperworks import runs
from paperworks.papers.sieve_swap import sources
from paperworks.papers.sieve_swap.alignment import AlignedStep, align_matrix
from paperworks.papers.sieve_swap.candidates import ProcedureIndex
from paperworks.papers.sieve_swap.config import Config
from paperworks.papers.sieve_swap.evaluation import evaluate, read_predictions
from paperworks.papers.sieve_swap.exports import clock, safe_name, steps_of, write_exports
from paperworks.papers.sieve_swap.figures import segments_figure, similarity_figure, timeline_figure
from paperworks.papers.sieve_swap.procedures import KnowledgeBase, Procedure
from paperworks.papers.sieve_swap.results import SieveResult
from paperworks.papers.sieve_swap.sentences import VideoTranscript
from paperworks.papers.sieve_swap.sieve import bundled_irrelevant
from paperworks.papers.sieve_swap.similarity import StepIndex, make_index, top_steps
from paperworks.papers.sieve_swap.steps_dataset import StepDataset
from paperworks.papers.sieve_swap.thresholds import parse_tau, percentile_threshold, read_sentences, require_enough
from paperworks.runs.files import write_text
from paperworks.runs.report import Cell

MOST_ROWS = 12
WORDS = {
    "recall": "share of the true steps that a segment overlaps",
    "precision": "share of the segments that a true step overlaps",
    "f1": "F1 of the segments",
    "soda_c": "SODA_c: order, overlap and caption",
    "soda_d": "SODA_d: order and overlap",
    "soda_c_precision": "SODA_c, share of the predicted",
    "soda_c_recall": "SODA_c, share of the true",
    "soda_d_precision": "SODA_d, share of the predicted",
    "soda_d_recall": "SODA_d, share of the true",
    "cider": "CIDEr-D",
    "meteor_es": "METEOR, exact words and stems",
}


def sieve(config: Config, run: runs.Run) -> runs.Report:
    """Transcripts and written procedures to videos with timed steps."""
    result, _ = sources.sift(config, run)
    references = sources.load_references(config)
    scores = _compare(result.swapped, references)
    run.step("writing the sets and the sheets")
    folder = run.output("steps")
    folder.mkdir()
    _sheets(folder, result.swapped, config)
    files = [runs.ReportFile(name, what) for name, what in result.write(run.files)]
    files.append(runs.ReportFile("steps", "of each video: chapters (SRT, WebVTT), JSON and a how-to sheet (Markdown)"))
    summary = result.summary()
    metrics = summary | {name: value for name, value in scores.items() if "@" not in name}
    labels = {
        "segments": "steps found",
        "share of speech kept": "share of the speech that is kept",
        "videos kept": "videos with steps",
        "tau": "least cosine of what is kept",
    }
    if scores:
        labels["f1"] = "F1 of the segments, against the true steps"
    return runs.Report(
        headline=_headline(result, scores),
        metrics=metrics,
        labels=labels,
        tables=_tables(result, scores),
        figures=[
            runs.Figure(
                "What was kept",
                timeline_figure(result, references),
                "Sentences along the videos. What matches a written step is kept and replaced by it.",
            ),
            runs.Figure(
                "Similarity to written steps",
                similarity_figure(result),
                "The threshold lies above nearly all irrelevant sentences.",
            ),
        ],
        files=files,
        lead=_lead(config, result),
        notes=_notes(config, result),
    )


def _headline(result: SieveResult, scores: dict[str, float]) -> str:
    summary = result.summary()
    text = (
        f"{summary['segments']:,.0f} timed written steps in {summary['videos kept']:,.0f} of "
        f"{summary['videos']:,.0f} videos; "
        f"{summary['share of speech kept']:.0%} of the speech is kept."
    )
    if scores:
        text += f" Against the true steps, F1 of the segments is {scores['f1']:.2f}."
    return text


def _lead(config: Config, result: SieveResult) -> list[str]:
    lead = [
        f"Read {result.summary()['videos']:,.0f} transcripts ({config.transcripts}) and procedures "
        f"({config.procedures}); a sentence "
        f"stays from a cosine of {result.tau:.2f} (tau {config.tau})."
    ]
    lead += [warning for warning in result.warnings if "encoder" in warning]
    if config.variant != "sieve-swap":
        lead.append(f"This is the control {config.variant}, not the method.")
    if result.dropped:
        names = ", ".join(list(result.dropped)[:3]) + (" and more" if len(result.dropped) > 3 else "")
        count = f"{len(result.dropped)} video{'s' * (len(result.dropped) > 1)}"
        lead.append(f"Nothing is left of {count} ({names}); dropped.csv says why.")
    return lead


def _notes(config: Config, result: SieveResult) -> list[str]:
    notes = [warning for warning in result.warnings if "encoder" not in warning]
    if config.transcripts == "bundled":
        notes.append("The bundled transcripts and procedures were written for this purpose; no video belongs to them.")
    return notes


def _tables(result: SieveResult, scores: dict[str, float]) -> list[runs.Table]:
    tables = []
    first = next(iter(result.swapped.items()), None)
    if first is not None:
        video, steps = first
        raw = result.raw[video]
        rows: list[list[Cell]] = [
            [f"{clock(start)}\u2013{clock(end)}", said[0], texts[0]]
            for (start, end), said, texts in zip(steps.timestamps, raw.sentences, steps.sentences, strict=True)
        ]
        tables.append(runs.Table(f"Steps of {video}", ["time", "spoken", "written step"], rows[:MOST_ROWS]))
    reasons: list[list[Cell]] = [[reason, count] for reason, count in result.reasons().most_common(MOST_ROWS)]
    if reasons:
        tables.append(runs.Table("Sentences that went", ["why", "sentences"], reasons))
    if scores:
        tables.append(_score_table(scores, "Against the true steps"))
    return tables


def _score_table(scores: dict[str, float], title: str) -> runs.Table:
    rows: list[list[Cell]] = [[WORDS.get(n, n), v] for n, v in scores.items() if "@" not in n]
    return runs.Table(
        title, ["metric", "value"], rows, "Means over overlaps of 0.3, 0.5, 0.7 and 0.9 where they apply."
    )


def _compare(found: StepDataset, references: StepDataset | None) -> dict[str, float]:
    """Scores against the true steps of the videos that have some."""
    known = None if references is None else references
    if known is None or not len(known):
        return {}
    ours = {video: steps for video, steps in found.items() if video in known}
    return evaluate(StepDataset(ours), known)


def _sheets(folder: Path, found: StepDataset, config: Config) -> None:
    files = _video_files(config)
    for video, steps in found.items():
        write_exports(folder, video, steps_of(steps), source=files.get(video))


def _video_files(config: Config) -> dict[str, Path]:
    if config.videos is None:
        return {}
    from paperworks.inputs.video import find_videos

    return {path.stem: path for path in find_videos(config.videos)}


# -- one procedure along a transcript -------------------------------------------------------------------------------


def align_all(config: Config, run: runs.Run) -> runs.Report:
    """The procedure that fits each transcript best, step by step in its order."""
    run.step(f"reading {config.procedures} procedures and {config.transcripts} transcripts")
    kb = KnowledgeBase.of(sources.load_procedures(config), exclude=sources.excluded(config), filter_steps=False)
    transcripts = sources.load_transcripts(config)
    irrelevant = bundled_irrelevant() if config.irrelevant is None else read_sentences(config.irrelevant)
    tau = parse_tau(config.tau)
    if isinstance(tau, str):
        require_enough(irrelevant)
    index, warning = make_index(
        config.encoder, kb.steps, background=irrelevant, progress=run.progress, seed=config.seed % 2**32
    )
    if isinstance(tau, str):
        tau = percentile_threshold(top_steps(index, index.queries(irrelevant), 1)[0][:, 0])
    words = None if config.match == "global" else ProcedureIndex(kb.procedures, config.match)
    found: dict[str, tuple[Procedure, list[AlignedStep]]] = {}
    for transcript in run.progress(transcripts, "aligning", len(transcripts)):
        best = _best_procedure(transcript, kb, index, words, tau, config)
        if best is not None:
            found[transcript.id] = best
    folder = run.output("steps")
    folder.mkdir()
    files = _video_files(config)
    for video, (procedure, steps) in found.items():
        listed = [{"start": s.start, "end": s.end, "text": s.text, "score": s.similarity} for s in steps]
        write_exports(folder, video, listed, title=procedure.title or video, source=files.get(video))
    write_text(run.files / "aligned.csv", _aligned_csv(found))
    return _aligned_report(config, found, len(transcripts), tau, warning)


def _best_procedure(
    transcript: VideoTranscript,
    kb: KnowledgeBase,
    index: StepIndex,
    words: ProcedureIndex | None,
    tau: float,
    config: Config,
) -> tuple[Procedure, list[AlignedStep]] | None:
    import numpy as np

    assert transcript.seconds
    sentences = transcript.sentences()
    if not sentences:
        return None
    text = " ".join(s.text for s in sentences)
    candidates = (
        range(len(kb))
        if words is None
        else words.lookup(
            text,
            min_iou=config.min_iou,
            min_recall=config.min_recall,
            most=config.most_candidates,
            title=transcript.title,
        ).procedures
    )
    queries = index.queries([s.text for s in sentences])
    best: tuple[float, Procedure, list[AlignedStep]] | None = None
    for number in candidates:
        steps = np.flatnonzero(kb.owner == number)
        similarity = index.similarity(queries, steps)
        total, chosen = align_matrix(similarity, tau)
        if total > 0 and (best is None or total > best[0]):
            listed = []
            for place in sorted(set(chosen[chosen >= 0].tolist())):
                rows = np.flatnonzero(chosen == place)
                own = [sentences[row] for row in rows]
                listed.append(
                    AlignedStep(
                        int(kb.place[steps[place]]),
                        kb.steps[steps[place]],
                        own[0].start,
                        max(s.end for s in own),
                        " ".join(s.text for s in own),
                        float(similarity[rows, place].mean()),
                    )
                )
            best = total, kb.procedures[int(number)], listed
    return None if best is None else best[1:]


def _aligned_csv(found: dict[str, tuple[Procedure, list[AlignedStep]]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["video", "procedure", "step", "start", "end", "text", "spoken", "similarity"])
    for video, (procedure, steps) in found.items():
        for s in steps:
            row = [
                video,
                procedure.id,
                s.step + 1,
                f"{s.start:.3f}",
                f"{s.end:.3f}",
                s.text,
                s.spoken,
                f"{s.similarity:.4f}",
            ]
            writer.writerow(["'" + c if isinstance(c, str) and c.startswith(("=", "+", "@")) else c for c in row])
    return out.getvalue()


def _aligned_report(
    config: Config, found: dict[str, tuple[Procedure, list[AlignedStep]]], count: int, tau: float, warning: str
) -> runs.Report:
    total = sum(len(steps) for _, steps in found.values())
    whole = sum(len(procedure.steps) for procedure, _ in found.values())
    rows: list[list[Cell]] = [
        [video, procedure.title or procedure.id, len(steps), len(procedure.steps)]
        for video, (procedure, steps) in found.items()
    ]
    figures = []
    if found:
        video, (procedure, steps) = next(iter(found.items()))
        lines = {f"{s.step + 1}. {shorten(s.text, 44, placeholder=' ...')}": [(s.start, s.end)] for s in steps}
        figures.append(runs.Figure("Steps along the first video", segments_figure(lines, procedure.title), video))
    return runs.Report(
        headline=f"{total} of the {whole} steps of the best procedure are found, in order, "
        f"in {len(found)} of {count} videos.",
        metrics={
            "steps found": float(total),
            "steps of the procedures": float(whole),
            "videos": float(len(found)),
            "tau": tau,
        },
        labels={"steps found": "steps found, in order", "steps of the procedures": "steps of these procedures"},
        tables=[runs.Table("The procedure that fits best", ["video", "procedure", "steps found", "steps"], rows)],
        figures=figures,
        files=[
            runs.ReportFile("steps", "of each video: chapters (SRT, WebVTT), JSON and a how-to sheet (Markdown)"),
            runs.ReportFile("aligned.csv", "every step that was found, with its time and what is said"),
        ],
        lead=[
            f"A sentence is worth its cosine less {tau:.2f}; the sum is maximised with steps in order.",
            *([warning] if warning else []),
        ],
    )


# -- predictions of any system ----------------------------------------------------------------------------------------


def evaluate_files(config: Config, run: runs.Run) -> runs.Report:
    """Scores of predictions in ActivityNet's JSON."""
    assert config.predictions is not None
    assert config.references is not None
    run.step(f"reading {config.predictions.name}")
    predictions = read_predictions(config.predictions)
    references = StepDataset.read(config.references, "references")
    strange = [video for video in predictions if video not in references]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report says it
        scores = evaluate(predictions, references, config.metrics, scorer=config.scorer, compat=config.compat)
    write_text(run.files / "scores.json", json.dumps(scores, indent=1))
    missing = sum(not predictions.get(video) for video in references)
    plain = {name: value for name, value in scores.items() if "@" not in name}
    at: list[list[Cell]] = [
        [name.split("@")[1], *(scores[f"{kind}@{name.split('@')[1]}"] for kind in ("recall", "precision", "f1"))]
        for name in scores
        if name.startswith("f1@")
    ]
    tables = [_score_table(scores, "Scores")]
    if at:
        tables.append(runs.Table("By overlap", ["overlap above", "recall", "precision", "F1"], at))
    first = next((video for video in references if predictions.get(video)), None)
    figures = []
    if first is not None:
        lines = {"predicted": [p["timestamp"] for p in predictions[first]], "true": list(references[first].timestamps)}
        figures.append(runs.Figure("The first video", segments_figure(lines, safe_name(first))))
    name, value = next(iter(plain.items()))
    how = "left out" if config.compat else "counted as 0"
    lead = [f"{missing} of {len(references)} videos have no prediction; they are {how}."] if missing else []
    if strange:
        lead.append(
            f"{len(strange)} videos with predictions have no reference, such as {strange[0]}; they are left out."
        )
    return runs.Report(
        headline=f"{WORDS.get(config.metrics[0], config.metrics[0])}: {plain.get(config.metrics[0], value):.3f} "
        f"on {len(references):,} videos.",
        metrics=plain,
        labels={n: WORDS.get(n, n) for n in plain if n in (*config.metrics, name)},
        tables=tables,
        figures=figures,
        files=[runs.ReportFile("scores.json", "every figure")],
        lead=lead,
    )
