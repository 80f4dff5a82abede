"""Which families can be read, and whether a given model can be sliced: refusals name the field at fault."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paperworks.errors import InputError, nearest
from paperworks.structure.families import FAMILIES, STOCK_CLASSES, WHOLE_UNITS, Family, stock_classes

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

NOT_SLICED = "a model that is not sliced yet: prune first, then slice; to slice further, slice the original"
REFUSED = {
    "gemma3": "a text model: its checkpoint has model_type gemma3_text",
    "gemma3n": "a family without per-layer embeddings, which every layer reads beside the stream",
    "gemma3n_text": "a family without per-layer embeddings, which every layer reads beside the stream",
    "deepseek_v3": "a router whose groups of experts, with a correction of its own, can lose members",
    "llama4_text": "experts whose router weighs what they read instead of what they give",
    "jamba": "layers of a state space, whose channels are not units yet",
}
"""Architectures that users ask for and that cannot be read, and what would be needed."""


def spec_for(model: Any) -> Family:
    """The record of a model (or of a configuration), by ``config.model_type``.

    Raises InputError for an architecture that is unknown.
    """
    config = getattr(model, "config", model)
    kind = str(getattr(config, "model_type", ""))
    if kind in FAMILIES:
        return FAMILIES[kind]
    if kind.startswith("sliced_"):
        raise InputError("model_type", kind, NOT_SLICED)
    if kind.startswith("pruned_"):
        raise InputError(
            "model_type", kind, "its stock form: uniform_export(model), or stock_folder(folder, new folder)"
        )
    if kind in REFUSED:
        raise InputError("model_type", kind, REFUSED[kind])
    known = ", ".join(sorted(FAMILIES))
    raise InputError(
        "model_type",
        f"{kind or 'none'}{nearest(kind, FAMILIES)}",
        f"one of {known}; for another, register_spec(Family(...), config, model and layer class)",
    )


def register_spec(
    family: Family,
    config_class: type[Any] | None = None,
    model_class: type[nn.Module] | None = None,
    layer_class: type[nn.Module] | None = None,
    *,
    stock: tuple[type[Any], type[nn.Module]] | None = None,
) -> None:
    """Add a family of transformers. The record alone gives pruning; the three classes give slicing as well.

    A family with the record alone prunes whole units (``WHOLE_UNITS``: heads, channels, layers), which leave its
    modules' own forwards as they are. ``config_class`` is the architecture's configuration with ``SlicedConfig`` mixed
    in and ``model_type`` equal to ``family.sliced_type``; ``model_class`` its model with ``SlicedModel`` mixed in;
    ``layer_class`` its layer with the sums of its topology mixed in (``SequentialSums`` where the module names are
    Llama's). See ``modeling_sliced.py`` and ``layers_sliced.py`` for ten examples. Checkpoints of an added family load
    where the same call was made. ``stock``: the architecture's own configuration and model class, where they are not in
    transformers under the names of the record.

    Raises InputError if the name is taken or the classes do not fit.
    """
    import transformers
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    from paperworks.structure.configuration_pruned import pruned_config_class

    if family.model_type in FAMILIES:
        raise InputError("model_type", f"{family.model_type}, which is known already", "a new name")
    if layer_class is not None and not hasattr(layer_class, "sums"):
        raise InputError("layer_class", layer_class.__name__, "a layer with the residual sums of its topology")
    for name in (family.config_class, family.model_class):
        if stock is None and not hasattr(transformers, name):
            raise InputError("family", f"{name}, which transformers has not", "names that it has, or stock=(...)")
    given = [cls is not None for cls in (config_class, model_class, layer_class)]
    if any(given) and not all(given):
        raise InputError("config_class", "some of the three classes", "all three for slicing, or none")
    if config_class is not None:
        _register_slicing(family, config_class, model_class, layer_class)
    if stock is not None:
        STOCK_CLASSES[family.model_type] = stock
    kinds = family.kinds or WHOLE_UNITS
    unrotatable = family.unrotatable or ("" if config_class is not None else "no classes for slicing were given")
    FAMILIES[family.model_type] = replace(family, kinds=kinds, unrotatable=unrotatable)
    AutoConfig.register(family.pruned_type, pruned_config_class(family), exist_ok=True)
    if config_class is not None:
        auto = AutoModelForCausalLM if family.head else AutoModel
        AutoConfig.register(family.sliced_type, config_class)
        auto.register(config_class, model_class)


def _register_slicing(family: Family, config_class: Any, model_class: Any, layer_class: Any) -> None:
    from paperworks.structure.layers_sliced import LAYER_CLASSES
    from paperworks.structure.modeling_sliced import MODEL_CLASSES

    if getattr(config_class, "model_type", None) != family.sliced_type:
        raise InputError("config_class.model_type", getattr(config_class, "model_type", None), family.sliced_type)
    LAYER_CLASSES[family.model_type] = layer_class
    MODEL_CLASSES[family.model_type] = model_class


def families_table() -> str:
    """Markdown: which families can be pruned, by which units, and whether their stream can be sliced."""
    lines = ["| model_type | units that can be cut | slicing the stream |", "| --- | --- | --- |"]
    for name, family in sorted(FAMILIES.items()):
        kinds = "all" if family.kinds is None else ", ".join(family.kinds)
        lines.append(f"| {name} | {kinds} | {f'no: {family.unrotatable}' if family.unrotatable else 'yes'} |")
    lines += ["", "| refused model_type | what would be needed |", "| --- | --- |"]
    lines += [f"| {name} | {needed} |" for name, needed in sorted(REFUSED.items())]
    return "\n".join(lines) + "\n"


def check_rotation(family: Family) -> None:
    """Raise InputError for a family whose stream cannot be rotated, with the reason."""
    if family.unrotatable:
        expected = f"a family whose stream can be rotated ({family.unrotatable}); its heads and channels can be pruned"
        raise InputError("model_type", family.model_type, expected)


def check_config(config: PreTrainedConfig, family: Family) -> None:
    """Raise InputError for settings under which the stream cannot be rotated, or not by this code."""

    def refuse(field: str, expected: str) -> None:
        raise InputError(f"config.{field}", getattr(config, field), expected)

    if getattr(config, "quantization_config", None) is not None:
        method = getattr(config.quantization_config, "quant_method", None) or "a quantised model"
        raise InputError("config.quantization_config", method, "floating-point weights: load them dequantised")
    for name, value in family.required:
        if getattr(config, name, value) != value:
            refuse(name, f"{value}: the other way is not among those that are known here")
    if getattr(config, "pretraining_tp", 1) not in (None, 1):
        refuse("pretraining_tp", "1 (the same weights, computed in one piece)")
    if getattr(config, "add_cross_attention", False):
        refuse("add_cross_attention", "False: a decoder or an encoder alone")
    if family.model_type == "bert" and getattr(config, "is_decoder", False):
        refuse("is_decoder", "False: BERT as an encoder")
    if family.model_type == "opt":
        if not config.do_layer_norm_before:
            refuse("do_layer_norm_before", "True (OPT-350M adds its embeddings to the stream without a norm)")
        if config.word_embed_proj_dim != config.hidden_size:
            refuse("word_embed_proj_dim", f"hidden_size, {config.hidden_size}")
        if getattr(config, "_remove_final_layer_norm", False):
            refuse("_remove_final_layer_norm", "False: a model with its final norm")


def check_model(model: nn.Module, family: Family) -> None:
    """Raise InputError for a live model whose weights cannot be edited. Nothing is changed."""
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        raise InputError("model", type(model).__name__, "a PreTrainedModel of transformers (merge adapters first)")
    if type(model).__name__ != family.model_class:
        raise InputError("model", type(model).__name__, f"{family.model_class}, whose every weight this knows")
    check_config(model.config, family)
    adapters = [name for name, m in model.named_modules() if type(m).__module__.startswith("peft.")]
    if adapters:
        raise InputError("model", f"an adapter at {adapters[0]}", "merged adapters (merge_and_unload)")
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise InputError(name, "a parameter on the meta device", "weights in memory, or a checkpoint folder")
        if not parameter.is_floating_point() or parameter.element_size() < 2:
            raise InputError(name, f"weights of type {parameter.dtype}", "float16, bfloat16, float32 or float64")


def read_config(folder: Path) -> PreTrainedConfig:
    """The configuration of a checkpoint folder. Raises InputError if there is none."""
    from paperworks.nn.loading import read_transformers_config

    if not (folder / "config.json").is_file():
        raise InputError("model", f"{folder}, without config.json", "a Hugging Face checkpoint folder")
    config: PreTrainedConfig = read_transformers_config(folder)
    return config


def skeleton_of(source: PreTrainedConfig | str | Path) -> PreTrainedModel:
    """The stock model of a configuration or folder, without memory for its weights (meta device)."""
    import torch

    config: Any = read_config(Path(source)) if isinstance(source, (str, Path)) else source
    family = spec_for(config)
    check_config(config, family)
    with torch.device("meta"):
        return stock_classes(family)[1](config)
