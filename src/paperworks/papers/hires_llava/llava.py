"""A vision-language model: the high-resolution encoder, a projector, and a causal language model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode, resolve_device
from paperworks.papers.hires_llava.batches import as_tensors, tokens_of_batch
from paperworks.papers.hires_llava.conversations import Conversation, read_conversations, token_parts
from paperworks.papers.hires_llava.encoder import HiResVisionEncoder
from paperworks.papers.hires_llava.features import TokenRows
from paperworks.papers.hires_llava.pixels import as_rgb
from paperworks.parameters import check_seed, check_whole
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder
from paperworks.training import Batch, Rows, TrainResult, TrainSettings, add_lora, make_optimizer, train

Stage = Literal[1, 2, 3]
IGNORED = -100
RATES: dict[int, float] = {1: 1e-3, 2: 1e-3, 3: 1e-3}
"""Learning rate of sampler and projector by stage."""
ADAPTER_FACTOR, LORA_FACTOR, FULL_FACTOR, TOWER_FACTOR = 0.2, 0.2, 0.02, 0.002
"""Of that rate: 2e-4 for the adapter and for LoRA, 2e-5 for the whole language model, 2e-6 for layers of the tower."""
OWN = "hires_llava.json"


class HiResLlava(nn.Module):
    """Answers questions about images of any size.

    The language model reads: text in front of the image, tokens of the global view, a separator, tokens of the restored
    map in raster order with a mark at the end of every row, text behind the image.

    Parameters
    ----------
    vision : a tower (see ``load_tower``), or a ``HiResVisionEncoder``.
    llm : the folder of a causal language model of transformers, or such a model.
    tokenizer : of a model that is given as a module.
    row_end : put the learned mark behind every row.
    seed : of all new weights.
    options : of ``HiResVisionEncoder``.

    Raises
    ------
    InputError : a folder that does not load, or a model without its tokenizer.
    """

    def __init__(
        self, vision: Any, llm: Any, tokenizer: Any = None, *, row_end: bool = True, seed: int = 0, **options: Any
    ) -> None:
        check_seed("seed", seed)
        super().__init__()
        self.encoder = (
            vision if isinstance(vision, HiResVisionEncoder) else HiResVisionEncoder(vision, seed=seed, **options)
        )
        self.llm_source = Path(llm).expanduser() if isinstance(llm, (str, Path)) else None
        if self.llm_source is not None:
            from paperworks.language import load_model

            llm, tokenizer = load_model(self.llm_source, "float32", "cpu")
        if not isinstance(llm, nn.Module) or tokenizer is None:
            raise InputError("llm", type(llm).__name__, "a folder, or a model of transformers with its tokenizer")
        language: Any = llm
        self.llm: Any = language
        self.tokenizer = tokenizer
        self.stages: list[int] = []
        width, out = self.encoder.tower.width, int(language.get_input_embeddings().weight.shape[1])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projector = nn.Sequential(nn.Linear(width, out), nn.GELU(), nn.Linear(out, out))
            scale = float(language.get_input_embeddings().weight.std().detach())
            self.separator = nn.Parameter(torch.randn(out) * scale)
            self.row_end = nn.Parameter(torch.randn(out) * scale) if row_end else None

    def image_embeddings(self, rows: TokenRows) -> torch.Tensor:
        """What the language model reads of an image: float ``[N', width of the language model]``."""
        values = self.projector(rows.values)
        if bool(rows.is_global.all()):
            return values
        whole = values[~rows.is_global]
        if self.row_end is not None:
            numbers = rows.rows[~rows.is_global]
            ends = (numbers[1:] != numbers[:-1]).nonzero()[:, 0] + 1
            pieces = whole.tensor_split(ends.cpu())
            whole = torch.cat([part for piece in pieces for part in (piece, self.row_end[None])])
        if not bool(rows.is_global.any()):
            return whole
        return torch.cat([values[rows.is_global], self.separator[None], whole])

    def forward(self, **batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits ``[n, T, V]`` and labels ``[n, T]`` (-100: no target) of a batch of ``_Examples``."""
        images = iter(tokens_of_batch(self.encoder, batch)) if "slices" in batch else iter(())
        embed = self.llm.get_input_embeddings()
        sequences, targets = [], []
        for row in range(len(batch["before"])):
            before, after = (batch[name][row, : int(batch[f"{name}_length"][row])] for name in ("before", "after"))
            answers = batch["answers"][row, : len(after)]
            parts = [embed(before)]
            if bool(batch["has_image"][row]):
                parts.append(self.image_embeddings(next(images)))
            ahead = sum(len(part) for part in parts)
            parts.append(embed(after))
            sequences.append(torch.cat(parts))
            label = torch.where(answers.bool(), after, torch.full_like(after, IGNORED))
            targets.append(torch.cat([label.new_full((ahead,), IGNORED), label]))
        self._check_length(max(len(one) for one in sequences))
        embeds = nn.utils.rnn.pad_sequence(sequences, batch_first=True)
        labels = nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORED)
        lengths = torch.tensor([len(one) for one in sequences], device=embeds.device)
        mask = (torch.arange(embeds.shape[1], device=embeds.device)[None] < lengths[:, None]).long()
        logits = self.llm(inputs_embeds=embeds, attention_mask=mask, use_cache=False).logits
        return logits, labels

    def fit(
        self,
        records: Any,
        image_root: str | Path | Mapping[str, Any] = ".",
        stage: Stage = 3,
        *,
        peft_config: Mapping[str, Any] | None = None,
        settings: TrainSettings | None = None,
        unfreeze_layers: int = 0,
        llm_factor: float | None = None,
        checkpoint_dir: Path | None = None,
        progress: Progress = no_progress,
    ) -> Self:
        """Train one of the three stages; the loss is of the answers' tokens only. ``result_`` tells how it went.

        Parameters
        ----------
        records : a JSON file in LLaVA's format, or a list of its records.
        image_root : folder of the images, or images by name.
        stage : 1 aligns sampler and projector on the global view; 2 adds slices and trains the adapter too; 3 tunes the
            language model as well.
        peft_config : options of LoRA in stage 3, of ``paperworks.training.add_lora`` (``r``, ``alpha``, ``dropout``,
            ``targets``); None trains the whole language model.
        settings : of the training; the learning rate is that of sampler and projector.
        unfreeze_layers : last layers of the tower to train in stage 2 and 3, at 0.002 of the rate.
        llm_factor : learning rate of the language model over the settings'; default 0.2 for LoRA, 0.02 for all of it.

        Raises
        ------
        InputError : records or images that cannot be read, a stage that is none, a sequence too long for the model.
        """
        if stage not in (1, 2, 3):
            raise InputError("stage", stage, "1, 2 or 3")
        check_whole("unfreeze_layers", unfreeze_layers, 0, self.encoder.tower.depth)
        if peft_config is not None and stage != 3:
            raise InputError("peft_config", f"one, in stage {stage}", "none: LoRA is of stage 3")
        examples = _Examples(self, read_conversations(records), image_root, only_global=stage == 1)
        if settings is None:
            settings = TrainSettings(epochs=1, batch_size=8, learning_rate=RATES[stage], device="auto")
        lora = peft_config is not None
        if lora and not hasattr(self.llm, "peft_config"):
            options = {"targets": ["q_proj", "v_proj"], "r": 8, "seed": settings.seed, **dict(peft_config or {})}
            self.llm = add_lora(self.llm, options.pop("targets"), **options)
        self._open(stage, lora, unfreeze_layers)
        optimizer = make_optimizer(
            self, settings, lambda _: self._groups(settings, llm_factor or (LORA_FACTOR if lora else FULL_FACTOR))
        )
        if stage not in self.stages:
            self.stages.append(stage)
        view = self.encoder.global_view
        try:
            if stage == 1:
                self.encoder.global_view = True
            self.result_: TrainResult = train(
                self,
                Rows([{"row": row} for row in range(len(examples))], collate=examples.collate),
                settings,
                loss=_answer_loss,
                optimizer=optimizer,
                checkpoint_dir=checkpoint_dir,
                progress=progress,
            )
        finally:
            self.encoder.global_view = view
            self.requires_grad_(False)
        return self

    def _open(self, stage: int, lora: bool, unfreeze_layers: int) -> None:
        """Let gradients into the parts that a stage trains, and into no others."""
        self.requires_grad_(False)
        own: list[nn.Module | None] = [self.projector, self.encoder.sampler]
        if stage > 1:
            own.append(self.encoder.adapters)
            own += self.encoder.tower.layers[self.encoder.tower.depth - unfreeze_layers :] if unfreeze_layers else []
        for module in own:
            if module is not None:
                module.requires_grad_(True)
        if stage > 1:  # in the global view alone there are no rows and no separator
            self.separator.requires_grad_(True)
            if self.row_end is not None:
                self.row_end.requires_grad_(True)
        if stage == 3:
            for name, parameter in self.llm.named_parameters():
                parameter.requires_grad_(not lora or "lora_" in name)

    def _groups(self, settings: TrainSettings, llm_factor: float) -> list[dict[str, Any]]:
        """Parameters by learning rate."""
        factors = {"encoder.adapters": ADAPTER_FACTOR, "encoder.tower": TOWER_FACTOR, "llm": llm_factor}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                factor = next((f for prefix, f in factors.items() if name.startswith(prefix)), 1.0)
                decay = settings.weight_decay if parameter.ndim >= 2 else 0.0
                groups.setdefault((factor, decay), []).append(parameter)
        return [{"params": p, "lr_factor": f, "weight_decay": d} for (f, d), p in groups.items()]

    @torch.no_grad()
    def generate(self, image: Any, prompt: str, *, max_new_tokens: int = 32) -> str:
        """The most likely answer to a prompt about an image (None: about none).

        Raises InputError for an image that cannot be read, or a sequence that is too long for the language model.
        """
        from transformers import GenerationConfig

        check_whole("max_new_tokens", max_new_tokens, 1)
        before, after, _ = token_parts(self.tokenizer, [(prompt, None)])
        place = self.separator.device
        embed = self.llm.get_input_embeddings()
        with evaluation_mode(self):
            parts = [embed(torch.tensor(before, dtype=torch.int64, device=place))]
            if image is not None:
                tensors = as_tensors(self.encoder.prepare([image]))
                (rows,) = tokens_of_batch(self.encoder, {name: value.to(place) for name, value in tensors.items()})
                parts.append(self.image_embeddings(rows))
            parts.append(embed(torch.tensor(after, dtype=torch.int64, device=place)))
            embeds = torch.cat(parts)[None]
            self._check_length(embeds.shape[1] + max_new_tokens)
            pad = (
                self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
            )
            out = self.llm.generate(
                inputs_embeds=embeds,
                attention_mask=torch.ones(embeds.shape[:2], dtype=torch.int64, device=place),
                generation_config=GenerationConfig(
                    max_new_tokens=max_new_tokens,
                    do_sample=False,
                    pad_token_id=pad,
                    eos_token_id=self.tokenizer.eos_token_id,
                ),
            )
        return self.tokenizer.decode(out[0], skip_special_tokens=True).strip()

    @torch.no_grad()
    def answer_loss(self, records: Any, image_root: str | Path | Mapping[str, Any] = ".") -> float:
        """Cross-entropy of the answers of records that ``fit`` could take, in nats a token."""
        examples, total, tokens = _Examples(self, read_conversations(records), image_root, only_global=False), 0.0, 0
        with evaluation_mode(self):
            for row in range(len(examples)):
                batch = {
                    name: value.to(self.separator.device) for name, value in examples.collate([{"row": row}]).items()
                }
                loss, count = _answer_loss(self, batch)
                total, tokens = total + float(loss), tokens + int(count)
        return total / tokens

    def _check_length(self, length: int) -> None:
        limit = getattr(self.llm.config, "max_position_embeddings", None)
        if limit is not None and length > limit:
            expected = f"at most {limit}, the language model's context: fewer slices, or a larger window"
            raise InputError("max_slices", f"a sequence of {length} tokens", expected)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write adapters, sampler, projector and LoRA to a new folder, with references to the base folders.

        What came from no folder, and a tower or a language model that was trained itself, is written in whole.
        """
        from safetensors.torch import save_file

        lora = hasattr(self.llm, "peft_config")
        with new_folder(Path(folder)) as out:
            self.encoder.save_pretrained(out / "encoder")
            base = self.llm.get_base_model() if lora else self.llm
            reference = str(self.llm_source.resolve()) if self.llm_source is not None else "llm"
            if self.llm_source is None or (3 in self.stages and not lora):
                reference = "llm"
                _save_base(base, self.tokenizer, out / "llm", lora)
            if lora:
                self.llm.save_pretrained(out / "lora")
            own = {
                name: value.detach().cpu().contiguous()
                for name, value in self.state_dict().items()
                if not name.startswith(("encoder.", "llm."))
            }
            save_file(own, out / "projector.safetensors", metadata={"format": "pt"})
            content = {"llm": reference, "row_end": self.row_end is not None, "lora": lora, "stages": self.stages}
            (out / OWN).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return Path(folder)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, vision: Any = None, llm: Any = None, device: str = "cpu"
    ) -> HiResLlava:
        """Load what ``save_pretrained`` wrote; ``vision`` and ``llm`` in place of the folders that it refers to.

        Raises InputError naming ``folder`` for a folder of something else.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = Path(folder).expanduser()
        try:
            content = json.loads((path / OWN).read_text(encoding="utf-8"))
            state = load_file(path / "projector.safetensors")
            source, with_lora = Path(content["llm"]), bool(content["lora"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise InputError("folder", f"{path} ({error})", "what HiResLlava.save_pretrained wrote") from None
        encoder = HiResVisionEncoder.from_pretrained(path / "encoder", vision)
        if llm is None:
            llm = source if source.is_absolute() else path / source
        model = cls(encoder, llm, row_end=bool(content["row_end"]))
        found = model.load_state_dict(state, strict=False)
        if found.unexpected_keys:
            raise InputError("folder", f"{path}, with {found.unexpected_keys[0]}", "weights of this model")
        if with_lora:
            from peft import PeftModel

            model.llm = PeftModel.from_pretrained(model.llm, str(path / "lora"))
        model.stages = list(content["stages"])
        return model.to(resolve_device(device)).eval()


def _save_base(base: Any, tokenizer: Any, folder: Path, lora: bool) -> None:
    """Write a language model; under LoRA its weights have other names, and the adapter's are left out."""
    state = None
    if lora:
        state = {
            name.replace(".base_layer.", "."): value for name, value in base.state_dict().items() if "lora_" not in name
        }
    base.save_pretrained(folder, state_dict=state)
    tokenizer.save_pretrained(folder)


def _answer_loss(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of the answers' tokens, each given all before it."""
    logits, labels = model(**{name: value for name, value in batch.items() if name != "labels"})
    targets = labels[:, 1:]
    total = functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total, (targets != IGNORED).sum()


class _Examples:
    """Conversations as batches: images are read and cut when they are asked for."""

    def __init__(
        self,
        model: HiResLlava,
        conversations: Sequence[Conversation],
        image_root: str | Path | Mapping[str, Any],
        only_global: bool,
    ) -> None:
        self.model, self.conversations, self.only_global = model, conversations, only_global
        self.root = image_root if isinstance(image_root, Mapping) else Path(image_root).expanduser()
        self.parts = [token_parts(model.tokenizer, one.turns) for one in conversations]
        for number, one in enumerate(conversations):
            if one.image:
                self._image(one.image, number)  # a broken or missing one is named before the training

    def __len__(self) -> int:
        return len(self.conversations)

    def _image(self, name: str, number: int) -> np.ndarray:
        if isinstance(self.root, Mapping):
            if name not in self.root:
                raise InputError(f"records, number {number}", name, "an image of image_root")
            return as_rgb(self.root[name], number)[0]
        return as_rgb(self.root / name, number)[0]

    def collate(self, examples: list[Any]) -> Batch:
        rows = [int(example["row"]) for example in examples]
        chosen = [self.conversations[row] for row in rows]
        images = [self._image(one.image, row) for one, row in zip(chosen, rows, strict=True) if one.image]
        encoder = self.model.encoder
        batch: dict[str, torch.Tensor] = {}
        if images:
            batch = as_tensors(encoder.prepare(images, grid=(1, 1) if self.only_global else None))
        if images and self.only_global:
            batch |= {name: batch[name][:0] for name in ("slices", "grids", "mask")}
        before, after, answers = zip(*(self.parts[row] for row in rows), strict=True)
        for name, values in (("before", before), ("after", after), ("answers", answers)):
            tensors = [torch.tensor(value, dtype=torch.int64) for value in values]
            batch[name] = nn.utils.rnn.pad_sequence(tensors, batch_first=True)
            batch[f"{name}_length"] = torch.tensor([len(value) for value in values])
        batch["has_image"] = torch.tensor([bool(one.image) for one in chosen])
        batch["labels"] = batch["answers"]
        return batch
