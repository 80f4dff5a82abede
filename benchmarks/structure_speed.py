"""Tokens per second of a random Llama, dense and cut to half of its feed-forward channels and heads, at batch 8.

    python benchmarks/structure_speed.py [--layers 8] [--hidden 1024] [--batch 8] [--prompt 128] [--threads 2]

The two are measured in turns in one process, prefill and decoding with a cache, so that what else the machine does hits
both; the median of the ratios counts.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from paperworks.language import measure_speed
from paperworks.structure import KeepPlan, count, prune, units_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=options.hidden,
        intermediate_size=options.hidden * 11 // 4,
        num_hidden_layers=options.layers,
        num_attention_heads=16,
        num_key_value_heads=8,
    )
    dense: Any = LlamaForCausalLM(config).eval()
    units = units_of(dense, ["ffn", "kv_group"])
    plan = KeepPlan.of(units, {key: range(s.n_units // 2) for key, s in units.items()})
    cut = prune(dense, plan, inplace=False)
    shares = count(cut, context=options.prompt).shares(count(dense, context=options.prompt))
    print(", ".join(f"{name} {share:.3f}" for name, share in shares.items()), "of the dense model")
    how = {"batch_size": options.batch, "prompt": options.prompt, "new_tokens": options.new, "repetitions": 1}
    prefill, decode = [], []
    for number in range(options.rounds + 1):
        before, after = measure_speed(dense, warm_up=0, **how), measure_speed(cut, warm_up=0, **how)
        if number:  # the first round warms up
            prefill.append(after.prefill_tokens_per_second / before.prefill_tokens_per_second)
            decode.append(after.decode_tokens_per_second / before.decode_tokens_per_second)
            print(
                f"dense {before.prefill_tokens_per_second:,.0f} and {before.decode_tokens_per_second:,.0f} tokens/s, "
                f"cut {after.prefill_tokens_per_second:,.0f} and {after.decode_tokens_per_second:,.0f}"
            )
    print(f"cut over dense: prefill {statistics.median(prefill):.2f}, decode {statistics.median(decode):.2f}")


if __name__ == "__main__":
    main()
