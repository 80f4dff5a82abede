"""A task in miniature: repeat a letter n times; the letter's case is irrelevant (section 3.5 of the paper).

A prompt such as ``x07:`` asks for the letter 7 times and ``$``. The model is a causal transformer over characters with
2 layers, 64 dimensions and 4 heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from paperworks.language.generation.protocol import Keep, SampleRequest
from paperworks.papers.spar.judges import Item, Judgement
from paperworks.papers.spar.prompts import InstructionPrompt
from paperworks.papers.spar.refiners import RefineRequest, Repair, request_seed

CHARACTERS = "0123456789:$abcdefghijABCDEFGHIJ"
INDEX = {c: i + 1 for i, c in enumerate(CHARACTERS)}
LETTERS, SHORTEST, LONGEST, ROOM = "abcdefghij", 3, 12, 16
PROMPT = 4


def make_model(seed: int) -> Any:
    """A new model, its weights drawn from the seed."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(CHARACTERS) + 1,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=INDEX["$"],
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def wrong_length(n: int, rng: np.random.Generator) -> int:
    """n, off by 1 or 2."""
    return n + int(rng.choice([-2, -1, 1, 2]))


def text_of(letter: str, count: int, upper: bool) -> str:
    """A response: the letter so often, and the end."""
    return (letter.upper() if upper else letter) * count + "$"


def drawn_prompt(rng: np.random.Generator) -> tuple[str, str, int]:
    """(prompt, letter, n)."""
    letter, n = str(rng.choice(list(LETTERS))), int(rng.integers(SHORTEST, LONGEST + 1))
    return f"{letter}{n:02d}:", letter, n


def encode(prompt: str, response: str) -> dict[str, list[int]]:
    """Ids with labels on the response."""
    ids = [INDEX[c] for c in prompt + response]
    return {"input_ids": ids, "labels": [-100] * len(prompt) + ids[len(prompt) :], "attention_mask": [1] * len(ids)}


def noisy_batch(_step: int, count: int, rng: np.random.Generator) -> Any:
    """Examples to begin with: the right length with probability 0.45, otherwise off by 1 or 2; either case."""
    letter, n = rng.integers(len(LETTERS), size=count), rng.integers(SHORTEST, LONGEST + 1, size=count)
    right, upper = rng.random(count) < 0.45, rng.random(count) < 0.5
    size = np.where(right, n, n + rng.choice([-2, -1, 1, 2], size=count))
    place = np.arange(PROMPT + LONGEST + 3)[None] - PROMPT  # of the response, from 0
    ids = np.where(place < size[:, None], INDEX["a"] + letter[:, None] + len(LETTERS) * upper[:, None], 0)
    ids = np.where(place == size[:, None], INDEX["$"], ids)
    ids[:, :PROMPT] = np.stack([INDEX["a"] + letter, 1 + n // 10, 1 + n % 10, np.full(count, INDEX[":"])], 1)
    labels = np.where((place >= 0) & (ids > 0), ids, -100)
    columns = {"input_ids": ids, "labels": labels, "attention_mask": ids > 0}
    return {name: torch.from_numpy(values.astype(np.int64)) for name, values in columns.items()}


def pairs(kind: str, count: int, rng: np.random.Generator) -> list[tuple[str, str, str]]:
    """(prompt, chosen, rejected): right against wrong length.

    Case: "refinement", the same in both; "interfering", chosen upper and rejected lower; "independent", each drawn.
    """
    found = []
    for _ in range(count):
        prompt, letter, n = drawn_prompt(rng)
        first, second = (bool(value) for value in rng.random(2) < 0.5)
        cases = {"refinement": (first, first), "interfering": (True, False), "independent": (first, second)}[kind]
        found.append((prompt, text_of(letter, n, cases[0]), text_of(letter, wrong_length(n, rng), cases[1])))
    return found


def pair_rows(model: Any, given: Sequence[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """Encoded pairs with the log-probabilities of the model as reference."""
    from paperworks.papers.spar.examples import pad_pairs
    from paperworks.papers.spar.loss import pair_batch, response_log_probabilities

    rows: list[dict[str, Any]] = []
    for prompt, chosen, rejected in given:
        sides = {"chosen": encode(prompt, chosen), "rejected": encode(prompt, rejected)}
        rows.append({f"{side}_{name}": ids for side, one in sides.items() for name, ids in one.items()})
    with torch.no_grad():
        values = response_log_probabilities(model, pair_batch(pad_pairs(rows))).tolist()
    for i, row in enumerate(rows):
        row |= {"reference_chosen": values[i], "reference_rejected": values[len(rows) + i]}
    return rows


def sample(model: Any, prompts: Sequence[str], generator: torch.Generator) -> list[str]:
    """A response to each prompt at temperature 1, without the end; one that does not end is cut."""
    last = torch.tensor([[INDEX[c] for c in prompt] for prompt in prompts])
    drawn, past = [], None
    with torch.no_grad():
        for _ in range(ROOM):
            out = model(input_ids=last, past_key_values=past, use_cache=True)
            logits, past = out.logits[:, -1].float(), out.past_key_values
            logits[:, 0] = -torch.inf
            last = torch.multinomial(logits.softmax(1), 1, generator=generator)
            drawn.append(last)
    texts = ["".join(CHARACTERS[i - 1] for i in row) for row in torch.cat(drawn, 1).tolist()]
    return [text.partition("$")[0] if "$" in text else f"{text}!" for text in texts]


def obeys(prompt: str, response: str) -> bool:
    """Whether a response is the letter, in any case, so often."""
    return response.lower() == prompt[0] * int(prompt[1:3])


def measure(model: Any, seed: int, count: int = 600) -> tuple[float, float]:
    """(share of right lengths, share of capital letters among the first letters) of sampled responses."""
    rng = np.random.default_rng([seed, 99])
    prompts = [drawn_prompt(rng)[0] for _ in range(count)]
    texts = sample(model, prompts, torch.Generator().manual_seed(seed))
    right = [obeys(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
    return float(np.mean(right)), float(np.mean([text[:1].isupper() for text in texts]))


@dataclass
class LetterActor:
    """The model as a generator of single answers."""

    model: Any
    identity: str = "letters"

    def generate(self, prompts: Any, settings: Any) -> list[list[str]]:
        """Not used: answers are asked for one by one."""
        raise NotImplementedError

    def samples(self, requests: Sequence[SampleRequest], keep: Keep | None = None) -> Iterator[tuple[int, str]]:
        """All answers in one batch, drawn from the seed of the first."""
        first = requests[0]
        generator = torch.Generator().manual_seed(first.settings.sample_seed(first.prompt, first.number))
        asked = [str(r.prompt[-1]["content"]) for r in requests]  # type: ignore[index]
        for place, text in enumerate(sample(self.model, asked, generator)):
            if keep is not None:
                keep(place, text)
            yield place, text


class LetterJudge:
    """Counts."""

    def judge(self, items: Sequence[Item]) -> list[Judgement]:
        """One vote each."""
        found = [obeys(prompt.text, text) for prompt, text in items]
        return [Judgement("", float(good), (int(good),)) for good in found]


@dataclass(frozen=True)
class LetterEditor:
    """Changes the length by one or two: towards the right one with probability 0.6; the case stays."""

    seed: int = 0

    def refine(self, requests: Sequence[RefineRequest]) -> list[Repair | None]:
        """A repair for every request."""
        found: list[Repair | None] = []
        for request in requests:
            rng = np.random.default_rng([self.seed, request_seed(0, request)])
            text, n = request.response, int(request.prompt.text[1:3])
            letter = text[0] if text[:1].lower() == request.prompt.text[0] else request.prompt.text[0]
            step = int(rng.integers(1, 3)) * int(np.sign(n - len(text)) if rng.random() < 0.6 else rng.choice([-1, 1]))
            changed = letter * max(1, len(text) + step)
            found.append(Repair(changed, changed))
        return found


def letter_prompts(count: int, rng: np.random.Generator) -> list[InstructionPrompt]:
    """Some of the 100 prompts of the task, in a random order."""
    every = [f"{letter}{n:02d}:" for letter in LETTERS for n in range(SHORTEST, LONGEST + 1)]
    chosen = rng.permutation(every)[:count]
    return [InstructionPrompt(str(text), ({"role": "user", "content": str(text)},)) for text in chosen]
