"""What the studies measure of one seed: searches beside other tables, ranks of candidates, and a field of noise."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from paperworks.inputs.tables import find_table, read_table
from paperworks.language import bundled_text
from paperworks.papers.optembed.encoding import FieldEncoder
from paperworks.papers.optembed.evolution import Candidates, Evolution, random_search
from paperworks.papers.optembed.fitting import Clicks, ClickTraining, scores_of
from paperworks.papers.optembed.models import ClickModel
from paperworks.papers.optembed.search import OptEmbedSearch
from paperworks.papers.optembed.sources import split_clicks, word_pairs
from paperworks.papers.optembed.table import OptEmbedding
from paperworks.papers.optembed.workbench import DENSE, OTHERS, Bench
from paperworks.runs import Run

DIM, HIDDEN = 16, (64, 32)
MILD = ClickTraining(1e-3, 1e-5, threshold_lr=0.1, alpha=1e-2, epochs=30, batch_size=1024)
STRONG = ClickTraining(1e-3, 1e-4, threshold_lr=1.0, alpha=1e-2, epochs=30, batch_size=1024)


class Data:
    """Adult as a click table, or word pairs where it is not here; split anew for every seed."""

    def __init__(self, run: Run, fast: bool, noise: int = 0) -> None:
        path = find_table("adult")
        if path is None or fast:
            table = word_pairs(bundled_text("validation"), 3000 if fast else 60_000, 0)
            frame, labels = pd.DataFrame(table.clicks.ids, columns=table.names).astype(str), table.clicks.labels
            self.name = "word pairs of the bundled text" + ("" if fast else " (adult is not on this machine)")
        else:
            read = read_table(path, _label_of(path))
            frame = read.features.copy()
            frame["fnlwgt"] = (frame["fnlwgt"] // 1000).astype(int)
            assert read.label is not None
            labels = read.label.astype(str).str.contains(">50K").to_numpy().astype(np.int8)
            self.name = "adult"
        if noise:
            frame["noise"] = run.rng("noise").integers(0, noise, len(frame)).astype(str)
        encoder = FieldEncoder(numbers="values", categorical=list(frame.columns), min_count=2).fit(frame)
        self.clicks = Clicks(encoder.transform(frame), labels)
        self.names, self.sizes = [f.name for f in encoder.fields_], encoder.field_dims_

    def bench(self, model: str, seed: int, training: ClickTraining) -> Bench:
        """Rows split by a seed, with a base model by name."""
        return Bench(*split_clicks(self.clicks, seed), self.sizes, model, DIM, HIDDEN, training, seed, device="cpu")


def _label_of(path: Any) -> str:
    """The label's column: the last one."""
    return str(pd.read_csv(path, nrows=0).columns[-1])


def new_search(bench: Bench, fast: bool, **table: Any) -> tuple[OptEmbedSearch, ClickModel]:
    """A search on a fresh base model whose table has the given options."""
    model = bench.build(lambda: OptEmbedding(bench.field_dims, DIM, **table))
    options = Evolution(generations=2 if fast else 8)
    return OptEmbedSearch(
        model, training=bench.training, evolution=options, device="cpu", random_state=bench.seed
    ), model


def half(data: Data, model_name: str, seed: int, fast: bool) -> dict[str, Any]:
    """Test AUC at half of the table, of the full one and of others; times of search and training."""
    bench = data.bench(model_name, seed, MILD)
    search, model = new_search(bench, fast)
    start = time.process_time()
    search.fit(bench.train, bench.validation)
    search.search(bench.validation, sparsity=0.5)
    middle = time.process_time()
    search.retrain(bench.train, bench.validation)
    found: dict[str, Any] = {
        "search_seconds": middle - start,
        "training_seconds": time.process_time() - middle,
        "scored": len(search.found_.scored),
        "ours": scores_of(model, bench.test)["auc"],
        "share": 1 - search.report()["sparsity"],
    }
    others = (DENSE, *OTHERS) if model_name == "deepfm" else (DENSE,)
    for name in others:
        size, scores = bench.baseline(name, search.table)
        found[name], found[f"{name}, share"] = scores["auc"], size / (sum(data.sizes) * DIM)
    return found


def fifth(data: Data, seed: int, fast: bool) -> dict[str, Any]:
    """Rows and dimensions to at most a fifth; dimensions alone to the same size; rows alone as far as they go."""
    bench = data.bench("deepfm", seed, STRONG)
    found: dict[str, Any] = {}
    for kind, options in (
        ("ours", {}),
        ("rows only", {"dimensions": False}),
        ("dimensions only", {"rows": False}),
    ):
        search, model = new_search(bench, fast, **options)
        search.fit(bench.train, bench.validation)
        if kind == "rows only":
            search.retrain(bench.train, bench.validation, dimensions=[DIM] * len(data.sizes))
        else:
            search.search(bench.validation, sparsity=0.8)
            search.retrain(bench.train, bench.validation)
        found[kind] = scores_of(model, bench.test)["auc"]
        prefix = "" if kind == "ours" else f"{kind} "
        found[f"{prefix}share"] = 1 - search.report()["sparsity"]
        if kind == "ours":
            found["rows"] = float(search.row_mask_.float().mean())
    return found


def ranks(data: Data, seed: int, fast: bool) -> dict[str, Any]:
    """The supernet's ranks of candidates beside separate trainings, and evolution beside random draws."""
    bench = data.bench("deepfm", seed, MILD)
    search, _ = new_search(bench, fast)
    search.fit(bench.train, bench.validation)
    rng = np.random.default_rng(seed)
    draw = Candidates(search.table.kept_rows().tolist(), DIM, None, rng)
    chosen = [draw.random() for _ in range(4 if fast else 12)]
    judged = [search.score(c, bench.validation) for c in chosen]
    found = search.search(bench.validation)
    others = random_search(
        lambda c: search.score(c, bench.validation),
        Candidates(search.table.kept_rows().tolist(), DIM, None, np.random.default_rng(seed + 1000)),
        len(found.scored),
    )
    full = len(search.table.weight) * DIM
    halves = search.search(bench.validation, sparsity=0.5)
    trained = [search.retrain(bench.train, bench.validation, dimensions=c)["auc"] for c in chosen]
    return {
        "spearman": float(spearmanr(judged, trained).statistic),
        "candidates": len(chosen),
        "evolved": found.score,
        "random": others.score,
        "scored": len(found.scored),
        "above_budget": sum(size > full / 2 for _, _, size in halves.scored),
    }


def noise(data: Data, seed: int, fast: bool) -> dict[str, Any]:
    """Rows kept and dimension of the field of random ids, and of the others."""
    bench = data.bench("deepfm", seed, STRONG)
    search, _ = new_search(bench, fast)
    search.fit(bench.train, bench.validation)
    search.search(bench.validation)
    kept = search.table.kept_rows().numpy() / np.array(data.sizes)
    place = data.names.index("noise")
    return {
        "noise_share": float(kept[place]),
        "real_share": float(np.delete(kept, place).mean()),
        "noise_dimension": search.candidate_[place],
        "median_dimension": float(np.median(search.candidate_)),
    }
