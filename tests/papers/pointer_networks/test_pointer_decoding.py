"""Beam search and sampling against enumeration, greedy decoding and the constraints' definitions."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch.nn.functional import log_softmax

from paperworks.errors import InputError
from paperworks.papers.pointer_networks import (
    NetworkConfig,
    PointerNetwork,
    Seq2Seq,
    Seq2SeqConfig,
    beam_search,
    sample,
)


def peaked(seed=0, factor=12.0) -> PointerNetwork:
    net = PointerNetwork(NetworkConfig(hidden=12), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(factor)
    return net.eval()


def points(b, n, seed=0):
    return torch.rand(b, n, 2, generator=torch.Generator().manual_seed(seed))


def log_probability(net, p, output, allowed=None):
    """By teacher forcing; ``allowed(history)`` gives the pointers that the softmax ranges over."""
    targets = torch.tensor([[*(i + 1 for i in output), 0]])
    logits = net(p[None], targets=targets)[0].detach()
    total = 0.0
    for i, pointer in enumerate(targets[0].tolist()):
        row = logits[i]
        if allowed is not None:
            mask = torch.full_like(row, -torch.inf)
            mask[list(allowed(targets[0, :i].tolist()))] = 0
            row = row + mask
        total += log_softmax(row, -1)[pointer].item()
    return total


def test_one_beam_is_greedy():
    net = peaked()
    p = points(20, 6)
    logits = net(p)
    for row, found in enumerate(beam_search(net, p, beams=1)):
        greedy = []
        for pointer in logits[row].argmax(-1).tolist():
            if pointer == 0:
                break
            greedy.append(pointer - 1)
        assert found.outputs[0][:6] == greedy[:6]
        assert found.complete[0] == (len(greedy) <= 6)


def test_scores_are_the_log_probabilities_of_teacher_forcing():
    net, p = peaked(1), points(8, 5, 1)
    for row, found in enumerate(beam_search(net, p, beams=4, limits=torch.full((8,), 9))):
        assert found.scores == sorted(found.scores, reverse=True)
        assert len({tuple(o) for o in found.outputs}) == len(found.outputs)
        for output, score, complete in zip(found.outputs, found.scores, found.complete, strict=True):
            if complete:
                assert score == pytest.approx(log_probability(net, p[row], output), abs=1e-3)


def test_a_wide_beam_finds_the_best_tour_of_all():
    net, p = peaked(2, 6.0), points(6, 4, 2)
    found = beam_search(net, p, beams=24, constraint="permutation")

    def allowed(history):
        return [0] if len(history) == 4 else [j for j in range(1, 5) if j not in history]

    for row in range(6):
        scores = {tour: log_probability(net, p[row], tour, allowed) for tour in permutations(range(4))}
        assert sum(torch.tensor(s).exp().item() for s in scores.values()) == pytest.approx(1, abs=1e-4)
        best = max(scores, key=scores.get)
        assert tuple(found[row].best) == best
        assert found[row].scores[0] == pytest.approx(scores[best], abs=1e-4)
        assert {tuple(o) for o in found[row].outputs} == set(scores)


def test_wider_beams_seldom_score_lower():
    net, p = peaked(3), points(60, 7, 3)
    scores = [[d.scores[0] for d in beam_search(net, p, beams=b, constraint="permutation")] for b in (1, 2, 4)]
    better = sum(a <= b + 1e-5 and b <= c + 1e-5 for a, b, c in zip(*scores, strict=True))
    assert better >= 0.95 * 60


@pytest.mark.parametrize("decode", ["beams", "samples"])
def test_constraints_hold_in_mixed_batches(decode):
    net = peaked(4)
    lengths = torch.tensor([3, 4, 5, 6, 7, 8, 3, 8])
    p = points(8, 8, 4)

    def run(constraint, limits=None):
        if decode == "beams":
            return beam_search(net, p, lengths, beams=5, constraint=constraint, limits=limits)
        generator = torch.Generator().manual_seed(0)
        return sample(net, p, lengths, samples=5, constraint=constraint, limits=limits, generator=generator)

    for n, found in zip(lengths.tolist(), run("permutation"), strict=True):
        assert all(found.complete)
        assert all(sorted(o) == list(range(n)) for o in found.outputs)
    for n, found in zip(lengths.tolist(), run("simple"), strict=True):
        assert all(found.complete)
        assert all(3 <= len(o) == len(set(o)) <= n and max(o) < n for o in found.outputs)
    limits = 3 * (2 * lengths - 5)
    for n, limit, found in zip(lengths.tolist(), limits.tolist(), run("triangles", limits), strict=True):
        for output, complete in zip(found.outputs, found.complete, strict=True):
            assert all(max(o) < n for o in [output])
            whole = output[: len(output) // 3 * 3]
            assert all(a < b < c for a, b, c in zip(whole[::3], whole[1::3], whole[2::3], strict=True))
            assert not complete or (len(output) % 3 == 0 and 3 <= len(output) <= limit)
    for n, found in zip(lengths.tolist(), run(None), strict=True):
        assert all(max(o, default=0) < n for o in found.outputs)


def test_results_do_not_depend_on_batch_mates():
    net, p = peaked(5), points(4, 6, 5)
    lengths = torch.tensor([6, 4, 5, 6])
    together = beam_search(net, p, lengths, beams=3, constraint="simple")
    for row, n in enumerate(lengths.tolist()):
        alone = beam_search(net, p[row : row + 1, :n], beams=3, constraint="simple")[0]
        assert alone.outputs == together[row].outputs
        assert alone.scores == pytest.approx(together[row].scores, abs=1e-4)


def test_outputs_that_do_not_stop_are_marked():
    net = peaked(6)
    with torch.no_grad():
        net.stop_key.fill_(-100 * float(net.v.abs().max()))
        net.key.weight.copy_(torch.eye(12))
        net.v.fill_(1.0)
    found = beam_search(net, points(1, 4), beams=2)[0]
    assert found.complete == [False, False]
    assert all(len(o) == 5 for o in found.outputs)


def test_samples_follow_the_distribution():
    net, p = peaked(7, 5.0), points(1, 3, 7)
    generator = torch.Generator().manual_seed(3)
    draws = sample(net, p, samples=4000, constraint="permutation", generator=generator)[0]
    counts: dict = {}
    for output, score in zip(draws.outputs, draws.scores, strict=True):
        counts.setdefault(tuple(output), [0, score])[0] += 1
    for output, (count, score) in counts.items():
        share = torch.tensor(score).exp().item()
        assert abs(count / 4000 - share) < 4 * (share * (1 - share) / 4000) ** 0.5 + 1e-3, output
    cold = sample(net, p, samples=50, temperature=1e-3, constraint="permutation", generator=generator)[0]
    assert {tuple(o) for o in cold.outputs} == {tuple(beam_search(net, p, beams=1, constraint="permutation")[0].best)}


def test_fixed_dictionaries_are_decoded_too():
    for attention in (False, True):
        net = Seq2Seq(Seq2SeqConfig(hidden=8, size=5, attention=attention))
        found = beam_search(net, points(3, 5), beams=3, constraint="permutation")
        assert all(sorted(o) == list(range(5)) for d in found for o in d.outputs)
        for row, d in enumerate(beam_search(net, points(3, 5), beams=3)):
            for output, score, complete in zip(d.outputs, d.scores, d.complete, strict=True):
                if complete:
                    assert score == pytest.approx(log_probability(net, points(3, 5)[row], output), abs=1e-4)


def test_bad_options():
    net, p = peaked(), points(1, 4)
    with pytest.raises(InputError, match="beams"):
        beam_search(net, p, beams=0)
    with pytest.raises(InputError, match="constraint"):
        beam_search(net, p, constraint="loop")
    with pytest.raises(InputError, match="limits"):
        beam_search(net, p, limits=torch.tensor([0]))
    with pytest.raises(InputError, match="temperature"):
        sample(net, p, temperature=0, generator=torch.Generator())
