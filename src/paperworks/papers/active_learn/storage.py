"""Policies in folders: ``problem.json`` beside the network's ``config.json`` and ``model.safetensors``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.papers.active_learn.network import PolicyNetwork
from paperworks.papers.active_learn.observations import Binary, Gaussian
from paperworks.papers.active_learn.policies import History, RandomisedPolicy
from paperworks.papers.active_learn.problem import ActiveProblem, Box
from paperworks.runs.files import new_folder

PROBLEM, NETWORK = "problem.json", "network"
VERSION = 1


class LearnedPolicy(RandomisedPolicy):
    """A policy whose probabilities are a network's. It samples, as minimax policies must; no argmax is taken."""

    name = "learned"

    def __init__(self, problem: ActiveProblem, network: PolicyNetwork) -> None:
        super().__init__(problem)
        sizes = (network.n_queries, network.n_outputs)
        if sizes != (problem.n_queries, problem.n_outputs):
            raise InputError("network", f"{sizes} queries and outputs", f"{problem.n_queries, problem.n_outputs}")
        self.network = network

    def begin(self, n: int) -> History:
        return History.empty(self.problem, n, self.network.middle.device)

    def observe(self, history: History, queries: torch.Tensor, answers: torch.Tensor) -> None:
        super().observe(history, queries, answers)
        self.network.remember(history, queries, answers)

    def query_probabilities(self, history: History) -> torch.Tensor:
        return self.network.query_logits(history).softmax(1)

    def output_probabilities(self, history: History) -> torch.Tensor:
        return self.network.output_logits(history).softmax(1)

    def save(self, folder: str | Path) -> Path:
        """Write the policy to a new or empty folder. Raises InputError for a taken folder, and for a callable law."""
        content = problem_to_dict(self.problem)
        with new_folder(Path(folder)) as out:
            self.network.save_pretrained(out / NETWORK)
            (out / PROBLEM).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> LearnedPolicy:
        """Read what ``save`` wrote; its probabilities are the same to the bit."""
        source = Path(folder).expanduser()
        return cls(read_problem(source / PROBLEM), PolicyNetwork.from_pretrained(source / NETWORK, device))


def problem_to_dict(problem: ActiveProblem) -> dict[str, Any]:
    """JSON-ready content of a game. Raises InputError for one whose law is a function."""
    if problem.link is not None:
        raise InputError("observation", "a function, which cannot be saved", "gaussian, bernoulli or sign")
    law, thetas = problem.observation, problem.theta_set
    return {
        "version": VERSION,
        "queries": problem.queries.tolist(),
        "outputs": problem.n_outputs if problem.outputs is None else problem.outputs.tolist(),
        "observation": {"kind": "gaussian" if isinstance(law, Gaussian) else "binary", **asdict(law)},
        "loss": problem.loss if problem.loss_matrix is None else problem.loss_matrix.tolist(),
        "horizon": problem.horizon,
        "theta_set": asdict(thetas) if isinstance(thetas, Box) else thetas.tolist(),
        "query_names": list(problem.query_names),
        "output_names": list(problem.output_names),
        "symmetric": problem.symmetric,
        "notes": list(problem.notes),
    }


def problem_from_dict(content: dict[str, Any]) -> ActiveProblem:
    """The game that ``problem_to_dict`` described."""
    law = dict(content["observation"])
    kind = law.pop("kind")
    thetas = content["theta_set"]
    return ActiveProblem(
        content["queries"],
        content["outputs"],
        Gaussian(**law) if kind == "gaussian" else Binary(**law),
        content["loss"] if isinstance(content["loss"], str) else np.array(content["loss"]),  # type: ignore[arg-type]
        content["horizon"],
        Box(**thetas) if isinstance(thetas, dict) else thetas,
        query_names=content["query_names"],
        output_names=content["output_names"],
        symmetric=content["symmetric"],
        notes=content["notes"],
    )


def read_problem(path: Path) -> ActiveProblem:
    """The game in a JSON file. Raises InputError, naming ``folder``, for a file that is not there or is no game."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise InputError("folder", f"{path}, of version {content['version']}", f"version {VERSION}")
        return problem_from_dict(content)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("folder", f"{path} ({error})", "the folder of a saved policy") from None
