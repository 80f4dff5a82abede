"""Sliced architectures are known to transformers after ``import paperworks``, in whatever order things are imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_transformers import D, random_basis, tiny
from transformers import AutoConfig

import forked
from paperworks.structure import cuts_of, fold_norms, rotate

ORDERS = {
    "paperworks first": "import paperworks\nfrom transformers import AutoModelForCausalLM",
    "a model of transformers in between": (
        "import paperworks\nfrom transformers.models.bert.modeling_bert import BertLayer\n"
        "from transformers import AutoModelForCausalLM"
    ),
    "transformers first": "from transformers import AutoModelForCausalLM, BertModel\nimport paperworks",
}

LOAD = """
import sys
assert not {{"paperworks", "transformers"}} & set(sys.modules)
{imports}
print(type(AutoModelForCausalLM.from_pretrained(sys.argv[1])).__module__)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folded = fold_norms(tiny("llama"))
    generator = torch.Generator().manual_seed(7)
    bases = [random_basis(D, generator)[:, :24] for _ in range(cuts_of(folded) - 1)]
    folder = tmp_path_factory.mktemp("sliced") / "model"
    rotate(folded, [*bases, random_basis(D, generator)]).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("imports", ORDERS.values(), ids=ORDERS)
def test_from_pretrained_without_remote_code(saved: Path, imports: str) -> None:
    done = forked.run(forked.code, LOAD.format(imports=imports), str(saved), imported=forked.BARE)
    assert done.output.strip() == "paperworks.structure.modeling_sliced", done.errors[-2000:]


def test_from_config() -> None:
    config = AutoConfig.for_model("sliced_llama", layer_widths=[{"stream": [8, 8, 8]}])
    assert type(config).__module__ == "paperworks.structure.configuration_sliced"


def test_importing_paperworks_imports_neither() -> None:
    code = "import paperworks, sys; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
