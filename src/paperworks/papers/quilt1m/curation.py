"""``--action curate``: the user's videos, or captioned pictures, become a data set and a report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.quilt1m import lectures, reporting
from paperworks.papers.quilt1m.assembly import write_dataset
from paperworks.papers.quilt1m.captions import pair_captions
from paperworks.papers.quilt1m.config import BUNDLED_VIDEOS, SMALL, Config
from paperworks.papers.quilt1m.correction import VocabularyCorrector
from paperworks.papers.quilt1m.curator import CurationSettings, VideoTextCurator
from paperworks.papers.quilt1m.filters import (
    ClassifierFilter,
    ColorTextureFilter,
    EnsembleFilter,
    FrameFilter,
    PlainFilter,
    PromptFilter,
)
from paperworks.papers.quilt1m.language import ModelCorrector, ModelSplit, WhisperRecogniser, generator_ask
from paperworks.papers.quilt1m.pairing import Correct, PairSettings, Split
from paperworks.papers.quilt1m.stable import StableSettings
from paperworks.papers.quilt1m.topics import Topic, read_topics
from paperworks.papers.quilt1m.vocabulary import Vocabulary, split_text
from paperworks.papers.quilt1m.watching import Embed, WatchSettings, default_embed


def curate(config: Config, run: runs.Run) -> runs.Report:
    """Pairs out of videos, or out of captioned pictures."""
    bundled = config.videos == BUNDLED_VIDEOS and config.images is None
    cache = _cache(config, run)
    run.step("preparing the frame filter and the vocabulary")
    accepts = frame_filter(config, bundled)
    vocabulary = _vocabulary(config, bundled)
    correct, split, models = _text_models(config, vocabulary)
    if config.images is not None and config.captions is not None:
        target = run.output("dataset")
        found = pair_captions(
            config.images,
            config.captions,
            target,
            accepts,
            correct=correct,
            split=split,
            vocabulary=vocabulary,
            formats=config.formats,
            shard_size=config.shard_size,
            progress=run.progress,
        )
        return reporting.captions_report(found, target, config)
    videos: str | Path = config.videos
    if config.transcripts is not None and not config.transcripts.is_dir():
        raise InputError("transcripts", f"{config.transcripts}, which is no folder", "a folder of transcripts")
    curator = VideoTextCurator(
        settings_of(config),
        accepts=accepts,
        vocabulary=vocabulary,
        correct=correct,
        split=split,
        recogniser=None if config.asr is None else WhisperRecogniser(config.asr, config.device),
        embedder=_embedder(config),
        topics=_topics(config, bundled),
        identity=f"{config.llm} {config.asr} {config.image_encoder}",
    )
    if bundled:  # last: what cannot be read is refused before
        run.step("making the bundled lectures")
        videos = lectures.write_bundled(run.state / "lectures")
    found_videos = curator.run(videos, config.transcripts, cache=cache, progress=run.progress)
    run.step("writing the pairs")
    data = write_dataset(run.output("dataset"), found_videos, formats=config.formats, shard_size=config.shard_size)
    return reporting.videos_report(config, run, found_videos, data, accepts, vocabulary, models)


def settings_of(config: Config) -> CurationSettings:
    """The curator's options out of the recipe's."""
    return CurationSettings(
        watch=WatchSettings(
            threshold=config.scene_threshold,
            stable=StableSettings(still=config.still_similarity, shortest=config.still_seconds),
            threads=config.threads,
        ),
        pair=PairSettings(
            words_per_chunk=config.words_per_chunk,
            shortest_chunk=config.shortest_chunk,
            longest_chunk=config.longest_chunk,
            speech_rate=config.speech_rate,
            text_pad=config.text_pad,
            flush_tail=config.flush_tail,
            shortest_still=config.still_seconds,
            fallback=config.fallback,
            dedup=config.dedup,
            image_size=config.image_size,
        ),
        min_duration=config.min_duration,
        language=config.language,
        require_narrative=config.require_narrative,
        workers=config.workers,
        seed=config.seed,
    )


def frame_filter(config: Config, bundled: bool) -> FrameFilter:
    """The filter that the options ask for: models, examples, or what is neither blank nor a slide of text."""
    if config.filter_models:
        crops: tuple[int | None, ...] = config.filter_crops or (None,) * len(config.filter_models)
        pairs = zip(config.filter_models, crops, strict=True)
        members: list[FrameFilter] = [_model_filter(config, folder, crop) for folder, crop in pairs]
        return EnsembleFilter(members, config.vote)
    if config.positive is not None and config.negative is not None:
        return ColorTextureFilter().fit(_pictures(config.positive, "positive"), _pictures(config.negative, "negative"))
    if bundled:
        return ColorTextureFilter().fit(*lectures.filter_examples(config.seed))
    return PlainFilter()


def _model_filter(config: Config, folder: Path, crop: int | None) -> FrameFilter:
    if config.negative_labels:
        return PromptFilter(folder, config.positive_labels, config.negative_labels, device=config.device)
    return ClassifierFilter(folder, config.positive_labels, crop=crop, device=config.device)


def _pictures(folder: Path, option: str) -> list[Any]:
    from paperworks.inputs.images import read_images

    if not folder.is_dir():
        raise InputError(option, f"{folder}, which is no folder", "a folder of pictures")
    found = read_images(folder)
    return [_as_rgb(found[i]) for i in range(len(found))]


def _as_rgb(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype != np.uint8:
        scale = 255 / max(float(pixels.max()), 1e-9)
        pixels = np.clip(pixels * scale, 0, 255).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]


def _vocabulary(config: Config, bundled: bool) -> Vocabulary | None:
    if config.vocabulary is not None:
        return Vocabulary.read(config.vocabulary)
    return lectures.bundled_vocabulary() if bundled else None


def _topics(config: Config, bundled: bool) -> list[Topic]:
    if config.topics is not None:
        return read_topics(config.topics)
    return lectures.bundled_topics() if bundled else []


def _text_models(config: Config, vocabulary: Vocabulary | None) -> tuple[Correct | None, Split, list[Any]]:
    corrector = VocabularyCorrector(vocabulary) if config.correct and vocabulary is not None else None
    if config.llm is None:
        return corrector, split_text, []
    ask = generator_ask(config.llm)
    split = ModelSplit(ask)
    if corrector is None:
        return None, split, [split]
    model = ModelCorrector(ask, corrector)
    return model, split, [model, split]


def _embedder(config: Config) -> Embed:
    if config.image_encoder == SMALL:
        return default_embed
    from paperworks.embedding import load_image_encoder
    from paperworks.nn.loading import check_model_folder

    check_model_folder(Path(config.image_encoder).expanduser())
    return partial(_encode, load_image_encoder(config.image_encoder, normalize=True, device=config.device))


def _encode(encoder: Any, pictures: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(encoder.encode(list(pictures)))


def _cache(config: Config, run: runs.Run) -> Path:
    if config.cache is None:
        return run.state / "stages"
    if config.cache.exists() and not config.cache.is_dir():
        raise InputError("cache", f"{config.cache}, a file", "a folder")
    try:
        config.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("cache", f"{config.cache} ({error.strerror})", "a folder that can be made") from None
    return config.cache
