"""Real texts with a planted word (experiment C)."""

from __future__ import annotations

import warnings

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.ladder.corpus import unique
from paperworks.papers.ladder.demo import plant
from paperworks.papers.ladder.discovery import SliceDiscovery
from paperworks.papers.ladder.studies.common import encoded, seeds

SECTIONS = ("noun.animal", "noun.artifact")
TOKEN = "zorbulent"
EACH = {"train": 150, "val": 200}
SHARES = {"train": 0.95, "val": 0.9}


@runs.study(claims=["attribute-gap"], title="Glosses of WordNet with a planted word (C)", minutes=3.0)
def glosses(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Whether the planted word is the first hypothesis for the class that relies on it."""
    from sklearn.linear_model import LogisticRegression

    from paperworks import inputs
    from paperworks.inputs.wordnet import read_synsets

    folder = inputs.path("wordnet")
    known = {s: [x.gloss.partition(";")[0] for x in read_synsets(folder, "noun") if x.lexname == s] for s in SECTIONS}
    gaps = []
    for seed in run.progress(seeds(fast, 3), "classifiers"):
        draw = np.random.default_rng([seed, 3])
        texts: dict[str, list[str]] = {"train": [], "val": []}
        for section in SECTIONS:
            order = iter(draw.permutation(len(known[section])))
            for part, size in EACH.items():
                texts[part] += [known[section][i] for _, i in zip(range(size), order, strict=False)]
        y = {part: np.repeat([0, 1], size) for part, size in EACH.items()}
        made = {part: plant(texts[part], y[part], TOKEN, SHARES[part], draw)[0] for part in EACH}
        x = {part: encoded(tuple(made[part])) for part in EACH}
        model = LogisticRegression(C=10, max_iter=1000).fit(x["train"], y["train"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = SliceDiscovery(top_k=100, text_encoder=lambda t: encoded(tuple(t))).fit(
                x["train"],
                x["train"],
                x["val"],
                y["val"],
                model.predict(x["val"]),
                unique(made["val"]),
                class_names=[s.partition(".")[2] for s in SECTIONS],
            )
        proposed = found.backend.propose(found.class_names_[1], found.top_sentences_.get(1, []), unique(made["val"]), 8)
        first = bool(proposed) and TOKEN in proposed[0].name
        gaps.append(next((s.gap for s in found.slices_ if first and s.class_code == 1 and TOKEN in s.name), 0.0))
    return [
        runs.Finding(
            "attribute-gap",
            "Accuracy with the planted word minus accuracy without it; 0 where it is not the first proposal",
            "empirical",
            mean_interval(gaps),
            ">",
            0.0,
            detail="glosses of animals and artifacts; the word is in 95 % of one section's training texts",
        ),
    ]
