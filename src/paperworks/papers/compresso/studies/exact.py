"""Exact properties: probabilities, sizes, the constraint's signs, the cut, and the count of what is trained."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM, Qwen2Config, Qwen2ForCausalLM

from paperworks import runs
from paperworks.papers.compresso.constraint import Lagrangian
from paperworks.papers.compresso.estimator import Compresso
from paperworks.papers.compresso.gates import Gates
from paperworks.papers.compresso.settings import TrainerArgs
from paperworks.papers.compresso.size import HIDDEN, Size
from paperworks.runs import Finding, largest
from paperworks.structure import HardConcrete, units_of
from paperworks.training import add_lora

KINDS = ("ffn", "kv_group", "hidden")


@runs.study(
    claims=["hard-concrete-probability", "constraint-is-met", "cut-equals-mask", "trainable-parameters"],
    title="Exact properties",
    minutes=0.5,
)
def exact_properties(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Samples against closed forms, random models of three families, and the counts of a 7B Llama."""
    return [_probability(run), *_constraint(), *_cut(run), *_trained()]


def _probability(run: runs.Run) -> Finding:
    worst = 0.0
    for alpha in (-3.0, 0.0, 3.0):
        gate = HardConcrete(1_000_000, mean=alpha)
        share = float((gate.sample(run.torch_rng(f"samples at {alpha}")) > 0).double().mean())
        worst = largest((worst, abs(share - 1 / (1 + math.exp(-alpha - 2 / 3 * math.log(11))))))
    return Finding(
        "hard-concrete-probability",
        "Largest difference of the share of nonzero samples from the closed form",
        "exact",
        worst,
        "<",
        0.002,
        detail="a million samples each at log_alpha -3, 0 and 3",
    )


def _constraint() -> list[Finding]:
    model = _small(LlamaForCausalLM, LlamaConfig, num_key_value_heads=4)
    size, gates = Size.of(model), Gates(units_of(model, KINDS))
    with torch.no_grad():
        for gate in gates.parameters():
            gate.zero_()
    chances = gates.p_nonzero()
    expected: torch.Tensor = size(gates.expected())
    outer = sum(
        float(each * torch.outer(chances[HIDDEN], p).sum().detach())
        for key, p in chances.items()
        if key != HIDDEN
        for each in [size.along[key]]
    )
    lagrangian = Lagrangian(0.4, 1)
    climb = torch.optim.AdamW(lagrangian.parameters(), lr=0.1, weight_decay=0.0, maximize=True)
    sparsity = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    for step in range(2, 12):
        climb.zero_grad()
        lagrangian(sparsity, step).backward()
        climb.step()
    sparsity.grad = None
    lagrangian(sparsity, 12).backward()
    assert sparsity.grad is not None
    return [
        Finding(
            "constraint-is-met",
            "Expected sparsity with every log_alpha 0, stream among the units",
            "exact",
            1 - float(expected.detach()) / size.whole,
            "==",
            1 - (1 / (1 + 11 ** (-2 / 3))) ** 2,
            tolerance=1e-6,
        ),
        Finding(
            "constraint-is-met",
            "Expected size by the product of sums, over the explicit outer product",
            "exact",
            float(expected.detach()) / outer,
            "==",
            1.0,
            tolerance=1e-12,
            detail="float64",
        ),
        Finding(
            "constraint-is-met",
            "Slope of the Lagrangian in the sparsity after ten ascents below the target",
            "exact",
            float(sparsity.grad),
            "<",
            0.0,
            detail=f"lambda_1 {float(lagrangian.lambda_1.detach()):.2f}, "
            f"lambda_2 {float(lagrangian.lambda_2.detach()):.2f}: descent raises the sparsity",
        ),
    ]


def _cut(run: runs.Run) -> list[Finding]:
    """Masks that were learned for a few steps on random models, and the models cut by them."""
    families: dict[str, Any] = {
        "Llama with grouped heads": _small(LlamaForCausalLM, LlamaConfig, num_key_value_heads=2),
        "Qwen2": _small(Qwen2ForCausalLM, Qwen2Config, num_key_value_heads=2),
        "OPT (LayerNorms, tied embeddings)": _small(
            OPTForCausalLM, OPTConfig, ffn_dim=96, word_embed_proj_dim=64, num_key_value_heads=None
        ),
    }
    ids = torch.randint(3, 256, (16, 24), generator=run.torch_rng("tokens"))
    worst = {}
    for name, model in families.items():
        args = TrainerArgs(
            tuning_steps=2, pruning_steps=12, batch_size=4, max_length=24, mask_learning_rate=1.0, learning_rate=1e-2
        )
        method = Compresso(0.3, prompt="none", warmup=0.5, trainer_args=args, device="cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            worst[name] = method.fit(model, None, ids).report_.masked_against_cut
    generator = run.torch_rng("norm")
    x, kept = torch.randn(64, 256, generator=generator, dtype=torch.float64), 180
    masked = x.clone()
    masked[:, kept:] = 0
    eps = 1e-5
    wide = masked[:, :kept] / (masked.square().mean(1, keepdim=True) + eps).sqrt()
    share = 256 / kept
    narrow = math.sqrt(share) * x[:, :kept] / (x[:, :kept].square().mean(1, keepdim=True) + eps * share).sqrt()
    return [
        Finding(
            "cut-equals-mask",
            "Largest difference of a logit between masked and cut model, over the largest logit",
            "exact",
            largest(worst.values()),
            "<",
            1e-5,
            detail="soft masks over heads, channels and dimensions, 30 % removed; "
            + ", ".join(f"{name}: {value:.1e}" for name, value in worst.items()),
        ),
        Finding(
            "cut-equals-mask",
            "Largest difference of an RMS norm over the kept dimensions, gain and eps corrected",
            "exact",
            float((wide - narrow).abs().max()),
            "<",
            1e-6,
        ),
    ]


def _trained() -> list[Finding]:
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig())
    masks = sum(unit_set.n_units for unit_set in units_of(model, KINDS).values())
    whole = sum(p.numel() for p in model.parameters())
    with torch.device("meta"):
        adapted = add_lora(model, ["q_proj", "v_proj"], r=8, alpha=8, dropout=0.0)
    adapters = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    return [
        Finding(
            "trainable-parameters",
            "Entries of adapters and masks for LLaMA-7B",
            "exact",
            adapters + masks,
            "==",
            4_551_680,
            unit="parameters",
            detail=f"{adapters:,} of adapters, {masks:,} of masks; the paper says 4.54M",
        ),
        Finding(
            "trainable-parameters",
            "Share of the model that is trained",
            "exact",
            (adapters + masks) / whole,
            "<",
            1e-3,
            unit="of the parameters",
        ),
    ]


def _small(model_class: Any, config_class: Any, **changes: Any) -> Any:
    fields = {
        "vocab_size": 256,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        **changes,
    }
    if fields.pop("num_key_value_heads", None) is not None:
        fields["num_key_value_heads"] = changes["num_key_value_heads"]
    else:
        fields.pop("intermediate_size")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config_class(**fields)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model
