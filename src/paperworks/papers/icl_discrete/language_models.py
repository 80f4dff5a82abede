"""Language models on the same prompts, as text: from a folder, from memory, or behind an OpenAI-compatible server.

    evaluate_llm(model)  ->  accuracy after 5, 10, ... examples beside 1-NN and the others, share of tenable answers

A causal model reads the longest prompt once: each shorter prompt is its beginning, so that all answers come from the
states of one pass, as they would from a shared key-value cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.papers.icl_discrete.curves import curve
from paperworks.papers.icl_discrete.learners import Learner, reference_learners
from paperworks.papers.icl_discrete.prompts import (
    Answer,
    Instruction,
    TextPrompt,
    instruction_text,
    parse_answer,
    text_prompt,
)
from paperworks.papers.icl_discrete.tasks import BooleanTask, Prompts
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress

if TYPE_CHECKING:
    import pandas as pd

Method = Literal["logits", "text"]
SMALL_DIMS = 7
"""Up to so many bits the paper keeps a literal with probability 0.5, so that there are enough functions."""


class Answerer(Protocol):
    """What answers the questions of a text prompt."""

    def answers(self, prompt: TextPrompt) -> list[Answer]:
        """One answer for each place of the prompt."""
        ...


@dataclass(frozen=True)
class CallableModel:
    """A function from a prompt to the text that follows it."""

    complete: Callable[[str], str]
    last_number: bool = False

    def answers(self, prompt: TextPrompt) -> list[Answer]:
        """Each question is asked on its own."""
        return [parse_answer(self.complete(q), last_number=self.last_number) for q in prompt.questions]


class LocalModel:
    """A causal language model of transformers with its tokenizer.

    ``method`` "logits" compares the likelihoods of `` 0`` and `` 1``, one token each in most tokenizers; "text" decodes
    greedily up to two tokens, and the first that is not white space must be 0 or 1.
    """

    def __init__(self, model: Any, tokenizer: Any, method: Method = "logits") -> None:
        if method not in ("logits", "text"):
            raise InputError("method", repr(method), "logits or text")
        self.model, self.tokenizer, self.method = model.eval(), tokenizer, method
        config = model.config
        self.limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        self._selects = "logits_to_keep" in inspect.signature(model.forward).parameters

    @classmethod
    def load(cls, path: Path | str | None, method: Method = "logits", device: str = "auto") -> LocalModel:
        """From a Hugging Face folder on this machine; None is the bundled language model."""
        from paperworks.language import load_model

        model, tokenizer = load_model(path, device=device)
        return cls(model, tokenizer, method)

    def answers(self, prompt: TextPrompt) -> list[Answer]:
        """All answers from one pass over the longest prompt.

        What is not the beginning of the longest prompt, token by token, gets a pass of its own.
        """
        asked = [self._ask(question) for question in prompt.questions]
        longest = asked[-1].ids
        if self.limit is not None and len(longest) + 1 > self.limit:
            raise InputError("n_points", f"a prompt of {len(longest)} tokens", self._fitting(asked))
        contexts = [ids for a in asked for ids in a.contexts]
        if self.method == "text":  # white space that goes before a label in the prompt may go before the answer too
            contexts += [longest[: len(a.ids) + 1] for a in asked[:-1]]
        places = sorted({len(ids) - 1 for ids in contexts if ids == longest[: len(ids)]})
        rows = dict(zip(places, self._logits(longest, places), strict=True))

        def after(ids: list[int]) -> torch.Tensor:
            shared = len(ids) - 1 in rows and ids == longest[: len(ids)]
            return rows[len(ids) - 1] if shared else self._logits(ids, [len(ids) - 1])[0]

        return [self._compare(a, after) if self.method == "logits" else self._write(a, after) for a in asked]

    def _compare(self, one: _Question, after: Callable[[list[int]], torch.Tensor]) -> Answer:
        """Which label's tokens are more likely; one token each, in most tokenizers."""
        zero, won = (
            sum(float(after([*one.ids, *tail[:k]]).log_softmax(-1)[token]) for k, token in enumerate(tail))
            for tail in one.tails
        )
        return Answer((won > zero) - (won < zero), f"log p(0) {zero:.4f}, log p(1) {won:.4f}")

    def _write(self, one: _Question, after: Callable[[list[int]], torch.Tensor]) -> Answer:
        token = int(after(one.ids).argmax())
        text = self.tokenizer.decode([token])
        if not text.strip(" ▁"):
            text += self.tokenizer.decode([int(after([*one.ids, token]).argmax())])
        return parse_answer(text)

    def _ask(self, question: str) -> _Question:
        plain = self._encode(question)
        if self.method == "text":
            return _Question(plain, ((), ()))
        zero, one = self._encode(question + " 0"), self._encode(question + " 1")
        same = 0
        while same < min(len(zero), len(one)) and zero[same] == one[same]:
            same += 1
        if same == min(len(zero), len(one)):
            raise InputError("model", "a tokenizer that writes ' 0' and ' 1' alike", "one that tells them apart")
        return _Question(zero[:same], (tuple(zero[same:]), tuple(one[same:])))

    def _encode(self, text: str) -> list[int]:
        ids = list(self.tokenizer(text)["input_ids"])
        end = self.tokenizer.eos_token_id
        if len(ids) > 1 and end is not None and ids[-1] == end:  # some tokenizers close every text
            ids.pop()
        return ids

    def _fitting(self, asked: list[_Question]) -> str:
        assert self.limit is not None
        fits = sum(len(a.ids) + 1 <= self.limit for a in asked)
        return f"at most {self.limit} tokens, the model's context: only {fits} of {len(asked)} questions fit"

    @torch.no_grad()
    def _logits(self, ids: list[int], places: list[int]) -> list[torch.Tensor]:
        tokens = torch.tensor([ids], device=self.model.device)
        index = torch.tensor(places, device=self.model.device)
        if self._selects:
            logits = self.model(input_ids=tokens, use_cache=False, logits_to_keep=index).logits[0]
        else:
            logits = self.model(input_ids=tokens).logits[0, index]
        return list(logits.float().cpu())


@dataclass(frozen=True)
class _Question:
    """The tokens up to where the labels part, and those of each label from there on."""

    ids: list[int]
    tails: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def contexts(self) -> list[list[int]]:
        """What the model has read where a token of a label is judged."""
        return [self.ids, *([*self.ids, *tail[:k]] for tail in self.tails for k in range(1, len(tail)))]


@dataclass(frozen=True)
class LanguageModelResult:
    """What ``evaluate_llm`` measured.

    Attributes
    ----------
    curves : columns learner, position, accuracy, std, lo, hi; the language model is the learner "language model".
    tenable : share of the answers that were 0 or 1; the others count as wrong.
    answers : one row per question: prompt, position, label (0 or 1), answer (0, 1 or missing), text.
    right : name -> bool ``[prompts, positions]``.
    """

    curves: pd.DataFrame
    tenable: float
    answers: pd.DataFrame
    right: dict[str, np.ndarray]


def small_task(task: BooleanTask) -> BooleanTask:
    """The paper's wider distribution of functions for few bits: literals are kept with probability 0.5 up to n = 7."""
    from dataclasses import replace

    if task.n_dims <= SMALL_DIMS and task.literals is None and task.kind.literals:
        return replace(task, literals=0.5)
    return task


def evaluate_llm(
    model: Answerer,
    task: BooleanTask,
    *,
    n_prompts: int = 100,
    n_points: int = 50,
    every: int = 5,
    instruction: Instruction = "plain",
    learners: Sequence[Learner] | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> LanguageModelResult:
    """Ask a language model for labels after every ``every`` examples of each prompt; learners get the same prompts.

    Parameters
    ----------
    model : a ``LocalModel``, an ``Endpoint``, or any ``CallableModel``.
    task : its functions are drawn as the paper does for few bits (see ``small_task``).
    """
    check_seed("seed", seed)
    if n_prompts < 1:
        raise InputError("n_prompts", n_prompts, "1 or more")
    chosen = small_task(task)
    prompts = chosen.sample(n_prompts, n_points, seed)
    own = reference_learners(chosen) if learners is None else learners
    words = instruction_text(instruction, chosen)
    return ask_prompts(model, prompts, every=every, instruction=words, learners=own, progress=progress)


def ask_prompts(
    model: Answerer,
    prompts: Prompts,
    *,
    every: int,
    instruction: str,
    learners: Sequence[Learner],
    progress: Progress = no_progress,
) -> LanguageModelResult:
    """``evaluate_llm`` on given prompts."""
    import pandas as pd

    if every < 1:
        raise InputError("every", every, "1 or more")
    positions = tuple(range(max(every, prompts.start), prompts.xs.shape[1], every))
    if not positions:
        raise InputError("n_points", prompts.xs.shape[1], f"more than {max(every, prompts.start)}, the first question")
    said = np.zeros((len(prompts), len(positions)), int)
    rows = []
    for b in progress(range(len(prompts)), "prompts", len(prompts)):
        text = text_prompt(prompts.xs[b], prompts.ys[b], positions, instruction)
        for k, answer in enumerate(model.answers(text)):
            said[b, k] = answer.label
            label = int(prompts.ys[b, positions[k]] > 0)
            rows.append([b, positions[k], label, {1: 1, -1: 0, 0: None}[answer.label], answer.text])
    truth = prompts.ys[:, positions]
    right = {"language model": said == truth}
    for learner in learners:
        right[learner.name] = (np.sign(learner.scores(prompts.xs, prompts.ys)) == prompts.ys)[:, positions]
    frames = []
    for name, hits in right.items():
        frame = curve(hits)
        frame["position"] = positions
        frame.insert(0, "learner", name)
        frames.append(frame)
    answers = pd.DataFrame(rows, columns=["prompt", "position", "label", "answer", "text"])
    answers["answer"] = answers["answer"].astype("Int64")
    return LanguageModelResult(pd.concat(frames, ignore_index=True), float((said != 0).mean()), answers, right)
