"""Writing code with a model: filling holes, one or several in a text, and completing from left to right.

    prefix <mask_1> suffix <|endoftext|> <sep> <mask_1>   ->   middle <eom>

White space in front of a hole is taken into the hole and the answer is made to begin with it: training cut texts
between tokens, and a text that ends in spaces ends in a token that training never saw there.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.papers.codegen2.models import context_length
from paperworks.papers.codegen2.tokens import InfillTokens, infill_tokens
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress

MARKER = "<FILL>"
STOPS = (r"\n\n^#", r"^'''", r"\n\n\n")
"""Where a completion ends, besides a second function, a second print, and the end token."""
_TRAILING = re.compile(r"\s+\Z")


@dataclass(frozen=True)
class Fill:
    """What was written into a hole, and whether it was closed with ``<eom>`` before ``max_new_tokens``."""

    text: str
    finished: bool


def infill(model: Any, tokenizer: Any, prefix: str, suffix: str, max_new_tokens: int = 64, **options: Any) -> str:
    """What stands between ``prefix`` and ``suffix``, by the model; the options are those of ``infill_many``."""
    return infill_many(model, tokenizer, [(prefix, suffix)], max_new_tokens, **options)[0][0].text


def infill_many(
    model: Any,
    tokenizer: Any,
    documents: Sequence[Sequence[str]],
    max_new_tokens: int = 64,
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    batch_size: int = 8,
    heal: bool = True,
    progress: Progress = no_progress,
    **options: Any,
) -> list[list[Fill]]:
    """Fill the holes of several documents, in batches that are padded on the left.

    Holes of one document are filled from left to right; each is written with the fills before it in view.

    Parameters
    ----------
    model, tokenizer : of transformers, with the infill tokens.
    documents : the pieces of text around the holes of each document: k + 1 pieces for k holes.
    max_new_tokens : of one hole.
    temperature : 0 takes the most likely token.
    top_p : sample among the most likely tokens that have this probability together.
    heal : take white space in front of a hole into it (see the module).
    options : further options of transformers' ``GenerationConfig``.

    Returns
    -------
    the fills of each document, k of them.

    Raises
    ------
    InputError : a tokenizer without the infill tokens, more holes than masks, or pieces between holes that do not fit.

    Warns
    -----
    UserWarning : a document that is longer than the context: its beginning and its end are cut off.
    """
    check_seed("seed", seed)
    tokens = infill_tokens(tokenizer)
    jobs = [
        _Job.of(tokenizer, tokens, pieces, number, context_length(model), max_new_tokens, heal)
        for number, pieces in enumerate(documents)
    ]
    cut = sum(job.cut for job in jobs)
    if cut:
        warnings.warn(
            f"{cut} of {len(jobs)} documents are longer than the context: cut at the beginning and the end",
            UserWarning,
            stacklevel=2,
        )
    sampling = _sampling(temperature, top_p, options)
    rounds = max((job.holes for job in jobs), default=0)
    batches = []
    for hole in range(rounds):
        open_jobs = sorted((j for j in jobs if j.holes > hole), key=lambda j: -len(j.prompt))
        batches += [(hole, open_jobs[i : i + batch_size]) for i in range(0, len(open_jobs), batch_size)]
    for number, (hole, batch) in enumerate(progress(batches, "filling holes", len(batches))):
        rows = [[*job.prompt, *job.tail, tokens.masks[hole]] for job in batch]
        forced = [job.white[hole] for job in batch]
        made = _generate(model, tokenizer, tokens, rows, forced, max_new_tokens, sampling, seed + number)
        for job, ids in zip(batch, made, strict=True):
            job.take(tokenizer, tokens, hole, ids)
    return [job.fills for job in jobs]


@dataclass
class _Job:
    """One document: its prompt, the white space that each hole begins with, and what was filled so far."""

    prompt: list[int]
    white: list[str]
    cut: bool
    tail: list[int]
    fills: list[Fill]

    @property
    def holes(self) -> int:
        return len(self.white)

    @classmethod
    def of(
        cls,
        tokenizer: Any,
        tokens: InfillTokens,
        pieces: Sequence[str],
        number: int,
        context: int,
        max_new_tokens: int,
        heal: bool,
    ) -> _Job:
        if isinstance(pieces, str) or len(pieces) < 2:
            raise InputError(f"documents, number {number}", "a text without a hole", "the pieces around its holes")
        if max_new_tokens < 1:
            raise InputError("max_new_tokens", max_new_tokens, "1 or more")
        holes = len(pieces) - 1
        if holes > len(tokens.masks):
            found = f"{holes} holes"
            raise InputError(f"documents, number {number}", found, f"at most {len(tokens.masks)}, one for each mask")
        white = [trailing_white(piece) if heal else "" for piece in pieces[:-1]]
        texts = [piece[: len(piece) - len(w)] for piece, w in zip(pieces, [*white, ""], strict=True)]
        ids = [encode(tokenizer, text) for text in texts]
        room = context - (3 * holes + 2) - holes * max_new_tokens
        if room < 2:
            most = (context - 3 * holes - 4) // holes
            found = f"{max_new_tokens} for each of {holes} holes, in a context of {context} tokens"
            raise InputError("max_new_tokens", found, f"at most {most}" if most > 0 else "fewer holes")
        prompt, cut = infill_prompt(tokens, ids, room, f"documents, number {number}")
        return cls(prompt, white, cut, [], [])

    def take(self, tokenizer: Any, tokens: InfillTokens, hole: int, ids: list[int]) -> None:
        stop = next((i for i, token in enumerate(ids) if token in (tokens.eom, tokens.end)), len(ids))
        finished = stop < len(ids) and ids[stop] == tokens.eom
        text = decode(tokenizer, ids[:stop])
        white = self.white[hole]
        self.fills.append(Fill(text[len(white) :] if text.startswith(white) else text.lstrip(), finished))
        self.tail += [tokens.masks[hole], *ids[:stop], tokens.eom]


def infill_prompt(
    tokens: InfillTokens, pieces: Sequence[Sequence[int]], room: int | None = None, field: str = "pieces"
) -> tuple[list[int], bool]:
    """The prompt up to and with ``<sep>``, and whether pieces were cut so that they have at most ``room`` tokens.

    The first piece is cut at its left, the last at its right, so that both keep as much as can be, equally.
    """
    first, last = list(pieces[0]), list(pieces[-1])
    between = sum(map(len, pieces[1:-1]))
    cut = room is not None and len(first) + len(last) + between > room
    if cut and room is not None:
        free = room - between
        if free < 2:
            raise InputError(field, f"{between} tokens between holes", f"fewer than {max(room - 1, 0)}, to fit")
        left = min(len(first), max(free - len(last), free // 2))
        right = min(len(last), free - left)
        first, last = first[len(first) - left :], last[:right]
    prompt = list(first)
    for mask, piece in zip(tokens.masks, [*pieces[1:-1], last], strict=False):
        prompt += [mask, *piece]
    return [*prompt, tokens.end, tokens.sep], bool(cut)


def complete(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    max_new_tokens: int = 128,
    *,
    n: int = 1,
    temperature: float = 0.2,
    top_p: float = 0.95,
    seed: int = 0,
    batch_size: int = 8,
    truncate: bool = True,
    heal: bool = True,
    progress: Progress = no_progress,
    **options: Any,
) -> list[list[str]]:
    """For each prompt, ``n`` completions from left to right, truncated where a function ends (``truncate_completion``).

    Raises InputError, named ``n``, for more than one completion at temperature 0: they would be the same.
    """
    check_seed("seed", seed)
    if isinstance(prompts, str):
        raise InputError("prompts", "a text", "a sequence of texts")
    if n < 1 or (n > 1 and temperature == 0):
        raise InputError("n", n, "1 at temperature 0 (all would be the same), else 1 or more")
    end = tokenizer.eos_token_id
    room = context_length(model) - max_new_tokens
    if max_new_tokens < 1 or room < 1:
        raise InputError("max_new_tokens", max_new_tokens, f"from 1 to {context_length(model) - 1}")
    white = [trailing_white(p) if heal else "" for p in prompts]
    rows = [encode(tokenizer, p[: len(p) - len(w)]) or [end] for p, w in zip(prompts, white, strict=True)]
    long = sum(len(row) > room for row in rows)
    if long:
        warnings.warn(f"{long} of {len(rows)} prompts are longer than the context: cut at the beginning", stacklevel=2)
    order = sorted((i for i in range(len(rows)) for _ in range(n)), key=lambda i: (-len(rows[i]), i))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    sampling = _sampling(temperature, top_p, options)
    found: list[list[str]] = [[] for _ in rows]
    for number, batch in enumerate(progress(batches, "completing", len(batches))):
        cut = [rows[i][-room:] for i in batch]
        made = _generate(
            model, tokenizer, None, cut, [white[i] for i in batch], max_new_tokens, sampling, seed + number
        )
        for i, ids in zip(batch, made, strict=True):
            stop = ids.index(end) if end in ids else len(ids)
            text = decode(tokenizer, ids[:stop]).removeprefix(white[i])
            found[i].append(truncate_completion(text) if truncate else text)
    return found


def truncate_completion(text: str, stops: Sequence[str] = STOPS) -> str:
    """A completion up to where it leaves the function that was asked for.

    It ends in front of the second line that starts with ``def``, of the second that starts with ``print``, of the first
    match of ``stops`` (regular expressions, ^ at every line), and of ``<|endoftext|>``.
    """
    for word in ("print", "def"):
        starts = list(re.finditer(f"^{word}", text, re.MULTILINE))
        if len(starts) > 1:
            text = text[: starts[1].start()]
    matches = [re.search(stop, text, re.MULTILINE) for stop in (*stops, re.escape("<|endoftext|>"))]
    return text[: min((m.start() for m in matches if m), default=len(text))]


def split_holes(text: str, marker: str = MARKER) -> list[str]:
    """The pieces of a text around its holes, which are written as ``marker``. Raises InputError where there is none."""
    pieces = text.split(marker)
    if len(pieces) < 2:
        raise InputError("file", f"a text without {marker}", f"{marker} where something is to be written")
    return pieces


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text, in which the names of special tokens are ordinary text."""
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"])


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of token ids, as it is."""
    return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def trailing_white(text: str) -> str:
    """The white space that a text ends in."""
    found = _TRAILING.search(text)
    return found[0] if found else ""


def _sampling(temperature: float, top_p: float, options: dict[str, Any]) -> dict[str, Any]:
    if not temperature >= 0:
        raise InputError("temperature", temperature, "0 or more")
    if not 0 < top_p <= 1:
        raise InputError("top_p", top_p, "a share above 0, at most 1")
    if options.get("num_beams", 1) != 1:
        raise InputError("num_beams", options["num_beams"], "1: beams are not kept apart while white space is forced")
    if temperature == 0:
        if options.get("do_sample"):
            raise InputError("temperature", 0, "a temperature above 0, to sample")
        return {**options, "do_sample": False}
    return {"top_k": 0, **options, "do_sample": True, "temperature": temperature, "top_p": top_p}


def _generate(
    model: Any,
    tokenizer: Any,
    tokens: InfillTokens | None,
    rows: list[list[int]],
    forced: list[str],
    max_new_tokens: int,
    sampling: dict[str, Any],
    seed: int,
) -> list[list[int]]:
    """The new tokens of each row, with what ends it."""
    from transformers import GenerationConfig, LogitsProcessorList

    end = tokenizer.eos_token_id
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
    longest = max(map(len, rows))
    device = model.device
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        pad_token_id=pad,
        eos_token_id=[end] if tokens is None else [tokens.end, tokens.eom],
        **sampling,
    )
    processors = [_Forced(tokenizer, forced, longest)] if any(forced) else []
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode(), evaluation_mode(model):
        torch.manual_seed(seed)
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=LogitsProcessorList(processors),
        )
    return [row[longest:] for row in out.tolist()]


class _Forced:
    """A logits processor: each row's answer begins with a given white space, in whatever tokens are most likely."""

    def __init__(self, tokenizer: Any, forced: list[str], start: int) -> None:
        self.texts = _white_tokens(tokenizer)
        self.left, self.start = list(forced), start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for row, left in enumerate(self.left):
            if not left:
                continue
            if input_ids.shape[1] > self.start:
                said = self.texts.get(int(input_ids[row, -1]), "")
                left = self.left[row] = left[len(said) :] if left.startswith(said) else ""
                if not left:
                    continue
            allowed = [
                i for i, t in self.texts.items() if i < scores.shape[1] and (left.startswith(t) or t.startswith(left))
            ]
            if allowed:
                kept = scores[row, allowed].clone()
                scores[row] = -torch.inf
                scores[row, allowed] = kept
        return scores


_KNOWN: WeakKeyDictionary[Any, dict[int, str]] = WeakKeyDictionary()


def _white_tokens(tokenizer: Any) -> dict[int, str]:
    """Ids and texts of the tokens that begin with white space."""
    if tokenizer not in _KNOWN:
        special = set(tokenizer.all_special_ids)
        before = encode(tokenizer, "a")  # tokenizers that drop a space at the start show it behind a letter
        ids = [i for i in sorted(tokenizer.get_vocab().values()) if i not in special]
        start = len(decode(tokenizer, before))
        texts = tokenizer.batch_decode([[*before, i] for i in ids], clean_up_tokenization_spaces=False)
        pairs = ((i, text[start:]) for i, text in zip(ids, texts, strict=True))
        _KNOWN[tokenizer] = {i: text for i, text in pairs if text[:1].isspace()}
    return _KNOWN[tokenizer]
