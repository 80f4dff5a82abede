"""The networks: what must be true whatever the weights, saving, and learning."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import log_softmax

from paperworks.errors import InputError
from paperworks.papers.pointer_networks import (
    NetworkConfig,
    PointerNetwork,
    Seq2Seq,
    Seq2SeqConfig,
    attention,
    make_hull,
)
from paperworks.papers.pointer_networks.attention import additive_scores, torch_scores
from paperworks.papers.pointer_networks.fitting import fit, mean_loss, pointer_loss, training_settings
from paperworks.papers.pointer_networks.instances import Instances

GENERATOR = torch.Generator().manual_seed(1)


def network(**options) -> PointerNetwork:
    return PointerNetwork(NetworkConfig(**{"hidden": 16, **options}), generator=torch.Generator().manual_seed(5))


def scaled_up(net):
    """Weights large enough for distributions that are far from uniform."""
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(2)
    return net


@pytest.fixture(scope="module")
def batch():
    instances = make_hull((3, 7), 9, seed=0)
    return instances.columns()


def test_the_distribution_is_over_the_input_whatever_its_length():
    net = scaled_up(network())
    parameters = sum(p.numel() for p in net.parameters())
    h = 16
    assert parameters == 2 * (4 * h * (2 + h) + 8 * h) + 2 * h * h + 2 * h + 2
    for n in (1, 2, 5, 40):
        points = torch.rand(3, n, 2, generator=GENERATOR)
        targets = torch.randint(0, n + 1, (3, 4), generator=GENERATOR)
        logits = net(points, targets=targets)
        assert logits.shape == (3, 4, n + 1)
        assert torch.allclose(logits.softmax(-1).sum(-1), torch.ones(3, 4), atol=1e-6)


def test_logits_do_not_depend_on_padding_or_batch_mates(batch):
    net = scaled_up(network())
    together = net(batch["points"], batch["lengths"], batch["targets"])
    for row in range(len(together)):
        n = int(batch["lengths"][row])
        m = int((batch["targets"][row] >= 0).sum())
        alone = net(batch["points"][row : row + 1, :n], None, batch["targets"][row : row + 1, :m])
        assert torch.allclose(together[row, :m, : n + 1], alone[0], atol=1e-5)
        assert (together[row, :, n + 1 :] == -torch.inf).all()
    junk = batch["points"].clone()
    junk[batch["targets"].new_tensor(range(junk.shape[1])) >= batch["lengths"][:, None]] = 7.0
    assert torch.allclose(net(junk, batch["lengths"], batch["targets"]), together, atol=1e-5)


def test_equation_of_the_attention():
    """u_ij = v^T tanh(W1 e_j + W2 d_i), written out for one instance."""
    net = scaled_up(network())
    points = torch.rand(1, 4, 2, generator=GENERATOR)
    states, (h, c) = net.encoder(points)
    keys = torch.cat([net.stop_key[None], states[0]])
    read = net.start
    targets = torch.tensor([[3, 1, 0]])
    logits = net(points, targets=targets)[0]
    for i, pointer in enumerate(targets[0]):
        _, (h, c) = net.decoder(read.reshape(1, 1, 2), (h, c))
        for j in range(5):
            u = net.v @ torch.tanh(net.key.weight @ keys[j] + net.query.weight @ h[0, 0])
            assert u.item() == pytest.approx(logits[i, j].item(), abs=1e-4)
        read = points[0, pointer - 1]


def test_steps_give_the_logits_of_teacher_forcing(batch):
    for net in (scaled_up(network()), scaled_up(network(embedding=True))):
        forced = net(batch["points"], batch["lengths"], batch["targets"])
        memory, state = net.encode(batch["points"], batch["lengths"])
        pointers = None
        for i in range(3):
            logits, state = net.step(pointers, state, memory)
            assert torch.allclose(logits[:, 0], forced[:, i], atol=1e-5)
            pointers = batch["targets"][:, i : i + 1].clamp(min=0)


def test_permuted_input_gives_another_valid_distribution():
    net = scaled_up(network())
    points = torch.rand(1, 6, 2, generator=GENERATOR)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    one, other = net(points, targets=torch.tensor([[1]])), net(points[:, order], targets=torch.tensor([[1]]))
    assert not torch.allclose(one[0, 0, 1:][order], other[0, 0, 1:], atol=1e-3)
    assert other.softmax(-1).sum().item() == pytest.approx(1, abs=1e-6)


def test_compiled_scores_and_gradients_are_those_of_the_definition():
    shapes = ((3, 5, 13), (3, 7, 13), (13,))
    parts = [torch.randn(shape, generator=GENERATOR) * scale for shape, scale in zip(shapes, (4, 4, 0.3), strict=True)]
    weights = torch.randn(3, 5, 7, generator=GENERATOR)
    weights[0, 2:] = 0  # outputs that do not count
    found = []
    for scores, number_type in ((additive_scores, torch.float32), (torch_scores, torch.float64)):
        given = [part.detach().clone().to(number_type).requires_grad_() for part in parts]
        out = scores(*given)
        out.backward(weights.to(number_type))
        found.append([out.detach(), *(part.grad for part in given)])
    for compiled, exact in zip(*found, strict=True):
        assert torch.allclose(compiled.double(), exact, atol=1e-5)
    assert (found[0][0] - found[1][0]).abs().max() < 1e-6


def test_compiled_scores_on_several_threads_are_the_same_and_show_nan(monkeypatch):
    monkeypatch.setattr(attention, "THREAD_NUMBERS", 1)
    query, keys, v = (torch.randn(shape, generator=GENERATOR) for shape in ((5, 4, 8), (5, 6, 8), (8,)))
    one = additive_scores(query, keys, v)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(additive_scores(query, keys, v), one)
    finally:
        torch.set_num_threads(before)
    keys[1, 2, 3] = torch.nan
    shown = additive_scores(query, keys, v).isnan()
    assert shown[1, :, 2].all()
    assert shown.sum() == 4


def test_parts_of_torch_attention_give_the_same_numbers_and_gradients(monkeypatch):
    net = network().double()  # not compiled
    points = torch.rand(4, 6, 2, generator=GENERATOR, dtype=torch.float64)
    targets = torch.randint(0, 7, (4, 9), generator=GENERATOR)
    net(points, targets=targets).logsumexp(-1).sum().backward()
    whole = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    monkeypatch.setattr(attention, "CHUNK_ELEMENTS", 1000)
    net(points, targets=targets).logsumexp(-1).sum().backward()
    assert all(torch.allclose(a, p.grad, atol=1e-12) for a, p in zip(whole, net.parameters(), strict=True))


def test_loss_is_the_mean_over_outputs_and_does_not_see_padding(batch):
    net = scaled_up(network())
    total, count = pointer_loss(net, batch)
    assert count == (batch["targets"] >= 0).sum()
    by_hand = 0.0
    for row in range(len(batch["points"])):
        n, m = int(batch["lengths"][row]), int((batch["targets"][row] >= 0).sum())
        logits = net(batch["points"][row : row + 1, :n], None, batch["targets"][row : row + 1, :m])[0]
        by_hand -= log_softmax(logits, -1)[range(m), batch["targets"][row, :m]].sum().item()
    assert total.item() == pytest.approx(by_hand, rel=1e-4)


def test_initial_weights_keep_the_variance_of_what_they_read():
    wide = PointerNetwork(NetworkConfig(hidden=64), generator=torch.Generator().manual_seed(5))
    fixed = Seq2Seq(Seq2SeqConfig(hidden=64, size=40), generator=torch.Generator().manual_seed(5))
    for weight, fan_in in (
        (wide.encoder.weight_ih_l0, 2),
        (wide.decoder.weight_hh_l0, 64),
        (wide.query.weight, 64),
        (wide.v, 64),
        (fixed.encoder.weight_ih_l0, 2),
        (fixed.symbols.weight, 1),
    ):
        assert weight.var().item() == pytest.approx(1 / fan_in, rel=0.3)
        assert weight.abs().max().item() <= (3 / fan_in) ** 0.5
    assert not wide.encoder.bias_hh_l0.any()


def test_initial_weights_come_from_the_generator_alone():
    before = torch.get_rng_state()
    one, two = network(), PointerNetwork(NetworkConfig(hidden=16), generator=torch.Generator().manual_seed(6))
    assert torch.equal(one.v, network().v)
    assert not torch.equal(one.v, two.v)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("attention", [False, True])
def test_fixed_dictionaries(attention):
    net = Seq2Seq(Seq2SeqConfig(hidden=12, size=6, attention=attention))
    scaled_up(net)
    points, targets = torch.rand(3, 6, 2, generator=GENERATOR), torch.tensor([[1, 4, 0], [2, 3, 0], [6, 0, -100]])
    logits = net(points, targets=targets)
    assert logits.shape == (3, 3, 7)
    memory, state = net.encode(points)
    pointers = None
    for i in range(3):
        step, state = net.step(pointers, state, memory)
        assert torch.allclose(step[:, 0], logits[:, i], atol=1e-5)
        pointers = targets[:, i : i + 1].clamp(min=0)
    for n in (5, 7):
        with pytest.raises(InputError, match=r"fixed dictionary"):
            net(torch.rand(2, n, 2), targets=targets[:2])


def test_attention_blends_the_states_by_their_weights():
    net = scaled_up(Seq2Seq(Seq2SeqConfig(hidden=5, size=4, attention=True)))
    memory, _ = net.encode(torch.rand(1, 4, 2, generator=GENERATOR))
    d = torch.rand(1, 1, 5, generator=GENERATOR)
    blended = net._blend(d, memory)[0, 0]
    scores = torch.stack(
        [net.v @ torch.tanh(net.key.weight @ e + net.query.weight @ d[0, 0]) for e in memory.states[0]]
    )
    assert torch.allclose(blended[:5], d[0, 0])
    assert torch.allclose(blended[5:], scores.softmax(0) @ memory.states[0], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_saved_networks_come_back(tmp_path, dtype):
    for number, net in enumerate((network(), Seq2Seq(Seq2SeqConfig(hidden=8, size=5, attention=True)))):
        net.save_pretrained(tmp_path / f"{dtype}{number}", dtype=dtype, about={"task": "x"})
        back = type(net).from_pretrained(tmp_path / f"{dtype}{number}")
        assert back.config == net.config
        assert not back.training
        tolerance = {"float32": 0, "float16": 1e-3, "bfloat16": 1e-2}[dtype]
        for one, other in zip(net.parameters(), back.parameters(), strict=True):
            assert other.dtype == torch.float32
            assert (one - other).abs().max() <= tolerance
        with pytest.raises(InputError, match="nothing is overwritten"):
            net.save_pretrained(tmp_path / f"{dtype}{number}")


def test_folders_that_are_no_networks(tmp_path):
    net = network()
    with pytest.raises(InputError, match=r"config\.json"):
        PointerNetwork.from_pretrained(tmp_path)
    folder = tmp_path / "net"
    net.save_pretrained(folder)
    with pytest.raises(InputError, match="PointerNetwork"):
        Seq2Seq.from_pretrained(folder)
    weights = folder / "model.safetensors"
    state = load_file(weights)
    save_file({**state, "v": state["v"][:-1].contiguous()}, weights)
    with pytest.raises(InputError, match="differ in v"):
        PointerNetwork.from_pretrained(folder)
    weights.write_bytes(b"junk")
    with pytest.raises(InputError, match="safetensors"):
        PointerNetwork.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "PointerNetwork", "hidden": 8}))
    with pytest.raises(InputError, match="no embedding, features"):
        PointerNetwork.from_pretrained(folder)


@pytest.mark.parametrize(
    ("points", "lengths", "words"),
    [
        (torch.rand(2, 4, 3), None, "shape"),
        (torch.rand(4, 2), None, "shape"),
        (torch.full((1, 3, 2), float("nan")), None, "NaN"),
        (torch.rand(2, 4, 2), torch.tensor([0, 4]), "from 1 to 4"),
        (torch.rand(2, 4, 2), torch.tensor([5, 4]), "from 1 to 4"),
    ],
)
def test_bad_batches(points, lengths, words):
    with pytest.raises(InputError, match=words):
        network().encode(points, lengths)


def test_bad_targets_and_configs():
    with pytest.raises(InputError, match="pointer 5"):
        network()(torch.rand(1, 4, 2), targets=torch.tensor([[5, 0]]))
    with pytest.raises(InputError, match="hidden"):
        NetworkConfig(hidden=0)
    with pytest.raises(InputError, match="embedding"):
        Seq2SeqConfig(embedding=True)


def test_training_learns_to_point_and_resumes_bit_for_bit(tmp_path):
    """Pointing at the element with the largest first feature, then the one with the smallest."""
    rng = np.random.default_rng(0)
    points = [rng.random((int(n), 2)) for n in rng.integers(3, 6, 600)]
    targets = [[int(p[:, 0].argmax()), int(p[:, 0].argmin())] for p in points]
    instances = Instances.from_lists(points, targets)
    settings = training_settings(steps=120, batch_size=64, learning_rate=1e-2, checkpoint_every=60)
    net = network(hidden=32)
    before = mean_loss(net, instances)
    losses = fit(net, instances, settings).losses
    assert mean_loss(net, instances) < 0.7 * before

    class Stop(Exception):
        pass

    def stop(step, loss, rate):
        if step == 70:
            raise Stop

    again = network(hidden=32)
    with pytest.raises(Stop):
        fit(again, instances, settings, checkpoint_dir=tmp_path, on_step=stop)
    fresh = network(hidden=32)
    assert fit(fresh, instances, settings, checkpoint_dir=tmp_path).losses == losses
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), fresh.parameters(), strict=True))
