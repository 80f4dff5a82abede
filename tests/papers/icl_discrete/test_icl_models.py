"""Architectures, checkpoints, training, the classifier, and head scores."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from paperworks.errors import InputError
from paperworks.language import load_model
from paperworks.papers.icl_discrete import (
    ARCHITECTURES,
    BooleanTask,
    InContextClassifier,
    InContextConfig,
    MixedTask,
    Neighbours,
    TrainOptions,
    evaluate,
    fit,
    from_language_model,
    head_scores,
    load_in_context_model,
    new_model,
)
from paperworks.papers.icl_discrete.curves import correct
from paperworks.papers.icl_discrete.heads import attention_weights, nearest_earlier
from paperworks.papers.icl_discrete.networks import (
    CausalAttention,
    DiagonalStateSpace,
    HyenaOperator,
    Retention,
    causal_convolution,
    hippo_skew_eigenvalues,
)
from paperworks.runs import Cancelled

KINDS = [a for a in ARCHITECTURES if a != "language-model"]


def small(architecture="transformer", n=5, **options):
    sizes = {"width": 16, "layers": 2, "heads": 2, "max_points": 16} | options
    return new_model(InContextConfig(architecture, n, **sizes), seed=0)


@pytest.mark.parametrize("architecture", KINDS)
def test_a_logit_depends_on_what_came_before_only(architecture):
    model = small(architecture)
    prompts = BooleanTask("conjunction", 5).sample(3, 12, 0)
    whole = model.scores(prompts.xs, prompts.ys)
    assert whole.shape == (3, 12)
    for cut in (1, 6):
        xs, ys = prompts.xs.copy(), prompts.ys.copy()
        ys[:, cut - 1 :] *= -1
        xs[:, cut:] *= -1
        np.testing.assert_allclose(model.scores(xs, ys)[:, :cut], whole[:, :cut], atol=1e-4)
        np.testing.assert_allclose(model.scores(xs[:, :cut], ys[:, :cut]), whole[:, :cut], atol=1e-4)
        assert np.abs(model.scores(xs, ys)[:, cut:] - whole[:, cut:]).max() > 1e-4


@pytest.mark.parametrize("architecture", KINDS)
def test_checkpoints_give_the_same_logits(architecture, tmp_path):
    model = small(architecture)
    prompts = BooleanTask("conjunction", 5).sample(2, 6, 0)
    model.save_pretrained(tmp_path / "m")
    again = load_in_context_model(tmp_path / "m")
    assert again.config.architecture == architecture
    np.testing.assert_allclose(again.scores(prompts.xs, prompts.ys), model.scores(prompts.xs, prompts.ys), atol=1e-6)
    assert (tmp_path / "m" / "model.safetensors").exists()


@pytest.mark.parametrize("architecture", [a for a in KINDS if a != "mamba"])
def test_every_architecture_learns(architecture):
    """Labels that are the first bit: the loss falls below what constant guesses give."""
    task = BooleanTask("conjunction", 3, literals=0.0, planted=0.0)  # always true
    model = small(architecture, 3)
    result = fit(model, task, TrainOptions(steps=25, batch=8, n_points=6, learning_rate=1e-2))
    assert result.losses[-1] < 0.3 < result.losses[0]
    assert model.config.task["steps"] == 25
    assert all(p.grad is None for p in model.parameters())


def test_retention_is_the_recurrence():
    """The parallel form equals a state that decays by gamma and takes up k^T v."""
    torch.manual_seed(0)
    layer = Retention(8, 2).double()
    x = torch.randn(1, 7, 8, dtype=torch.float64)
    parts = layer.qkvg(x)
    q, k, v, gate = parts.split(8, dim=-1)
    out = torch.zeros(1, 7, 8, dtype=torch.float64)
    for h in range(2):
        gamma, state = 1 - 2.0 ** (-5 - h), torch.zeros(4, 4, dtype=torch.float64)
        s = slice(4 * h, 4 * h + 4)
        for t in range(7):
            state = gamma * state + k[0, t, s, None] * v[0, t, None, s]
            out[0, t, s] = q[0, t, s] @ state
    expected = layer.out(out * torch.nn.functional.silu(gate))
    torch.testing.assert_close(layer(x), expected)


def test_dss_is_the_state_space_recurrence():
    """The convolution equals complex states that are multiplied by exp(rate) at each step."""
    torch.manual_seed(0)
    layer = DiagonalStateSpace(3, 20, modes=4).double()
    kernel = layer.kernel(9)
    step = layer.log_step.exp()
    rate = torch.complex(step[:, :1] * layer.real, step[:, 1:] * layer.imaginary)
    powers = torch.exp(rate[..., None] * torch.arange(20))
    softmax = powers / powers.sum(2, keepdim=True)
    weights = torch.view_as_complex(layer.weight) / torch.complex(layer.real, layer.imaginary)
    expected = (weights[..., None] * softmax).sum(1).real[:, :9]
    torch.testing.assert_close(kernel, expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        layer.real[0] = 0.3  # a growing mode
    rate = torch.complex(step[:, :1] * layer.real, step[:, 1:] * layer.imaginary)
    powers = torch.exp(rate[..., None] * torch.arange(20))
    softmax = powers / powers.sum(2, keepdim=True)
    weights = torch.view_as_complex(layer.weight) / torch.complex(layer.real, layer.imaginary)
    torch.testing.assert_close(layer.kernel(9), (weights[..., None] * softmax).sum(1).real[:, :9], rtol=1e-4, atol=1e-5)


def test_hippo_eigenvalues_belong_to_legs():
    """HiPPO-LegS plus its rank-one part is -1/2 plus a skew matrix; ours are that matrix's eigenvalues."""
    n = np.arange(16)
    legs = -np.tril(np.sqrt((2 * n[:, None] + 1) * (2 * n[None, :] + 1)), -1) - np.diag(n + 1.0)
    p = np.sqrt(n + 0.5)
    values = np.linalg.eigvals(legs + p[:, None] * p[None, :])
    np.testing.assert_allclose(values.real, -0.5, atol=1e-8)
    np.testing.assert_allclose(np.sort(values.imag)[8:], hippo_skew_eigenvalues(8), atol=1e-8)


def test_convolution_and_hyena_by_loops():
    torch.manual_seed(0)
    u, kernel = torch.randn(2, 3, 6), torch.randn(3, 6)
    expected = torch.zeros(2, 3, 6)
    for t in range(6):
        for s in range(t + 1):
            expected[..., t] += kernel[:, s] * u[..., t - s]
    torch.testing.assert_close(causal_convolution(u, kernel), expected, rtol=1e-4, atol=1e-5)
    layer = HyenaOperator(4, 20)
    filters = layer.filter(9)
    assert filters.shape == (2, 4, 9)
    torch.testing.assert_close(filters, layer.filter(20)[..., :9])
    decay = layer.filter.window[:, 0]
    assert decay[0] == 1
    assert decay[-1] == pytest.approx(np.exp(np.log(0.01) / 1.5))


def test_attention_has_the_same_result_with_and_without_its_weights():
    torch.manual_seed(0)
    layer, x = CausalAttention(8, 2), torch.randn(2, 5, 8)
    plain = layer(x)
    layer.keep = True
    torch.testing.assert_close(layer(x), plain)
    assert layer.weights is not None
    torch.testing.assert_close(layer.weights.sum(-1), torch.ones(2, 2, 5))


def test_a_stopped_training_ends_with_the_same_weights(tmp_path):
    task = MixedTask((BooleanTask("conjunction", 4), BooleanTask("majority", 4)))
    options = TrainOptions(steps=6, batch=4, n_points=5, decay=0.5)
    straight = small(n=4)
    losses = fit(straight, task, options).losses

    def stopping(iterable, description, total=None):
        for i, item in enumerate(iterable):
            if i == 3:
                raise Cancelled()
            yield item

    model = small(n=4)
    with pytest.raises(Cancelled):
        fit(model, task, options, checkpoint_dir=tmp_path, progress=stopping)
    model = small(n=4)
    assert fit(model, task, options, checkpoint_dir=tmp_path).losses == losses
    for a, b in zip(straight.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_nearest_neighbour_loss_leaves_out_random_labels():
    model = small(n=4)
    task = BooleanTask("nearest_neighbours", 4, start=5)
    result = fit(model, task, TrainOptions(steps=1, batch=4, n_points=6))
    assert result.losses[0] == pytest.approx(
        torch.nn.functional.softplus(
            -torch.tensor(_first_margins(task)),
        )
        .mean()
        .item(),
        rel=1e-4,
    )


def _first_margins(task):
    from paperworks.papers.icl_discrete.fitting import fresh_prompts

    data = fresh_prompts(task, TrainOptions(n_points=6)).batch(0, range(4), per_step=4, seed=0)
    xs, ys = data["xs"].numpy(), data["ys"].numpy()
    return (small(n=4).scores(xs, ys) * ys)[:, 5:]


@pytest.mark.parametrize("freeze", ["all", "attention_and_mlp"])
def test_a_frozen_language_model(freeze, tmp_path):
    model = from_language_model(None, 5, max_points=20, freeze=freeze)
    control = from_language_model(None, 5, max_points=20, freeze=freeze, random_backbone=True)
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert any("norm" in n for n in trained) == (freeze != "all")
    assert all("norm" in n or n.startswith("read_") for n in trained)
    fit(model, BooleanTask("conjunction", 5), TrainOptions(steps=2, batch=2, n_points=4))
    assert all(torch.equal(p, dict(model.named_parameters())[n]) for n, p in frozen.items())
    name = next(n for n, p in model.named_parameters() if "q_proj" in n)
    assert not torch.equal(dict(control.named_parameters())[name], dict(model.named_parameters())[name])
    if freeze == "all":
        model.save_pretrained(tmp_path / "m")
        prompts = BooleanTask("conjunction", 5).sample(2, 6, 0)
        again = load_in_context_model(tmp_path / "m")
        np.testing.assert_allclose(
            again.scores(prompts.xs, prompts.ys), model.scores(prompts.xs, prompts.ys), atol=1e-5
        )
    with pytest.raises(InputError, match="max_points: found 129"):
        from_language_model(None, 5, max_points=129)


@pytest.mark.parametrize("kind", ["gpt2", "opt"])
def test_a_frozen_gpt2_from_a_folder(kind, tmp_path):
    """The paper's own backbone, and one whose embeddings are smaller than its states."""
    tiny = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 1}
    if kind == "gpt2":
        config = AutoConfig.for_model("gpt2", n_embd=16, n_layer=2, n_head=2, n_positions=48, **tiny)
    else:
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 20, "pad_token_id": 1}
        config = AutoConfig.for_model("opt", word_embed_proj_dim=8, max_position_embeddings=48, **sizes, **tiny)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / kind)
    load_model(None)[1].save_pretrained(tmp_path / kind)
    model = from_language_model(tmp_path / kind, 5, max_points=20, freeze="attention_and_mlp")
    trained = {n for n, p in model.named_parameters() if p.requires_grad and not n.startswith("read_")}
    assert any("wpe" in n or "embed_positions" in n for n in trained)
    assert not any(part in n for n in trained for part in ("attn.", "mlp", "fc1", "q_proj", "project"))
    prompts = BooleanTask("conjunction", 5).sample(3, 8, 0)
    model.save_pretrained(tmp_path / "m")
    again = load_in_context_model(tmp_path / "m")
    np.testing.assert_allclose(again.scores(prompts.xs, prompts.ys), model.scores(prompts.xs, prompts.ys), atol=1e-6)


def test_heads_that_do_what_is_asked_score_one(monkeypatch):
    """Weights made by hand: head 0 looks at the nearest label, head 1 at earlier copies, head 2 at random."""
    model = small(n=6, heads=2, max_points=80)

    def made(_, xs, ys):
        batch, points = ys.shape
        weights = np.zeros((batch, 3, 2 * points - 1, 2 * points - 1))
        nearest = nearest_earlier(xs, 1)
        for b in range(batch):
            for j in range(1, points):
                weights[b, 0, 2 * j, 2 * int(nearest[b, j].argmax()) + 1] = 1
                copies = [i for i in range(j) if (j - i) % 12 == 0]
                for i in copies:
                    weights[b, 1, 2 * j, 2 * i + 1] = 1 / len(copies)
                weights[b, 2, 2 * j, : 2 * j + 1] = 1 / (2 * j + 1)
        return [weights]

    monkeypatch.setattr("paperworks.papers.icl_discrete.heads.attention_weights", made)
    nearest = head_scores(model, "nn", prompts=5)
    prefix = head_scores(model, "prefix", prompts=5)
    assert nearest[0, 0] == prefix[0, 1] == 1
    assert nearest[0, 2] == pytest.approx(np.mean([1 / (2 * j + 1) for j in range(41, 80)]))
    assert nearest[0, 1] < 0.5


@pytest.mark.parametrize("architecture", ["transformer", "gpt2"])
def test_attention_is_causal_and_sums_to_one(architecture):
    model = small(architecture, max_points=50)
    prompts = BooleanTask("conjunction", 5).sample(2, 6, 0)
    before = model.scores(prompts.xs, prompts.ys)
    for weights in attention_weights(model, prompts.xs, prompts.ys):
        assert weights.shape == (2, 2, 11, 11)
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
        assert np.allclose(np.triu(weights, 1), 0)
    np.testing.assert_allclose(model.scores(prompts.xs, prompts.ys), before, atol=1e-6)
    assert head_scores(model, "prefix", prompts=3).shape == (2, 2)
    with pytest.raises(InputError, match="without attention"):
        head_scores(small("lstm", max_points=80), "prefix", prompts=2)
    with pytest.raises(InputError, match="start"):
        head_scores(model, "nn")
    with pytest.raises(InputError, match="neighbours: found 0"):
        head_scores(model, "nn", neighbours=0)


def test_the_read_in_has_the_size_of_what_a_block_adds():
    """With the authors' scale the embeddings drown the blocks and the positions at the start."""
    prompts = BooleanTask("conjunction", 8).sample(16, 30, 0)
    x, y = torch.from_numpy(prompts.xs).float(), torch.from_numpy(prompts.ys).float()
    shares = {}
    for scale in (1.0, 8.0):
        model = new_model(InContextConfig("transformer", 8, 64, 4, 4, read_in_scale=scale), 0)
        with torch.no_grad():
            embedded = model.read_in(model.tokens(x, y)) * scale
            states = embedded + model.network.positions[: embedded.shape[1]]
            for block in model.network.blocks:
                states = block(states)
            shares[scale] = float((states - embedded).norm() / embedded.norm())
    assert 0.5 < shares[1.0] < 3
    assert shares[8.0] < 0.3


def test_older_folders_keep_the_scale_that_they_were_trained_with(tmp_path):
    prompts = BooleanTask("conjunction", 5).sample(3, 6, 0)
    for architecture, scale in (("transformer", 4.0), ("retnet", 4.0), ("gpt2", 1.0)):
        model = small(architecture, read_in_scale=scale)
        folder = tmp_path / architecture
        model.save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        assert config.pop("read_in_scale") == scale
        (folder / "config.json").write_text(json.dumps(config))
        again = load_in_context_model(folder)
        assert again.config.read_in_scale == scale
        np.testing.assert_allclose(
            again.scores(prompts.xs, prompts.ys), model.scores(prompts.xs, prompts.ys), rtol=1e-5, atol=1e-6
        )
    with pytest.raises(InputError, match="read_in_scale"):
        InContextConfig(read_in_scale=0)


def test_the_bundled_model_uses_a_teaching_sequence_and_beats_the_nearest_neighbour():
    model = load_in_context_model(InContextClassifier().fit(np.eye(8, dtype=int), np.ones(8, int)).model_.name_or_path)
    assert model.config.task is None or model.config.task["classes"][0]["name"] == "teach_biconjunction"
    taught = BooleanTask("teach_biconjunction", 8).sample(150, 20, 0)
    right = correct(model, taught)
    for b in range(150):
        assert right[b, taught.taught[b] :].mean() > 0.5
    assert np.mean([right[b, t:].mean() for b, t in enumerate(taught.taught)]) > 0.98
    task = BooleanTask("conjunction", 8)
    own = evaluate(model, task, n_prompts=300)["accuracy"].iloc[-5:].mean()
    assert own > evaluate(Neighbours(1), task, n_prompts=300)["accuracy"].iloc[-5:].mean()


@pytest.mark.parametrize("kind", [int, bool, float, "signs"])
def test_the_classifier_takes_and_gives_the_users_labels(kind):
    task = BooleanTask("teach_biconjunction", 8)
    prompts = task.sample(1, 40, 3)
    xs, ys = prompts.xs[0], prompts.ys[0]
    X, y = (xs, ys) if kind == "signs" else ((xs > 0).astype(kind), (ys > 0).astype(kind))
    model = InContextClassifier(permutations=1).fit(X[:20], y[:20])
    predicted = model.predict(X[20:])
    assert set(np.unique(predicted)) <= set(np.unique(y))
    assert predicted.dtype == y.dtype
    assert model.predict_proba(X[20:]).sum(1) == pytest.approx(1)
    assert (model.predict(X[20:21]) == predicted[0]).all()
    direct = model.model_.predict(X[model.orders_[0]], y[model.orders_[0]], X[20:])
    assert (direct == predicted).all()
    assert len(model.predict(X[:0])) == 0


def test_frames_of_booleans_beside_numbers():
    rng = np.random.default_rng(0)
    bits = rng.integers(2, size=(30, 3))
    frame = pd.DataFrame(bits, columns=["a", "b", "c"]).astype({"b": bool, "c": "Int64"})
    plain = InContextClassifier(permutations=1).fit(bits, bits[:, 0])
    framed = InContextClassifier(permutations=1).fit(frame, pd.Series(bits[:, 0]))
    assert (framed.predict(frame) == plain.predict(bits)).all()
    frame.loc[3, "c"] = pd.NA
    with pytest.raises(InputError, match="row 3: found nan"):
        framed.predict(frame)


def test_fewer_columns_are_filled_up():
    rng = np.random.default_rng(0)
    X = rng.integers(2, size=(40, 3))
    y = X[:, 0] & X[:, 1]
    model = InContextClassifier(permutations=2).fit(X[:30], y[:30])
    assert model.points_.shape == (30, 8)
    assert model.score(X[30:], y[30:]) >= 0.5
    assert (model.predict(X) == np.concatenate([model.predict(X[i : i + 1]) for i in range(40)])).all()


BAD = [
    (lambda c: c.fit([[0, 1], [1]], [0, 1]), "xs: found row 1 with 1 bits where row 0 has 2"),
    (lambda c: c.fit([[0, 1], [1, 2]], [0, 1]), "xs, row 1: found 2; expected 0 or 1"),
    (lambda c: c.fit([[0, 1], [1, 0]], [0, 3]), "ys, row 1: found 3; expected 0 or 1"),
    (lambda c: c.fit([[0, 1], [1, 0]], ["a", "b"]), "ys, row 0: found 'a'|ys, row 0: found np.str_"),
    (lambda c: c.fit([[0, 1], [-1, 1]], [0, 1]), "xs, row 1: found -1 where another row has 0"),
    (lambda c: c.fit([[0, 1], [1, 0]], [0]), "ys: found 1 labels of 2 points"),
    (lambda c: c.fit([], []), "xs: found an empty context"),
    (lambda c: c.fit(np.zeros((5, 9)), np.zeros(5)), "X: found 9 columns; expected at most 8"),
    (lambda c: c.fit(np.zeros((100, 8)), np.zeros(100)), "xs: found 100 points; expected at most 99"),
    (lambda c: c.fit(np.zeros((5, 4)), np.zeros(5)).predict(np.zeros((1, 5))), "X: found 5 columns"),
]


@pytest.mark.parametrize(("use", "message"), BAD, ids=range(len(BAD)))
def test_bad_contexts_are_named(use, message):
    with pytest.raises(InputError, match=message):
        use(InContextClassifier())


def test_bad_models_are_named(tmp_path):
    model = small(n=4, max_points=6)
    with pytest.raises(InputError, match="xs: found 7 points; expected at most 6"):
        model.scores(np.ones((1, 7, 4), np.int8), np.ones((1, 7), np.int8))
    with pytest.raises(InputError, match="xs: found 3 bits per point; expected 4"):
        model.scores(np.ones((1, 2, 3), np.int8), np.ones((1, 2), np.int8))
    with pytest.raises(InputError, match="query_x: found 2 bits"):
        model.predict(np.ones((1, 4)), [1], np.ones((1, 2)))
    with pytest.raises(InputError, match="n_dims: found a task of 5 bits; expected 4"):
        fit(model, BooleanTask("dnf", 5), TrainOptions(steps=1))
    with pytest.raises(InputError, match="n_points: found 30; expected at most 6"):
        fit(model, BooleanTask("dnf", 4), TrainOptions(steps=1))
    with pytest.raises(InputError, match=r"architecture: found 'transfomer'.*did you mean 'transformer'"):
        InContextConfig("transfomer")
    with pytest.raises(InputError, match="heads: found 3; expected a divisor"):
        small(heads=3)
    with pytest.raises(InputError, match=r"checkpoint: found .*config.json"):
        load_in_context_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(InputError, match="a model of type 'llama'"):
        load_in_context_model(tmp_path)
    model.save_pretrained(tmp_path / "m")
    with (tmp_path / "m" / "model.safetensors").open("r+b") as out:
        out.truncate(500)
    with pytest.raises(InputError, match="does not load"):
        load_in_context_model(tmp_path / "m")
