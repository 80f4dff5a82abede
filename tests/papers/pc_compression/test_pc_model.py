"""Hidden Chow-Liu trees and circuits against sums over everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from paperworks.errors import InputError
from paperworks.papers.pc_compression import HCLT, CircuitBuilder, Phase, Tree
from paperworks.papers.pc_compression.structure import rooted

ALL = (Phase(2, 0.2, 0.5), Phase(2, full=True))


def small(d=5, c=3, k=2, seed=0, n=40, **options):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, c, (n, d)).astype(np.uint8)
    x[:, d // 2] = x[:, 0]
    return HCLT(k, c, schedule=ALL, batch_size=16, random_state=seed, **options).fit(x), x


def everything(d, c):
    return np.array(list(itertools.product(range(c), repeat=d)), dtype=np.uint8)


@pytest.mark.parametrize("shape", ["center", "balanced", "balanced-center"])
def test_probabilities_sum_to_one_and_marginals_are_sums(shape):
    model, _ = small(shape=shape)
    every = everything(5, 3)
    p = np.exp(model.score_samples(every))
    assert p.sum() == pytest.approx(1, abs=1e-12)
    rng = np.random.default_rng(1)
    for _ in range(6):
        mask = rng.random(5) < 0.5
        row = rng.integers(0, 3, 5)
        inside = (every[:, mask] == row[mask]).all(1)
        assert np.exp(model.marginal(row[None], mask)[0]) == pytest.approx(p[inside].sum(), rel=1e-10)
        gaps = np.where(mask, row, -1)
        assert model.score_samples(gaps[None]) == pytest.approx(model.marginal(row[None], mask), rel=1e-12)
        variable = int(rng.integers(5))
        mask[variable] = False
        inside = (every[:, mask] == row[mask]).all(1)
        expected = [p[inside & (every[:, variable] == a)].sum() / p[inside].sum() for a in range(3)]
        assert model.conditional(row[None], mask, variable)[0] == pytest.approx(expected, rel=1e-9)


def test_a_definition_in_plain_numpy():
    model, x = small(d=6, c=4, k=3)
    a, b, prior = model.walk.down, model.walk.inputs, model.walk.prior
    slot, children = model._passes.layout.slot, model.tree_.children

    def likelihood(v, row):
        g = b[v, row[v]].copy()
        for c in children[v]:
            g *= b[c, row[c]] if slot[c] < 0 else a[slot[c]] @ likelihood(c, row)
        return g

    expected = [np.log(prior @ likelihood(model.tree_.root, row)) for row in x]
    assert model.score_samples(x) == pytest.approx(expected, rel=1e-12)


@given(st.integers(1, 7), st.integers(2, 4), st.integers(1, 4), st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_the_circuit_is_the_same_distribution(d, c, k, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, c, (20, d))
    tree = Tree.from_parents([-1, *(int(rng.integers(v)) for v in range(1, d))])
    model = HCLT(k, c, schedule=[Phase(1, full=True)], random_state=seed).fit(x, tree=tree)
    circuit = model.circuit()
    assert circuit.score_samples(x) == pytest.approx(model.score_samples(x), rel=1e-12)
    assert circuit.order.tolist() == model.walk.order.tolist()
    whole, low = circuit.marginals_along_order(x)
    every = everything(d, c) if c**d <= 300 else None
    assert whole[:, -1] == pytest.approx(model.score_samples(x), rel=1e-11)
    mask = np.zeros(d, dtype=bool)
    for i, v in enumerate(circuit.order):
        before = np.zeros(20) if i == 0 else np.exp(whole[:, i - 1])
        mask[v] = True
        assert np.exp(whole[:, i]) == pytest.approx(np.exp(model.marginal(x, mask)), rel=1e-11)
        if every is not None:
            p = np.exp(model.score_samples(every))
            done = list(circuit.order[:i])
            for n in range(3):
                inside = (every[:, done] == x[n, done]).all(1) & (every[:, v] < x[n, v])
                assert np.exp(low[n, i]) == pytest.approx(p[inside].sum(), rel=1e-10, abs=1e-15)
        assert (np.exp(low[:, i]) + np.exp(whole[:, i]) <= (before if i else 1) + 1e-12).all()


def test_full_batches_never_lower_the_likelihood_and_flows_sum_to_the_rows():
    rng = np.random.default_rng(5)
    x = rng.integers(0, 3, (100, 8))
    x[:, 1:4] = x[:, :1]
    steps = [
        HCLT(3, 3, pseudocount=0.0, schedule=[Phase(n, full=True)], spread=1.0).fit(x).score(x)
        for n in (1, 2, 3, 8, 20)
    ]
    assert all(b >= a - 1e-8 for a, b in itertools.pairwise(steps))
    assert steps[-1] > steps[0] + 0.5
    model = HCLT(3, 3, schedule=ALL, batch_size=50).fit(x)
    flows = model.flows(x)
    assert flows.prior.sum() == pytest.approx(100, abs=1e-9)
    assert flows.inputs.sum((1, 2)) == pytest.approx([100] * 8, abs=1e-9)
    assert flows.transitions[:-1].sum((1, 2)) == pytest.approx([100] * (len(flows.transitions) - 1), abs=1e-9)


def test_flows_are_derivatives_of_the_likelihood():
    model, x = small(d=4, c=3, k=2)
    flows, exact = model.flows(x), model._exact
    step = 1e-6
    for name in ("prior", "transitions", "inputs"):
        weights = getattr(exact, name)
        it = np.random.default_rng(0).integers(0, weights.size, 12)
        for index in it:
            place = np.unravel_index(index, weights.shape)
            if (name == "inputs" and place[1] == 3) or (name == "transitions" and place[0] == len(weights) - 1):
                continue
            old = weights[place]
            found = []
            for sign in (1, -1):
                weights[place] = old * (1 + sign * step)
                found.append(model._passes.log_likelihood(exact, x.astype(np.uint16)).sum())
            weights[place] = old
            assert getattr(flows, name)[place] == pytest.approx((found[0] - found[1]) / (2 * step), rel=1e-5, abs=1e-5)


def test_sharing_the_background_changes_nothing():
    model, x = small(d=7, c=3, k=3)
    expected = model.score_samples(x)
    flows = model.flows(x)
    for background in (x[0], (x[0] + 1) % 3):
        model.background_ = background.astype(np.uint16)
        model._forget()
        assert model.score_samples(x) == pytest.approx(expected, rel=1e-13)
        for one, other in zip(model.flows(x).arrays(), flows.arrays(), strict=True):
            assert one == pytest.approx(other, abs=1e-10)


def test_samples_have_the_model_s_frequencies_and_gaps_are_filled_by_conditionals():
    model, _ = small(d=3, c=2, k=2)
    every = everything(3, 2)
    drawn = model.sample(20000, random_state=0)
    counts = np.bincount(drawn @ [4, 2, 1], minlength=8) / 20000
    assert counts == pytest.approx(np.exp(model.score_samples(every)), abs=0.015)
    gaps = np.tile([1, -1, 0], (20000, 1))
    filled = model.impute(gaps, random_state=1)
    assert (filled[:, [0, 2]] == [1, 0]).all()
    assert filled[:, 1].mean() == pytest.approx(model.conditional(gaps[:1], [True, False, True], 1)[0, 1], abs=0.015)


def test_missing_values_in_training():
    rng = np.random.default_rng(2)
    x = rng.integers(0, 3, (300, 4)).astype(float)
    x[:, 1] = x[:, 0]
    x[rng.random(x.shape) < 0.2] = np.nan
    model = HCLT(3, 3, schedule=[Phase(30, full=True)]).fit(x)
    assert model.conditional([[2, 0, 0, 0]], [True, False, False, False], 1)[0].argmax() == 2
    masked = np.ma.masked_invalid(x).filled(0).astype(int)
    again = HCLT(3, 3, schedule=[Phase(30, full=True)]).fit(np.ma.array(masked, mask=np.isnan(x)))
    assert again.sha256 == model.sha256


def test_one_variable_constants_and_threads():
    one = HCLT(2, 4, schedule=ALL).fit([[1], [1], [2]])
    assert np.exp(one.score_samples([[0], [1], [2], [3]])).sum() == pytest.approx(1)
    assert one.circuit().score_samples([[1]]) == pytest.approx(one.score_samples([[1]]))
    constant = HCLT(2, 4, schedule=ALL).fit(np.full((30, 6), 3))
    assert constant.bpd(np.full((2, 6), 3)) < 0.05
    model, x = small(n=60)
    threads = clone(model).set_params(n_jobs=3).fit(x)
    assert threads.score(x) == pytest.approx(model.score(x), abs=1e-4)


def test_early_stopping_keeps_the_best_and_a_cut_off_fit_goes_on(tmp_path):
    rng = np.random.default_rng(4)
    x = rng.integers(0, 4, (80, 6))
    model = HCLT(8, 4, schedule=[Phase(60, full=True)], pseudocount=0.01, validation_fraction=0.3, patience=4).fit(x)
    assert model.n_iter_ < 60
    best = int(np.argmin(model.validation_))
    assert model.n_iter_ == best + 5
    options = {"schedule": (Phase(6, 0.2, 0.8),), "batch_size": 16}

    def stop(items, description, total=None):
        for i, item in enumerate(items):
            if i == 3:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        HCLT(3, 4, **options).fit(x, progress=stop, checkpoint=tmp_path / "c.npz")
    resumed = HCLT(3, 4, **options).fit(x, checkpoint=tmp_path / "c.npz")
    assert resumed.sha256 == HCLT(3, 4, **options).fit(x).sha256
    with pytest.raises(InputError, match="checkpoint"):
        HCLT(4, 4, **options).fit(x, checkpoint=tmp_path / "c.npz")
    with pytest.raises(InputError, match="checkpoint"):  # other rows with the same tree
        HCLT(3, 4, **options).fit(3 - x, checkpoint=tmp_path / "c.npz")


def test_save_and_load(tmp_path):
    model, x = small()
    model.save(tmp_path / "model", {"kind": "test"})
    again = HCLT.load(tmp_path / "model")
    assert again.sha256 == model.sha256
    assert (again.score_samples(x) == model.score_samples(x)).all()
    assert again.about_ == {"kind": "test"}
    assert again.get_params()["schedule"] == model.get_params()["schedule"]
    with pytest.raises(InputError):
        model.save(tmp_path / "model")
    searched = HCLT(np.int64(2), pseudocount=np.float64(0.1), schedule=((2, 0.2, 0.9),)).fit(x)  # as a grid sets them
    assert HCLT.load(searched.save(tmp_path / "searched")).get_params()["n_latents"] == 2
    damaged = tmp_path / "model" / "model.safetensors"
    good = damaged.read_bytes()
    for place in (8, len(good) // 2, len(good) - 3):
        data = bytearray(good)
        data[place] ^= 1
        damaged.write_bytes(data)
        with pytest.raises(InputError, match="model"):
            HCLT.load(tmp_path / "model")
    with pytest.raises(InputError, match="model"):
        HCLT.load(tmp_path)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[0, 5]], r"X\[0, 1\]: found 5; expected 0 to 2"),
        ([[0, 1.5]], "quantise first"),
        ([[0, np.inf]], "quantise first"),
        ([[0, -2]], "shift first"),
        ([0, 1], "rows of values"),
        ([["a", "b"]], "whole numbers"),
        (np.zeros((0, 2)), "at least 1 x 1"),
    ],
)
def test_bad_values_are_named(x, message):
    with pytest.raises(InputError, match=message):
        HCLT(2, 3, schedule=ALL).fit(x)


@pytest.mark.parametrize(
    "options",
    [
        {"n_latents": 0},
        {"pseudocount": -1},
        {"schedule": ()},
        {"schedule": [(3, 0.5, 1.0)]},
        {"shape": "round"},
        {"validation_fraction": 1.0},
        {"n_categories": 10**6},
    ],
)
def test_bad_options_are_named(options):
    with pytest.raises(InputError):
        HCLT(**{"schedule": ALL, "n_latents": 2, **options}).fit([[0, 1], [1, 0]])


def own_circuit():
    b = CircuitBuilder(3, 2)
    x, y, z = (b.inputs(v, [[0.9, 0.1], [0.2, 0.8]]) for v in range(3))
    pairs = [b.multiply(x[i], y[i]) for i in range(2)]
    mixed = [b.summate(pairs, w) for w in ([0.7, 0.3], [0.1, 0.9])]
    return b, b.summate([b.multiply(mixed[i], z[i]) for i in range(2)], [0.6, 0.4])


def test_a_circuit_of_one_s_own():
    builder, root = own_circuit()
    circuit = builder.build(root)
    every = everything(3, 2)
    f = np.array([[0.9, 0.1], [0.2, 0.8]])
    expected = []
    for a, b, c in every:
        pair = [f[i, a] * f[i, b] for i in range(2)]
        mixed = [0.7 * pair[0] + 0.3 * pair[1], 0.1 * pair[0] + 0.9 * pair[1]]
        expected.append(0.6 * mixed[0] * f[0, c] + 0.4 * mixed[1] * f[1, c])
    assert np.exp(circuit.score_samples(every)) == pytest.approx(expected, rel=1e-12)
    assert circuit.order.tolist() == [0, 1, 2]
    assert np.exp(circuit.score_samples([[1, -1, -1]]))[0] == pytest.approx(np.array(expected)[every[:, 0] == 1].sum())
    assert circuit.n_edges == 2 * 3 + 2 * 2 + 4 + 2 * 2 + 2


def test_circuits_that_break_the_rules_are_refused():
    b = CircuitBuilder(3, 2)
    x, y, z = (b.inputs(v, [0.5, 0.5])[0] for v in range(3))
    with pytest.raises(InputError, match="share a variable"):
        b.multiply(x, x)
    with pytest.raises(InputError, match="same variables"):
        b.summate([x, y], [0.5, 0.5])
    with pytest.raises(InputError, match="sum to 1"):
        b.summate([x, x], [0.5, 0.6])
    with pytest.raises(InputError, match="sum to 1"):
        b.inputs(0, [0.5, 0.4])
    with pytest.raises(InputError, match="one over all 3"):
        b.build(b.multiply(x, y))
    one, other = b.multiply(b.multiply(x, y), z), b.multiply(x, b.multiply(y, z))
    with pytest.raises(InputError, match="one tree"):
        b.build(b.summate([one, other], [0.5, 0.5]))


def test_the_cost_of_chains_stars_and_balanced_trees():
    def ratio(tree, k=4):
        d = len(tree.parents)
        model = HCLT(k, 2, schedule=[Phase(1, full=True)]).fit(np.zeros((2, d), dtype=int), tree=tree)
        circuit = model.circuit()
        return circuit.evaluation_cost() / circuit.n_edges

    d = 64
    path = [(i, i + 1) for i in range(d - 1)]
    end = Tree.from_parents([-1, *range(d - 1)])
    star = Tree.from_parents([-1] + [0] * (d - 1))
    assert ratio(end) == pytest.approx(1.0, abs=1e-9)
    assert ratio(star) == pytest.approx(1.0, abs=1e-9)
    assert ratio(rooted(path, d, "center")) == pytest.approx(d / 8, rel=0.1)
    assert ratio(rooted(path, d, "balanced")) <= 1.5 * np.log2(d)


def test_an_unfitted_model_says_so() -> None:
    rows, model = np.zeros((2, 3), int), HCLT(2, 2)
    calls = [model.score_samples, model.bpd, model.impute, model.flows, lambda x: model.marginal(x, [True] * 3)]
    for call in calls:
        with pytest.raises(NotFittedError):
            call(rows)
