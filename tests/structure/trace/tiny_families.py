"""Small random models of the families of transformers that the traced route is checked on, with example inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf

IMAGES = {"pixel_values": (2, 3, 32, 32)}


def _images() -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))}


def _tokens(size: int = 50) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, size, (2, 7), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def resnet() -> Any:
    config = hf.ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[1, 2], layer_type="bottleneck")
    return hf.ResNetForImageClassification(config), _images()


def convnext() -> Any:
    config = hf.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 2], num_stages=2, patch_size=4)
    return hf.ConvNextForImageClassification(config), _images()


def vit() -> Any:
    config = hf.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, image_size=32, patch_size=8
    )
    return hf.ViTForImageClassification(config), _images()


def swin() -> Any:
    config = hf.SwinConfig(image_size=32, patch_size=4, embed_dim=16, depths=[2, 1], num_heads=[2, 4], window_size=4)
    return hf.SwinForImageClassification(config), _images()


def mobilenet() -> Any:
    return hf.MobileNetV2ForImageClassification(hf.MobileNetV2Config(depth_multiplier=0.35, image_size=32)), _images()


def bert() -> Any:
    config = hf.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24
    )
    return hf.BertForSequenceClassification(config), _tokens()


def segformer() -> Any:
    config = hf.SegformerConfig(
        hidden_sizes=[8, 16],
        depths=[1, 1],
        num_encoder_blocks=2,
        sr_ratios=[2, 1],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=12,
        num_labels=3,
    )
    return hf.SegformerForSemanticSegmentation(config), _images()


def clip() -> Any:
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 24}
    config = hf.CLIPConfig(
        text_config={**small, "vocab_size": 50, "max_position_embeddings": 16, "eos_token_id": 2},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    return hf.CLIPModel(config), {**_tokens(), **_images()}


def gpt2() -> Any:
    config = hf.GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=4, n_positions=16)
    return hf.GPT2LMHeadModel(config), _tokens()


def llama() -> Any:
    config = hf.LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=2,
    )
    return hf.LlamaForCausalLM(config), _tokens()


FAMILIES: dict[str, Callable[[], Any]] = {
    "resnet": resnet,
    "convnext": convnext,
    "vit": vit,
    "swin": swin,
    "mobilenet": mobilenet,
    "bert": bert,
    "segformer": segformer,
    "clip": clip,
    "gpt2": gpt2,
    "llama": llama,
}


def family(name: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """A model with random weights, also where its initialisation is constant, and its example inputs."""
    torch.manual_seed(0)
    model, inputs = FAMILIES[name]()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.copy_(1 + torch.randn(parameter.shape, generator=generator) * 0.3)
        for path, buffer in model.named_buffers():
            if "running" in path:
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return model.eval(), inputs
