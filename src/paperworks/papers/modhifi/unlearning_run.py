"""An image classifier made to forget a class, with what it still knows, and simpler ways beside it."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import nn

from paperworks import runs
from paperworks.errors import InputError, nearest
from paperworks.papers.modhifi.attacks import (
    Forgetting,
    forgetting,
    gradient_ascent,
    membership_auc,
    probe_accuracy,
    random_edits,
    recalled,
    without_logit,
)
from paperworks.papers.modhifi.config import Config
from paperworks.papers.modhifi.figures import classes_figure
from paperworks.papers.modhifi.image_models import ImageWork, image_work
from paperworks.papers.modhifi.unlearner import ClassUnlearner
from paperworks.pruning.images import ImageLogits
from paperworks.runs.files import new_folder

OURS = "ModHiFi-U"


def unlearn_images(config: Config, run: runs.Run) -> runs.Report:
    """Make the network forget ``config.forget``, and attack it."""
    work = image_work(config, run)
    forget = _class_of(config, work)
    if work.codes is None:
        raise InputError("calibration", "images without labels", "a folder for each class, or synthetic images")
    of_class = work.codes == forget
    if not bool(of_class.any()):
        raise InputError("calibration", f"no image of class {config.forget}", "some images of the class to forget")
    run.step(f"forgetting class {work.task.class_names[forget]}")
    remaining = work.calibration[~of_class.to(work.calibration.device)]
    started = time.process_time()
    unlearner = ClassUnlearner(
        config.unlearn_p or 0.2,
        "auto" if config.layers is None else config.layers,
        config.edit,
        score="rowsum" if config.score == "auto" else config.score,
        min_agreement=config.min_agreement,
    ).fit(
        work.dense,
        work.calibration[of_class.to(work.calibration.device)],
        None if config.unlearn_p is not None else remaining,
        progress=run.progress,
    )
    seconds = time.process_time() - started
    report = unlearner.report_
    models: dict[str, nn.Module] = {"dense": work.dense, OURS: unlearner.model_}
    if config.compare:
        models["as many random edits"] = random_edits(work.dense, report.edited, report.edit, seed=config.seed % 2**32)
        models["without the logit"] = without_logit(work.dense, forget)
        samples = work.calibration[of_class.to(work.calibration.device)]
        labels = torch.full((len(samples),), forget, device=samples.device)
        models["gradient ascent"] = gradient_ascent(work.dense, samples, labels, seed=config.seed % 2**32)
    run.step("attacks: renewed statistics, a linear probe, confidence")
    found, rows = {}, []
    test = work.task.test.tensors
    train = work.task.train.tensors
    inside = train[0][train[1] == forget], test[0][test[1] == forget]
    attacked: Forgetting | None = None
    for name, model in run.progress(models.items(), "measuring", len(models)):
        found[name] = forgetting(model, test, forget)
        again = forgetting(recalled(model, remaining), test, forget) if _has_statistics(model) else None
        if name == OURS:
            attacked = again
        rows.append(
            [
                name,
                found[name].forget,
                found[name].remain,
                found[name].confidence,
                None if again is None else again.forget,
                probe_accuracy(model, train, test, forget),
                membership_auc(model, *inside),
            ]
        )
    _save(run, unlearner.model_, report.edited)
    return _report(config, work, forget, found, rows, attacked, report, seconds)


def _class_of(config: Config, work: ImageWork) -> int:
    names = work.task.class_names
    if config.forget is None:
        return 0
    if config.forget not in names:
        raise InputError("forget", repr(config.forget), f"one of {', '.join(names)}{nearest(config.forget, names)}")
    return names.index(config.forget)


def _has_statistics(model: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def _save(run: runs.Run, model: nn.Module, edited: dict[str, torch.Tensor]) -> None:
    import pandas as pd
    from safetensors.torch import save_file

    target = run.output("unlearned")
    inner: Any = model.network if isinstance(model, ImageLogits) else model
    if hasattr(inner, "save_pretrained"):
        inner.save_pretrained(target)
    else:
        with new_folder(target) as aside:
            save_file(
                {n: v.detach().cpu().contiguous() for n, v in model.state_dict().items()}, aside / "model.safetensors"
            )
    rows = [
        {"layer": path, "output": int(c), "input": int(i)} for path, pairs in edited.items() for c, i in pairs.nonzero()
    ]
    pd.DataFrame(rows).to_csv(run.files / "edits.csv", index=False)


def _report(
    config: Config,
    work: ImageWork,
    forget: int,
    found: dict[str, Forgetting],
    rows: list[list[Any]],
    attacked: Forgetting | None,
    report: Any,
    seconds: float,
) -> runs.Report:
    names = work.task.class_names
    ours, dense = found[OURS], found["dense"]
    lead = list(work.notes)
    if not report.met:
        lead.append(
            f"No share of kernels leaves the other classes as asked (--min-agreement {config.min_agreement:g}): "
            "the one that keeps most is shown. Fewer layers (--layers 1) may do."
        )
    if ours.forget > 0.5 * dense.forget:
        lead.append("The class is not forgotten. More layers (--layers), or a larger share (--unlearn-p), may do.")
    elif attacked is not None and attacked.forget > 0.5 * dense.forget:
        lead.append(
            f"The class is hidden, not erased: whoever renews the batch statistics on images of the other classes gets "
            f"{attacked.forget:.1%} of it back."
        )
    score = "rowsum" if config.score == "auto" else config.score
    again = [None] * len(names) if attacked is None else attacked.by_class
    classes: list[list[Any]] = [
        [name, *(None if v is None or math.isnan(v) else v for v in shares)]
        for name, *shares in zip(names, dense.by_class, ours.by_class, again, strict=True)
    ]
    return runs.Report(
        headline=f"The network now gets {ours.forget:.1%} of the images of class {names[forget]} right (before "
        f"{dense.forget:.1%}) and {ours.remain:.1%} of the others (before {dense.remain:.1%}), after {seconds:.1f} s "
        "without training.",
        metrics={"forget": ours.forget, "remain": ours.remain, "edited_share": report.share, "seconds": seconds},
        labels={
            "forget": f"accuracy on class {names[forget]}",
            "remain": "accuracy on the other classes",
            "edited_share": "share of kernels edited in these layers",
            "seconds": "processor time, s",
        },
        lead=lead,
        tables=[
            runs.Table(
                "Forgetting, and attacks",
                [
                    "",
                    "forgotten class",
                    "other classes",
                    "confidence in it",
                    "after renewed statistics",
                    "by a linear probe",
                    "membership AUC",
                ],
                rows,
                "Accuracy on test images. Renewed statistics: of samples of the other classes. Linear probe: a new "
                "last layer on the features, trained with all labels. Membership: 0.5 tells nothing. Paper, ResNet-50 "
                "on CIFAR-10: 0.2 % and 92.98 % in 10 s.",
            ),
            runs.Table("Class by class", ["class", "before", "after", "after renewed statistics"], classes),
            runs.Table(
                "What was edited",
                ["layer", "pairs", "of", "edit"],
                [[path, int(e.sum()), e.numel(), report.edit] for path, e in report.edited.items()],
                f"The best {report.p:.1%} of the inputs of every output, by {score}, on images of the class only.",
            ),
        ],
        figures=[
            runs.Figure(
                "Accuracy of every class",
                classes_figure(
                    names, dense.by_class, ours.by_class, None if attacked is None else attacked.by_class, forget
                ),
                "The forgotten class in red.",
            )
        ]
        if len(names) <= 40
        else [],
        files=[
            runs.ReportFile("unlearned", "the edited network, in the form of the dense one"),
            runs.ReportFile("edits.csv", "every kernel that was edited: layer, output, input"),
        ],
        notes=[
            *work.task.notes[1:],
            *[f"p {p:g}: {a:.1%} of the others keep their class, {left:.3f} left" for p, a, left in report.trials],
        ],
    )
