"""The audit of a user's classifier: slices in words, and a rectified classifier to take away."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from paperworks import runs
from paperworks.papers.ladder.backends.generated import OpenAICompatibleBackend, TransformersBackend
from paperworks.papers.ladder.backends.offline import OfflineContrastBackend
from paperworks.papers.ladder.config import Config
from paperworks.papers.ladder.corpus import check_sentences
from paperworks.papers.ladder.discovery import SliceDiscovery
from paperworks.papers.ladder.hypotheses import Backend, CachedBackend
from paperworks.papers.ladder.rectifier import SliceRectifier
from paperworks.papers.ladder.tasks import Task, read_task

__all__ = ["Config", "run"]

DEFAULT_TOP = 200


def run(config: Config, run: runs.Run) -> runs.Report:
    """Find the slices on which a classifier fails, name them, and retrain its last layer on them."""
    if config.metadata is not None:
        from paperworks.papers.ladder.metadata import audit_metadata

        return audit_metadata(config, run)
    backend = _backend(config, run)
    run.step("reading the classifier and its data")
    task = read_task(config, run)
    run.step("looking for slices")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        discovery = _discover(config, run, task, backend)
        rectifier = _rectify(config, run, task, discovery)
    warned = list(dict.fromkeys(str(w.message) for w in said if issubclass(w.category, UserWarning)))
    run.step("writing the report")
    from paperworks.papers.ladder.reporting import report

    return report(config, run, task, discovery, rectifier, warned)


def _backend(config: Config, run: runs.Run) -> Backend:
    """What proposes hypotheses; answers of language models are kept, so that a resumed run does not ask again."""
    cache = run.state / "hypotheses.json"
    if config.backend == "static":
        from paperworks.papers.ladder.backends.written import StaticBackend

        return StaticBackend.from_json(Path(config.hypotheses or ""))
    if config.backend == "transformers":
        return CachedBackend(TransformersBackend(config.llm or "", device=config.device), cache)
    if config.backend == "endpoint":
        made = OpenAICompatibleBackend(config.endpoint or "", config.endpoint_model or "", config.key_variable)
        return CachedBackend(made, cache)
    if config.backend == "caption-free":
        from paperworks.papers.ladder.backends.described import CaptionFreeBackend, ImageDescriber

        return CaptionFreeBackend(
            ImageDescriber(config.describer or "", device=config.device),
            random_state=config.seed % 2**31,
            cache=run.state / "descriptions.json",
            progress=run.progress,
        )
    return OfflineContrastBackend()


def _discover(config: Config, run: runs.Run, task: Task, backend: Backend) -> SliceDiscovery:
    top_k = config.top_k
    if top_k is None:
        known = DEFAULT_TOP * 2 if task.sentences is None else len(check_sentences(task.sentences))
        top_k = max(min(DEFAULT_TOP, known // 2), 1)
    discovery = SliceDiscovery(
        config.aligner,
        top_k=top_k,
        percentile=config.percentile,
        percentile_scope=config.percentile_scope,
        margin=config.margin,
        n_hypotheses=config.n_hypotheses,
        backend=backend,
        text_encoder=task.text_encoder,
        random_state=config.seed % 2**31,
    )
    return discovery.fit(
        task.features["train"],
        task.vlr["train"],
        task.features["val"],
        task.y["val"],
        task.predicted,
        task.sentences,
        task.sentence_vectors,
        vlr_val=task.vlr.get("val"),
        class_names=task.class_names,
        items=task.items,
        ids=task.ids,
        progress=run.progress,
    )


def _rectify(config: Config, run: runs.Run, task: Task, discovery: SliceDiscovery) -> SliceRectifier:
    from paperworks.papers.ladder.checks import predicted_codes

    rectifier = SliceRectifier(
        discovery,
        task.head,
        balance=config.balance,
        n=config.n,
        optimizer=config.optimizer,
        epochs=config.epochs,
        lr=config.lr,
        combine=config.combine,
        faithful=config.faithful,
        random_state=config.seed % 2**31,
    )
    options: dict[str, Any] = {}
    if task.head is None:
        options["pred_val"] = predicted_codes(task.predicted, len(task.y["val"]), len(task.class_names))
    return rectifier.fit(task.features["val"], task.y["val"], progress=run.progress, **options)
