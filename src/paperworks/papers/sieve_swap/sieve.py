"""Sieve and Swap: keep what matches a written step, and put the written step in its place (part 1 of the paper)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError, nearest
from paperworks.inputs.transcripts import Sentence
from paperworks.papers.sieve_swap.alignment import align_matrix
from paperworks.papers.sieve_swap.candidates import Match, ProcedureIndex
from paperworks.papers.sieve_swap.procedures import KnowledgeBase, Procedure, read_procedures
from paperworks.papers.sieve_swap.results import AuditRow, SieveResult
from paperworks.papers.sieve_swap.sentences import VideoTranscript, read_transcripts
from paperworks.papers.sieve_swap.similarity import make_index, top_steps
from paperworks.papers.sieve_swap.steps_dataset import VideoSteps
from paperworks.papers.sieve_swap.thresholds import mixture_threshold, percentile_threshold, require_enough
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress

Variant = Literal["sieve-swap", "sieve-only", "swap-only", "random-swap", "aligned"]
VARIANTS: tuple[str, ...] = ("sieve-swap", "sieve-only", "swap-only", "random-swap", "aligned")
KEPT_STEPS = 8
"""Steps of a sentence that are looked at for alternatives, times k."""
QUERY_ROWS = 512


@dataclass(frozen=True)
class SentenceMatch:
    """A sentence and the written steps nearest to it, the best first (numbers in the knowledge base, cosines)."""

    start: float
    end: float
    text: str
    steps: tuple[int, ...]
    similarities: tuple[float, ...]


@dataclass(frozen=True)
class VideoMatch:
    """All sentences of a video with their nearest steps; what the threshold decides on.

    ``candidates`` are the numbers of the procedures that were looked at (empty with global matching), ``reason`` why
    none was found.
    """

    id: str
    duration: float
    sentences: tuple[SentenceMatch, ...]
    candidates: tuple[int, ...] = ()
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> VideoMatch:
        """What ``to_dict`` gave."""
        sentences = tuple(
            SentenceMatch(s["start"], s["end"], s["text"], tuple(s["steps"]), tuple(s["similarities"]))
            for s in content["sentences"]
        )
        return cls(content["id"], content["duration"], sentences, tuple(content["candidates"]), content["reason"])


class SieveSwap:
    """Turns transcripts and written procedures into videos with timed written steps.

    Parameters
    ----------
    encoder : "auto" (the bundled MiniLM, or words where it is not installed), "minilm", "tfidf", "bm25", "svd", the
        folder of a sentence encoder, or a function from texts to vectors.
    tau : a sentence is kept if its best cosine is at least this; "auto" takes the 99th percentile of the best cosines
        of irrelevant sentences, "mixture" the border of two normal distributions over the transcripts' own cosines.
    k : alternative steps of a segment, from different procedures.
    match : "lexical" looks at the procedures whose words the transcript has, "title" at those whose title's words it
        has, "global" at all steps.
    variant : "sieve-swap"; or a control: "sieve-only" keeps the spoken text, "swap-only" keeps every sentence
        (tau = -1), "random-swap" puts a random step in place, "aligned" lets the steps of one procedure follow in their
        order (dynamic programming).
    min_iou, min_recall, most_candidates : of lexical matching (0.1, 0.3, 50).
    irrelevant : sentences for ``tau="auto"``; None takes those that are bundled.
    percentile : of ``tau="auto"``.
    margin : keep a sentence only if it is at least so much above the mean of its video; None does not ask.
    max_gap : seconds between sentences of one segment.
    min_seconds, most_segments : shorter segments are dropped; of more, the most similar ones stay.
    same_cosine : steps that are at least so similar count as the same when segments are merged.
    near_duplicate : alternatives more similar than this are one.
    exclude : ids and titles of procedures, and ids of videos, that must not be used (leakage).
    filter_steps : leave out boilerplate steps.
    cache : a ``.npy`` file for the vectors of the steps.
    seed : of the random swap, of SVD and of the mixture.

    Attributes
    ----------
    tau_ : the threshold, after ``fit`` ("mixture": after ``transform``).
    irrelevant_similarities_ : best cosines of the irrelevant sentences.
    warnings_ : what the user should know.
    """

    def __init__(
        self,
        encoder: Any = "auto",
        tau: str | float = "auto",
        k: int = 2,
        match: Match = "lexical",
        *,
        variant: Variant = "sieve-swap",
        min_iou: float = 0.1,
        min_recall: float = 0.3,
        most_candidates: int = 50,
        irrelevant: Sequence[str] | None = None,
        percentile: float = 99.0,
        margin: float | None = None,
        max_gap: float = 3.0,
        min_seconds: float = 1.0,
        most_segments: int = 50,
        same_cosine: float = 0.9,
        near_duplicate: float = 0.95,
        exclude: Sequence[str] = (),
        filter_steps: bool = True,
        cache: Path | None = None,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> None:
        check_seed("seed", seed)
        if match not in ("lexical", "title", "global"):
            raise InputError("match", repr(match), "lexical, title or global")
        if variant not in VARIANTS:
            raise InputError("variant", repr(variant), f"one of {', '.join(VARIANTS)}{nearest(str(variant), VARIANTS)}")
        if isinstance(tau, str) and tau not in ("auto", "mixture"):
            raise InputError("tau", repr(tau), "auto, mixture, or a number from -1 to 1")
        if k < 1:
            raise InputError("k", k, "1 or more")
        self.encoder, self.tau, self.k, self.match, self.variant = encoder, tau, k, match, variant
        self.min_iou, self.min_recall, self.most_candidates = min_iou, min_recall, most_candidates
        self.irrelevant, self.percentile, self.margin = irrelevant, percentile, margin
        self.max_gap, self.min_seconds, self.most_segments = max_gap, min_seconds, most_segments
        self.same_cosine, self.near_duplicate = same_cosine, near_duplicate
        self.exclude, self.filter_steps, self.cache = exclude, filter_steps, cache
        self.seed, self.progress = seed, progress

    def fit(self, kb: KnowledgeBase | Iterable[Procedure] | str | Path) -> SieveSwap:
        """Index the procedures (or those of a file or folder), and find the threshold of irrelevant sentences."""
        if isinstance(kb, str | Path):
            kb = read_procedures(kb)
        if not isinstance(kb, KnowledgeBase):
            kb = KnowledgeBase.of(kb, exclude=self.exclude, filter_steps=self.filter_steps)
        elif self.exclude:
            kb = KnowledgeBase.of(kb.procedures, exclude=self.exclude, filter_steps=self.filter_steps)
        self.kb_ = kb
        irrelevant = bundled_irrelevant() if self.irrelevant is None else list(self.irrelevant)
        if self.tau == "auto":
            require_enough(irrelevant)  # before the steps are indexed, which may take minutes
        self.index_, warning = make_index(
            self.encoder, kb.steps, background=irrelevant, cache=self.cache, progress=self.progress, seed=self.seed
        )
        self.warnings_ = [warning] if warning else []
        self.irrelevant_similarities_ = self._best(irrelevant)
        self._procedures = None if self.match == "global" else ProcedureIndex(kb.procedures, self.match)
        self._bounds = np.searchsorted(kb.owner, np.arange(len(kb) + 1)).tolist()
        if isinstance(self.tau, str):
            auto = self.tau == "auto"
            self.tau_ = percentile_threshold(self.irrelevant_similarities_, self.percentile) if auto else float("nan")
        else:
            self.tau_ = float(self.tau)
        return self

    def _steps_of(self, procedure: int) -> np.ndarray:
        return np.arange(self._bounds[procedure], self._bounds[procedure + 1])

    def _best(self, texts: Sequence[str]) -> np.ndarray:
        """The largest similarity of each text to any step."""
        parts = [
            top_steps(self.index_, self.index_.queries(texts[start : start + QUERY_ROWS]), 1)[0][:, 0]
            for start in range(0, len(texts), QUERY_ROWS)
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def match_video(self, transcript: VideoTranscript) -> VideoMatch:
        """Sentences of a transcript with their nearest steps (steps 1a and 1b).

        Raises
        ------
        InputError : a transcript whose times cannot be, or without speech.
        """
        duration, sentences = transcript.seconds, transcript.sentences()
        if not sentences:
            return VideoMatch(transcript.id, duration, (), reason="no speech")
        if {transcript.id.casefold(), transcript.title.strip().casefold()} & {
            n.strip().casefold() for n in self.exclude
        }:
            return VideoMatch(transcript.id, duration, (), reason="excluded")
        among, candidates = None, np.empty(0, np.int64)
        if self._procedures is not None:
            text = " ".join(s.text for s in sentences)
            found = self._procedures.lookup(
                text,
                min_iou=self.min_iou,
                min_recall=self.min_recall,
                most=self.most_candidates,
                title=transcript.title,
            )
            candidates = found.procedures
            if not len(candidates):
                near = self.kb_.procedures[found.nearest] if found.nearest >= 0 else None
                name = f" ({near.title or near.id})" if near else ""
                reason = f"no procedure; the nearest has recall {found.best_recall:.2f}{name}"
                return VideoMatch(transcript.id, duration, _unmatched(sentences), reason=reason)
            among = np.concatenate([self._steps_of(int(p)) for p in sorted(candidates)])
        if among is not None and not len(among):
            return VideoMatch(transcript.id, duration, _unmatched(sentences), reason="no usable step")
        queries = self.index_.queries([s.text for s in sentences])
        if self.variant == "aligned":
            matched = self._aligned(sentences, queries, candidates)
        else:
            near_steps = top_steps(self.index_, queries, self.k * KEPT_STEPS, among=among)
            matched = _matched(sentences, *near_steps)
        return VideoMatch(transcript.id, duration, matched, tuple(int(c) for c in candidates))

    def _aligned(
        self, sentences: Sequence[Sentence], queries: Any, candidates: np.ndarray
    ) -> tuple[SentenceMatch, ...]:
        """Sentences on the steps of the one procedure that fits best in order; others of its steps are no matches."""
        floor = 0.0 if np.isnan(self.tau_) else self.tau_
        best: tuple[float, np.ndarray, np.ndarray, np.ndarray] | None = None
        for procedure in candidates if self._procedures is not None else range(len(self.kb_)):
            steps = self._steps_of(int(procedure))
            if not len(steps):
                continue
            similarity = self.index_.similarity(queries, steps)
            total, chosen = align_matrix(similarity, floor)
            if best is None or total > best[0]:
                best = total, chosen, steps, similarity
        if best is None:
            return _unmatched(sentences)
        _, chosen, steps, similarity = best
        out = []
        for number, sentence in enumerate(sentences):
            place = int(chosen[number])
            order = [place] if place >= 0 else []
            values = tuple(float(similarity[number, p]) for p in order)
            out.append(
                SentenceMatch(sentence.start, sentence.end, sentence.text, tuple(int(steps[p]) for p in order), values)
            )
        return tuple(out)

    def transform(self, transcripts: Iterable[VideoTranscript] | str | Path) -> SieveResult:
        """Match every transcript (or those of a file or folder), and decide (steps 1a to 1f)."""
        listed = read_transcripts(transcripts) if isinstance(transcripts, str | Path) else list(transcripts)
        _refuse_twins(listed)
        matches = [self.match_video(t) for t in self.progress(listed, "matching transcripts", len(listed))]
        return self.decide(matches)

    def decide(self, matches: Sequence[VideoMatch]) -> SieveResult:
        """From matches to segments: the threshold, the swap, merging and limits (steps 1c to 1f)."""
        best = [s.similarities[0] for m in matches for s in m.sentences if s.similarities]
        if self.tau == "mixture":
            self.tau_ = mixture_threshold(best, self.seed)
        rng = np.random.default_rng(self.seed)
        swapped: dict[str, VideoSteps] = {}
        raw: dict[str, VideoSteps] = {}
        audit: list[AuditRow] = []
        dropped: dict[str, str] = {}
        for match in matches:
            rows, segments = self._segments(match)
            audit += rows
            if not segments:
                dropped[match.id] = match.reason or "no segment left"
                continue
            times = tuple((start, end) for start, end, _, _ in segments)
            spoken = tuple((words,) for _, _, words, _ in segments)
            written = tuple(self._texts(best_one, rng) for _, _, _, best_one in segments)
            raw[match.id] = VideoSteps(match.duration, times, spoken)
            swapped[match.id] = VideoSteps(match.duration, times, spoken if self.variant == "sieve-only" else written)
        return SieveResult(swapped, raw, audit, dropped, self.tau_, self.irrelevant_similarities_, list(self.warnings_))

    def _segments(self, match: VideoMatch) -> tuple[list[AuditRow], list[tuple[float, float, str, SentenceMatch]]]:
        """Audit rows of the sentences, and segments as (start, end, spoken words, best sentence)."""
        tau = -1.0 if self.variant == "swap-only" else self.tau_
        values = [s.similarities[0] for s in match.sentences if s.similarities]
        floor = max(tau, float(np.mean(values)) + self.margin) if self.margin is not None and values else tau
        groups: list[list[int]] = []
        reasons = []
        for number, sentence in enumerate(match.sentences):
            reason = self._why_not(match, sentence, tau, floor)
            reasons.append(reason)
            if reason:
                continue
            if groups and self._joins(match.sentences[groups[-1][-1]], sentence):
                groups[-1].append(number)
            else:
                groups.append([number])
        kept = []
        for group in groups:
            members = [match.sentences[number] for number in group]
            start, end = min(s.start for s in members), min(max(s.end for s in members), match.duration)
            if end - start < self.min_seconds:
                for number in group:
                    reasons[number] = f"segment shorter than {self.min_seconds:g} s"
                continue
            best = max(members, key=lambda s: s.similarities[0])
            kept.append((start, end, " ".join(s.text for s in members), best, group))
        if len(kept) > self.most_segments:
            order = sorted(range(len(kept)), key=lambda i: -kept[i][3].similarities[0])
            for i in order[self.most_segments :]:
                for number in kept[i][4]:
                    reasons[number] = f"more than {self.most_segments} segments"
            kept = [kept[i] for i in sorted(order[: self.most_segments])]
        rows = [
            self._audit(match, number, sentence, reasons[number]) for number, sentence in enumerate(match.sentences)
        ]
        segments = [(start, end, words, best) for start, end, words, best, _ in sorted(kept, key=lambda k: k[:2])]
        return rows, segments

    def _why_not(self, match: VideoMatch, sentence: SentenceMatch, tau: float, floor: float) -> str:
        if match.reason:
            return match.reason.partition(";")[0]
        if not sentence.similarities:
            return "not on a step of the aligned procedure"
        if sentence.similarities[0] < tau:
            return "below tau"
        return "" if sentence.similarities[0] >= floor else "not above the video's mean by the margin"

    def _joins(self, before: SentenceMatch, sentence: SentenceMatch) -> bool:
        if sentence.start - before.end > self.max_gap:
            return False
        a, b = before.steps[0], sentence.steps[0]
        return a == b or float(self.index_.between(np.array([a, b]))[0, 1]) >= self.same_cosine

    def _texts(self, sentence: SentenceMatch, rng: np.random.Generator) -> tuple[str, ...]:
        """The alternatives of a segment: the best steps that match and differ, of different procedures."""
        if self.variant == "random-swap":
            count = min(self.k, self.index_.count)
            return tuple(self.kb_.steps[int(i)] for i in rng.choice(self.index_.count, count, replace=False))
        steps = np.array(sentence.steps)
        cosines = self.index_.between(steps)
        floor = -1.0 if self.variant == "swap-only" else self.tau_
        chosen = [0]
        for place in range(1, len(steps)):
            if len(chosen) == self.k:
                break
            other_owner = all(self.kb_.owner[steps[place]] != self.kb_.owner[steps[c]] for c in chosen)
            near = any(cosines[place, c] > self.near_duplicate for c in chosen)
            if other_owner and not near and sentence.similarities[place] >= floor:
                chosen.append(place)
        return tuple(self.kb_.steps[int(steps[c])] for c in chosen)

    def _audit(self, match: VideoMatch, number: int, sentence: SentenceMatch, reason: str) -> AuditRow:
        step = sentence.steps[0] if sentence.steps else -1
        owner = self.kb_.procedures[int(self.kb_.owner[step])] if step >= 0 else None
        return AuditRow(
            match.id,
            number,
            sentence.start,
            sentence.end,
            sentence.text,
            self.kb_.steps[step] if step >= 0 else "",
            (owner.title or owner.id) if owner else "",
            sentence.similarities[0] if sentence.similarities else None,
            not reason,
            reason,
        )


def _unmatched(sentences: Sequence[Sentence]) -> tuple[SentenceMatch, ...]:
    return tuple(SentenceMatch(s.start, s.end, s.text, (), ()) for s in sentences)


def _matched(sentences: Sequence[Sentence], values: np.ndarray, steps: np.ndarray) -> tuple[SentenceMatch, ...]:
    return tuple(
        SentenceMatch(s.start, s.end, s.text, tuple(int(i) for i in row), tuple(float(v) for v in value))
        for s, row, value in zip(sentences, steps, values, strict=True)
    )


def _refuse_twins(transcripts: Sequence[VideoTranscript]) -> None:
    seen: set[str] = set()
    for transcript in transcripts:
        if transcript.id in seen:
            raise InputError("transcripts", f"two of the video {transcript.id!r}", "one for each video")
        seen.add(transcript.id)


def bundled_irrelevant() -> list[str]:
    """Sentences of presenters that instruct nothing, and sentences about other things, written for this purpose."""
    text = (Path(__file__).parent / "bundle" / "irrelevant.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]
