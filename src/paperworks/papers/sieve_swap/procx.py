"""ProcX: a set of timed, written steps from the features of a video (part 2 of the paper)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode, resolve_device
from paperworks.papers.sieve_swap.attention import resample
from paperworks.papers.sieve_swap.captioner import (
    load_tokenizer,
    segment_features,
    word_tokenizer,
    write_captions,
)
from paperworks.papers.sieve_swap.features import FeatureFolder, extract_video
from paperworks.papers.sieve_swap.joint_model import ProcXModel, procx_loss
from paperworks.papers.sieve_swap.losses import to_ends
from paperworks.papers.sieve_swap.network import Layer, Memory
from paperworks.papers.sieve_swap.segments import suppress
from paperworks.papers.sieve_swap.settings import ProcXConfig
from paperworks.papers.sieve_swap.steps_dataset import StepDataset
from paperworks.papers.sieve_swap.training_rows import VideoRows, check_features, collate
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.training import Rows, TrainResult, TrainSettings, train

Features = Mapping[str, np.ndarray]
"""Video -> features float32 ``[T', C]``."""
CONFIG_FILE, WEIGHTS_FILE = "procx.json", "model.safetensors"
PDVC_EPOCHS = 30


class ProcX:
    """Predicts the steps of procedural videos.

    Parameters
    ----------
    config : sizes and weights; None is the paper's setting.
    settings : of training; by default AdamW with PDVC's rate of 5e-5, weight decay 1e-4, clipping at 100, one video a
        batch, 30 epochs.
    encoder : of texts, for the contrastive objective, as in ``SieveSwap``; only dense encoders ("auto", a folder, a
        function) do.
    tokenizer : folder of a tokenizer of transformers; by default whole words of the training texts.
    caption_model : folder of a language model (GPT-2, T5) that writes the captions; brings its own tokenizer.
    fine_tuning_factor : the learning rate of the target set after pre-training, as a share of that of pre-training.
    device : "auto", or a device of PyTorch.
    seed : of weights, order, dropout, and which alternative an epoch shows.

    Attributes
    ----------
    model_ : the network, after ``fit``.
    history_ : results of the trainings by name: "pretraining" and "training".
    """

    def __init__(
        self,
        config: ProcXConfig | None = None,
        *,
        settings: TrainSettings | None = None,
        encoder: Any = "auto",
        tokenizer: str | Path | None = None,
        caption_model: str | Path | None = None,
        fine_tuning_factor: float = 0.4,
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        check_seed("seed", seed)
        self.config = ProcXConfig() if config is None else config
        self.settings = default_settings() if settings is None else settings
        self.encoder, self.tokenizer, self.caption_model = encoder, tokenizer, caption_model
        self.fine_tuning_factor, self.device, self.seed = fine_tuning_factor, device, seed
        self.history_: dict[str, TrainResult] = {}

    def fit(
        self,
        dataset: StepDataset,
        features: Features | str | Path,
        *,
        pretrain: tuple[StepDataset, Features] | None = None,
        text: Features | None = None,
        checkpoint_dir: Path | None = None,
        progress: Progress = no_progress,
    ) -> ProcX:
        """Train on videos with timed steps; first on ``pretrain``, such as what Sieve and Swap made.

        Parameters
        ----------
        dataset : the steps of each video. Of alternatives, an epoch shows one.
        features : ``[T', C]`` of each video of the set; or the folder that ``extract_features`` wrote.
        pretrain : another set with its features, trained on first, at the full learning rate.
        text : with ``config.text_width``: vectors of what is said, ``[T'', text_width]``, of each video of both sets.
        checkpoint_dir : where checkpoints go, and an earlier attempt is gone on from.

        Raises
        ------
        InputError : a video without features, features of several widths or with values that are not finite, no step.
        """
        if isinstance(features, str | Path):
            features = FeatureFolder(features)
            features.check(dataset)
        sets = [(dataset, features)] if pretrain is None else [pretrain, (dataset, features)]
        if any(not len(one) or not any(len(v) for v in one.values()) for one, _ in sets):
            raise InputError("dataset", "no video with a step", "at least one")
        width = check_features([(one, found) for one, found in sets])
        texts = [
            t for one, _ in sets for steps in one.values() for alternatives in steps.sentences for t in alternatives
        ]
        if not hasattr(self, "model_"):
            self._build(width, texts)
        elif width != self.width_:
            raise InputError("features", f"{width} columns", f"{self.width_}, as the model was trained with")
        stages = [("training", *sets[-1], self.settings if pretrain is None else self._fine())]
        if pretrain is not None:
            stages.insert(0, ("pretraining", *sets[0], self.settings))
        for name, one, found, settings in stages:
            rows = VideoRows(one, found, self.tokenizer_, self.config, self._vectors(one), text=text, seed=self.seed)
            self.history_[name] = train(
                self.model_,
                Rows(rows, collate=collate),
                settings,
                loss=procx_loss,
                checkpoint_dir=None if checkpoint_dir is None else checkpoint_dir / name,
                progress=progress,
            )
        return self

    def _fine(self) -> TrainSettings:
        return replace(self.settings, learning_rate=self.settings.learning_rate * self.fine_tuning_factor)

    def _build(self, width: int, texts: Sequence[str]) -> None:
        folder = self.caption_model if self.caption_model is not None else self.tokenizer
        self.tokenizer_ = word_tokenizer(texts, self.config.vocabulary) if folder is None else load_tokenizer(folder)
        self.width_ = width
        self.text_width_ = self._text_encoder().encode(["a step"]).shape[1] if self.config.contrastive else 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.model_ = ProcXModel(self.config, width, self.tokenizer_, self.text_width_, self.caption_model)
        self.model_.to(resolve_device(self.device))

    def _text_encoder(self) -> Any:
        from paperworks.embedding import load_text_encoder

        found = load_text_encoder(None if self.encoder in ("auto", "minilm") else self.encoder)
        return found

    def _vectors(self, dataset: StepDataset) -> dict[str, np.ndarray] | None:
        """Of each segment the mean of its alternatives' vectors, ``[M, w]``."""
        if not self.config.contrastive:
            return None
        encoder = self._text_encoder()
        flat = [text for steps in dataset.values() for texts in steps.sentences for text in texts]
        unique = list(dict.fromkeys(flat))
        vectors = np.asarray(encoder.encode(unique), np.float32)
        if vectors.shape[1] != self.text_width_:
            raise InputError(
                "encoder", f"{vectors.shape[1]} dimensions", f"{self.text_width_}, as the model was trained with"
            )
        rows = dict(zip(unique, vectors, strict=True))
        out = {}
        for video, steps in dataset.items():
            means = [np.mean([rows[text] for text in texts], axis=0) for texts in steps.sentences]
            out[video] = np.array(means, np.float32).reshape(len(means), self.text_width_)
        return out

    def predict(
        self,
        features: np.ndarray,
        duration: float,
        *,
        threshold: float | None = None,
        text: np.ndarray | None = None,
        captions: bool = True,
    ) -> list[dict[str, Any]]:
        """The steps of a video, in order of time.

        Parameters
        ----------
        features : ``[T', C]``.
        duration : seconds.
        threshold : give all segments with at least this score; None gives as many as the count head says, at least 1.
        text : with ``config.text_width``, what is said.

        Returns
        -------
        ``{"start", "end", "text", "score"}``, seconds; ``start < end`` within the video.
        """
        boxes, scores, layer, memory = self._scored(features, duration, text)
        ends = to_ends(boxes).clamp(0, 1)
        room = 1e-4
        ends[:, 0] = ends[:, 0].clamp(max=1 - room)
        ends[:, 1] = torch.maximum(ends[:, 1], ends[:, 0] + room)
        segments = ends.cpu().numpy().astype(float) * duration
        written = captions and self.model_.captioner is not None
        ranking = scores
        if written and self.config.rerank:
            ranking = scores + self.config.rerank * np.array(self._write(layer, memory, range(len(scores)))[1])
        count = max(1, int(layer.counts[0].argmax()))
        order = np.argsort(-ranking, kind="stable")
        if self.config.nms < 1:
            order = suppress(segments, ranking, self.config.nms)
        chosen = [int(i) for i in order[: count if threshold is None else None] if scores[i] >= (threshold or 0.0)]
        chosen.sort(key=lambda i: (segments[i, 0], segments[i, 1]))
        texts = self._write(layer, memory, chosen)[0] if written else [""] * len(chosen)
        return [
            {"start": float(segments[i, 0]), "end": float(segments[i, 1]), "text": text, "score": float(scores[i])}
            for i, text in zip(chosen, texts, strict=True)
        ]

    def scored_segments(
        self, features: np.ndarray, duration: float, text: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """All queries: segments in seconds ``[N, 2]`` and scores ``[N]``."""
        boxes, scores, _, _ = self._scored(features, duration, text)
        return to_ends(boxes).clamp(0, 1).cpu().numpy() * duration, scores

    @torch.no_grad()
    def _scored(
        self, features: np.ndarray, duration: float, text: np.ndarray | None
    ) -> tuple[torch.Tensor, np.ndarray, Layer, Memory]:
        if not hasattr(self, "model_"):
            raise InputError("model", "ProcX before fit", "fit or from_pretrained first")
        found = np.asarray(features, np.float32)
        if found.ndim != 2 or found.shape[1] != self.width_ or not len(found) or not np.isfinite(found).all():
            raise InputError("features", f"shape {found.shape}", f"finite numbers [T, {self.width_}]")
        if not 0 < duration < float("inf"):
            raise InputError("duration", duration, "more than 0 seconds")
        if self.config.text_width and text is None:
            raise InputError("text", "none", f"what is said, [T, {self.config.text_width}]")
        device = next(self.model_.parameters()).device
        with evaluation_mode(self.model_):
            x = resample(torch.from_numpy(found), self.config.positions, self.config.resampling)[None].to(device)
            said = None
            if text is not None and self.config.text_width:
                said = resample(torch.from_numpy(np.asarray(text, np.float32)), self.config.positions)[None].to(device)
            layers, memory = self.model_.detector(x, torch.tensor([duration], device=device), said)
        last = layers[-1]
        return last.boxes[0].cpu(), last.logits[0].sigmoid().cpu().numpy().astype(float), last, memory

    def _write(self, layer: Layer, memory: Memory, chosen: Sequence[int]) -> tuple[list[str], list[float]]:
        """Captions of some queries, and the mean log-probability of their words."""
        if not len(chosen):
            return [], []
        rows = torch.tensor(list(chosen), device=layer.states.device)
        with torch.no_grad(), evaluation_mode(self.model_):
            seen = segment_features(memory, layer.boxes[:, rows], self.config.segment_points)[0]
            return write_captions(
                self.model_.captioner, self.tokenizer_, layer.states[0, rows], seen, self.config.no_repeat
            )

    def predict_all(
        self, features: Features, durations: Mapping[str, float], *, progress: Progress = no_progress, **options: Any
    ) -> dict[str, list[dict[str, Any]]]:
        """``predict`` for many videos."""
        videos = list(features)
        return {
            v: self.predict(features[v], durations[v], **options)
            for v in progress(videos, "predicting steps", len(videos))
        }

    def predict_video(
        self, path: str | Path, extractor: Any = "layout", fps: float = 1.0, **options: Any
    ) -> list[dict[str, Any]]:
        """The steps of a video file; its features are extracted as those of the training were."""
        found = extract_video(path, extractor, fps=fps)
        return self.predict(found.values, found.duration, **options)

    def save_pretrained(self, folder: str | Path) -> None:
        """Save as a folder: ``model.safetensors``, ``procx.json`` and the tokenizer. Nothing is overwritten."""
        from safetensors.torch import save_file

        from paperworks.runs.files import new_folder

        record: dict[str, Any] = {"config": self.config.to_dict(), "width": self.width_, "text_width": self.text_width_}
        language_model = getattr(self.model_.captioner, "model", None)
        record["caption_model"] = language_model is not None
        with new_folder(Path(folder)) as aside:
            state = {name: t.detach().cpu().contiguous().clone() for name, t in self.model_.state_dict().items()}
            save_file(state, aside / WEIGHTS_FILE)
            self.tokenizer_.save_pretrained(aside / "tokenizer")
            if language_model is not None:
                language_model.config.save_pretrained(aside / "caption_model")
            (aside / CONFIG_FILE).write_text(json.dumps(record, indent=1), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> ProcX:
        """Read what ``save_pretrained`` wrote; ``options`` are those of the class, for further training.

        Raises
        ------
        InputError : a folder that is none, or whose weights do not fit.
        """
        from safetensors.torch import load_file

        path = Path(folder).expanduser()
        try:
            record = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
            config = ProcXConfig(**record["config"])
            weights = load_file(path / WEIGHTS_FILE)
        except InputError:
            raise
        except Exception as error:
            raise InputError("model", f"{path} ({error})", f"a folder with {CONFIG_FILE} and {WEIGHTS_FILE}") from None
        found = cls(config, **options)
        found.width_, found.text_width_ = int(record["width"]), int(record["text_width"])
        found.tokenizer_ = load_tokenizer(path / "tokenizer")
        shape = path / "caption_model" if record.get("caption_model") else None
        found.model_ = ProcXModel(config, found.width_, found.tokenizer_, found.text_width_, shape, False)
        try:
            found.model_.load_state_dict(weights)
        except RuntimeError as error:
            raise InputError(
                "model", f"weights that do not fit ({str(error)[:100]})", "those of save_pretrained"
            ) from None
        found.model_.to(resolve_device(found.device))
        return found


def default_settings() -> TrainSettings:
    """PDVC's training: Adam with decoupled decay, 5e-5, clipping at 100, one video a batch, 30 epochs.

    The rate stays for 8 epochs and is halved every 3 epochs from then on.
    """
    milestones = tuple(step / PDVC_EPOCHS for step in range(8, PDVC_EPOCHS, 3))
    return TrainSettings(
        epochs=PDVC_EPOCHS,
        batch_size=1,
        learning_rate=5e-5,
        betas=(0.9, 0.999),
        weight_decay=1e-4,
        clip_norm=100.0,
        schedule="multistep",
        milestones=milestones,
        gamma=0.5,
    )
