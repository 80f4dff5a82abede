"""Refiners: what repairs a response after a critique."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from paperworks.errors import InputError
from paperworks.language.generation import GenerationSettings, Generator, SampleRequest, generate_samples
from paperworks.papers.spar.prompts import InstructionPrompt
from paperworks.papers.spar.wording import END, START, parse_block, refine_chat
from paperworks.parameters import check_seed


class RefineRequest(NamedTuple):
    """One repair that is wanted: the ``number``-th in its search."""

    prompt: InstructionPrompt
    response: str
    critique: str
    number: int


class Repair(NamedTuple):
    """A repaired response, and the refiner's whole reply: reflection and output."""

    response: str
    reply: str


@runtime_checkable
class Refiner(Protocol):
    """Anything that repairs responses."""

    def refine(self, requests: Sequence[RefineRequest]) -> list[Repair | None]:
        """A repair for each request; None where none could be read."""
        ...


@dataclass(frozen=True)
class ModelRefiner:
    """A language model that repairs in a second turn after its judgement.

    Attributes
    ----------
    generator : answers chats.
    temperature, top_p, max_new_tokens : of the replies.
    attempts : replies until one has an output between the marks.
    seed : of the draws.
    """

    generator: Generator
    temperature: float = 0.7
    top_p: float = 1.0
    max_new_tokens: int = 3072
    attempts: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)
        if self.attempts < 1:
            raise InputError("attempts", self.attempts, "1 or more")
        if self.temperature == 0:
            raise InputError("refine_temperature", 0, "a temperature above 0: repairs of one node must differ")

    def refine(self, requests: Sequence[RefineRequest]) -> list[Repair | None]:
        """Replies for all requests together; those without an output are asked again."""
        settings = GenerationSettings(
            max_new_tokens=self.max_new_tokens, temperature=self.temperature, top_p=self.top_p, seed=self.seed
        )
        found: list[Repair | None] = [None] * len(requests)
        for attempt in range(self.attempts):
            wanted = [i for i, one in enumerate(found) if one is None]
            asked = [
                SampleRequest(refine_chat(r.prompt, r.response, r.critique), settings, self._number(r, attempt))
                for r in (requests[i] for i in wanted)
            ]
            for i, reply in zip(wanted, generate_samples(self.generator, asked) if asked else [], strict=True):
                output = parse_block(reply)
                found[i] = None if output is None else Repair(output, reply)
        return found

    def _number(self, request: RefineRequest, attempt: int) -> int:
        return request.number * self.attempts + attempt


@dataclass(frozen=True)
class FunctionRefiner:
    """A function of prompt, response, critique and (where it takes four arguments) seed as a refiner.

    It returns the repaired response, or None.
    """

    function: Callable[..., str | None]
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)

    @property
    def takes_seed(self) -> bool:
        """Whether the function has a fourth argument."""
        try:
            return len(inspect.signature(self.function).parameters) > 3
        except (TypeError, ValueError):
            return True

    def refine(self, requests: Sequence[RefineRequest]) -> list[Repair | None]:
        """One call for each request; a text that is empty counts as none."""
        found: list[Repair | None] = []
        for request in requests:
            seed = (self.seed_of(request),) if self.takes_seed else ()
            output = self.function(request.prompt, request.response, request.critique, *seed)
            if output is not None and not isinstance(output, str):
                raise InputError("refiner", f"{type(output).__name__} from the function", "a text, or None")
            found.append(Repair(output, as_reply(output)) if output and output.strip() else None)
        return found

    def seed_of(self, request: RefineRequest) -> int:
        """The seed of one repair: a whole number below 2**32."""
        return request_seed(self.seed, request)


@dataclass(frozen=True)
class RuleEditor:
    """A program that repairs verifiable instructions, with noise: it stands in for a model as refiner.

    Attributes
    ----------
    repair : probability that a violated instruction is repaired.
    harm : probability that the response is spoilt afterwards: a comma and capital letters put in, or its end cut.
    seed : of the draws.
    """

    repair: float = 0.6
    harm: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)
        for name in ("repair", "harm"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(name, getattr(self, name), "a probability")

    def refine(self, requests: Sequence[RefineRequest]) -> list[Repair | None]:
        """One edit for each request."""
        return [self._one(request) for request in requests]

    def _one(self, request: RefineRequest) -> Repair:
        import numpy as np

        from paperworks.papers.spar.edits import edit, spoil

        rng = np.random.default_rng(request_seed(self.seed, request))
        text, changed = request.response, []
        for one in request.prompt.instructions:
            if not one.follows(text) and rng.random() < self.repair:
                text = edit(one, text, request.prompt, rng)
                changed.append(one.describe())
        if rng.random() < self.harm:
            text = spoil(text, rng)
        thoughts = f"To change: {' '.join(changed)}" if changed else "Nothing has to change."
        return Repair(text, as_reply(text, thoughts))


def as_reply(output: str, reflection: str = "") -> str:
    """Reflection and output as a refiner writes them."""
    return f"{reflection}\n{START}\n{output}\n{END}".lstrip()


def request_seed(seed: int, request: RefineRequest) -> int:
    """A seed for one repair that depends on nothing beside the request and ``seed``."""
    content = f"{seed}\0{request.prompt.id}\0{request.number}\0{request.response}"
    return zlib.crc32(content.encode("utf-8", "surrogatepass"))


def as_refiner(given: Any, **options: Any) -> Refiner:
    """A refiner from a refiner, a generator (with the options of ``ModelRefiner``), or a function."""
    if isinstance(given, Refiner):
        return given
    if isinstance(given, Generator):
        return ModelRefiner(given, **options)
    if callable(given):
        return FunctionRefiner(given, options.get("seed", 0))
    raise InputError("refiner", type(given).__name__, "a refiner, a generator or a function")
