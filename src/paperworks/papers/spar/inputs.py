"""The prompts of a run: read, or made from requests; split, and compared with a benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.spar.config import Config
from paperworks.papers.spar.overlap import Overlap, overlaps
from paperworks.papers.spar.prompts import InstructionPrompt, check_prompts, read_prompts, write_prompts
from paperworks.papers.spar.taxonomy import Seed, make_prompts, read_seeds, rewrite_prompts
from paperworks.papers.spar.words import INSTRUCTIONS, word_seeds

BUNDLED_PER_ROUND = 40
BUNDLED_TEST = 60


@dataclass(frozen=True)
class Inputs:
    """The prompts of a run.

    Attributes
    ----------
    train, test : to play on, and to score on.
    rounds : the prompts of each round.
    overlaps, dropped : training prompts that share words with the benchmark, and ids that were left out for it.
    benchmark : what they were compared with, in words; empty where with nothing.
    lead : how the input was understood.
    """

    train: list[InstructionPrompt]
    test: list[InstructionPrompt]
    rounds: list[list[InstructionPrompt]]
    overlaps: list[Overlap]
    dropped: list[str]
    benchmark: str
    lead: list[str] = field(default_factory=list)


def read_inputs(config: Config, run: runs.Run, template: str | None) -> Inputs:
    """Read or make the prompts, split them, and write them to ``prompts.jsonl`` and ``test_prompts.jsonl``."""
    lead: list[str] = []
    found = _all(config, run, template, lead)
    if config.test_prompts:
        test = read_prompts(config.test_prompts, "test_prompts")
        train = found
    else:
        count = BUNDLED_TEST if _words(config) else round(config.test_share * len(found))
        count = min(count, len(found) - 1)
        order = run.rng("split").permutation(len(found))
        if _words(config):
            order = order[::-1]
        chosen = set(order[:count].tolist())
        test = [one for i, one in enumerate(found) if i in chosen]
        train = [one for i, one in enumerate(found) if i not in chosen]
    made = config.prompts == "words" and not config.test_prompts  # its prompts share the words that ask for things
    benchmark = read_prompts(config.benchmark, "benchmark") if config.benchmark else [] if made else test
    shared = overlaps(train, benchmark, config.ngram)
    dropped = [one.id for one in shared] if config.drop_overlaps else []
    train = [one for one in train if one.id not in set(dropped)]
    if not train:
        raise InputError("drop_overlaps", "every prompt overlaps with the benchmark", "prompts of your own")
    write_prompts(train, run.files / "prompts.jsonl")
    if test:
        write_prompts(test, run.files / "test_prompts.jsonl")
    name = config.benchmark or ("" if made else "the test prompts")
    return Inputs(train, test, _rounds(config, run, train), shared, dropped, name, lead)


def _words(config: Config) -> bool:
    return config.prompts == "words" and config.seeds is None


def _all(config: Config, run: runs.Run, template: str | None, lead: list[str]) -> list[InstructionPrompt]:
    if _words(config):
        per_round = config.prompts_per_round or BUNDLED_PER_ROUND
        count = config.rounds * per_round + (0 if config.test_prompts else BUNDLED_TEST)
        lead.append(f"{count} prompts were made: define a word of WordNet, under one or two verifiable instructions.")
        return check_prompts(make_prompts(word_seeds(count, config.seed), seed=config.seed, instructions=INSTRUCTIONS))
    if config.seeds is None:
        return read_prompts(config.prompts)
    seeds = read_seeds(config.seeds)
    if not config.rewrite:
        lead.append(f"{len(seeds)} prompts were made of your requests, with one to three verifiable instructions each.")
        return check_prompts(make_prompts(seeds, seed=config.seed, more=(0, 2)), "seeds")
    return _rewritten(config, run, template, seeds, lead)


def _rewritten(
    config: Config, run: runs.Run, template: str | None, seeds: list[Seed], lead: list[str]
) -> list[InstructionPrompt]:
    from paperworks.papers.spar.models import Models

    models = Models(config, run, template)
    run.step("rewriting requests")
    with models.crew(None, None, "model") as crew:
        tokens = models.fitting(getattr(crew.actor, "generator", crew.actor), 1024)
        done = rewrite_prompts(seeds, crew.actor, max_new_tokens=tokens, seed=config.seed)
    reasons = {reason: list(done.dropped.values()).count(reason) for reason in dict.fromkeys(done.dropped.values())}
    said = "".join(f"; {count} dropped: {reason}" for reason, count in reasons.items())
    lead.append(f"{len(done.prompts)} of {len(seeds)} requests were rewritten by the model{said}.")
    if not done.prompts:
        raise InputError("rewrite", "no request that the model rewrote", "a model that follows instructions")
    return check_prompts(done.prompts, "seeds")


def _rounds(config: Config, run: runs.Run, train: list[InstructionPrompt]) -> list[list[InstructionPrompt]]:
    """The prompts of every round: others each time while there are enough, then the same again."""
    size = min(config.prompts_per_round or (BUNDLED_PER_ROUND if _words(config) else 10_000), len(train))
    order = run.rng("rounds").permutation(len(train)).tolist()
    return [[train[order[(start * size + i) % len(order)]] for i in range(size)] for start in range(config.rounds)]
