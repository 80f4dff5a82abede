"""The pointer network of pointer-networks beside a plain one of the same size: same data, batches and steps.

    python benchmarks/pointer_networks_plain.py
    python benchmarks/pointer_networks_plain.py --task tsp --steps 4000

The plain network is written here from torch.nn alone: two LSTMs, additive attention, PyTorch's own initial weights.
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


def trained(network: nn.Module, name: str, data: tuple[Instances, Instances], steps: int, seed: int) -> float:
    """Train one network, print what it does on held-out instances, return its held-out loss."""
    started = time.process_time()
    fit(network, data[0], training_settings(steps=steps, seed=seed))
    per_step = (time.process_time() - started) / steps
    network.eval()
    loss, problem, words = held_out_loss(network, data[1]), PROBLEMS[name], []
    for n in SIZES:
        test = MAKERS[name](n, 1000, 10_000 + n)
        outputs = [d.best for d in decode(network, test.inputs(), problem, beams=1)]  # type: ignore[arg-type]
        found = problem.metrics(test.inputs(), outputs, test.solutions())
        words.append(f"{n} points: " + ", ".join(f"{key} {value:.3f}" for key, value in found.items()))
    print(
        f"  {type(network).__name__:15s} loss {loss:.4f}; {'; '.join(words)}; {per_step * 1e3:.0f} ms a step",
        flush=True,
    )
    return loss


def held_out_loss(network: nn.Module, test: Instances) -> float:
    """Mean loss per output over the instances of all sizes, one size at a time."""
    total = count = 0.0
    for n in sorted(set(test.lengths.tolist())):
        part = test.take(test.lengths == n)
        assert part.targets is not None
        outputs = float((part.targets >= 0).sum())
        total, count = total + mean_loss(network, part) * outputs, count + outputs
    return total / count


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=sorted(MAKERS), nargs="+", default=["hull", "tsp"])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=128)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.task:
        data = MAKERS[name](SIZES, 100_000, 1), MAKERS[name](SIZES, 3000, 2)
        print(
            f"{name}, {SIZES[0]} to {SIZES[1]} points, H = {given.hidden}, {given.steps} steps of 128 instances",
            flush=True,
        )
        differences = []
        for seed in range(given.seeds):
            ours = PointerNetwork(NetworkConfig(hidden=given.hidden), generator=torch.Generator().manual_seed(seed))
            plain = Plain(given.hidden, seed)
            ours_loss, plain_loss = (trained(network, name, data, given.steps, seed) for network in (ours, plain))
            differences.append(ours_loss - plain_loss)
        if len(differences) > 1:
            found = mean_interval(differences)
            print(
                f"  loss of ours less the plain one's: {found.estimate:+.4f} [{found.low:+.4f}, {found.high:+.4f}]",
                flush=True,
            )


if __name__ == "__main__":
    main()
