"""What the survey's tables say of a difference: shown, not shown, or of networks that guess."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import TensorDataset

from paperworks.papers.pruning_survey.bench import Row
from paperworks.papers.pruning_survey.contrasts import contrast_of
from paperworks.papers.pruning_survey.figures import ends
from paperworks.papers.pruning_survey.recipe import pairs_table
from paperworks.pruning import ImageTask


def test_an_interval_of_accuracies_ends_at_0_and_1() -> None:
    assert ends([0.2, 0.9]) == (0.0, 1.0)
    assert ends([0.7]) == (0.7, 0.7)
    low, high = ends([0.5, 0.52, 0.51])
    assert 0 < low < 0.51 < high < 1


def test_pairs_say_what_is_shown_and_what_tests_nothing() -> None:
    images, labels = torch.zeros(40, 1, 2, 2), torch.arange(40) % 4
    data = TensorDataset(images, labels)
    task = ImageTask(data, data, ("a", "b", "c", "d"))
    contrast = contrast_of("original-vs-transfer")

    def verdicts(native: list[float], transferred: list[float]) -> list[Any]:
        rows = [
            Row(name, seed, 0.9, "", 0.1, 0.1, 0.5, value, 1, 1.0, 0.0)
            for name, values in (("native mask", native), ("transferred mask", transferred), ("random mask", [0.5] * 3))
            for seed, value in enumerate(values)
        ]
        table, _ = pairs_table(contrast, rows, [0.9], contrast.tested(task))
        return [row[-1] for row in table.rows]

    nothing = "both are at chance: this tests nothing"
    assert verdicts([0.95, 0.93, 0.94], [0.8, 0.81, 0.8]) == ["native mask is better", "transferred mask is better"]
    assert verdicts([0.95, 0.75, 0.94], [0.9, 0.85, 0.8])[0] == "no difference is shown"
    assert verdicts([0.95, 0.93, 0.94], [0.5, 0.5, 0.5]) == ["native mask is better", nothing]  # 0.5 of two classes
    one_of_four = contrast_of("lottery-ticket").tested(task)
    assert (len(one_of_four.class_names), len(contrast.tested(task).class_names)) == (4, 2)
