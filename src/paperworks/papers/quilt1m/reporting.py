"""Reports of the curation: what happened at each stage, what was left out and why, and a contact sheet."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paperworks import runs
from paperworks.papers.quilt1m.assembly import DataSet
from paperworks.papers.quilt1m.captions import CaptionedPairs
from paperworks.papers.quilt1m.config import BUNDLED_VIDEOS, Config
from paperworks.papers.quilt1m.curator import CuratedVideo
from paperworks.papers.quilt1m.figures import contact_sheet, timeline
from paperworks.papers.quilt1m.filters import FrameFilter
from paperworks.papers.quilt1m.outputs import IMAGES_TABLE, PAIRS, VIDEOS_TABLE
from paperworks.papers.quilt1m.vocabulary import Vocabulary
from paperworks.runs.files import write_text

MOST_LISTED = 12


def videos_report(
    config: Config,
    run: runs.Run,
    videos: Sequence[CuratedVideo],
    data: DataSet,
    accepts: FrameFilter,
    vocabulary: Vocabulary | None,
    models: Sequence[Any],
) -> runs.Report:
    """The report of a curation of videos; also writes ``report.json`` into the data set."""
    used = [one for one in videos if one.paired is not None]
    stages = _stages(videos, data)
    write_text(data.folder / "stages.json", json.dumps(dict(stages), indent=1))
    hours = sum(one.watched.duration for one in used if one.watched is not None) / 3600
    texts = len({(row["video_id"], row["text"]) for row in data.pairs})
    mean_words = sum(len(row["text"].split()) for row in data.pairs) / max(1, len(data.pairs))
    headline = (
        f"{len(used)} of {len(videos)} videos gave {len(data.pairs):,} pairs of {data.pictures:,} pictures and "
        f"{texts:,} sentences."
        if data.pairs
        else f"No pair was found in {len(used)} of {len(videos)} videos; the table of stages says where they were lost."
    )
    return runs.Report(
        headline=headline,
        metrics={
            "pairs": len(data.pairs),
            "pictures": data.pictures,
            "sentences": texts,
            "videos used": len(used),
            "video minutes": round(hours * 60, 2),
            "mean words of a sentence": round(mean_words, 2),
        },
        labels={
            "pairs": "pairs of picture and sentence",
            "pictures": "pictures without cursor or speaker",
            "sentences": "sentences about the domain",
            "video minutes": "narrated video, minutes",
        },
        tables=[
            runs.Table(
                "What each stage kept",
                ["stage", "number"],
                [[name, count] for name, count in stages.items()],
                "Everything is counted over the videos that were used, except the videos themselves.",
            ),
            runs.Table(
                "The videos",
                [
                    "video",
                    "minutes",
                    "chunk length, s",
                    "key frames",
                    "of the domain",
                    "stills",
                    "chunks",
                    "pairs",
                    "topics",
                ],
                [_video_row(one, data) for one in videos if one.paired is not None],
            ),
            *_reasons(videos),
            *_corrections(used),
        ],
        figures=[
            runs.Figure(
                "Pictures and what was said",
                contact_sheet(data.folder, data.pairs),
                "Medians over still segments, with the first sentence that they are paired with.",
            ),
            runs.Figure(
                "A video over time",
                timeline(used[0]),
                f"{used[0].path.name}: key frames (filled: they show the domain), still segments, chunks and cues.",
            ),
        ],
        files=_files(data, config),
        lead=_lead(config, accepts, vocabulary, models, used),
        notes=[f"{one.path.name}: {note}" for one in used for note in one.notes]
        + [
            "Chunks overlap and share pictures and sentences: split into training and test by video, never by pair.",
            "Frames may show faces or names. Look at the pictures before you share them.",
        ],
    )


def _stages(videos: Sequence[CuratedVideo], data: DataSet) -> dict[str, int]:
    used = [one for one in videos if one.paired is not None and one.watched is not None]
    chunks = [chunk for one in used if one.paired is not None for chunk in one.paired.chunks]
    watched = [one.watched for one in used if one.watched is not None]
    return {
        "videos": len(videos),
        "videos used": len(used),
        "frames decoded": sum(w.tally["frames"] for w in watched),
        "key frames": sum(len(w.times) for w in watched),
        "key frames of the domain": sum(int(w.positive.sum()) for w in watched),
        "still segments": sum(len(w.stills) for w in watched),
        "still segments of the domain": sum(bool(s.file) for w in watched for s in w.stills),
        "narrative videos": sum(one.narrative is not None and one.narrative.narrative for one in used),
        "chunks": len(chunks),
        "chunks with a picture": sum(bool(c.pictures) for c in chunks),
        "chunks with a domain sentence": sum(bool(c.medical_text) for c in chunks),
        "words corrected": sum(len(one.paired.changes) for one in used if one.paired is not None),
        "mentions of terms": sum(len(e) for c in chunks for e in c.entities),
        "pairs repeated by overlapping chunks": data.repeated,
        "pairs": len(data.pairs),
    }


def _video_row(one: CuratedVideo, data: DataSet) -> list[runs.report.Cell]:
    assert one.paired is not None
    assert one.watched is not None
    return [
        one.path.name,
        round(one.watched.duration / 60, 2),
        round(one.paired.chunk_time, 2),
        len(one.watched.times),
        int(one.watched.positive.sum()),
        sum(bool(s.file) for s in one.watched.stills),
        len(one.paired.chunks),
        sum(row["video_id"] == one.paired.video_id for row in data.pairs),
        ", ".join(one.topics),
    ]


def _reasons(videos: Sequence[CuratedVideo]) -> list[runs.Table]:
    left: list[list[runs.report.Cell]] = [[one.path.name, one.reason] for one in videos if one.reason]
    return [runs.Table("Videos left out", ["video", "why"], left)] if left else []


def _corrections(used: Sequence[CuratedVideo]) -> list[runs.Table]:
    counted = Counter(change for one in used if one.paired is not None for change in one.paired.changes)
    if not counted:
        return []
    rows: list[list[runs.report.Cell]] = [[a, b, n] for (a, b), n in counted.most_common(MOST_LISTED)]
    return [runs.Table("Words corrected", ["heard", "written now", "times"], rows)]


def _forms(name: str, shards: int, config: Config) -> list[runs.ReportFile]:
    """The further forms of the pairs."""
    files = []
    if "webdataset" in config.formats:
        files.append(runs.ReportFile(f"{name}/webdataset", f"{shards} WebDataset shard{'s' * (shards != 1)}"))
    if "datasets" in config.formats:
        files.append(runs.ReportFile(f"{name}/datasets", "a folder for load_from_disk of datasets"))
    return files


def _files(data: DataSet, config: Config) -> list[runs.ReportFile]:
    name = data.folder.name
    files = [
        runs.ReportFile(f"{name}/{PAIRS}", "a pair a line: picture, sentence, times, terms, source"),
        runs.ReportFile(f"{name}/images", "the pictures"),
        runs.ReportFile(f"{name}/{IMAGES_TABLE}", "a row per picture and chunk, in the columns of the released set"),
        runs.ReportFile(f"{name}/{VIDEOS_TABLE}", "key frames, predictions and still segments of each video"),
        runs.ReportFile(f"{name}/stages.json", "the counts of the table of stages"),
    ]
    return files + (_forms(name, data.shards, config) if data.pairs else [])


def _lead(
    config: Config,
    accepts: FrameFilter,
    vocabulary: Vocabulary | None,
    models: Sequence[Any],
    used: Sequence[CuratedVideo],
) -> list[str]:
    kind = type(accepts).__name__
    by = {
        "PlainFilter": "what is neither blank nor a slide of text (--positive and --negative fit a filter)",
        "ColorTextureFilter": "a regression on colours and textures, fitted on the examples",
        "EnsembleFilter": f"{len(config.filter_models)} models, {config.vote}",
    }.get(kind, kind)
    lead = [f"Frames of the domain: {by}."]
    if config.videos == BUNDLED_VIDEOS:
        lead.append(
            "The lectures are made from two photographs; --videos takes your own, with transcripts beside them."
        )
    if vocabulary is None:
        lead.append("Without --vocabulary every sentence is kept, and nothing is corrected.")
    else:
        lead.append(f"Sentences without one of {len(vocabulary.concepts):,} terms are left out.")
    failures = sum(getattr(model, "failures", 0) for model in models)
    refused = sum(getattr(model, "refused", 0) for model in models)
    if failures or refused:
        lead.append(
            f"The language model gave no JSON {failures} times; {refused} sentences were not in the transcript."
        )
    if not config.flush_tail:
        lead.append("Runs that are open at the end of a video are dropped, as in the released code.")
    empty = [one.path.name for one in used if one.paired is not None and not one.paired.chunks]
    if empty:
        lead.append(f"Without a chunk: {', '.join(empty[:5])}.")
    return lead


def captions_report(found: CaptionedPairs, target: Path, config: Config) -> runs.Report:
    """The report of a curation of captioned pictures."""
    texts = len({row["text"] for row in found.pairs})
    left = sum(found.left_out.values())
    rows: list[list[runs.report.Cell]] = [["pictures used", found.pictures]]
    rows += [[f"left out: {reason}", count] for reason, count in sorted(found.left_out.items())]
    return runs.Report(
        headline=f"{found.pictures:,} of {found.pictures + left:,} captioned pictures gave {len(found.pairs):,} pairs.",
        metrics={"pairs": len(found.pairs), "pictures": found.pictures, "sentences": texts},
        labels={"pairs": "pairs of picture and sentence", "pictures": "pictures", "sentences": "different sentences"},
        tables=[runs.Table("Pictures", ["", "number"], rows)],
        figures=[
            runs.Figure(
                "Pictures and captions",
                contact_sheet(target, found.pairs),
                "Each picture with the first sentence that it is paired with.",
            )
        ],
        files=[
            runs.ReportFile(f"{target.name}/{PAIRS}", "a pair a line: picture, sentence, source"),
            runs.ReportFile(f"{target.name}/images", "the pictures"),
            *_forms(target.name, found.shards, config),
        ],
    )
