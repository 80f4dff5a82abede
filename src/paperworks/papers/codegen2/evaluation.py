"""How well a model fills holes: exact matches and the likelihood of what stood there; and pass@k."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.papers.codegen2.completion import Fill, decode, encode, infill_many, infill_prompt, trailing_white
from paperworks.papers.codegen2.models import context_length
from paperworks.papers.codegen2.repository import read_code
from paperworks.papers.codegen2.tokens import InfillTokens, infill_tokens
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress

if TYPE_CHECKING:
    from paperworks.metrics import Interval

Kind = Literal["line", "multiline", "span"]
KINDS: tuple[str, ...] = get_args(Kind)
LINES = (2, 5)
"""Lines of a multi-line hole."""
SPAN = (8, 80)
"""Characters of a span."""


@dataclass(frozen=True)
class Hole:
    """A place in a text: what stands before it, in it and after it, and the number of the text."""

    prefix: str
    middle: str
    suffix: str
    file: int


@dataclass(frozen=True)
class InfillScores:
    """What ``evaluate_infill`` measured; arrays have one entry per hole, ``[n]``.

    Attributes
    ----------
    kind : line, multiline or span.
    holes : the places.
    tokens, letters : of what stood in each hole (white space in front of it included): tokens, and bytes.
    nll : negative log-likelihood of it in nats, in the infill format.
    nll_other : the same with the suffix of another hole.
    nll_left : the same from left to right: text in front of the hole only.
    fills : what the model wrote; None where nothing was generated.
    """

    kind: str
    holes: list[Hole]
    tokens: np.ndarray
    letters: np.ndarray
    nll: np.ndarray
    nll_other: np.ndarray
    nll_left: np.ndarray
    fills: list[Fill] | None

    @property
    def nll_per_token(self) -> float:
        """Nats per token, all holes together."""
        return float(self.nll.sum() / self.tokens.sum())

    def bits_per_byte(self, which: Literal["nll", "nll_other", "nll_left"] = "nll") -> float:
        """Bits per byte, all holes together."""
        return float(getattr(self, which).sum() / math.log(2) / self.letters.sum())

    @property
    def exact(self) -> np.ndarray:
        """Whether the fill is what stood there, white space at its end aside, bool ``[n]``."""
        if self.fills is None:
            raise InputError("generate", False, "True, for exact matches")
        pairs = zip(self.holes, self.fills, strict=True)
        return np.array([hole.middle.rstrip() == fill.text.rstrip() for hole, fill in pairs])

    @property
    def exact_match(self) -> Interval:
        """Share of exact matches, with Wilson's interval."""
        from paperworks.metrics import wilson_interval

        return wilson_interval(int(self.exact.sum()), len(self.exact), unit="holes")

    def to_dict(self) -> dict[str, Any]:
        """Plain figures."""
        found: dict[str, Any] = {
            "kind": self.kind,
            "holes": len(self.holes),
            "nll_per_token": self.nll_per_token,
            "bits_per_byte": self.bits_per_byte(),
            "bits_per_byte_other_suffix": self.bits_per_byte("nll_other"),
            "bits_per_byte_left_to_right": self.bits_per_byte("nll_left"),
        }
        if self.fills is not None:
            found["exact_match"] = float(self.exact.mean())
            found["closed"] = float(np.mean([fill.finished for fill in self.fills]))
        return found


def make_holes(texts: Sequence[str], kind: Kind = "line", n: int = 100, *, seed: int = 0) -> list[Hole]:
    """Draw places to fill: texts at random, each place once.

    ``line``: a whole line with something in it besides a comment, without its end. ``multiline``: two to five lines
    in a row that begin and end with such a line. ``span``: 8 to 80 characters anywhere, which begin and end with no
    white space.

    Raises InputError where the texts do not have ``n`` such places.
    """
    check_seed("seed", seed)
    if kind not in KINDS:
        raise InputError("kind", repr(kind), f"one of {', '.join(KINDS)}")
    if n < 1:
        raise InputError("n", n, "1 or more")
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    by_text = [_lines(text) for text in texts]
    usable = [i for i, lines in enumerate(by_text) if len(lines) >= 3]
    found: dict[tuple[int, int, int], Hole] = {}
    tries = 0
    while len(found) < n and usable and tries < 40 * n:
        tries += 1
        number = usable[int(rng.integers(len(usable)))]
        text, lines = texts[number], by_text[number]
        start, end = _place(text, lines, kind, rng)
        if end > start:
            found.setdefault((number, start, end), Hole(text[:start], text[start:end], text[end:], number))
    if len(found) < n:
        raise InputError("n", f"{n}, of {len(found)} places to fill", "fewer, or more code to evaluate on")
    return list(found.values())


def _lines(text: str) -> list[tuple[int, int]]:
    """Starts and ends of the lines that say something."""
    found, place = [], 0
    for line in text.split("\n"):
        if line.strip() and not line.lstrip().startswith(("#", "//", "--")):
            found.append((place, place + len(line)))
        place += len(line) + 1
    return found


def _place(text: str, lines: list[tuple[int, int]], kind: Kind, rng: np.random.Generator) -> tuple[int, int]:
    first = int(rng.integers(1, len(lines) - 1))
    if kind == "line":
        return lines[first]
    if kind == "multiline":
        last = min(first + int(rng.integers(LINES[0], LINES[1] + 1)) - 1, len(lines) - 2)
        start, end = lines[first][0], lines[last][1]
        whole = text.count("\n", start, end) + 1
        return (start, end) if LINES[0] <= whole <= LINES[1] else (0, 0)
    start = int(rng.integers(lines[first][0], lines[first][1]))
    end = min(start + int(rng.integers(SPAN[0], SPAN[1] + 1)), lines[-1][0])
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return (start, end) if end - start >= SPAN[0] else (0, 0)


def evaluate_infill(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str] | str | Path,
    kind: Kind = "line",
    *,
    n: int = 100,
    max_new_tokens: int = 64,
    generate: bool = True,
    seed: int = 0,
    batch_size: int = 16,
    progress: Progress = no_progress,
    **options: Any,
) -> InfillScores:
    """Take pieces out of texts and have a model fill the holes.

    Parameters
    ----------
    model, tokenizer : of transformers, with the infill tokens.
    texts : files that the model was not trained on, or the path of a folder of them.
    kind, n, seed : of the holes: see ``make_holes``.
    generate : also have the model write, for exact matches; else likelihoods only.
    options : of ``infill_many``; by default the most likely tokens.

    Raises
    ------
    InputError : no such kind, fewer than ``n`` places, a tokenizer without the infill tokens.
    """
    check_seed("seed", seed)
    tokens = infill_tokens(tokenizer)
    if isinstance(texts, (str, Path)):
        texts = read_code(texts, field="texts").texts
    holes = make_holes(texts, kind, n, seed=seed)
    context = context_length(model)
    parts = [_parts(tokenizer, hole, context) for hole in holes]
    other = [parts[(i + 1) % len(parts)][2] for i in range(len(parts))]
    nll, nll_other, nll_left = (
        _likelihoods(model, rows, batch_size, progress)
        for rows in (
            [_infill_row(tokens, p, m, s, context) for p, m, s in parts],
            [_infill_row(tokens, p, m, s, context) for (p, m, _), s in zip(parts, other, strict=True)],
            [_left_row(tokens, p, m, context) for p, m, _ in parts],
        )
    )
    letters = []
    for hole, (_, middle, _) in zip(holes, parts, strict=True):
        text = trailing_white(hole.prefix) + hole.middle
        if len(middle) == context // 2:  # of a long hole the beginning is scored: only its bytes count
            text = decode(tokenizer, middle).rstrip("\ufffd")
        letters.append(len(text.encode()))
    fills = None
    if generate:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # files longer than the context are the rule here
            made = infill_many(
                model,
                tokenizer,
                [(hole.prefix, hole.suffix) for hole in holes],
                max_new_tokens,
                seed=seed,
                batch_size=batch_size,
                progress=progress,
                **options,
            )
        fills = [fill[0] for fill in made]
    counts = np.array([len(middle) for _, middle, _ in parts])
    return InfillScores(kind, holes, counts, np.array(letters), nll, nll_other, nll_left, fills)


def _parts(tokenizer: Any, hole: Hole, context: int) -> tuple[list[int], list[int], list[int]]:
    """Tokens around and in a hole; what cannot be in the context is not tokenised, white space goes into the hole."""
    white = trailing_white(hole.prefix)
    far = 16 * context  # characters: no token of code is that long on average
    prefix = hole.prefix[: len(hole.prefix) - len(white)][-far:]
    middle = encode(tokenizer, white + hole.middle)[: context // 2]
    return encode(tokenizer, prefix), middle, encode(tokenizer, hole.suffix[:far])


Row = tuple[list[int], int, int]
"""Token ids, and the first and last-plus-one place of the targets."""


def _infill_row(tokens: InfillTokens, prefix: list[int], middle: list[int], suffix: list[int], context: int) -> Row:
    prompt, _ = infill_prompt(tokens, [prefix, suffix], context - len(middle) - 5)
    ids = [*prompt, tokens.masks[0], *middle]
    return ids, len(ids) - len(middle), len(ids)


def _left_row(tokens: InfillTokens, prefix: list[int], middle: list[int], context: int) -> Row:
    ids = [*([tokens.end, *prefix][-(context - len(middle)) :]), *middle]
    return ids, len(ids) - len(middle), len(ids)


def _likelihoods(model: Any, rows: list[Row], batch_size: int, progress: Progress) -> np.ndarray:
    """Negative log-likelihood of the targets of each row, float64 ``[n]``, nats."""
    found = np.zeros(len(rows))
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i][0]))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    with torch.inference_mode(), evaluation_mode(model):
        for batch in progress(batches, "likelihoods", len(batches)):
            longest = len(rows[batch[0]][0])
            ids = torch.zeros(len(batch), longest, dtype=torch.int64)
            wanted = torch.zeros(len(batch), longest, dtype=torch.bool)
            for place, i in enumerate(batch):
                row, start, end = rows[i]
                ids[place, : len(row)] = torch.tensor(row)
                wanted[place, start:end] = True
            ids = ids.to(model.device)  # padding stands behind all tokens: no mask is needed
            logits = model(input_ids=ids, use_cache=False).logits
            losses = torch.nn.functional.cross_entropy(
                logits[:, :-1].float().transpose(1, 2), ids[:, 1:], reduction="none"
            )
            found[batch] = (losses.double().cpu() * wanted[:, 1:]).sum(1).numpy()
    return found


def pass_at_k(n: Any, c: Any, k: int) -> Any:
    """Probability that one of ``k`` samples passes, from ``c`` of ``n`` that did: 1 - C(n - c, k) / C(n, k).

    The unbiased estimator of Chen et al. 2021. Numbers give a number; arrays ``[problems]`` give an array, whose mean
    is the figure of a benchmark.

    Raises InputError for k below 1 or above n, and for c below 0 or above n.
    """
    samples, right = np.broadcast_arrays(np.asarray(n), np.asarray(c))
    for name, values in (("n", samples), ("c", right)):
        if not np.issubdtype(values.dtype, np.integer):
            raise InputError(name, f"values of type {values.dtype}", "whole numbers")
    if k < 1 or (samples < k).any():
        raise InputError("k", k, f"from 1 to {int(samples.min()) if samples.size else 1}, the fewest samples")
    if (right < 0).any() or (right > samples).any():
        raise InputError("c", right.tolist(), "from 0 to n samples that pass")
    wrong = samples - right
    # C(n - c, k) / C(n, k) is the product of 1 - k / i over i from n - c + 1 to n
    values = np.array(
        [
            1.0 if w < k else 1.0 - float(np.prod(1.0 - k / np.arange(w + 1, s + 1)))
            for w, s in zip(wrong.ravel().tolist(), samples.ravel().tolist(), strict=True)
        ]
    ).reshape(samples.shape)
    return float(values) if values.ndim == 0 else values
