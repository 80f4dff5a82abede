"""The lessons on byte models (``byte_models``): infilling, its price, prefix models, code and prose, epochs.

Reduced from the specification: in place of 2,400 steps, 300 for code and prose, 150 for the mixture and its rivals
(three seeds each), and 400 where infilling is measured in pairs; 100 kB in place of 1 MB for epochs; the bundled
English (the King James text, WordNet, the Jargon File) as prose.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.codegen2.fitting import Objective
from paperworks.papers.codegen2.studies.byte_models import (
    MIDDLE,
    PREFIX,
    RIVAL_TOKENS,
    SUFFIX,
    bits,
    continued,
    infill_rows,
    left_to_right,
    trained,
    windows,
)
from paperworks.runs import Finding

STEPS, OBJECTIVE_STEPS, PAIR_STEPS, SEEDS, WINDOWS = 300, 150, 400, 3, 1500
SUBSET, RAW_BYTES = 100_000, 24 * 96
KNOWN = (PREFIX + MIDDLE + SUFFIX) * 3 // 4
"""Bytes of a window that are shown where UL2 continues: its S denoiser hides the last quarter."""


@runs.study(claims=["simple-mixture"], title="infilling with the true and with another suffix", minutes=3)
def infill_pairs(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """One model of the mixture; each held-out window with its own suffix and with that of another window."""
    rows = windows("code", 60 if fast else WINDOWS)
    run.step("training a byte model with the mixture")
    model = trained("mix", "code", 0, 4 if fast else PAIR_STEPS)
    suffixes = rows[:, PREFIX + MIDDLE :]
    true = bits(model, infill_rows(rows, suffixes), -MIDDLE + 1)
    other = bits(model, infill_rows(rows, np.roll(suffixes, 1, 0)), -MIDDLE + 1)
    plain = bits(model, rows, PREFIX, PREFIX + MIDDLE)
    yield Finding(
        "simple-mixture",
        f"{len(rows):,} held-out windows: bits per byte of the hole with its own suffix less those with another "
        "window's suffix; the interval is three standard errors.",
        "empirical",
        mean_interval(true - other, level=0.9973, unit="windows"),
        "<",
        0.0,
        baseline=float(other.mean()),
        baseline_name="another window's suffix",
        unit="bits per byte",
        detail=f"own suffix {true.mean():.3f}, another's {other.mean():.3f}; the same bytes from left to right "
        f"{plain.mean():.3f}: at this size the hole's place is still being learnt. One training.",
    )


@runs.study(
    claims=["infilling-not-free", "prefix-lm-no-benefit", "simple-mixture"],
    title="the mixture, prefix models, PSM and UL2 against next-token prediction",
    minutes=11,
)
def objectives(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Next token, mixture, prefix model, PSM, UL2: the same steps, the same raw bytes, three seeds."""
    rows = windows("code", 60 if fast else WINDOWS)
    steps, seeds = (4, 2) if fast else (OBJECTIVE_STEPS, SEEDS)
    names: tuple[Objective, ...] = ("clm", "mix", "prefix", "psm", "ul2")
    whole: dict[str, list[float]] = {name: [] for name in names}
    quarter: dict[str, list[float]] = {name: [] for name in names}
    assert RIVAL_TOKENS.modes is not None
    for name, seed in run.progress([(name, seed) for name in names for seed in range(seeds)], "trainings"):
        model = trained(name, "code", seed, steps, tokens=RIVAL_TOKENS)
        whole[name].append(float(left_to_right(model, rows).mean()))
        mode = RIVAL_TOKENS.modes[1] if name == "ul2" else None
        quarter[name].append(float(continued(model, rows, KNOWN, mode).mean()))
    found = {name: np.array(values) for name, values in whole.items()}
    last = {name: np.array(values) for name, values in quarter.items()}
    clm = found["clm"]
    words = {"clm": "next token", "mix": "mixture", "prefix": "prefix model", "psm": "PSM"}
    shown = "bits per byte from left to right: "
    shown += ", ".join(f"{word} {found[name].mean():.3f}" for name, word in words.items())
    for name, word in (("mix", "the mixture"), ("psm", "prefix-suffix-middle, half of the sequences,")):
        yield Finding(
            "infilling-not-free",
            f"Left to right, bits per byte: {word} relative to next-token prediction alone.",
            "empirical",
            mean_interval(found[name] / clm),
            ">=",
            1.0,
            baseline=float(clm.mean()),
            baseline_name="bits of next-token prediction",
            detail=shown,
        )
    yield Finding(
        "simple-mixture",
        "Left to right, bits per byte: the mixture relative to next-token prediction alone.",
        "empirical",
        mean_interval(found["mix"] / clm),
        "<",
        1.10,
        baseline=float(clm.mean()),
        baseline_name="bits of next-token prediction",
        detail=shown,
    )
    yield Finding(
        "prefix-lm-no-benefit",
        "Left to right, bits per byte: the prefix model less next-token prediction.",
        "empirical",
        mean_interval(found["prefix"] - clm),
        ">",
        0.0,
        baseline=float(clm.mean()),
        baseline_name="next-token prediction",
        unit="bits per byte",
        detail=shown,
    )
    yield Finding(
        "prefix-lm-no-benefit",
        f"The last {PREFIX + MIDDLE + SUFFIX - KNOWN} bytes of a window, bits per byte: UL2 on a prefix model, in the "
        "format of its S denoiser, less next-token prediction.",
        "empirical",
        mean_interval(last["ul2"] - last["clm"]),
        ">",
        0.0,
        baseline=float(last["clm"].mean()),
        baseline_name="next-token prediction",
        unit="bits per byte",
        detail=f"UL2 {last['ul2'].mean():.3f}, next token {last['clm'].mean():.3f}, mixture {last['mix'].mean():.3f}; "
        f"UL2 reads the {KNOWN} bytes before in both directions, the others from left to right",
    )


@runs.study(claims=["code-and-prose"], title="one model for code and prose against two specialists", minutes=7)
def domains(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Trained on code, on English, and on both with equal probability; the same steps; three seeds."""
    steps, seeds = (4, 2) if fast else (STEPS, SEEDS)
    rows = {kind: windows(kind, 60 if fast else WINDOWS) for kind in ("code", "prose")}  # type: ignore[arg-type]
    found: dict[tuple[str, str], list[float]] = {}
    jobs = [(data, seed) for data in ("code", "prose", "both") for seed in range(seeds)]
    for data, seed in run.progress(jobs, "trainings"):
        model = trained("clm", data, seed, steps)  # type: ignore[arg-type]
        for kind, held in rows.items():
            found.setdefault((data, kind), []).append(float(left_to_right(model, held).mean()))
    means = {key: float(np.mean(values)) for key, values in found.items()}
    for kind, wrong in (("code", "prose"), ("prose", "code")):
        detail = f"held-out {kind}: specialist {means[kind, kind]:.3f}, both {means['both', kind]:.3f}, "
        detail += f"model of {wrong} {means[wrong, kind]:.3f} bits per byte"
        for other, relation in ((kind, ">"), (wrong, "<")):
            yield Finding(
                "code-and-prose",
                f"Held-out {kind}, bits per byte: the model of both less the model of {other} alone.",
                "empirical",
                mean_interval(np.array(found["both", kind]) - np.array(found[other, kind])),
                relation,  # type: ignore[arg-type]
                0.0,
                baseline=means[other, kind],
                baseline_name=f"the model of {other}",
                unit="bits per byte",
                detail=detail,
            )


@runs.study(claims=["several-epochs"], title="one and five passes over the same code", minutes=8)
def epochs(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """A fixed subset of the code once and five times, the schedule stretched; the mixture; three seeds.

    One pass over five times as much code has as many steps as the five passes: what of the gain is more steps, and what
    fresh code is worth beyond that.
    """
    most = 20_000 if fast else SUBSET
    rows = windows("code", 60 if fast else WINDOWS)
    seeds = 2 if fast else SEEDS
    steps = max(1, most // RAW_BYTES)
    jobs = {"once": (steps, most), "five": (5 * steps, most), "fresh": (5 * steps, 5 * most)}
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for name, seed in run.progress([(name, seed) for name in jobs for seed in range(seeds)], "trainings"):
        length, size = jobs[name]
        found[name].append(float(left_to_right(trained("mix", "code", seed, length, size), rows).mean()))
    once, five, fresh = (np.array(found[name]) for name in jobs)
    yield Finding(
        "several-epochs",
        f"Held-out code, bits per byte: five passes over {most // 1000} kB less one pass over them. The schedule is "
        "stretched, so that five passes are five times the steps.",
        "empirical",
        mean_interval(five - once),
        "<",
        0.0,
        baseline=float(once.mean()),
        baseline_name="one pass",
        unit="bits per byte",
        detail=f"one pass {once.mean():.3f}, five {five.mean():.3f}; as many steps in one pass over "
        f"{5 * most // 1000} kB {fresh.mean():.3f}, five passes less that {mean_interval(five - fresh)}",
    )
