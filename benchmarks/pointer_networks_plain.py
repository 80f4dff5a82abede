"""The pointer network of pointer-networks beside a plain one of the same size: same data, batches and steps.

    python benchmarks/pointer_networks_plain.py
    python benchmarks/pointer_networks_plain.py --task hull --steps 3000 --paper

The plain network is written here from torch.nn alone: two LSTMs, additive attention, PyTorch's own initial weights.
With --paper a third one is ours with the paper's initial weights, uniform in [-0.08, 0.08].
Prints, for every seed, the held-out loss (nats per output) and the paper's metrics with greedy decoding, then the mean
difference of the losses with a 95% interval over the seeds, and the times per step, of the processor.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor, nn

from paperworks.metrics import mean_interval
from paperworks.papers.pointer_networks.estimators import decode
from paperworks.papers.pointer_networks.fitting import fit, mean_loss, training_settings
from paperworks.papers.pointer_networks.generators import make_hull, make_tsp
from paperworks.papers.pointer_networks.instances import Instances
from paperworks.papers.pointer_networks.network import Memory, PointerNetwork, State
from paperworks.papers.pointer_networks.pretrained import NetworkConfig
from paperworks.papers.pointer_networks.problems import PROBLEMS

MAKERS = {"hull": make_hull, "tsp": make_tsp}
SIZES = (5, 10)


class Plain(nn.Module):
    """A pointer network as a textbook has it; ``encode`` and ``step`` are what decoding asks for."""

    def __init__(self, hidden: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = nn.LSTM(2, hidden, batch_first=True)
            self.decoder = nn.LSTM(2, hidden, batch_first=True)
            self.w1, self.w2 = nn.Linear(hidden, hidden, bias=False), nn.Linear(hidden, hidden, bias=False)
            self.v = nn.Linear(hidden, 1, bias=False)
            self.stop, self.start = nn.Parameter(torch.randn(hidden)), nn.Parameter(torch.randn(2))

    def encode(self, points: Tensor, lengths: Tensor | None = None) -> tuple[Memory, State]:
        """All instances of a batch have one length."""
        states, (h, c) = self.encoder(points)
        keys = self.w1(torch.cat([self.stop.expand(len(points), 1, -1), states], dim=1))
        inputs = torch.cat([torch.zeros(len(points), 1, 2), points], dim=1)
        return Memory(inputs, keys, torch.ones(keys.shape[:2], dtype=torch.bool)), (h[0], c[0])

    def step(self, pointers: Tensor | None, state: State, memory: Memory) -> tuple[Tensor, State]:
        """One output of one sequence per instance (greedy decoding)."""
        read = self.start.expand(len(memory.inputs), 1, 2) if pointers is None else self._read(memory, pointers)
        out, (h, c) = self.decoder(read, (state[0][None], state[1][None]))
        return self._scores(out, memory), (h[0], c[0])

    def forward(self, points: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        """Logits of teacher forcing."""
        memory, (h, c) = self.encode(points)
        start = self.start.expand(len(points), 1, 2)
        read = torch.cat([start, self._read(memory, targets[:, :-1].clamp(min=0))], dim=1)
        return self._scores(self.decoder(read, (h[None], c[None]))[0], memory)

    def _read(self, memory: Memory, pointers: Tensor) -> Tensor:
        return memory.inputs.gather(1, pointers[..., None].expand(-1, -1, 2))

    def _scores(self, decoded: Tensor, memory: Memory) -> Tensor:
        return self.v(torch.tanh(memory.keys[:, None] + self.w2(decoded)[:, :, None])).squeeze(-1)


def trained(
    network: nn.Module, name: str, data: tuple[Instances, Instances], steps: int, seed: int
) -> tuple[float, str]:
    """Train one network: its held-out loss, and what else it does on held-out instances."""
    started = time.process_time()
    fit(network, data[0], training_settings(steps=steps, seed=seed))
    per_step = (time.process_time() - started) / steps
    network.eval()
    loss, problem, words = held_out_loss(network, data[1]), PROBLEMS[name], []
    for n in SIZES:
        test = MAKERS[name](n, 500, 10_000 + n)
        outputs = [d.best for d in decode(network, test.inputs(), problem, beams=1)]  # type: ignore[arg-type]
        found = problem.metrics(test.inputs(), outputs, test.solutions())
        words.append(f"{n} points: " + ", ".join(f"{key} {value:.3f}" for key, value in found.items()))
    return loss, f"{'; '.join(words)}; {per_step * 1e3:.0f} ms a step"


def held_out_loss(network: nn.Module, test: Instances) -> float:
    """Mean loss per output over the instances of all sizes, one size at a time."""
    total = count = 0.0
    for n in sorted(set(test.lengths.tolist())):
        part = test.take(test.lengths == n)
        assert part.targets is not None
        outputs = float((part.targets >= 0).sum())
        total, count = total + mean_loss(network, part) * outputs, count + outputs
    return total / count


def paper_initial(network: nn.Module, seed: int) -> nn.Module:
    """The network with every parameter uniform in [-0.08, 0.08], as the paper says."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-0.08, 0.08, generator=generator)
    return network


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=sorted(MAKERS), default="tsp")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--paper", action="store_true", help="also ours with the paper's initial weights")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = MAKERS[given.task](SIZES, 40_000, 1), MAKERS[given.task](SIZES, 3000, 2)
    setting = f"H = {given.hidden}, {given.steps} steps of 128 instances"
    print(f"{given.task}, {SIZES[0]} to {SIZES[1]} points, {setting}", flush=True)
    losses: dict[str, list[float]] = {}
    for seed in range(given.seeds):
        config = NetworkConfig(hidden=given.hidden)
        networks: dict[str, nn.Module] = {
            "ours": PointerNetwork(config, generator=torch.Generator().manual_seed(seed)),
            "plain": Plain(given.hidden, seed),
        }
        if given.paper:
            networks["ours, paper's initial weights"] = paper_initial(PointerNetwork(config), seed)
        for name, network in networks.items():
            loss, words = trained(network, given.task, data, given.steps, seed)
            losses.setdefault(name, []).append(loss)
            print(f"  seed {seed}, {name}: loss {loss:.4f}; {words}", flush=True)
    ours = losses.pop("ours")
    if given.seeds > 1:
        for name, others in losses.items():
            found = mean_interval([a - b for a, b in zip(ours, others, strict=True)])
            ends = f"[{found.low:+.4f}, {found.high:+.4f}]"
            print(f"  loss of ours less {name}: {found.estimate:+.4f} {ends}", flush=True)


if __name__ == "__main__":
    main()
