"""Small inputs for the tests: a lecture of twelve seconds, and a text encoder of one layer."""

from __future__ import annotations

from pathlib import Path

from paperworks.papers.quilt1m.lectures import PARTS, Lecture, Scene, crop, slide, write_lecture

WORDS = "the a of this is here you see notice red green roof lake pagoda dahlia petal picture image"


def lecture(name: str = "talk") -> Lecture:
    """Slide (3 s), roof (5 s), blank (3 s), dahlia to the end (5 s)."""
    boxes = {part: (crop(photo, left, top, width), said) for part, photo, left, top, width, said in PARTS}
    return Lecture(
        name,
        (
            Scene("text", slide(["Lecture", "two lines"]), "Welcome to all of you, we begin.", 3.0),
            Scene("domain", *boxes["roof"], 5.0),
            Scene("blank", slide([]), "Any questions so far, please ask.", 3.0),
            Scene("domain", *boxes["dahlia"], 5.0),
        ),
    )


def write_talk(folder: Path, name: str = "talk") -> Path:
    """The lecture as a video with its transcript."""
    return write_lecture(lecture(name), folder)


def write_terms(folder: Path) -> Path:
    """A vocabulary of four terms."""
    path = folder / "terms.csv"
    path.write_text("term,id\npagoda,C1\nroof,C2\ndahlia,C3\nflower head,C4\n")
    return path


def write_text_encoder(folder: Path) -> Path:
    """A BERT of one layer at random, with its tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", *WORDS.split()]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        initializer_range=0.5,  # so that texts differ in what the random encoder gives
    )
    BertModel(config).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]", model_max_length=32
    )
    tokenizer.save_pretrained(folder)
    return folder


def write_captions(folder: Path, pictures: int = 12) -> Path:
    """A table of small pictures, red and green, with captions."""
    import numpy as np
    from PIL import Image

    rows = ["image,caption"]
    rng = np.random.default_rng(0)
    for number in range(pictures):
        pixels = rng.integers(0, 90, (24, 24, 3)).astype(np.uint8)
        pixels[..., number % 2] = rng.integers(150, 255, (24, 24))
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append(f"{number}.png,this is a {('red', 'green')[number % 2]} picture")
    path = folder / "captions.csv"
    path.write_text("\n".join(rows) + "\n")
    return path
