"""The curation: from a folder of narrated videos to pairs. Each stage of each video is kept, and never done twice."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.transcripts import Transcript, find_transcript, make_transcript, parse_json, read_transcript
from paperworks.inputs.video import VideoInfo, audible_share, find_videos, probe_video
from paperworks.papers.quilt1m.filters import FrameFilter, PlainFilter
from paperworks.papers.quilt1m.narrative import Narrative, narrative_test
from paperworks.papers.quilt1m.pairing import Correct, PairedVideo, PairSettings, Split, pair_video
from paperworks.papers.quilt1m.topics import Topic, top_topics
from paperworks.papers.quilt1m.vocabulary import Vocabulary, split_text
from paperworks.papers.quilt1m.watching import (
    RECORD,
    Embed,
    Watched,
    WatchSettings,
    default_embed,
    read_watched,
    watch_video,
)
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder, remove, write_text

VERSION = 2
"""Goes up when a stage gives other results, so that what an older version kept is not used."""


@dataclass(frozen=True)
class CurationSettings:
    """Options of ``VideoTextCurator``.

    Attributes
    ----------
    watch, pair : of the pass over a video, and of chunks, pictures and texts.
    min_duration : seconds; shorter videos are left out.
    language : "en" leaves out transcripts that are not English.
    require_narrative : leave out videos that fail the narrative test.
    workers : processes that decode.
    seed : of the frames that the narrative test samples.
    """

    watch: WatchSettings = field(default_factory=WatchSettings)
    pair: PairSettings = field(default_factory=PairSettings)
    min_duration: float = 60.0
    language: str = "any"
    require_narrative: bool = False
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)


@dataclass
class CuratedVideo:
    """A video: why it was left out, or what was found in it."""

    path: Path
    reason: str = ""
    info: VideoInfo | None = None
    transcript: Transcript | None = None
    watched: Watched | None = None
    narrative: Narrative | None = None
    paired: PairedVideo | None = None
    folder: Path | None = None
    topics: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class VideoTextCurator:
    """Aligned pictures and texts out of narrated videos.

    Parameters
    ----------
    settings : options.
    accepts : frame filter; by default what is neither blank nor a slide of text.
    vocabulary : the user's terms: sentences without one are dropped. None keeps all sentences.
    correct : from a sentence to its correction; None leaves sentences as they are.
    split : chooses domain and region sentences; by default rules.
    recogniser : from a video to a transcript, for videos without one.
    embedder : from pictures to unit rows, for the narrative test.
    topics : labels of which each video gets its nearest three.
    identity : tells ``correct``, ``split``, ``recogniser`` and ``embedder`` from others, where results are kept.
    """

    def __init__(
        self,
        settings: CurationSettings | None = None,
        *,
        accepts: FrameFilter | None = None,
        vocabulary: Vocabulary | None = None,
        correct: Correct | None = None,
        split: Split = split_text,
        recogniser: Callable[[Path], Transcript] | None = None,
        embedder: Embed = default_embed,
        topics: Sequence[Topic] = (),
        identity: str = "",
    ) -> None:
        self.settings = settings or CurationSettings()
        self.accepts = accepts or PlainFilter()
        self.vocabulary, self.correct, self.split = vocabulary, correct, split
        self.recogniser, self.embedder, self.topics, self.identity = recogniser, embedder, list(topics), identity
        self.stages = Counter[str]()

    def run(
        self,
        videos: str | Path,
        transcripts: Path | None = None,
        *,
        cache: Path,
        progress: Progress = no_progress,
    ) -> list[CuratedVideo]:
        """Curate a video, or all videos of a folder.

        Parameters
        ----------
        videos : the file or folder.
        transcripts : folder with a transcript for each video's stem; by default they are beside the videos.
        cache : folder for what each stage makes, by the content of the file and the options. What is there is used.

        Returns
        -------
        A record for each video, in order of name; ``stages`` counts what was computed and not read from the cache.

        Raises
        ------
        InputError : no video, a folder of transcripts that is not there, or no video that can be used: the reasons.
        """
        if transcripts is not None and not transcripts.is_dir():
            raise InputError("transcripts", f"{transcripts}, which is no folder", "a folder of transcripts")
        found = [CuratedVideo(path) for path in find_videos(videos)]
        for one in progress(found, "reading transcripts"):
            self._inspect(one, transcripts, cache)
        self._watch_all([one for one in found if not one.reason], cache, progress)
        for one in found:
            self._judge(one)
        for one in progress([one for one in found if not one.reason], "pairing"):
            self._pair(one, cache)
        if all(one.reason for one in found):
            reasons = Counter(one.reason for one in found)
            words = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common(4))
            raise InputError("videos", f"no usable video among {len(found)}: {words}", "narrated videos of the domain")
        return found

    def _inspect(self, one: CuratedVideo, transcripts: Path | None, cache: Path) -> None:
        try:
            one.info = probe_video(one.path)
        except InputError as error:
            one.reason = f"cannot be read ({error.found})"
            return
        duration = one.info.duration
        if duration is not None and duration < self.settings.min_duration - 0.05:
            one.reason = f"shorter than {self.settings.min_duration:g} s (min_duration)"
            return
        file = find_transcript(one.path, transcripts)
        try:
            one.transcript = self._transcript(one, file, cache)
        except InputError as error:
            one.reason = f"transcript: {error.found}"
            return
        if one.transcript is None:
            return
        if self.settings.language == "en" and not is_english(one.transcript):
            one.reason = "not in English (--language any keeps it)"

    def _transcript(self, one: CuratedVideo, file: Path | None, cache: Path) -> Transcript | None:
        assert one.info is not None
        if file is not None:
            return read_transcript(file, duration=one.info.duration)
        if self.recogniser is None:
            heard = "with sound" if one.info.has_audio else "without sound"
            one.reason = f"without a transcript ({heard}; --transcripts or --asr brings one)"
            return None
        if not one.info.has_audio or audible_share(one.path) < 0.02:
            one.reason = "without speech: it has no audible sound"
            return None
        kept = cache / "speech" / f"{one.path.stem}-{self._key(one.path, 'speech', self.identity)}.json"
        if not kept.is_file():
            self.stages["speech"] += 1
            spoken = self.recogniser(one.path)
            rows = [{"start": c.start, "end": c.end, "text": c.text, "words": _word_rows(c.words)} for c in spoken.cues]
            write_text(kept, json.dumps({"segments": rows}))
        return make_transcript(parse_json(json.loads(kept.read_text("utf-8"))).cues, one.path.name, "asr")

    def _watch_all(self, videos: Sequence[CuratedVideo], cache: Path, progress: Progress) -> None:
        key = json.dumps([asdict(self.settings.watch) | {"threads": 0}, self.accepts.identity, self.identity])
        places = {one.path: cache / "watch" / f"{one.path.stem}-{self._key(one.path, 'watch', key)}" for one in videos}
        missing = [one for one in videos if not (places[one.path] / RECORD).is_file()]
        failed: dict[Path, str] = {}
        if self.settings.workers > 1 and len(missing) > 1:
            self._watch_in_processes([one.path for one in missing], places, failed, progress)
        else:
            for one in missing:
                self._watch(one, places[one.path], failed, progress)
        for one in videos:
            if one.path in failed:
                one.reason = failed[one.path]
            else:
                one.watched = read_watched(places[one.path])

    def _watch(self, one: CuratedVideo, folder: Path, failed: dict[Path, str], progress: Progress) -> None:
        length = one.info.duration if one.info is not None else None
        steps = iter(
            progress(range(10**9), f"watching {one.path.name}, x 10 s", None if not length else int(length / 10))
        )
        next(steps)

        def on_second(_time: float) -> None:
            next(steps)

        self.stages["watch"] += 1
        try:
            watch_video(
                one.path,
                folder,
                self.accepts,
                self.settings.watch,
                embedder=self.embedder,
                on_second=on_second,
            )
        except InputError as error:
            failed[one.path] = f"cannot be read ({error.found})"

    def _watch_in_processes(
        self, paths: Sequence[Path], places: dict[Path, Path], failed: dict[Path, str], progress: Progress
    ) -> None:
        # not forked: threads of ffmpeg and torch do not live on in a forked process
        with ProcessPoolExecutor(self.settings.workers, mp_context=get_context("spawn")) as pool:
            jobs = {
                pool.submit(_watch_quietly, path, places[path], self.accepts, self.settings.watch, self.embedder): path
                for path in paths
            }
            try:
                for job in progress(as_completed(jobs), "watching videos", len(jobs)):
                    self.stages["watch"] += 1
                    problem = job.result()
                    if problem:
                        failed[jobs[job]] = problem
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _judge(self, one: CuratedVideo) -> None:
        if one.reason or one.watched is None:
            return
        assert one.transcript is not None
        if one.watched.duration < self.settings.min_duration - 0.05:
            one.reason = f"shorter than {self.settings.min_duration:g} s (min_duration)"
        elif not one.watched.positive.any():
            one.reason = "no frame shows the domain"
        rng = np.random.default_rng([self.settings.seed, len(one.watched.times)])
        one.narrative = narrative_test(one.watched.embeddings, one.watched.positive, rng=rng)
        if not one.reason and self.settings.require_narrative and not one.narrative.narrative:
            one.reason = "not narrative: too few streaks of alike key frames"
        inside = one.transcript.within(one.watched.duration)
        if not inside.cues and not one.reason:
            one.reason = "the transcript begins after the end of the video"
        one.transcript = inside
        one.notes = _notes(one)

    def _pair(self, one: CuratedVideo, cache: Path) -> None:
        assert one.watched is not None
        assert one.transcript is not None
        terms = [] if self.vocabulary is None else self.vocabulary.concepts
        cues = [(c.start, c.end, c.text) for c in one.transcript.cues]
        content = [asdict(self.settings.pair), terms, self.correct is not None, self.identity, cues]
        key = self._key(one.path, one.watched.folder.name, json.dumps(content))
        folder = cache / "pairs" / f"{one.path.stem}-{key}"
        if not (folder / "paired.json").is_file():
            self.stages["pairs"] += 1
            remove(folder)
            with new_folder(folder) as aside:
                (aside / "images").mkdir()
                paired = pair_video(
                    one.path,
                    one.watched,
                    one.transcript,
                    aside / "images",
                    self.settings.pair,
                    correct=self.correct,
                    split=self.split,
                    vocabulary=self.vocabulary,
                )
                (aside / "paired.json").write_text(json.dumps(paired.to_dict()), encoding="utf-8")
        one.folder = folder
        one.paired = read_paired(folder)
        one.topics = top_topics(one.transcript.text, self.topics) if self.topics else []

    def _key(self, path: Path, *parts: str) -> str:
        return hashlib.sha256("\0".join([str(VERSION), file_digest(path), *parts]).encode()).hexdigest()[:20]


def _watch_quietly(path: Path, folder: Path, accepts: FrameFilter, settings: WatchSettings, embedder: Embed) -> str:
    try:
        watch_video(path, folder, accepts, settings, embedder=embedder)
    except InputError as error:
        return f"cannot be read ({error.found})"
    return ""


def read_paired(folder: Path) -> PairedVideo:
    """Read back what the stage of pairs kept."""
    from paperworks.papers.quilt1m.pairing import PairedChunk, Picture

    data: dict[str, Any] = json.loads((folder / "paired.json").read_text(encoding="utf-8"))
    chunks = [
        PairedChunk(**(chunk | {"pictures": [Picture(**picture) for picture in chunk["pictures"]]}))
        for chunk in data.pop("chunks")
    ]
    data["changes"] = [(heard, written) for heard, written in data["changes"]]
    return PairedVideo(**data, chunks=chunks)


_DIGESTS: dict[tuple[str, int, int], str] = {}


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    facts = path.stat()
    key = (str(path.resolve()), facts.st_size, facts.st_mtime_ns)
    if key not in _DIGESTS:
        with path.open("rb") as data:
            _DIGESTS[key] = hashlib.file_digest(data, "sha256").hexdigest()
    return _DIGESTS[key]


def is_english(transcript: Transcript, least: float = 0.25) -> bool:
    """Whether the file says English, or a quarter of the words are English function words."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    if transcript.language:
        return transcript.language.lower().startswith("en")
    words = re.findall(r"[^\W\d_]+", transcript.text.lower())
    return bool(words) and sum(word in ENGLISH_STOP_WORDS for word in words) / len(words) >= least


def _word_rows(words: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"word": w.text, "start": w.start, "end": w.end} for w in words]


def _notes(one: CuratedVideo) -> list[str]:
    """What was mended in a video and its transcript, in words."""
    assert one.watched is not None
    assert one.transcript is not None
    tally, notes = one.watched.tally, []
    if tally["corrupt"]:
        notes.append(f"{tally['corrupt']} corrupt packets or frames were passed over")
    if tally["given_up"]:
        notes.append("the rest of the file could not be read")
    if tally["out_of_order"]:
        notes.append(f"{tally['out_of_order']} frames without a later time were left out")
    if tally["variable_rate"]:
        notes.append("its frame rate varies; times are those of the frames")
    notes += [f"transcript: {what} ({count})" for what, count in sorted(one.transcript.repairs.items())]
    if one.transcript.encoding not in ("utf-8", "utf-16", "utf-32"):
        notes.append(f"transcript: read as {one.transcript.encoding}; if letters are wrong, save it as UTF-8")
    spoken = one.transcript.cues[-1].end if one.transcript.cues else 0.0
    if one.transcript.repairs.get("beyond the end of the recording"):
        notes.append("the transcript is longer than the video: is it that of another cut, or late?")
    elif spoken < 0.5 * one.watched.duration:
        notes.append(f"the transcript ends at {spoken:.0f} s of {one.watched.duration:.0f} s")
    return notes
