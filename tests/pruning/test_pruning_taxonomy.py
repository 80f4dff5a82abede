"""What methods declare: read without running them, the same as when they run, refused where it is not literal."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from paperworks import catalog
from paperworks.comparison import methods
from paperworks.errors import InputError
from paperworks.pruning import ModuleJob, Taxonomy
from paperworks.pruning.taxonomy import COLUMNS, declaration_in, declared_beside


@pytest.mark.parametrize("slug", sorted(methods.declared()))
def test_every_method_declares_itself(slug: str) -> None:
    found = methods.declared()[slug]
    module = importlib.import_module(f"{catalog.find(slug).module}.method")
    assert found.taxonomy == module.TAXONOMY
    assert found.functions
    assert all(callable(getattr(module, name)) for name in found.functions)
    assert found.taxonomy is not None
    assert len(found.taxonomy.row()) == len(COLUMNS)


def test_the_lists_of_methods_are_those_of_the_functions() -> None:
    every = methods.declared()
    assert set(methods.method_names()) - set(methods.BASELINES) == {
        s for s, d in every.items() if "prune" in d.functions
    }
    assert methods.module_method_names() == [s for s, d in every.items() if "prune_module" in d.functions]
    assert set(every) == set(declared_beside(catalog.OURS))


def _written(folder: Path, text: str) -> Path:
    path = folder / "method.py"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_declaration_is_read_from_the_text(tmp_path: Path) -> None:
    text = (
        'raise SystemExit\nTAXONOMY = Taxonomy(speedup="structured", when="after", how="criterion", unit=("head",))\n'
        "from elsewhere import prune_module\n"
    )
    found = declaration_in(_written(tmp_path, text))
    assert found.taxonomy == Taxonomy("structured", "after", "criterion", unit=("head",))
    assert found.functions == ("prune_module",)
    assert declaration_in(_written(tmp_path, "x = 1")).taxonomy is None


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("TAXONOMY = 3", "TAXONOMY"),
        ("TAXONOMY = Taxonomy('structured', 'after', 'criterion')", "TAXONOMY"),
        ("TAXONOMY = Taxonomy(speedup='structured')", "TAXONOMY"),
        ("TAXONOMY = Taxonomy(speedup=name, when='after', how='criterion')", "TAXONOMY"),
        ("TAXONOMY = Taxonomy(speed='structured', when='after', how='criterion')", "TAXONOMY"),
        ("TAXONOMY = Taxonomy(speedup='structurd', when='after', how='criterion')", "speedup"),
        ("TAXONOMY = Taxonomy(speedup='structured', when='after', how='criterion', unit=('heads',))", "unit"),
        ("TAXONOMY = Taxonomy(speedup='structured', when='after', how='criterion', unit='head')", "unit"),
        ("def :", "method.py"),
    ],
)
def test_a_declaration_that_says_nothing_is_refused(text: str, field: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        declaration_in(_written(tmp_path, text))
    assert field in refused.value.field


def test_a_job_has_the_cost_of_its_module_and_leaves_it_alone() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    data = TensorDataset(torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2]))
    job = ModuleJob(model, torch.randn(2, 4), 0.5, data)
    assert job.dense_cost().macs == 2 * (4 * 8 + 8 * 3)
    copied = job.copy()
    assert copied is not model
    assert not copied.training
    assert list(job.analyze(copied)) == ["0/ffn"]
    assert torch.equal(job.inputs("x"), data.tensors[0])
    assert torch.equal(job.labelled("x")[1], data.tensors[1])
    blind = ModuleJob(model, torch.randn(2, 4), 0.5)
    for ask in (blind.inputs, blind.labelled):
        with pytest.raises(InputError, match="which Taylor needs"):
            ask("Taylor")


@pytest.mark.parametrize(
    ("name", "value"), [("macs", 0), ("macs", 1.5), ("train_steps", -1), ("batch_size", 0), ("learning_rate", -1.0)]
)
def test_a_job_refuses_what_is_out_of_range(name: str, value: float) -> None:
    options = {"macs": 0.5, name: value}
    with pytest.raises(InputError) as refused:
        ModuleJob(torch.nn.Linear(2, 2), torch.randn(2, 2), **options)
    assert refused.value.field == name
