"""The claims, measured again on UCI adult as a click table of 14 fields, and the exact parts on random tables.

Criteo, Avazu and KDD12 have tens of millions of rows. In their place: adult (the label is an income above 50,000;
the survey's weight in thousands is an id-like field), D = 16, a perceptron of 64 and 32, Adam at 1e-3, batches of
1,024. Without adult on this machine the word pairs of the bundled text are taken, and the findings say so. All tables
of a seed start from the same weights and see the same rows in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from paperworks import runs
from paperworks.metrics import mean_interval, ratio_interval
from paperworks.papers.optembed import trials
from paperworks.papers.optembed.classifier import with_compact_table
from paperworks.papers.optembed.compact import CompactEmbedding
from paperworks.papers.optembed.models import MODELS, make_model
from paperworks.papers.optembed.table import OptEmbedding, StepWithSurrogate
from paperworks.papers.optembed.workbench import DENSE, OTHERS, UNIFORM
from paperworks.runs import Finding, Run, largest
from paperworks.runs.files import write_text

SEEDS = 5


@runs.study(
    claims=["mask-algebra", "uniform-candidate-sampling", "compact-export-is-exact", "three-conditions"],
    title="Masks, draws and the compact table, exactly",
    minutes=0.2,
)
def exact(run: Run, fast: bool) -> Iterator[Finding]:
    """Random tables of five fields; every base model."""
    sizes = [7, 40, 3, 300, 12]
    rng = run.rng("tables")
    ids = torch.from_numpy(np.stack([rng.integers(0, size, 1000) for size in sizes], 1))
    torch.manual_seed(run.seed)
    table = OptEmbedding(sizes, trials.DIM).eval()
    plain = torch.nn.functional.embedding(ids + table.offsets, table.weight)
    yield Finding(
        "mask-algebra",
        "all dimensions and thresholds of 0: entries that differ from the unmasked table",
        "exact",
        int((table(ids) != plain).sum()),
        "==",
        0,
        unit="entries",
    )
    z = torch.tensor([0.0, 0.2, 0.4, 0.7, 1.0, 1.2], dtype=torch.float64, requires_grad=True)
    StepWithSurrogate.apply(z).sum().backward()
    assert z.grad is not None
    off = float((z.grad - torch.tensor([2.0, 1.2, 0.4, 0.4, 0.4, 0.0], dtype=torch.float64)).abs().max())
    yield Finding("mask-algebra", "largest error of the surrogate's slope at six points", "exact", off, "<=", 1e-12)
    drawn = torch.cat([table._drawn(1000).flatten() for _ in range(4 if fast else 20)])
    shares = torch.bincount(drawn, minlength=trials.DIM + 1)[1:] / len(drawn)
    sigma = (1 / trials.DIM * (1 - 1 / trials.DIM) / len(drawn)) ** 0.5
    yield Finding(
        "uniform-candidate-sampling",
        f"largest deviation of a dimension's frequency from 1/{trials.DIM}, in standard errors, {len(drawn):,} draws",
        "exact",
        float((shares - 1 / trials.DIM).abs().max()) / sigma,
        "<",
        4,
    )
    yield Finding(
        "uniform-candidate-sampling",
        "share of coordinates kept, less (D+1)/(2D)",
        "exact",
        abs(float(drawn.double().mean()) / trials.DIM - (trials.DIM + 1) / (2 * trials.DIM)),
        "<",
        4 * 0.29 / len(drawn) ** 0.5,
    )
    worst, miscounted = 0.0, 0
    for name in MODELS:
        for pruned in ("zero", "oov"):
            model = make_model(
                name, OptEmbedding(sizes, trials.DIM, pruned=pruned), sizes, trials.DIM, hidden=trials.HIDDEN
            )  # type: ignore[arg-type]
            model(ids)
            own = model.eval().embedding
            assert isinstance(own, OptEmbedding)
            own.fix(torch.rand(sum(sizes)) < 0.5, torch.randint(1, trials.DIM + 1, (5,)))
            small = with_compact_table(model, name, trials.HIDDEN)
            with torch.no_grad():
                worst = largest((worst, float((model(ids) - small(ids)).abs().max())))
            assert isinstance(small.embedding, CompactEmbedding)
            stored = sum(t[1:].numel() for t in small.embedding.tables)
            miscounted += stored != own.parameters_kept()
    yield Finding(
        "compact-export-is-exact",
        "largest difference of a logit between masked and compact model, five base models, two kinds of pruned rows",
        "exact",
        worst,
        "<=",
        1e-6,
    )
    yield Finding(
        "compact-export-is-exact",
        "tables whose stored numbers are not the sum of kept rows times dimension",
        "exact",
        miscounted,
        "==",
        0,
    )
    torch.manual_seed(run.seed)
    table.thresholds.data = torch.tensor([0.0, 0.9, 1.1, 1.0, 0.8]) * table.row_norms().median()
    table.set_candidate([3, 16, 1, 8, 8])
    compact = table.compact()
    below = int((table.row_norms()[table.row_mask()] <= table.thresholds[table.field_of_row[table.row_mask()]]).sum())
    yield Finding(
        "three-conditions",
        "stored rows at or below their threshold, and fields whose matrix is not dense with a dimension of its own",
        "exact",
        below
        + sum(
            not t.is_contiguous() or tuple(t.shape) != (int(k) + 1, d)
            for t, k, d in zip(compact.tables, table.kept_rows(), [3, 16, 1, 8, 8], strict=True)
        ),
        "==",
        0,
        detail="five fields with thresholds around the median norm and dimensions 3, 16, 1, 8, 8",
    )


@runs.study(
    claims=["compact-and-more-accurate", "both-parts-needed", "one-supernet-and-forward-passes"],
    title="Accuracy at half and at a fifth of the table",
    minutes=10,
)
def accuracy(run: Run, fast: bool) -> Iterator[Finding]:
    """Every base model at half of the table; DeepFM beside other tables of its size, and at a fifth."""
    data = trials.Data(run, fast)
    seeds = range(2 if fast else SEEDS)
    names = ("deepfm",) if fast else tuple(MODELS)
    jobs = [(name, seed) for name in names for seed in seeds]
    found = {
        job: _cached(run, f"half-{job[0]}-{job[1]}", trials.half, data, *job, fast)
        for job in run.progress(jobs, "trainings")
    }
    for name in names:
        mine = [found[name, seed] for seed in seeds]
        gain = mean_interval([m["ours"] - m[DENSE] for m in mine])
        yield Finding(
            "compact-and-more-accurate",
            f"{name}: test AUC at half of the table or less, less that of the full table",
            "empirical",
            gain,
            ">",
            0,
            baseline=float(np.mean([m[DENSE] for m in mine])),
            baseline_name="AUC of the full table",
            detail=f"{np.mean([m['share'] for m in mine]):.1%} of the parameters; {data.name}",
        )
    deep = [found["deepfm", seed] for seed in seeds]
    yield Finding(
        "compact-and-more-accurate",
        "deepfm: test AUC at half of the table or less, less that of the full table: the loss is small",
        "empirical",
        mean_interval([m["ours"] - m[DENSE] for m in deep]),
        ">=",
        -0.010,
        detail=data.name,
    )
    for name in OTHERS:
        pairs = [m["ours"] - m[name] for m in deep if name in m]
        if len(pairs) < 2:
            continue
        yield Finding(
            "compact-and-more-accurate",
            f"deepfm: test AUC less that of another table no larger: {name}",
            "empirical",
            mean_interval(pairs),
            ">=",
            -0.002 if name == UNIFORM else 0.0,
            baseline=float(np.mean([m[name] for m in deep if name in m])),
            baseline_name=f"AUC, {name}",
            detail=f"its share of the parameters is {np.mean([m[name + ', share'] for m in deep if name in m]):.1%}, "
            f"of ours {np.mean([m['share'] for m in deep]):.1%}; {data.name}",
        )
    fifth = [_cached(run, f"fifth-{seed}", trials.fifth, data, seed, fast) for seed in run.progress(seeds, "a fifth")]
    yield Finding(
        "compact-and-more-accurate",
        "deepfm: test AUC at a fifth of the table or less, less that of the full table",
        "empirical",
        mean_interval([m["ours"] - found["deepfm", s][DENSE] for s, m in zip(seeds, fifth, strict=True)]),
        ">=",
        -0.025,
        detail=f"{np.mean([m['share'] for m in fifth]):.1%} of the parameters, "
        f"{np.mean([m['rows'] for m in fifth]):.0%} of the rows; {data.name}",
    )
    for kind, title in (("rows only", "OptEmbed-E"), ("dimensions only", "OptEmbed-D")):
        yield Finding(
            "both-parts-needed",
            f"deepfm: test AUC at a fifth or less, less that of {title} ({kind}) of the same training",
            "empirical",
            mean_interval([m["ours"] - m[kind] for m in fifth]),
            ">",
            0,
            baseline=float(np.mean([m[kind] for m in fifth])),
            baseline_name=f"AUC of {title}",
            detail=f"its share of the parameters is {np.mean([m[kind + ' share'] for m in fifth]):.1%}, of both parts "
            f"{np.mean([m['share'] for m in fifth]):.1%}; {data.name}",
        )
    yield Finding(
        "one-supernet-and-forward-passes",
        "processor time of supernet and search over that of training every scored candidate once",
        "empirical",
        ratio_interval([m["search_seconds"] / (m["scored"] * m["training_seconds"]) for m in deep], unit="seeds"),
        "<",
        0.1,
        detail=f"{np.mean([m['scored'] for m in deep]):.0f} candidates scored, "
        f"{np.mean([m['training_seconds'] for m in deep]):.1f} s a training of one; {data.name}",
    )


@runs.study(
    claims=["supernet-ranks-candidates", "search-beats-random", "pruned-rows-are-useless"],
    title="What the supernet knows",
    minutes=8,
)
def supernet(run: Run, fast: bool) -> Iterator[Finding]:
    """Ranks of candidates, evolution beside random draws, and a field of noise."""
    data = trials.Data(run, fast)
    seeds = range(2 if fast else SEEDS)
    known = [_cached(run, f"ranks-{seed}", trials.ranks, data, seed, fast) for seed in run.progress(seeds, "seeds")]
    yield Finding(
        "supernet-ranks-candidates",
        "Spearman correlation of the supernet's AUC with that after separate training, random candidates",
        "empirical",
        mean_interval([k["spearman"] for k in known]),
        ">",
        0.3,
        detail=f"{known[0]['candidates']} candidates a seed; {data.name}",
    )
    yield Finding(
        "search-beats-random",
        "best validation AUC of 8 generations, less that of as many random candidates on the same supernet",
        "empirical",
        mean_interval([k["evolved"] - k["random"] for k in known]),
        ">=",
        0,
        baseline=float(np.mean([k["random"] for k in known])),
        baseline_name="best of random candidates",
        detail=f"{np.mean([k['scored'] for k in known]):.0f} candidates each; {data.name}",
    )
    yield Finding(
        "search-beats-random",
        "candidates above half of the table in searches with that budget",
        "exact",
        sum(k["above_budget"] for k in known),
        "==",
        0,
        unit="candidates",
    )
    noisy = trials.Data(run, fast, noise=500)
    fields = [_cached(run, f"noise-{seed}", trials.noise, noisy, seed, fast) for seed in run.progress(seeds, "noise")]
    yield Finding(
        "pruned-rows-are-useless",
        "share of rows kept of a field of 500 random ids, less the mean share of the real fields",
        "empirical",
        mean_interval([f["noise_share"] - f["real_share"] for f in fields]),
        "<",
        0,
        baseline=float(np.mean([f["real_share"] for f in fields])),
        baseline_name="share kept of real fields",
        detail=f"lower in {sum(f['noise_share'] < f['real_share'] for f in fields)} of {len(fields)} seeds; "
        f"{noisy.name}",
    )
    yield Finding(
        "pruned-rows-are-useless",
        "dimension that the search chose for the field of random ids, less the median of the fields",
        "empirical",
        mean_interval([f["noise_dimension"] - f["median_dimension"] for f in fields]),
        "<",
        0,
        baseline=float(np.mean([f["median_dimension"] for f in fields])),
        baseline_name="median dimension",
        detail=f"lower in {sum(f['noise_dimension'] < f['median_dimension'] for f in fields)} of {len(fields)} seeds",
    )


def _cached(run: Run, name: str, make: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    path = run.state / f"{name}.json"
    if not path.is_file():
        write_text(path, json.dumps(make(*args)))
    return dict(json.loads(path.read_text(encoding="utf-8")))
