"""Properties that hold to the last digits: the distillation's optimum, frozen towers, vocabularies at call time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from paperworks.papers.gkc.distillation import TextGuidedDistillation
from paperworks.papers.gkc.exporting import save_segmenter
from paperworks.papers.gkc.fitting import fit_segmenter
from paperworks.papers.gkc.segmenter import GKCForOpenVocabularySegmentation, load_segmenter
from paperworks.papers.gkc.shape_world import BASE, TRAINED, make_scenes, synonyms_of
from paperworks.papers.gkc.starting import bundled_towers, new_segmenter
from paperworks.papers.gkc.synonyms import SynonymTable
from paperworks.runs import Finding, Run, largest, smallest, study
from paperworks.training import TrainSettings

_CLAIMS = [
    "distillation-optimum",
    "distance-and-inner-product-forms",
    "teacher-only-in-training",
    "vocabulary-at-call-time",
]


@study(claims=_CLAIMS, title="Optimum of the distillation, frozen towers, vocabularies at call time", minutes=0.5)
def exact(run: Run, fast: bool) -> Iterator[Finding]:
    """Random rows in double precision, and the bundled trunk after a few steps of training."""
    rng = run.rng("rows")
    yield from _optimum(rng, 5 if fast else 30)
    yield from _forms(rng, 5 if fast else 30)
    model, changed = _trained(2 if fast else 4)
    yield from _teacher(model, changed)
    yield from _vocabulary(model)


def _unit(rng: np.random.Generator, count: int, width: int) -> torch.Tensor:
    return functional.normalize(torch.from_numpy(rng.normal(size=(count, width))), dim=1)


def _turn(rng: np.random.Generator, width: int) -> torch.Tensor:
    return torch.linalg.qr(torch.from_numpy(rng.normal(size=(width, width)))).Q


def _optimum(rng: np.random.Generator, draws: int) -> Iterator[Finding]:
    loss = TextGuidedDistillation()
    most, least, moved, alone = 0.0, np.inf, 0.0, np.inf
    for _ in range(draws):
        count = int(rng.integers(2, 8))
        text = _unit(rng, count, 16)
        region = text @ _turn(rng, 16)  # another space with the same distances
        most = largest((most, float(loss(region, region, text))))
        for row in range(count):
            other = region.clone()
            other[row] = functional.normalize(other[row] + 0.05 * _unit(rng, 1, 16)[0], dim=0)
            least = smallest((least, float(loss(other, region, text))))
        student, teacher, order = _unit(rng, count, 16), _unit(rng, count, 16), torch.from_numpy(rng.permutation(count))
        before = float(loss(student, teacher, text))
        moved = largest((moved, abs(float(loss(student[order], teacher[order], text[order])) - before)))
        # away from the optimum a sum of distances that all exceed the texts' does not see a permutation
        alone = smallest((alone, float(loss(region, region.roll(1, 0), text))))
    detail = f"{draws} draws of 2 to 7 regions, double precision"
    name = "distillation-optimum"
    yield Finding(
        name,
        "the largest loss of regions that equal their teacher's and lie as far apart as their texts is 0",
        "exact",
        most,
        "<=",
        1e-6,
        detail=f"{detail}; distances below 1e-6 count as 1e-6, so that gradients are finite",
    )
    yield Finding(
        name, "the least loss after a change of any one region is above 0", "exact", least, ">", 1e-4, detail=detail
    )
    yield Finding(
        name,
        "permuting student, teacher and text together changes the loss by at most",
        "exact",
        moved,
        "<=",
        1e-12,
        detail=detail,
    )
    yield Finding(
        name,
        "permuting the teacher's regions alone raises it from 0 to at least",
        "exact",
        alone,
        ">",
        1e-4,
        detail=detail,
    )


def _forms(rng: np.random.Generator, draws: int) -> Iterator[Finding]:
    distance, inner = TextGuidedDistillation(), TextGuidedDistillation("inner").double()
    at, off = 0.0, np.inf
    identity = 0.0
    with torch.no_grad():
        for _ in range(draws):
            count = int(rng.integers(2, 8))
            text = _unit(rng, count, 16)
            region = text @ _turn(rng, 16)
            at = largest((at, float(distance(region, region, text)), float(inner(region, region, text))))
            other = _unit(rng, count, 16)
            off = smallest((off, float(distance(other, region, text)), float(inner(other, region, text))))
            squares = (other[:, None] - region[None]).square().sum(-1)
            identity = largest((identity, float((squares - (2 - 2 * other @ region.T)).abs().max())))
    name, detail = "distance-and-inner-product-forms", f"{draws} draws, a = 1"
    yield Finding(name, "at the shared optimum both forms are 0", "exact", at, "<=", 1e-6, detail=detail)
    yield Finding(name, "away from it both are above 0", "exact", off, ">", 1e-3, detail=detail)
    yield Finding(
        name, "the largest gap between |x - y|^2 and 2 - 2 x.y", "exact", identity, "<=", 1e-12, detail=detail
    )


def _trained(steps: int) -> tuple[GKCForOpenVocabularySegmentation, int]:
    """A segmenter after a few steps with a teacher, and how many of the teacher's tensors changed."""
    towers = bundled_towers()
    module = towers.modules[0]
    before = {name: value.clone() for name, value in module.state_dict().items()}
    model = new_segmenter(seed=3)
    table = SynonymTable({name: tuple(synonyms_of(name)) for name in TRAINED})
    settings = TrainSettings(steps=steps, batch_size=8, learning_rate=1e-3, seed=3, device="cpu")
    fit_segmenter(model, make_scenes(16, 3, BASE), table, towers, settings, points=256)
    after = module.state_dict()
    texts = towers.encode_text(["red circle"])
    assert np.isfinite(np.asarray(texts)).all()
    return model, sum(not torch.equal(before[name], after[name]) for name in before)


def _teacher(model: GKCForOpenVocabularySegmentation, changed: int) -> Iterator[Finding]:
    name = "teacher-only-in-training"
    yield Finding(name, "tensors of the teacher that training changed, buffers included", "exact", changed, "==", 0)
    with tempfile.TemporaryDirectory() as folder:
        save_segmenter(model, Path(folder) / "segmenter")
        again = load_segmenter(Path(folder) / "segmenter")
        own, other = model.state_dict(), again.state_dict()
        unlike = [key for key in own.keys() | other.keys() if not _equal(own.get(key), other.get(key))]
        foreign = [key for key in again.state_dict() if not key.startswith(_STUDENT)]
    yield Finding(name, "tensors of the saved folder that are not the student's", "exact", len(foreign), "==", 0)
    yield Finding(name, "tensors that the saved model has not as the trained one", "exact", len(unlike), "==", 0)


def _equal(own: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    return own is not None and other is not None and torch.equal(own, other)


_STUDENT = ("trunk.", "class_embedding.", "projections.", "no_object", "log_scale", "text_vectors", "class_of_name")


def _vocabulary(model: GKCForOpenVocabularySegmentation) -> Iterator[Finding]:
    pixels = torch.linspace(-1, 1, 2 * 3 * 64 * 64).view(2, 3, 64, 64)

    def logits(names: object) -> torch.Tensor:
        model.set_vocabulary(names)  # type: ignore[arg-type]
        with torch.no_grad():
            found: torch.Tensor = model(pixels).class_logits
        return found

    name, trained = "vocabulary-at-call-time", list(TRAINED)
    plain = logits(trained)
    order = list(np.random.default_rng(0).permutation(len(trained)))
    turned = logits([trained[n] for n in order])
    gap = float((turned - plain[..., [*order, -1]]).abs().max())
    yield Finding(name, "scores after the classes were permuted, permuted back, differ by", "exact", gap, "<=", 1e-4)
    more = logits([*trained, "teapot"])
    gap = float((more[..., [*range(len(trained)), -1]] - plain).abs().max())
    yield Finding(name, "scores of the other classes after one was added differ by", "exact", gap, "<=", 1e-4)
    twice = logits({cls: [cls, cls] for cls in trained})
    gap = float((twice - plain).abs().max())
    yield Finding(name, "scores of classes that have their name twice differ by", "exact", gap, "<=", 0.0)
    pair = logits({cls: [cls, f"dark {cls}"] for cls in trained})
    dark = logits([f"dark {cls}" for cls in trained])
    wanted = torch.maximum(plain[..., :-1], dark[..., :-1])
    gap = float((pair[..., :-1] - wanted).abs().max())
    yield Finding(name, "scores of classes of two names differ from the larger of both by", "exact", gap, "<=", 1e-4)
