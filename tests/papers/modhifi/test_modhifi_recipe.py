"""The recipe on the images, classifiers and text models that users have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import paperworks as pw
from paperworks.errors import InputError
from paperworks.nn import SmallCNN, build_network, load_network
from paperworks.papers.modhifi.config import Config
from paperworks.papers.modhifi.image_models import image_work
from paperworks.papers.modhifi.pruner import ModHiFiPruner
from paperworks.papers.modhifi.text_models import TextModel, save_text_model
from paperworks.runs import Run
from paperworks.structure.trace import load_cut

QUICK: dict[str, Any] = {"epochs": 1.0, "samples": 6, "compare": False, "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of small colour images, of which one is brighter."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("photos")
    for kind, level in (("dark", 60), ("light", 180)):
        (root / kind).mkdir()
        for number in range(10):
            pixels = np.clip(rng.normal(level, 20, size=(8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / kind / f"{number}.png")
    return root


def test_a_folder_of_images_and_a_network_of_ours(photos: Path, tmp_path: Path) -> None:
    build_network("small-cnn", image_size=8, channels=3, outputs=2, widths=(8, 16)).save_pretrained(tmp_path / "own")
    options = {**QUICK, "data": str(photos), "model": str(tmp_path / "own"), "multiple_of": 1, "target": 0.6}
    report = pw.run("modhifi", out=tmp_path / "out", calibration=str(photos), **options)
    assert 1 / 0.6 <= report.metrics["macs_ratio"] < 2.2
    again = load_cut(tmp_path / "out/pruned", build=lambda: SmallCNN(channels=3, outputs=2, widths=(8, 16)))
    kept = json.loads((tmp_path / "out/kept.json").read_text(encoding="utf-8"))
    assert again.get_submodule("blocks.0.conv1").weight.shape[0] == len(kept["blocks.0.conv1/channel"])
    assert any("as they are" in line for line in report.lead)


def test_a_network_trained_on_few_images_has_their_statistics(photos: Path, tmp_path: Path) -> None:
    work = image_work(Config(data=str(photos), epochs=1.0, samples=6, device="cpu"), Run(tmp_path / "run"))
    images = work.task.train.tensors[0]
    with torch.no_grad():
        wanted = work.dense.get_submodule("stem.0")(images).mean((0, 2, 3))
    assert torch.allclose(work.dense.get_buffer("stem.1.running_mean"), wanted, atol=1e-5)


def test_a_classifier_of_transformers_is_saved_with_its_processor(photos: Path, tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    torch.manual_seed(0)
    config = ViTConfig(
        image_size=8, patch_size=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(tmp_path / "vit")
    options = {**QUICK, "data": str(photos), "model": str(tmp_path / "vit"), "of": "channels", "multiple_of": 1}
    pw.run("modhifi", out=tmp_path / "out", **options)
    again = load_cut(tmp_path / "out/pruned")
    assert type(again).__name__ == "ViTForImageClassification"
    assert again.vit.layers[0].mlp.fc1.out_features == 16
    assert (tmp_path / "out/pruned/preprocessor_config.json").is_file()


def test_a_class_is_forgotten_and_the_network_loads(photos: Path, tmp_path: Path) -> None:
    options = {**QUICK, "data": str(photos), "task": "unlearn", "forget": "light", "unlearn_p": 0.5, "compare": True}
    report = pw.run("modhifi", out=tmp_path / "out", **options)
    assert "class light" in report.headline
    assert [row[0] for row in report.tables[0].rows][1] == "ModHiFi-U"
    kept = report.tables[0].rows[1][1] > 0.5 * report.tables[0].rows[0][1]  # type: ignore[operator]
    assert any("not forgotten" in line for line in report.lead) == kept
    assert not (kept and any("hidden, not erased" in line for line in report.lead))
    assert isinstance(load_network(tmp_path / "out/unlearned"), SmallCNN)
    lines = (tmp_path / "out/edits.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "layer,output,input"
    assert len(lines) > 10


class _NoTokenizer:
    def save_pretrained(self, folder: Path) -> None:
        """Nothing to write."""


@pytest.mark.parametrize("name", ["GPT2", "DistilBert", "Albert"])
def test_families_with_names_of_their_own_load_with_transformers(name: str, tmp_path: Path) -> None:
    import transformers

    common: dict[str, Any] = {"vocab_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8}
    sizes: dict[str, dict[str, Any]] = {
        "GPT2": {"n_positions": 16, "bos_token_id": 0, "eos_token_id": 1},  # 32 inner features, which no option says
        "DistilBert": {"hidden_dim": 16, "max_position_embeddings": 16},
        "Albert": {"intermediate_size": 16, "embedding_size": 8, "max_position_embeddings": 16},
    }
    torch.manual_seed(0)
    kind: Any = getattr(transformers, f"{name}Model")
    model = kind(getattr(transformers, f"{name}Config")(**common, **sizes[name])).eval()
    model.config.use_cache = False
    ids = torch.arange(24).view(4, 6)
    pruner = ModHiFiPruner(0.5, "channels", kinds=("ffn",), scope="group").fit(model, {"input_ids": ids})
    how = save_text_model(TextModel(model, _NoTokenizer(), tmp_path), pruner.model_, tmp_path / "smaller")
    assert how.startswith("transformers")
    again = kind.from_pretrained(tmp_path / "smaller").eval()
    assert torch.equal(again(ids)[0], pruner.model_(ids)[0])


def test_a_sentence_encoder_loads_again_with_transformers(tmp_path: Path) -> None:
    from transformers import AutoModel, BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *["a", "b", "c", "d", "e", "f", "g", "h"]]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(words[5:], size=rng.integers(3, 9))) for _ in range(60)]
    (tmp_path / "notes.txt").write_text("\n".join(lines), encoding="utf-8")
    options = {**QUICK, "model": str(tmp_path / "bert"), "text": str(tmp_path / "notes.txt"), "of": "channels"}
    report = pw.run("modhifi", out=tmp_path / "out", samples=10, **{k: v for k, v in options.items() if k != "samples"})
    assert 0.5 < report.metrics["quality"] <= 1
    again = AutoModel.from_pretrained(tmp_path / "out/pruned")
    assert again.config.intermediate_size == 16  # half of 24, rounded up to a multiple of 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 0.0}, "target"),
        ({"calibration": "nowhere"}, "nowhere"),
        ({"task": "unlearn", "forget": "blue"}, "dark, light"),
        ({"task": "unlearn", "model": "minilm"}, "task"),
        ({"model": "nowhere"}, "nowhere"),
    ],
)
def test_bad_options(photos: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pw.run("modhifi", out=tmp_path / "out", **{**QUICK, "data": str(photos), "model": "mlp", **options})
