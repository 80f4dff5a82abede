"""Run every command and program of docs/serving.md on a small random checkpoint of Qwen3's shape.

    python scripts/serving.py [FOLDER]

Programs that need a package which is not here (gguf) are named and left out. Everything stays in FOLDER, where a second
call goes on.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "serving.md"
BLOCKS = re.compile(r"```(console|python)\n(.*?)```", re.DOTALL)
TEXT = "The {0} of the {1} is {2} and has a {0} of its own, as the {1} by the {2} river had.\n\n"
WORDS = ("house", "wall", "tree", "road", "old", "small", "green", "long")


def make_checkpoint(folder: Path) -> None:
    """A random Qwen3 in bfloat16, in shards, with the bundled tokenizer."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from paperworks.language import bundled_model_path, load_tokenizer

    tokenizer = load_tokenizer(bundled_model_path())
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=16,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
    )
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder, max_shard_size="1MB")
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Make the checkpoint and run the page."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="serving-"))
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "my-qwen3").exists():
        make_checkpoint(folder / "my-qwen3")
    lines = [TEXT.format(a, b, c) for a in WORDS for b in WORDS for c in WORDS]
    (folder / "my.txt").write_text("".join(lines), encoding="utf-8")
    environment = {**os.environ, "PAPERWORKS_HOME": str(folder / "home")}
    for kind, block in BLOCKS.findall(PAGE.read_text(encoding="utf-8")):
        for command in block.strip().splitlines() if kind == "console" else [block]:
            missing = [
                name for name in re.findall(r"^import (\w+)", command, re.M) if not importlib.util.find_spec(name)
            ]
            if missing:
                print(f"left out: {', '.join(missing)} is not installed", flush=True)
                continue
            out = re.search(r"--out (\S+)", command)
            if out and (folder / out[1]).exists():
                continue  # an earlier call made it
            started = time.monotonic()
            given = ["-m", *shlex.split(command)] if kind == "console" else ["-c", command]
            done = subprocess.run([sys.executable, *given], cwd=folder, env=environment, capture_output=True, text=True)
            name = command if kind == "console" else command.splitlines()[0]
            print(f"{time.monotonic() - started:6.1f} s  exit {done.returncode}  {name[:100]}", flush=True)
            if done.returncode:
                raise SystemExit(done.stdout[-2000:] + done.stderr[-4000:])
    print(f"all of {PAGE.name} ran in {folder}")


if __name__ == "__main__":
    main()
