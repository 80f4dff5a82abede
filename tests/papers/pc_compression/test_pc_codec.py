"""The codec: what goes in comes out, whatever the data, the split into streams and the threads; damage is noticed."""

from __future__ import annotations

import itertools

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.pc_compression import (
    HCLT,
    CircuitBuilder,
    CorruptFile,
    PCCodec,
    Phase,
    Tree,
    rans,
    read_header,
    tree_coder,
)
from paperworks.papers.pc_compression import partial as partial_evaluation

ONE = (Phase(1, full=True),)


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    x = load_digits().data.astype(np.uint8)[np.random.default_rng(0).permutation(1797)]
    schedule = (Phase(8, 0.2, 0.8), Phase(2, full=True))
    return HCLT(4, 17, schedule=schedule, batch_size=128).fit(x[:800]), x[800:1000]


@given(
    st.integers(1, 9),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 40),
    st.integers(0, 10**6),
    st.sampled_from([None, 1, 3, 7]),
    st.sampled_from(["tree", "partial"]),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([16, 24, 28]),
)
@settings(max_examples=50, deadline=None)
def test_round_trip_of_anything(d, c, k, n, seed, per_stream, mode, pseudocount, precision):
    """Also of symbols that training never saw, with probability 0 where the pseudocount is 0."""
    rng = np.random.default_rng(seed)
    tree = Tree.from_parents([-1, *(int(rng.integers(v)) for v in range(1, d))])
    train = rng.integers(0, max(1, c - 1), (6, d))
    model = HCLT(k, c, schedule=(Phase(3, full=True),), pseudocount=pseudocount, random_state=seed).fit(
        train, tree=tree
    )
    x = rng.integers(0, c, (n, d)).astype(np.uint8)
    codec = PCCodec(model, precision, mode=mode, rows_per_stream=per_stream)
    assert (codec.decompress(codec.compress(x)) == x).all()


def test_shapes_types_and_single_rows(digits):
    model, x = digits
    codec = PCCodec(model)
    for shaped in (x.reshape(-1, 8, 8), x[:1].astype(np.int64), x.reshape(-1, 4, 16, 1).astype(np.uint16)):
        back = codec.decompress(codec.compress(shaped))
        assert back.dtype == shaped.dtype
        assert back.shape == shaped.shape
        assert (back == shaped).all()


@pytest.mark.parametrize("mode", ["tree", "partial"])
def test_bytes_do_not_depend_on_batch_or_threads(digits, mode):
    model, x = digits
    alone = [PCCodec(model, mode=mode, rows_per_stream=1).compress(row[None]) for row in x[:20]]
    together = PCCodec(model, mode=mode, rows_per_stream=1, n_jobs=3).compress(x[:20])
    assert read_header(together).words == tuple(read_header(one).words[0] for one in alone)
    # 16 bytes of digest at the end, the words just before it
    words = b"".join(one[-16 - 4 * read_header(one).words[0] : -16] for one in alone)
    assert together[-16 - len(words) : -16] == words
    few = PCCodec(model, mode=mode, rows_per_stream=7)
    assert few.compress(x) == PCCodec(model, mode=mode, rows_per_stream=7, n_jobs=4).compress(x)
    assert (PCCodec(model, mode=mode, n_jobs=4).decompress(few.compress(x)) == x).all()


def test_the_file_is_as_long_as_the_model_says(digits):
    model, x = digits
    codec = PCCodec(model, rows_per_stream=None)
    ideal = codec.ideal_bits(x)
    assert ideal == pytest.approx(model.bpd(x) * x.size)
    header = read_header(codec.compress(x))
    assert ideal - 1 < header.code_bits < ideal + x.size * 17 / 2**24 * 1.4427 + 64
    assert codec.bits(x).sum() == pytest.approx(ideal, rel=1e-5)
    single = read_header(PCCodec(model, rows_per_stream=1).compress(x)).code_bits
    assert ideal < single < ideal + 64 * len(x)


def test_widths_multiply_to_the_probability(digits):
    """The chain rule through the partial evaluation, and through the walk, at 28 bits."""
    model, x = digits
    circuit = model.circuit()
    whole, low = circuit.marginals_along_order(x[:50])
    assert whole[:, -1] == pytest.approx(model.score_samples(x[:50]), abs=1e-9)
    starts, widths = (np.empty((50, 64), np.uint32) for _ in range(2))
    tree_coder.intervals(x[:50].astype(np.uint16), model.walk, 28, starts, widths)
    before = np.concatenate([np.zeros((50, 1)), whole[:, :-1]], 1)
    assert widths / 2.0**28 == pytest.approx(np.exp(whole - before), abs=20 / 2**28)
    assert starts / 2.0**28 == pytest.approx(np.exp(low - before), abs=20 / 2**28)


def test_intervals_tile_the_whole_range(digits):
    model, x = digits
    plan = model.circuit().plan
    tables, counts = partial_evaluation.leaf_tables(plan)
    first = model.walk.order[0]
    rows = np.repeat(x[:1], 17, 0).astype(np.uint16)
    rows[:, first] = range(17)
    for fill in (
        lambda s, w: tree_coder.intervals(rows, model.walk, 20, s, w),
        lambda s, w: partial_evaluation.intervals(rows, plan, tables, counts, 20, s, w),
    ):
        starts, widths = (np.empty((17, 64), np.uint32) for _ in range(2))
        fill(starts, widths)
        assert starts[0, 0] == 0
        assert (starts[1:, 0] == starts[:-1, 0] + widths[:-1, 0]).all()
        assert starts[-1, 0] + widths[-1, 0] == 2**20
        assert widths.min() >= 1


def test_the_streams_are_constriction_s():
    """Its AnsCoder writes the same words for the same intervals, and reads ours."""
    rng = np.random.default_rng(0)
    c, n = 8, 500
    p = rng.multinomial(1 << 12, rng.dirichlet(np.ones(c))) / (1 << 12)  # sums of dyadic numbers are exact
    symbols = rng.integers(0, c, n).astype(np.int32)
    left = np.concatenate([[0], np.cumsum(p)])
    edges = (np.arange(c + 1) + np.floor(left * ((1 << 24) - c))).astype(np.int64)
    edges[-1] = 1 << 24
    words = np.empty(n + 2, dtype=np.uint32)
    count = rans.push_all(
        edges[symbols].astype(np.uint32), (edges[symbols + 1] - edges[symbols]).astype(np.uint32), 24, words
    )
    model = constriction.stream.model.Categorical(p, perfect=False)
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(symbols, model)
    assert coder.get_compressed().tolist() == words[:count].tolist()
    again = constriction.stream.stack.AnsCoder(words[:count])
    assert (again.decode(model, n) == symbols).all()


@pytest.mark.parametrize("mode", ["tree", "partial"])
def test_no_machine_dependent_arithmetic_on_the_coder_path(digits, mode):
    """Fused multiply-adds round once instead of twice: the compiled coders must not contain any."""
    model, x = digits
    PCCodec(model, mode=mode).decompress(PCCodec(model, mode=mode).compress(x[:2]))
    module = tree_coder if mode == "tree" else partial_evaluation
    for kernel in (module.intervals, module.decode, tree_coder.normalised):
        if kernel.stats.cache_hits:
            kernel.recompile()
        for code in kernel.inspect_asm().values():
            assert "vfmadd" not in code
            assert "vfnmadd" not in code
            assert "mulsd" in code or "mulpd" in code or "divsd" in code or "divpd" in code


@given(st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_every_flipped_or_missing_byte_is_noticed(seed):
    rng = np.random.default_rng(seed)
    data = bytearray(_file())
    if seed % 3 == 0:
        data = data[: rng.integers(len(data))]
    elif seed % 3 == 1:
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    else:
        data += bytes(rng.integers(0, 256, rng.integers(1, 9), dtype=np.uint8))
    with pytest.raises(CorruptFile):
        PCCodec(_model()).decompress(bytes(data))


def _model(cache=[]):  # noqa: B006 - one model for all examples
    if not cache:
        cache.append(HCLT(2, 4, schedule=ONE).fit(np.random.default_rng(0).integers(0, 4, (50, 6))))
    return cache[0]


def _file(cache=[]):  # noqa: B006
    if not cache:
        cache.append(
            PCCodec(_model(), rows_per_stream=4).compress(np.random.default_rng(1).integers(0, 4, (30, 6)), b"abc")
        )
    return cache[0]


def test_damage_that_the_digest_does_not_see_is_seen_by_the_values():
    """As if the arithmetic of the reading machine differed: the words are replaced and the digest made anew."""
    import hashlib

    body = bytearray(_file()[:-16])
    body[-5] ^= 16
    forged = bytes(body) + hashlib.sha256(body).digest()[:16]
    with pytest.raises(CorruptFile, match=r"stream|checksum"):
        PCCodec(_model()).decompress(forged)


def test_another_model_is_named():
    other = HCLT(2, 4, schedule=ONE, random_state=1).fit(np.random.default_rng(0).integers(0, 4, (50, 6)))
    with pytest.raises(InputError, match="the one that compressed this file"):
        PCCodec(other).decompress(_file())
    assert read_header(_file()).attachment == b"abc"


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.full((2, 6), 4), r"X\[0, 0\]: found 4; expected 0 to 3"),
        (np.full((2, 6), -1), "missing"),
        (np.ones((2, 6)), "type float64"),
        (np.ones((2, 5), dtype=int), "6 values per row"),
        (np.ones((0, 6), dtype=int), "6 values per row"),
    ],
)
def test_what_cannot_be_coded_is_named(x, message):
    with pytest.raises(InputError, match=message):
        PCCodec(_model()).compress(x)
    if message == "missing":
        with pytest.raises(InputError, match=message):
            PCCodec(_model()).bits(x)


@pytest.mark.parametrize("options", [{"precision": 8}, {"mode": "fast"}, {"rows_per_stream": 0}, {"n_jobs": 0}])
def test_bad_options_are_named(options):
    with pytest.raises(InputError):
        PCCodec(_model(), **options)


def test_circuits_of_one_s_own_are_coded():
    b = CircuitBuilder(3, 2)
    x, y, z = (b.inputs(v, [[0.9, 0.1], [0.2, 0.8]]) for v in range(3))
    pairs = [
        b.summate([b.multiply(x[i], y[j]) for i in range(2) for j in range(2)], [0.1, 0.2, 0.3, 0.4]) for _ in "ab"
    ]
    circuit = b.build(b.summate([b.multiply(pairs[i], z[i]) for i in range(2)], [0.6, 0.4]))
    rows = np.array(list(itertools.product(range(2), repeat=3)) * 9, dtype=np.uint8)
    codec = PCCodec(circuit)
    assert (codec.decompress(codec.compress(rows)) == rows).all()
    with pytest.raises(InputError, match="mode"):
        PCCodec(circuit, mode="tree")
