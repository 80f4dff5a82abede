"""A fine-tuned model whose records can be deleted: fit, delete, predict, verify, status, retrain, export."""

from __future__ import annotations

import copy
import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from paperworks import classification
from paperworks.classification.data import as_examples, as_labels, count_rows, read_rows
from paperworks.errors import InputError
from paperworks.papers.s3t.arguments import (
    adapter_config,
    as_ids,
    as_lora,
    check_ids,
    shards_of,
    stored_settings,
    versions,
)
from paperworks.papers.s3t.assignment import Selection, assign, choose_sequences, derived_seed, slice_prior
from paperworks.papers.s3t.bases import Base, load_base, state_digest
from paperworks.papers.s3t.blocks import BLOCK_ORDERS, BlockOrder, check_fit
from paperworks.papers.s3t.fitting import describe_rows, train_shards, without_deleted
from paperworks.papers.s3t.layers import Adapted, Lora, find_head, find_layers
from paperworks.papers.s3t.manifest import (
    DeletionReceipt,
    Manifest,
    System,
    record_key,
)
from paperworks.papers.s3t.sequences import check_budget
from paperworks.papers.s3t.serving import Aggregation, Server
from paperworks.papers.s3t.stages import Job
from paperworks.papers.s3t.status import Status, status_of
from paperworks.papers.s3t.store import Folder
from paperworks.papers.s3t.theory import system_prior
from paperworks.papers.s3t.verification import Verification, verify_folder
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder
from paperworks.training import TrainSettings

DEFAULT_SETTINGS = TrainSettings(epochs=4, batch_size=32, learning_rate=3e-3, weight_decay=0.01, schedule="linear")


class S3T:
    """Sharded, sliced training of blocks of adapters, from which records are deleted exactly.

    Parameters
    ----------
    base : a network that never saw the records: a module with numbered layers, or ``Base``, which ``load`` makes again.
    folder : where manifest and adapters go; a new or an empty folder. Default: a temporary one.
    task : "classification" (labels, a head trained in every stage) or "language" (next tokens, no head).
    n_shards, n_slices : m and L.
    budget : sequences of each shard B, 1 to L!; default L. With 1 it is SISA.
    layers_per_slice : n_b; "auto" is T // L.
    prior : probability of a request by shard and slice ``[m, L]`` or by slice ``[L]``; see also ``fit(risk=...)``.
    peft_config : a ``peft.LoraConfig``, or ``Lora``.
    settings : of the training of every stage.
    aggregation : "mean_probs", "mean_logits" (the authors' code) or "vote", over the live shards.
    selection : how sequences are chosen; "auto" is cyclic rotation, or matching with a prior.
    order : of the blocks; anything but "top-down" is an ablation.
    pattern, head : see ``paperworks.papers.s3t.layers.Adapted``.
    key : secret for the manifest's HMAC.
    """

    def __init__(
        self,
        base: torch.nn.Module | Base,
        folder: str | Path | None = None,
        *,
        task: Literal["classification", "language"] = "classification",
        n_shards: int = 1,
        n_slices: int = 3,
        budget: int | None = None,
        layers_per_slice: int | Literal["auto"] = "auto",
        prior: ArrayLike | None = None,
        peft_config: Any = None,
        settings: TrainSettings = DEFAULT_SETTINGS,
        aggregation: Aggregation = "mean_probs",
        selection: Selection = "auto",
        requests_ahead: int = 100,
        order: BlockOrder = "top-down",
        pattern: str | None = None,
        head: Sequence[str] | None = None,
        seed: int = 0,
        key: bytes | None = None,
    ) -> None:
        if n_shards < 1:
            raise InputError("n_shards", n_shards, "1 or more")
        self.budget = n_slices if budget is None else budget
        check_budget(n_slices, self.budget)
        if task not in ("classification", "language"):
            raise InputError("task", repr(task), "'classification' or 'language'")
        if order not in BLOCK_ORDERS:
            raise InputError("order", repr(order), f"one of {', '.join(BLOCK_ORDERS)}")
        if aggregation not in ("mean_probs", "mean_logits", "vote"):
            raise InputError("aggregation", repr(aggregation), "mean_probs, mean_logits or vote")
        self._temporary = tempfile.TemporaryDirectory(prefix="s3t-") if folder is None else None
        path = Path(self._temporary.name) / "system" if self._temporary is not None else Path(folder or "").expanduser()
        self.folder = Folder(path, key)
        self.base = base if isinstance(base, Base) else Base(base)
        self.task, self.n_shards, self.n_slices = task, n_shards, n_slices
        self.layers_per_slice, self.prior, self.settings = layers_per_slice, prior, settings
        self.lora = as_lora(peft_config)
        self.aggregation, self.selection, self.requests_ahead = aggregation, selection, requests_ahead
        self.order, self.pattern, self.head, self.seed = order, pattern, head, seed
        self.notes: list[str] = []

    def fit(
        self,
        data: Any,
        labels: Any = None,
        ids: Sequence[Any] | None = None,
        *,
        owners: Sequence[Any] | None = None,
        risk: ArrayLike | None = None,
        classes: Sequence[str] | None = None,
        validation: tuple[Any, Any] | None = None,
        checkpoint_dir: Path | None = None,
        extra: Mapping[str, Any] | None = None,
        progress: Progress = no_progress,
    ) -> S3T:
        """Train every stage of every sequence, and write the folder.

        Parameters
        ----------
        data : see ``paperworks.classification.data.Data``; token ids ``[n, T]`` or a mapping with them for "language".
        labels : class codes ``[n]``.
        ids : a different id per record; default "0", "1", ...
        owners : see ``assign``: records of one owner share a slice.
        risk : relative probability that each record is deleted: slices are made of records of like risk, and sequences
            are matched to it.
        classes : names of the classes; which classes there are counts as public.
        validation : (data, labels) that can never be deleted: of equally long sequences the better one is served.
        checkpoint_dir : finished stages are kept there, and a stopped fit goes on from them. It holds what was trained
            on all records: remove it afterwards.
        extra : plain values to keep in the manifest.
        """
        examples, codes, names = self._records(data, labels, ids)
        places = assign(len(names), self.n_shards, self.n_slices, owners=owners, risk=risk, seed=self.seed)
        prior = self._prior(places, risk)
        original: Any = copy.deepcopy(self.base.module) if self.base.about["kind"] == "saved" else None
        self.adapted, digest = self._adapt()
        per_slice = self._per_slice()
        known = list(classes or ([] if codes is None else map(str, range(int(codes.max()) + 1))))
        self._check_classes(codes, known, examples)
        self.notes = describe_rows(places, codes, known, self.n_shards, self.n_slices, self.settings.batch_size)
        for note in self.notes:
            warnings.warn(note, stacklevel=2)
        rng = np.random.default_rng(derived_seed(self.seed, "sequences"))
        orders = [
            choose_sequences(
                self.n_slices,
                self.budget,
                None if prior is None else prior[s],
                self.selection,
                self.requests_ahead,
                rng,
            )
            for s in range(self.n_shards)
        ]
        system = System(
            n_shards=self.n_shards,
            n_slices=self.n_slices,
            budget=self.budget,
            layers_per_slice=per_slice,
            order=self.order,
            aggregation=self.aggregation,
            layers=tuple(map(tuple, self.adapted.layers)),
            head=tuple(self.adapted.head),
            prior=None if prior is None else tuple(map(tuple, prior.tolist())),
        )
        salt = f"{derived_seed(self.seed, 'salt'):016x}"
        m = self.n_shards
        manifest = Manifest(
            created_time=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=versions(),
            seed=self.seed,
            salt=salt,
            task=self.task,
            classes=tuple(known),
            base={**self.base.about, "digest": digest},
            adapter=adapter_config(self.adapted, self.base),
            training=json.loads(json.dumps(self.settings.what_decides_the_weights())),
            extra=dict(extra or {}),
            system=system,
            records={record_key(salt, n): (int(s), int(c)) for n, (s, c) in zip(names, places, strict=True)},
            dead=((),) * m,
            slice_digests=((),) * m,
            sequences=((),) * m,
            generations=(0,) * m,
        )
        with new_folder(self.folder.path) as aside:
            if original is not None:
                original.save_pretrained(aside / "base")
            manifest = train_shards(
                Folder(aside, self.folder.key),
                manifest,
                self._job(per_slice, checkpoint_dir, progress),
                dict(enumerate(orders)),
                examples,
                codes,
                names,
                validation=validation,
            )
            Folder(aside, self.folder.key).commit(manifest)
        self._serve(manifest)
        return self

    @classmethod
    def load(
        cls,
        folder: str | Path,
        base: torch.nn.Module | None = None,
        *,
        key: bytes | None = None,
        device: str = "auto",
        progress: Progress = no_progress,
    ) -> S3T:
        """Open a folder of ``fit``, and finish a deletion that was stopped.

        ``base`` is needed where the base was a module of the caller's. Raises InputError for a manifest that was
        edited, or a base that is not the one that the adapters were trained on.
        """
        store = Folder(folder, key)
        store.recover()
        manifest = store.read()
        module = (
            load_base(manifest.base, store.path, len(manifest.classes), progress=progress) if base is None else base
        )
        about = {name: value for name, value in manifest.base.items() if name != "digest"}
        system, adapter = manifest.system, manifest.adapter
        lora = Lora(adapter["r"], adapter["lora_alpha"], adapter["lora_dropout"], adapter["use_rslora"])
        names = [name for layer in system.layers for name in layer]
        self = cls(
            Base(module, about),
            folder,
            task=manifest.task,
            n_shards=system.n_shards,
            n_slices=system.n_slices,
            budget=system.budget,
            layers_per_slice=system.layers_per_slice,
            prior=system.prior,
            peft_config=replace(lora, targets=tuple(names)),
            settings=replace(stored_settings(manifest.training), device=device),
            aggregation=system.aggregation,
            order=system.order,
            head=system.head,
            seed=manifest.seed,
            key=key,
        )
        self.adapted, digest = self._adapt()
        if digest != manifest.base["digest"]:
            raise InputError("base", "another network than at fit (its weights differ)", "the network of fit")
        self._serve(manifest)
        return self

    @property
    def manifest(self) -> Manifest:
        """The manifest as it is now."""
        if not hasattr(self, "_manifest"):
            raise InputError("S3T", "no fitted system", "fit, or S3T.load(folder)")
        return self._manifest

    def delete(self, ids: Sequence[Any] | str | int) -> DeletionReceipt:
        """Deactivate and erase all that was trained on some records; nothing is trained.

        Ids that were deleted before are listed in the receipt as repeated. If one id is unknown nothing is deleted.

        Raises
        ------
        UnknownRecordError : a KeyError and an InputError, with the ids that no record has.
        """
        receipt = self.folder.delete(as_ids(ids))
        self._serve(self.folder.read())
        return receipt

    def verify(self, ids: Sequence[Any] | None = None) -> Verification:
        """Walk the folder; see ``Verification``."""
        return verify_folder(self.folder, None if ids is None else as_ids(ids))

    def status(self) -> Status:
        """What is live, and how many requests it is expected to outlive."""
        return status_of(self.manifest)

    def predict_proba(self, data: Any) -> np.ndarray:
        """Probabilities of the classes by the live shards, float64 ``[n, C]``; shares of votes for "vote"."""
        return self.server.probabilities(data)

    def predict(self, data: Any) -> np.ndarray:
        """Class codes int64 ``[n]``. Raises InputError where no shard is live."""
        return self.predict_proba(data).argmax(1)

    def token_loss(self, data: Any) -> float:
        """Mean loss per token in nats of the averaged next-token distribution ("language")."""
        return self.server.token_loss(data)

    def generate(self, tokens: ArrayLike, max_new_tokens: int = 20) -> list[int]:
        """Greedy continuation of token ids ``[t]`` under the averaged next-token distribution ("language")."""
        return self.server.generate(tokens, max_new_tokens)

    def stage_logits(self, shard: int, order: Sequence[int], depth: int, data: Any) -> np.ndarray:
        """Logits float32 ``[n, C]`` of the first stages of a sequence that is alive to that depth."""
        return self.server.logits(shard, order, depth, data)

    def export(self, shard: int, folder: str | Path) -> Path:
        """Write a shard's served prefix as a plain PEFT adapter, which ``PeftModel.from_pretrained`` reads."""
        return self.server.export(shard, Path(folder))

    def retrain(
        self,
        data: Any,
        labels: Any = None,
        ids: Sequence[Any] | None = None,
        *,
        shards: Literal["dead", "all"] | Sequence[int] = "dead",
        checkpoint_dir: Path | None = None,
        progress: Progress = no_progress,
    ) -> list[int]:
        """Train shards again on the records that are left, with new slices; return which.

        Parameters
        ----------
        data, labels, ids : the records, at least all that are left of these shards. Deleted ones are not read.
        shards : "dead" ones that serve nothing, "all", or numbers.
        """
        examples, codes, names = self._records(data, labels, ids)
        self._check_classes(codes, list(self.manifest.classes), examples)
        job = self._job(self.manifest.system.layers_per_slice, checkpoint_dir, progress)
        with self.folder.locked():
            manifest = self.folder.read()
            chosen = shards_of(manifest, shards)
            if not chosen:
                return []
            changed = without_deleted(manifest, names, chosen)
            orders = {s: [sequence.order for sequence in manifest.sequences[s]] for s in chosen}
            changed = train_shards(self.folder, changed, job, orders, examples, codes, names)
            self.folder.commit(changed)
            self.folder.reconcile(changed)
        self._serve(changed)
        return chosen

    def _records(self, data: Any, labels: Any, ids: Sequence[Any] | None) -> tuple[Any, np.ndarray | None, list[str]]:
        """Examples, class codes and ids."""
        tokens = self.task == "language" and not isinstance(data, Mapping)
        examples = as_examples({"input_ids": data} if tokens else data)
        count = count_rows(examples)
        names = [str(i) for i in (range(count) if ids is None else ids)]
        check_ids(names, count)
        return examples, self._codes(labels, count), names

    def _serve(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self.server = Server(self.folder, manifest, self.adapted, self.settings.device)

    def _job(self, per_slice: int, checkpoint_dir: Path | None, progress: Progress) -> Job:
        return Job(
            self.adapted,
            self.task,
            self.n_slices,
            per_slice,
            self.order,
            self.settings,
            self.seed,
            checkpoint_dir,
            progress,
        )

    def _adapt(self) -> tuple[Adapted, str]:
        """The network with its adapters, and the digest of what it was before."""
        module = self.base.module
        if self.head is None:
            head = find_head(module, find_layers(module, self.pattern, self.lora.targets))
            head += [name for name in self.base.head if not any(f"{name}.".startswith(f"{h}.") for h in head)]
        else:
            head = list(self.head)
        digest = state_digest(module, tuple(f"{name}." for name in head))  # the head is drawn anew
        return Adapted(module, self.lora, pattern=self.pattern, head=head), digest

    def _per_slice(self) -> int:
        layers = self.adapted.depth
        chosen = layers // self.n_slices if self.layers_per_slice == "auto" else self.layers_per_slice
        check_fit(layers, self.n_slices, chosen)
        return chosen

    def _prior(self, places: np.ndarray, risk: ArrayLike | None) -> np.ndarray | None:
        if risk is not None:
            return slice_prior(places, self.n_shards, self.n_slices, risk)
        return None if self.prior is None else system_prior(self.prior, self.n_shards, self.n_slices)

    def _codes(self, labels: Any, count: int) -> np.ndarray | None:
        if self.task == "language":
            return None
        if labels is None:
            raise InputError("labels", "none", "a class code for every record")
        return as_labels(labels, count).numpy()

    def _check_classes(self, codes: np.ndarray | None, known: list[str], examples: Any) -> None:
        if codes is None:
            return
        outputs = self.server_outputs(examples)
        if codes.max() >= outputs or len(known) > outputs:
            raise InputError("labels", f"class {int(codes.max())}", f"0 to {outputs - 1}, the outputs of the network")

    def server_outputs(self, examples: Any) -> int:
        """Number of the network's outputs."""
        batch = read_rows(examples, [0])
        return classification.predict_logits(self.adapted.model, batch, device="cpu").shape[-1]
