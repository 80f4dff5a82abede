"""Caption heads: words from a query's state and what the memory holds inside its segment."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.papers.sieve_swap.attention import sample_linear, sine_positions
from paperworks.papers.sieve_swap.network import Memory
from paperworks.papers.sieve_swap.settings import ProcXConfig
from paperworks.papers.sieve_swap.words import tokens

PAD, BOS, EOS, UNK = "[PAD]", "[BOS]", "[EOS]", "[UNK]"
SPECIAL = (PAD, BOS, EOS, UNK)
IGNORED = 0
"""The id of padding, which is no target."""


def word_tokenizer(texts: Iterable[str], most: int = 8000, least: int = 1) -> Any:
    """A tokenizer of whole words over texts, as transformers' ``PreTrainedTokenizerFast``.

    Lower-case words and marks; the most frequent ones first, at most ``most``, each at least ``least`` times.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    counts: Counter[str] = Counter(word for text in texts for word in tokens(text))
    known = [word for word, count in sorted(counts.items(), key=lambda c: (-c[1], c[0])) if count >= least]
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *known[: most - len(SPECIAL)]])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    inner.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace("\u2019", "'")]
    )
    pattern = r"[^\W_]+(?:'[^\W_]+)*"
    from tokenizers import Regex

    inner.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    inner.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, vocabulary[BOS]), (EOS, vocabulary[EOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(folder: str | Path) -> Any:
    """A tokenizer of a Hugging Face folder. Raises InputError if it cannot be read, or has no token for padding."""
    from transformers import PreTrainedTokenizerFast

    try:
        if (Path(folder) / "tokenizer.json").is_file():  # without the models that the other way imports
            tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        else:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        raise InputError("tokenizer", f"{folder} ({error})", "a folder with a tokenizer of transformers") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def encode_texts(tokenizer: Any, texts: Sequence[str], most: int) -> list[list[int]]:
    """Token ids of texts with a beginning and an end, at most ``most`` each."""
    begin, end = ends_of(tokenizer)
    out = []
    for text in texts:
        ids = [i for i in tokenizer(text, add_special_tokens=False)["input_ids"] if i not in (begin, end)]
        out.append([begin, *ids[: most - 2], end])
    return out


def ends_of(tokenizer: Any) -> tuple[int, int]:
    """Ids of beginning and end; BERT's CLS and SEP where there are no others."""
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.cls_token_id
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    if end is None:
        raise InputError("tokenizer", "no token for the end of a text", "a tokenizer with eos or sep")
    return (end if begin is None else begin), end


def segment_features(memory: Memory, boxes: torch.Tensor, points: int) -> torch.Tensor:
    """The finest level at evenly spaced places inside segments.

    Parameters
    ----------
    boxes : (centre, length) ``[B, S, 2]``.

    Returns
    -------
    ``[B, S, points, d]``.
    """
    fine = memory.values[:, : memory.lengths[0]].unsqueeze(2)  # [B, T, 1, d]
    steps = (torch.arange(points, device=boxes.device) + 0.5) / points - 0.5
    places = boxes[..., :1] + boxes[..., 1:] * steps
    return sample_linear(fine, places.clamp(0, 1).unsqueeze(2))[:, :, 0]


class TransformerCaptioner(nn.Module):
    """A small transformer decoder; input and output words share their matrix.

    It attends to the query's state and to the features inside the segment.
    """

    def __init__(self, config: ProcXConfig, words: int) -> None:
        super().__init__()
        d = config.dim
        self.longest = config.most_tokens
        self.words = nn.Embedding(words, d, padding_idx=IGNORED)
        nn.init.normal_(self.words.weight, std=d**-0.5)
        layer = nn.TransformerDecoderLayer(
            d, config.heads, config.feed_forward, config.dropout, batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, config.caption_layers, norm=nn.LayerNorm(d))
        self.bias = nn.Parameter(torch.zeros(words))
        self.register_buffer("places", sine_positions(config.most_tokens, d), persistent=False)
        self.scale = math.sqrt(d)

    def forward(
        self, states: torch.Tensor, features: torch.Tensor, ids: torch.Tensor, wanted: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Logits of what follows each of the words.

        Parameters
        ----------
        states, features : of segments, ``[S, d]`` and ``[S, points, d]``.
        ids : int64 ``[S, W]``.
        wanted : bool ``[S, W]``: logits of these places only.

        Returns
        -------
        ``[S, W, words]``, or ``[wanted, words]``.
        """
        context = torch.cat([states[:, None], features], 1)
        width = ids.shape[1]
        x = self.words(ids) * self.scale + self.places[:width]  # type: ignore[index]
        mask = torch.full((width, width), -math.inf, device=ids.device).triu(1)
        hidden = self.decoder(x, context, tgt_mask=mask)
        return functional.linear(hidden if wanted is None else hidden[wanted], self.words.weight, self.bias)


class LstmCaptioner(nn.Module):
    """PDVC's form: an LSTM that looks, at every word, at points of the segment chosen by its own state.

    The points move from their even places by a learned offset, and are weighed by a softmax (deformable soft
    attention).
    """

    def __init__(self, config: ProcXConfig, words: int) -> None:
        super().__init__()
        d = config.dim
        self.longest = config.most_tokens
        self.words = nn.Embedding(words, d, padding_idx=IGNORED)
        self.cell = nn.LSTMCell(3 * d, d)
        self.offsets = nn.Linear(2 * d, config.segment_points)
        self.keys, self.ask, self.weigh = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, 1)
        self.output = nn.Linear(d, words)
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.offsets.bias)

    def forward(
        self, states: torch.Tensor, features: torch.Tensor, ids: torch.Tensor, wanted: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As ``TransformerCaptioner.forward``."""
        hidden, cell = torch.zeros_like(states), torch.zeros_like(states)
        count = features.shape[1]
        even = (torch.arange(count, device=ids.device) + 0.5) / count
        line = features.unsqueeze(2)  # the points of the segment are the line that is sampled
        out = []
        for word in self.words(ids).unbind(1):
            moved = even + self.offsets(torch.cat([hidden, states], 1)) / count
            seen = sample_linear(line, moved[:, None, None].clamp(0, 1))[:, 0, 0]
            weight = self.weigh(torch.tanh(self.keys(seen) + self.ask(hidden)[:, None])).softmax(1)
            hidden, cell = self.cell(torch.cat([word, (weight * seen).sum(1), states], 1), (hidden, cell))
            out.append(hidden)
        every = torch.stack(out, 1)
        return self.output(every if wanted is None else every[wanted])


class LanguageModelCaptioner(nn.Module):
    """A model of transformers from a folder (GPT-2 and other decoders, T5 and other encoder-decoders).

    State and features of the segment, projected to the model's width, stand in front of the words of a decoder, or are
    the input of an encoder-decoder.
    """

    def __init__(self, config: ProcXConfig, folder: str | Path, weights: bool = True) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

        try:
            found = AutoConfig.from_pretrained(str(folder), local_files_only=True)
            kind: Any = AutoModelForSeq2SeqLM if found.is_encoder_decoder else AutoModelForCausalLM
            self.model: Any = (
                kind.from_pretrained(str(folder), local_files_only=True) if weights else kind.from_config(found)
            )
        except Exception as error:
            raise InputError(
                "caption_model", f"{folder} ({error})", "a folder of GPT-2, T5 or another model of text"
            ) from error
        self.longest = config.most_tokens
        self.two_sided = bool(found.is_encoder_decoder)
        self.project = nn.Linear(config.dim, self.model.get_input_embeddings().embedding_dim)

    def forward(
        self, states: torch.Tensor, features: torch.Tensor, ids: torch.Tensor, wanted: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As ``TransformerCaptioner.forward``."""
        context = self.project(torch.cat([states[:, None], features], 1))
        if self.two_sided:
            logits = self.model(inputs_embeds=context, decoder_input_ids=ids, use_cache=False).logits
        else:
            words = self.model.get_input_embeddings()(ids)
            found = self.model(inputs_embeds=torch.cat([context, words], 1), use_cache=False).logits
            logits = found[:, context.shape[1] :]
        return logits if wanted is None else logits[wanted]


def make_captioner(
    config: ProcXConfig, words: int, folder: str | Path | None = None, weights: bool = True
) -> nn.Module:
    """The caption head that the settings name, or a language model of a folder (its weights, or its sizes only)."""
    if folder is not None:
        return LanguageModelCaptioner(config, folder, weights)
    return (LstmCaptioner if config.captions == "lstm" else TransformerCaptioner)(config, words)


def caption_loss(
    captioner: nn.Module, states: torch.Tensor, features: torch.Tensor, ids: torch.Tensor, pad: int, end: int
) -> torch.Tensor:
    """Mean negative log-likelihood of the words behind the first, their end included; padding is no target.

    Parameters
    ----------
    ids : int64 ``[S, W]``, each row padded behind its end.
    pad, end : ids; they may be the same token, which then counts once.
    """
    target = ids[:, 1:]
    real = target != pad
    if pad == end:
        ended = (target == end).cumsum(1)
        real = (ended == 0) | ((ended == 1) & (target == end))
    logits = captioner(states, features, ids[:, :-1], real)
    return functional.cross_entropy(logits, target[real]) if len(logits) else states.sum() * 0


@torch.no_grad()
def write_captions(
    captioner: Any, tokenizer: Any, states: torch.Tensor, features: torch.Tensor, no_repeat: int = 0
) -> tuple[list[str], list[float]]:
    """The likeliest word again and again; texts, and the mean log-probability of their words.

    With ``no_repeat``, a word that would make a run of so many words come twice is passed over.
    """
    begin, end = ends_of(tokenizer)
    count = len(states)
    if not count:
        return [], []
    ids = torch.full((count, 1), begin, device=states.device)
    done = torch.zeros(count, dtype=torch.bool, device=states.device)
    total = torch.zeros(count, device=states.device)
    length = torch.zeros(count, device=states.device)
    banned = [i for i in {tokenizer.pad_token_id, begin, tokenizer.unk_token_id} if i is not None and i != end]
    for _ in range(captioner.longest - 1):
        logits = captioner(states, features, ids)[:, -1]
        logits[:, banned] = -math.inf
        if no_repeat:
            for row, said in enumerate(ids.tolist()):
                logits[row, repeats(said[1:], no_repeat)] = -math.inf
        value, word = logits.log_softmax(-1).max(-1)
        total += torch.where(done, 0.0, value)
        length += (~done).float()
        word = torch.where(done, end, word)
        ids = torch.cat([ids, word[:, None]], 1)
        done |= word == end
        if bool(done.all()):
            break
    texts = [str(tokenizer.decode(row, skip_special_tokens=True)).strip() for row in ids[:, 1:].tolist()]
    means = (total / length.clamp(min=1)).tolist()
    return [_sentence(text) for text in texts], means


def repeats(said: Sequence[int], size: int) -> list[int]:
    """The words that, said next, would make a run of ``size`` words come twice."""
    runs = [tuple(said[i : i + size]) for i in range(len(said) - size + 1)]
    last = tuple(said[len(said) - size + 1 :])
    return sorted({run[-1] for run in runs if run[:-1] == last})


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + ("" if not text or text.endswith((".", "!", "?")) else ".")
