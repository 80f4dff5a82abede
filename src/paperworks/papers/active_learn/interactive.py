"""A saved policy that asks: in the terminal, and as one HTML file that plays the network in the browser."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paperworks.errors import InputError, PaperworksError
from paperworks.papers.active_learn.observations import Binary
from paperworks.papers.active_learn.policies import Policy
from paperworks.papers.active_learn.problem import ActiveProblem
from paperworks.papers.active_learn.storage import LearnedPolicy
from paperworks.runs.files import write_text

SHOWN = 5
YES, NO = ("y", "yes", "1", "true"), ("n", "no", "0", "false", "-1")
USAGE = "usage: python -m paperworks.papers.active_learn FOLDER [SEED]   (the folder of a saved policy)"


def parse_answer(problem: ActiveProblem, text: str) -> float:
    """What a person typed as an answer. Raises InputError for anything else than an answer."""
    law, word = problem.observation, text.strip().lower()
    if isinstance(law, Binary):
        if word in YES:
            return law.high
        if word in NO:
            return law.low
        raise InputError("answer", repr(text.strip()), "yes or no")
    try:
        return law.check(float(word))
    except ValueError:
        raise InputError("answer", repr(text.strip()), "a number") from None


def play(
    policy: Policy, seed: int = 0, read: Callable[[str], str] = input, write: Callable[[str], None] = print
) -> int | None:
    """Ask a person until the budget is spent; returns the output's index, or None where they stopped at once.

    An empty line, ``stop`` or the end of the input ends the questions: the policy says what it thinks so far.
    """
    problem = policy.problem
    session = policy.start(seed)
    kind = "yes or no" if isinstance(problem.observation, Binary) else "a number"
    write(f"{problem.horizon} questions; answer {kind}; stop ends early.")
    while not session.done:
        x = session.ask()
        try:
            text = read(f"{len(session.transcript) + 1}. {problem.query_names[x]} ")
        except EOFError:
            break
        if text.strip().lower() in ("", "stop", "quit", "q"):
            break
        try:
            session.tell(parse_answer(problem, text))
        except InputError as error:
            write(f"   {error.expected}, please")
    if not session.transcript:
        return None
    z = session.recommend()
    write(f"It is: {problem.output_names[z]}")
    if isinstance(policy, LearnedPolicy):
        chances = session.probabilities()
        best = chances.argsort(descending=True)[:SHOWN].tolist()
        write("Chances: " + ", ".join(f"{problem.output_names[i]} {100 * float(chances[i]):.0f} %" for i in best))
    return z


def main(arguments: list[str] | None = None) -> int:
    """``python -m paperworks.papers.active_learn FOLDER [SEED]``."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) not in (1, 2) or given[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if given[:1] in (["-h"], ["--help"]) else 2
    try:
        seed = int(given[1]) if len(given) == 2 else 0
        play(LearnedPolicy.load(given[0]), seed)
    except (PaperworksError, ValueError) as error:
        print(f"paperworks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def session_data(policy: LearnedPolicy) -> dict[str, Any]:
    """What the page needs: names, the law of the answers, and the network's tensors. Raises InputError for a GRU."""
    network, problem = policy.network, policy.problem
    if network.kind == "gru":
        raise InputError("network", "gru", "mlp or deepsets: the page plays no recurrent network")
    law = problem.observation
    return {
        "queries": list(problem.query_names),
        "outputs": list(problem.output_names),
        "horizon": problem.horizon,
        "kind": network.kind,
        "thetas": network.n_thetas,
        "dims": network.n_dims,
        "low": law.low if isinstance(law, Binary) else None,
        "high": law.high if isinstance(law, Binary) else None,
        "sigma": None if isinstance(law, Binary) else law.sigma,
        "tensors": {name: _packed(value) for name, value in network.state_dict().items()},
    }


def _packed(value: torch.Tensor) -> dict[str, Any]:
    data = np.ascontiguousarray(value.detach().cpu().numpy().astype("<f4"))
    return {"shape": list(value.shape), "data": base64.b64encode(data.tobytes()).decode("ascii")}


def write_session(policy: LearnedPolicy, path: Path) -> Path:
    """Write the policy as one HTML file that asks and recommends, without a network or any other file."""
    template = (resources.files(__package__) / "session.html").read_text(encoding="utf-8")
    # "<" cannot end the script that holds the data
    data = json.dumps(session_data(policy)).replace("<", "\\u003c")
    write_text(path, template.replace("__DATA__", data))
    return path
