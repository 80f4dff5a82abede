"""Multiple choice: the model takes the ending to which it gives the highest likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.runs import Progress, no_progress


@dataclass(frozen=True)
class Question:
    """A context, several endings as token ids, and the position of the right one.

    ``lengths`` are what each ending's log-likelihood is divided by for ``acc_norm``: bytes of text in lm-eval.
    """

    context: tuple[int, ...]
    endings: tuple[tuple[int, ...], ...]
    answer: int
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.context:
            raise InputError("context", "no tokens", "at least one token")
        if len(self.endings) < 2 or not all(self.endings):
            raise InputError(
                "endings", f"{len(self.endings)}, or an empty one", "two or more endings of at least one token"
            )
        if not 0 <= self.answer < len(self.endings):
            raise InputError("answer", self.answer, f"0 to {len(self.endings) - 1}")
        if len(self.lengths) != len(self.endings) or min(self.lengths) < 1:
            raise InputError("lengths", self.lengths, "one length of 1 or more per ending")


def continuation_questions(
    windows: torch.Tensor, n: int, context: int, ending: int, rng: np.random.Generator, choices: int = 4
) -> list[Question]:
    """Questions made from running text: which of ``choices`` stretches of ``ending`` tokens goes on from the context?

    The wrong endings come from other windows, at the same position, so that none is told by its place in a text.

    Parameters
    ----------
    windows : int64 ``[m, T]`` with T of at least ``context + ending``, m of at least ``choices``.
    n : number of questions, at most m.
    """
    m, length = windows.shape
    if length < context + ending:
        raise InputError("windows", f"{length} tokens", f"at least {context + ending} tokens")
    if not 1 <= n <= m or m < choices:
        raise InputError("n", f"{n} questions from {m} windows", f"1 to {m}, from at least {choices} windows")
    questions = []
    for place in rng.permutation(m)[:n]:
        others = rng.choice(np.delete(np.arange(m), place), size=choices - 1, replace=False)
        order = rng.permutation(choices)
        sources = np.concatenate([[place], others])[order]
        endings = tuple(tuple(windows[s, context : context + ending].tolist()) for s in sources)
        answer = int(np.flatnonzero(order == 0)[0])
        questions.append(Question(tuple(windows[place, :context].tolist()), endings, answer, (ending,) * choices))
    return questions


def ending_scores(model: torch.nn.Module, question: Question) -> torch.Tensor:
    """Log-likelihood of each ending after the context, float64 ``[choices]`` in nats."""
    return question_scores(model, [question], batch_size=len(question.endings))[0]


def question_scores(
    model: torch.nn.Module,
    questions: Sequence[Question],
    *,
    batch_size: int = 32,
    progress: Progress = no_progress,
) -> list[torch.Tensor]:
    """For each question the log-likelihoods of its endings, float64 ``[choices]`` in nats.

    ``batch_size`` pairs of a context and an ending, of any questions, are computed together, the longest first, so that
    little is padded and memory that is too small shows at once.
    """
    if batch_size < 1:
        raise InputError("batch_size", batch_size, "1 or more")
    device = next(model.parameters()).device
    pairs = [(q, e) for q, question in enumerate(questions) for e in range(len(question.endings))]
    pairs.sort(key=lambda pair: -len(questions[pair[0]].context) - len(questions[pair[0]].endings[pair[1]]))
    scores = [torch.zeros(len(question.endings), dtype=torch.float64) for question in questions]
    batches = [pairs[start : start + batch_size] for start in range(0, len(pairs), batch_size)]
    with evaluation_mode(model), torch.inference_mode():
        for batch in progress(batches, "multiple choice", len(batches)):
            rows = [[*questions[q].context, *questions[q].endings[e]] for q, e in batch]
            longest = max(len(row) for row in rows)
            # Padding stands on the right, so a causal model never sees it before a token that counts.
            ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
            nll = functional.cross_entropy(logits.float().transpose(1, 2), ids[:, 1:], reduction="none").double().cpu()
            for row, full, (q, e) in zip(nll, rows, batch, strict=True):
                scores[q][e] = -row[len(questions[q].context) - 1 : len(full) - 1].sum()
    return scores


def choice_accuracy(
    model: torch.nn.Module,
    questions: Sequence[Question],
    *,
    batch_size: int = 32,
    progress: Progress = no_progress,
) -> dict[str, float]:
    """``acc`` (highest total log-likelihood) and ``acc_norm`` (highest per unit of length), as lm-eval names them.

    Ties go to the first of the best endings.
    """
    right, normed = choice_outcomes(model, questions, batch_size=batch_size, progress=progress)
    return {"acc": float(right.mean()), "acc_norm": float(normed.mean())}


def choice_outcomes(
    model: torch.nn.Module,
    questions: Sequence[Question],
    *,
    batch_size: int = 32,
    progress: Progress = no_progress,
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each question is answered rightly, float64 ``[n]`` of 0 and 1, by ``acc`` and by ``acc_norm``.

    For paired comparisons of two models on the same questions. Raises InputError for no questions.
    """
    if not questions:
        raise InputError("questions", "none", "at least one question")
    right, normed = np.zeros(len(questions)), np.zeros(len(questions))
    found = question_scores(model, questions, batch_size=batch_size, progress=progress)
    for number, (question, scores) in enumerate(zip(questions, found, strict=True)):
        right[number] = int(scores.argmax()) == question.answer
        by_length = scores / torch.tensor(question.lengths, dtype=torch.float64)
        normed[number] = int(by_length.argmax()) == question.answer
    return right, normed
