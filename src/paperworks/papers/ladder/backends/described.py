"""No captions: a vision-language model describes the correctly classified samples, and its text is the corpus."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.ladder.backends.offline import OfflineContrastBackend
from paperworks.papers.ladder.corpus import split_captions
from paperworks.papers.ladder.hypotheses import Backend, Hypothesis
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import write_text

Describe = Callable[[Sequence[Any]], Sequence[str]]
BATCH = 8
"""Samples between two writes of the cache."""
INSTRUCTION = "Describe the picture: the objects, the background, colours and textures. Write short sentences."


class CaptionFreeBackend:
    """A corpus written by an instruction-tuned vision-language model about correctly classified samples.

    Parameters
    ----------
    describe : samples (images, texts, ids) to one description each: ``ImageDescriber(folder)``, or any function.
    inner : what makes hypotheses of the sentences; ``OfflineContrastBackend()`` by default.
    per_class : samples of each class that are described at most.
    random_state : seed of their choice.
    cache : JSON file of the descriptions by row: what was described is not described again, even after a kill.
    progress : called over the batches of samples, as ``run.progress``.

    Attributes
    ----------
    descriptions_ : row -> description.
    """

    def __init__(
        self,
        describe: Describe,
        inner: Backend | None = None,
        *,
        per_class: int = 100,
        random_state: int = 0,
        cache: str | Path | None = None,
        progress: Progress = no_progress,
    ) -> None:
        check_seed("random_state", random_state)
        if not callable(describe):
            raise InputError("describe", type(describe).__name__, "a function from samples to texts")
        if per_class < 1:
            raise InputError("per_class", per_class, "1 or more")
        self.describe, self.per_class, self.random_state = describe, per_class, random_state
        self.inner: Backend = inner or OfflineContrastBackend()
        self.cache, self.progress = None if cache is None else Path(cache), progress
        self.descriptions_: dict[int, str] = {}

    @property
    def identity(self) -> str:
        """That of the inner backend: the text is an input of it."""
        return f"caption-free|{getattr(self.inner, 'identity', type(self.inner).__name__)}"

    def bind(self, encode: Any) -> CaptionFreeBackend:
        """The same with an inner backend that has the text encoder."""
        bind = getattr(self.inner, "bind", None)
        if bind is None:
            return self
        made = copy.copy(self)
        made.inner = bind(encode)
        return made

    def corpus(self, items: Sequence[Any], y: np.ndarray, predicted: np.ndarray) -> list[str]:
        """Unique sentences about correctly classified samples, at most ``per_class`` of each class."""
        if len(items) != len(y):
            raise InputError("items and y_val", f"{len(items)} and {len(y)} rows", "one row per sample in both")
        draw = np.random.default_rng(self.random_state)
        rows: list[int] = []
        for code in np.unique(y):
            right = np.flatnonzero((y == code) & (predicted == code))
            rows += sorted(draw.permutation(right)[: self.per_class].tolist())
        if not rows:
            raise InputError("pred_val", "no correctly classified sample", "some, for their descriptions")
        known = self._read()
        missing = [row for row in rows if row not in known]
        for start in self.progress(range(0, len(missing), BATCH), "describing samples"):
            some = missing[start : start + BATCH]
            texts = list(self.describe([items[i] for i in some]))
            if len(texts) != len(some) or not all(isinstance(t, str) for t in texts):
                raise InputError("describe", f"{len(texts)} descriptions of {len(some)} samples", "one text for each")
            known |= dict(zip(some, texts, strict=True))
            if self.cache is not None:
                write_text(self.cache, json.dumps(known, ensure_ascii=False))
        self.descriptions_ = {row: known[row] for row in rows}
        return split_captions(self.descriptions_.values())

    def _read(self) -> dict[int, str]:
        if self.cache is None or not self.cache.is_file():
            return {}
        try:
            found = json.loads(self.cache.read_text(encoding="utf-8"))
            return {int(row): str(text) for row, text in found.items()}
        except (OSError, ValueError, AttributeError):
            raise InputError("cache", f"{self.cache}, which cannot be read", "descriptions that this wrote") from None

    def propose(self, class_name: str, sentences: Sequence[str], corpus: Sequence[str], n: int) -> list[Hypothesis]:
        """Those of the inner backend."""
        return self.inner.propose(class_name, sentences, corpus, n)


class ImageDescriber:
    """Descriptions of images by a vision-language model of transformers (LLaVA and its kin) from a folder.

    Parameters
    ----------
    folder : with weights, processor and, for instruction-tuned models, a chat template.
    instruction : what the model is asked.
    max_new_tokens : of a description.
    device : where the model runs.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        instruction: str = INSTRUCTION,
        max_new_tokens: int = 80,
        device: str = "auto",
    ) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        from paperworks.nn import resolve_device
        from paperworks.nn.loading import check_model_folder, load_beside, load_strict

        path = Path(folder).expanduser()
        check_model_folder(path)
        self.processor: Any = load_beside(AutoProcessor, path, "describer", "a folder with a processor")
        self.model = load_strict(AutoModelForImageTextToText, path).to(resolve_device(device))
        self.instruction, self.max_new_tokens = instruction, max_new_tokens

    def __call__(self, images: Sequence[Any]) -> list[str]:
        """One description per image (PIL image or uint8 ``[h, w, 3]``)."""
        import torch

        from paperworks.embedding.image_encoders import as_image

        found = []
        for number, item in enumerate(images):
            given = self._inputs(as_image(item, number))
            with torch.inference_mode():
                out = self.model.generate(**given, max_new_tokens=self.max_new_tokens, do_sample=False)
            ids = given.get("input_ids")
            start = ids.shape[1] if ids is not None and out.shape[1] > ids.shape[1] else 0
            found.append(self.processor.batch_decode(out[:, start:], skip_special_tokens=True)[0].strip())
        return found

    def _inputs(self, image: Any) -> Any:
        place = self.model.device
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image", "image": image}, {"type": "text", "text": self.instruction}]
            return self.processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            ).to(place)
        return self.processor(images=image, return_tensors="pt").to(place)  # a captioner, such as BLIP
