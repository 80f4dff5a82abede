"""Scorers: what judges an answer to a prompt. Each has ``score(prompts, responses) -> float64 [n]``, larger is better.

``feedback_scores`` makes the scores of Eq. 4 of them: the given answer's less that of the model's own.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from paperworks.errors import InputError
from paperworks.language.generation import InstructionRecord, Prompt

LABELS = 6
"""Deita's scorers rate from 1 to 6."""
HUMAN = "###Human: {prompt} ###Assistant: {response}"
"""The text that the reward model of the paper's code reads."""
DEITA_COMPLEXITY = (
    "You are a helpful assistant. Please identify the complexity score of the following user query. \n"
    "##Query: {prompt}  \n##Complexity: "
)
"""What hkust-nlp/deita-complexity-scorer was trained to continue (its model card), blanks included."""
DEITA_QUALITY = (
    "You are a helpful assistant. Please identify the quality score of the Response corresponding to the Question. \n"
    " #Question#:\n{prompt}\n#Response#:\n{response} \n##Quality: "
)
"""What hkust-nlp/deita-quality-scorer was trained to continue (its model card), blanks included."""


@runtime_checkable
class Scorer(Protocol):
    """Judges answers."""

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """One figure for each pair: float64 [n]; NaN where there is none."""
        ...


class CallableScorer:
    """A function ``(prompt, response) -> float`` as a scorer."""

    def __init__(self, function: Callable[[str, str], float]) -> None:
        self.function = function

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """One call for each pair."""
        return np.array([float(self.function(p, r)) for p, r in zip(prompts, responses, strict=True)])


class PerplexityScorer:
    """The log-perplexity of an answer given its prompt, of a causal language model on disk (Eq. 7).

    With ``sign`` 1 the score is ``log PPL``, so that Eq. 4 is the paper's ``log PPL(gold) - log PPL(generated)``. It
    grows where the given answer surprises the model, noise included: the weakest scorer of the paper. With ``sign`` -1
    it is the mean log-likelihood, and Eq. 4 is the log of a likelihood ratio of the two answers.

    Parameters
    ----------
    model_dir : a Hugging Face folder; None is the bundled language model.
    sign : 1 or -1.
    model, tokenizer : used in place of a folder.

    Notes
    -----
    An empty answer gets NaN. Prompt and answer are cut from the front of the prompt and the end of the answer to the
    model's context. Where the tokenizer has a chat template, the prompt is the user's turn and the answer follows as
    the assistant's; else they are one text, with a blank between.
    """

    def __init__(
        self,
        model_dir: str | Path | None = None,
        *,
        sign: int = 1,
        model: Any = None,
        tokenizer: Any = None,
        device: str = "auto",
        batch_size: int = 16,
    ) -> None:
        if sign not in (1, -1):
            raise InputError("sign", sign, "1 (the paper's Eq. 7) or -1 (likelihood)")
        if model is None:
            from paperworks.language import load_model

            model, tokenizer = load_model(model_dir, None, device)
        self.model, self.tokenizer, self.sign, self.batch_size = model, tokenizer, sign, batch_size
        if sign == 1:
            warnings.warn(
                "perplexity feedback favours clusters that surprise the model, noise included; sign -1 turns it round",
                stacklevel=2,
            )

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """``sign`` times the log-perplexity of each answer, nats per token."""
        from paperworks.language.generation import score_responses
        from paperworks.papers.diversify_conquer.trainers import fit_context

        values = np.full(len(responses), np.nan)
        known = [i for i, r in enumerate(responses) if r.strip()]
        pairs = [fit_context(self.model, self.tokenizer, prompts[i], responses[i]) for i in known]
        found = score_responses(
            self.model,
            self.tokenizer,
            [self._prompt(p) for p, _ in pairs],
            [r for _, r in pairs],
            batch_size=self.batch_size,
        )
        values[known] = [-self.sign * one.mean for one in found]
        return values

    def _prompt(self, prompt: str) -> Prompt:
        return [{"role": "user", "content": prompt}] if has_chat(self.tokenizer) else prompt


class RewardModelScorer:
    """A sequence classifier with one output, on disk: a reward model.

    Parameters
    ----------
    model_dir : a Hugging Face folder with ``AutoModelForSequenceClassification``.
    template : the text it reads, with ``{prompt}`` and ``{response}``; None uses the tokenizer's chat template where it
        has one (which brings its own special tokens), else ``###Human: ... ###Assistant: ...``.
    max_length : tokens; longer texts lose their beginning.
    """

    def __init__(
        self,
        model_dir: str | Path,
        *,
        template: str | None = None,
        max_length: int | None = None,
        device: str = "auto",
        batch_size: int = 8,
    ) -> None:
        from transformers import AutoModelForSequenceClassification

        from paperworks.language import load_tokenizer
        from paperworks.nn import resolve_device
        from paperworks.nn.loading import check_model_folder, load_strict

        folder = Path(model_dir).expanduser()
        check_model_folder(folder)
        if template is not None:
            check_template("template", template, "prompt", "response")
        self.tokenizer: Any = load_tokenizer(folder)
        self.model: Any = load_strict(AutoModelForSequenceClassification, folder, dtype="auto")
        outputs = int(self.model.config.num_labels)
        if outputs != 1:
            raise InputError("reward_model", f"{folder} with {outputs} outputs", "a model with one output, the reward")
        self.model = self.model.to(resolve_device(device)).eval()
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        if self.model.config.pad_token_id is None:
            self.model.config.pad_token_id = self.tokenizer.pad_token_id
        limit = getattr(self.model.config, "max_position_embeddings", None)
        self.max_length = min(x for x in (max_length, limit, 2**20) if x is not None)
        self.tokenizer.truncation_side = "left"
        self.template, self.batch_size = template, batch_size

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """The reward of each pair."""
        import torch

        texts = [self._text(p, r) for p, r in zip(prompts, responses, strict=True)]
        found = np.empty(len(texts))
        options = {"padding": True, "truncation": True, "max_length": self.max_length, "return_tensors": "pt"}
        special = not self._chat()  # a chat template writes the special tokens itself
        with torch.inference_mode():
            for start in range(0, len(texts), self.batch_size):
                part = slice(start, start + self.batch_size)
                inputs = self.tokenizer(texts[part], add_special_tokens=special, **options).to(self.model.device)
                found[part] = self.model(**inputs).logits[:, 0].float().cpu().numpy()
        return found

    def _chat(self) -> bool:
        return self.template is None and has_chat(self.tokenizer)

    def _text(self, prompt: str, response: str) -> str:
        if self._chat():
            chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
            return str(self.tokenizer.apply_chat_template(chat, tokenize=False))
        return filled(self.template or HUMAN, prompt, response)


class DeitaScorer:
    """Complexity times quality, each rated 1 to 6 by a language model ("evol score", Liu et al. 2023).

    A rating is the mean of the labels 1 to 6 weighted by the softmax of their logits as the next token.

    Parameters
    ----------
    complexity_dir, quality_dir : Hugging Face folders of the two raters.
    label_token_ids : the six tokens of the labels, in order; by default those of "1" to "6".
    complexity_template, quality_template : what the raters read, with ``{prompt}`` and, for quality, ``{response}``; by
        default the texts that the published raters (hkust-nlp/deita-complexity-scorer, deita-quality-scorer) were
        trained on.
    batch_size : texts at a time; ratings do not depend on it.
    """

    def __init__(
        self,
        complexity_dir: str | Path,
        quality_dir: str | Path,
        label_token_ids: Sequence[int] | None = None,
        *,
        complexity_template: str = DEITA_COMPLEXITY,
        quality_template: str = DEITA_QUALITY,
        device: str = "auto",
        batch_size: int = 8,
    ) -> None:
        from paperworks.language import load_model

        if label_token_ids is not None and len(set(label_token_ids)) != LABELS:
            raise InputError("label_token_ids", list(label_token_ids), f"{LABELS} different tokens")
        if batch_size < 1:
            raise InputError("batch_size", batch_size, "1 or more")
        check_template("complexity_template", complexity_template, "prompt")
        check_template("quality_template", quality_template, "prompt", "response")
        folders = {"complexity_model": complexity_dir, "quality_model": quality_dir}
        self.raters = [load_model(folder, None, device) for folder in folders.values()]
        self.labels = [
            label_token_ids or _label_tokens(tokenizer, field, folder)
            for (_, tokenizer), (field, folder) in zip(self.raters, folders.items(), strict=True)
        ]
        self.batch_size = batch_size
        self.templates = (complexity_template, quality_template)

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """Complexity of each prompt times quality of its answer, 1 to 36 (one turn)."""
        complexity, quality = (self.ratings(which, prompts, responses) for which in (0, 1))
        return complexity * quality

    def score_records(self, records: Sequence[InstructionRecord]) -> np.ndarray:
        """Complexity times quality of each turn, summed over the turns of each conversation: float64 [n]."""
        turns = [
            (i, asked["content"], answer["content"])
            for i, record in enumerate(records)
            for asked, answer in pairwise(record.messages)
            if asked["role"] == "user" and answer["role"] == "assistant"
        ]
        found = self.score([q for _, q, _ in turns], [a for _, _, a in turns])
        return np.bincount([i for i, _, _ in turns], found, minlength=len(records)).astype(np.float64)

    def ratings(self, which: int, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """Complexity (0) or quality (1) alone: float64 [n], from 1 to 6."""
        from paperworks.language.generation.local import context_of

        model, tokenizer = self.raters[which]
        ids = self.labels[which]
        limit = context_of(model) or 4096
        texts = [filled(self.templates[which], p, r) for p, r in zip(prompts, responses, strict=True)]
        rows = [tokenizer(text)["input_ids"][-limit:] for text in texts]
        order = np.argsort([len(row) for row in rows], kind="stable")
        found = np.empty(len(rows))
        for start in range(0, len(rows), self.batch_size):
            part = order[start : start + self.batch_size]
            found[part] = [rating(logits) for logits in next_logits(model, [rows[i] for i in part], list(ids))]
        return found


def _label_tokens(tokenizer: Any, field: str, folder: str | Path) -> list[int]:
    """The last token of each label "1" to "6". Raises InputError for a tokenizer without six different ones."""
    found = [tokenizer(str(n), add_special_tokens=False)["input_ids"][-1:] for n in range(1, LABELS + 1)]
    ids = [token for one in found for token in one]
    if len(set(ids)) < LABELS:
        text = f"{folder}, whose tokenizer has no token of its own for each of 1 to {LABELS}"
        raise InputError(field, text, "a rater's folder, such as deita-complexity-scorer's and deita-quality-scorer's")
    return ids


def next_logits(model: Any, rows: Sequence[list[int]], ids: list[int]) -> np.ndarray:
    """Logits of the tokens ``ids`` after each row of tokens: float64 [rows, ids]. Rows are padded on the right."""
    import torch

    longest = max(len(row) for row in rows)
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=model.device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    last = mask.sum(dim=1) - 1
    return logits[torch.arange(len(rows), device=logits.device), last][:, ids].double().cpu().numpy()


def has_chat(tokenizer: Any) -> bool:
    """Whether a tokenizer has a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def check_template(field: str, template: str, *names: str) -> None:
    """Raises InputError for a template that lacks one of the names in braces."""
    if not all("{" + name + "}" in template for name in names):
        raise InputError(field, repr(template), "a text with " + " and ".join("{" + name + "}" for name in names))


def filled(template: str, prompt: str, response: str) -> str:
    """A template with ``{prompt}`` and ``{response}`` put in; braces inside those texts stay as they are."""
    texts = {"prompt": prompt, "response": response}
    return re.sub(r"\{(prompt|response)\}", lambda found: texts[found[1]], template)


def rating(logits: np.ndarray) -> float:
    """The mean of the labels 1, 2, ... weighted by the softmax of their logits."""
    weights = np.exp(logits - logits.max())
    return float((weights / weights.sum()) @ np.arange(1, len(logits) + 1))


class CommandScorer:
    """A program of the user: ``command`` with ``{pairs}`` (JSON lines: prompt, response) and ``{scores}``.

    It writes one number for each line of ``{pairs}`` into ``{scores}``; an empty line or ``nan`` means none.
    """

    def __init__(self, command: str, folder: str | Path) -> None:
        if "{pairs}" not in command or "{scores}" not in command:
            raise InputError("scorer_command", repr(command), "a command with {pairs} and {scores}")
        self.command, self.folder = command, Path(folder)

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """Run the program on all pairs."""
        from paperworks.runs.files import write_text

        pairs, scores = self.folder / "pairs.jsonl", self.folder / "scores.txt"
        lines = [json.dumps({"prompt": p, "response": r}) for p, r in zip(prompts, responses, strict=True)]
        write_text(pairs, "\n".join(lines) + "\n")
        scores.unlink(missing_ok=True)
        run_command("scorer_command", self.command, {"pairs": str(pairs), "scores": str(scores)})
        try:
            found = scores.read_text(encoding="utf-8").split("\n")
            values = [float(line) if line.strip() else np.nan for line in found[: len(lines)]]
        except (OSError, ValueError) as error:
            raise InputError("scorer_command", f"{scores}: {error}", "a number in each line") from None
        if len(values) != len(lines) or any(line.strip() for line in found[len(lines) :]):
            raise InputError("scorer_command", f"{len(values)} scores", f"{len(lines)}, one for each pair")
        return np.array(values)


def run_command(field: str, command: str, places: dict[str, str]) -> None:
    """Run a user's program, with names in braces replaced by paths. Raises InputError with what it said last."""
    words = shlex.split(command)
    for name, value in places.items():
        words = [word.replace("{" + name + "}", value) for word in words]
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise InputError(field, f"{words[0]}, which does not start ({error})", "a program") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise InputError(field, f"exit status {done.returncode}: {' | '.join(said)}", "a program that ends with 0")


def feedback_scores(
    scorer: Scorer, prompts: Sequence[str], gold: Sequence[str], generated: Sequence[str]
) -> np.ndarray:
    """Eq. 4: ``score(x, y_gold) - score(x, y_generated)`` of each sample, float64 [n]; 0 where both are the same."""
    found = np.asarray(scorer.score(prompts, gold), np.float64) - np.asarray(
        scorer.score(prompts, generated), np.float64
    )
    same = np.array([a.strip() == b.strip() for a, b in zip(gold, generated, strict=True)], bool)
    return np.where(same, 0.0, found)
