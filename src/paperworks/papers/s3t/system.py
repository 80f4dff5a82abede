"""A fine-tuned model whose records can be deleted: fit, delete, predict, verify, status, retrain, export."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike

from paperworks.classification.data import as_examples, count_rows
from paperworks.errors import InputError
from paperworks.papers.s3t.arguments import (
    adapter_config,
    as_codes,
    as_ids,
    as_lora,
    check_classes,
    check_ids,
    check_options,
    stored_settings,
)
from paperworks.papers.s3t.assignment import Selection, assign, shard_sequences, slice_prior
from paperworks.papers.s3t.bases import Base, load_base
from paperworks.papers.s3t.blocks import BlockOrder, check_fit
from paperworks.papers.s3t.fitting import describe_rows, first_manifest, train_shards
from paperworks.papers.s3t.layers import Adapted, Lora, check_plain, find_head, find_layers
from paperworks.papers.s3t.manifest import (
    DeletionReceipt,
    Manifest,
    System,
)
from paperworks.papers.s3t.retraining import Given, retrain_shards
from paperworks.papers.s3t.sequences import check_budget
from paperworks.papers.s3t.serving import Aggregation, Server
from paperworks.papers.s3t.stages import Job
from paperworks.papers.s3t.status import Status, status_of
from paperworks.papers.s3t.store import Folder
from paperworks.papers.s3t.theory import system_prior
from paperworks.papers.s3t.verification import Verification, verify_folder
from paperworks.parameters import check_seed, check_whole
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder
from paperworks.training import TrainSettings

DEFAULT_SETTINGS = TrainSettings(epochs=4, batch_size=32, learning_rate=3e-3, weight_decay=0.01, schedule="linear")

_T = TypeVar("_T")


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
        check_seed("seed", seed)
        check_whole("n_shards", n_shards, 1)
        self.budget = n_slices if budget is None else budget
        check_budget(n_slices, self.budget)
        check_options(task=task, order=order, aggregation=aggregation)
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
        check_plain(self.base.module)
        original: Any = copy.deepcopy(self.base.module) if self.base.about["kind"] == "saved" else None
        known = list(classes or ([] if codes is None else map(str, range(int(codes.max()) + 1))))
        check_classes(self.base.module, codes, known, examples)
        per_slice = self._per_slice()
        self.adapted = self._adapt()
        self.notes = describe_rows(places, codes, known, self.n_shards, self.n_slices, self.settings.batch_size)
        for note in self.notes:
            warnings.warn(note, stacklevel=2)
        orders = shard_sequences(
            self.n_shards, self.n_slices, self.budget, prior, self.selection, self.requests_ahead, self.seed
        )
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
            pattern=self.pattern,
        )
        manifest = first_manifest(
            system,
            places,
            names,
            seed=self.seed,
            task=self.task,
            classes=known,
            base={**self.base.about, "digest": self.adapted.digest},
            adapter=adapter_config(self.adapted, self.base),
            settings=self.settings,
            extra=extra or {},
        )
        with new_folder(self.folder.path) as aside:
            if original is not None:
                original.save_pretrained(aside / "base")
            manifest = train_shards(
                Folder(aside, self.folder.key),
                manifest,
                self._job(per_slice, checkpoint_dir, progress),
                orders,
                examples,
                codes,
                names,
                validation=validation,
            )
            Folder(aside, self.folder.key).commit(manifest)
        self._serve()
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
            pattern=system.pattern,
            head=system.head,
            seed=manifest.seed,
            key=key,
        )
        self.adapted = self._adapt(manifest.base["digest"])
        self._serve()
        return self

    def __getstate__(self) -> dict[str, Any]:
        """With the files of a temporary folder, which goes when this process ends: a copy has a folder of its own."""
        state = {name: value for name, value in self.__dict__.items() if name != "_server"}
        if self._temporary is not None:
            top = self.folder.path
            state["_temporary"] = {
                path.relative_to(top).as_posix(): path.read_bytes() for path in top.rglob("*") if path.is_file()
            }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        files = state["_temporary"]
        self.__dict__.update(state)
        if files is not None:
            self._temporary = tempfile.TemporaryDirectory(prefix="s3t-")
            self.folder = Folder(Path(self._temporary.name) / "system", state["folder"].key)
            for name, content in files.items():
                path = self.folder.path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        if hasattr(self, "_stamp"):
            self._serve()

    @property
    def manifest(self) -> Manifest:
        """The manifest as it is now, also after another process has changed the folder."""
        return self.server.manifest

    @property
    def server(self) -> Server:
        """What answers: the stages of the folder as it is now."""
        if not hasattr(self, "_server"):
            raise InputError("S3T", "no fitted system", "fit, or S3T.load(folder)")
        if self._stamp != self.folder.stamp():
            self._serve()
        return self._server

    def delete(self, ids: Sequence[Any] | str | int) -> DeletionReceipt:
        """Deactivate and erase all that was trained on some records; nothing is trained.

        Ids that were deleted before are listed in the receipt as repeated. If one id is unknown nothing is deleted.

        Raises
        ------
        UnknownRecordError : a KeyError and an InputError, with the ids that no record has.
        """
        receipt = self.folder.delete(as_ids(ids))
        self._serve()
        return receipt

    def verify(self, ids: Sequence[Any] | None = None) -> Verification:
        """Walk the folder; see ``Verification``."""
        return verify_folder(self.folder, None if ids is None else as_ids(ids))

    def status(self) -> Status:
        """What is live, and how many requests it is expected to outlive."""
        return status_of(self.manifest)

    def predict_proba(self, data: Any) -> np.ndarray:
        """Probabilities of the classes by the live shards, float64 ``[n, C]``; shares of votes for "vote"."""
        return self._answer(lambda server: server.probabilities(data))

    def predict(self, data: Any) -> np.ndarray:
        """Class codes int64 ``[n]``. Raises InputError where no shard is live."""
        return self.predict_proba(data).argmax(1)

    def token_loss(self, data: Any) -> float:
        """Mean loss per token in nats of the averaged next-token distribution ("language")."""
        return self._answer(lambda server: server.token_loss(data))

    def generate(self, tokens: ArrayLike, max_new_tokens: int = 20) -> list[int]:
        """Greedy continuation of token ids ``[t]`` under the averaged next-token distribution ("language")."""
        return self._answer(lambda server: server.generate(tokens, max_new_tokens))

    def stage_logits(self, shard: int, order: Sequence[int], depth: int, data: Any) -> np.ndarray:
        """Logits float32 ``[n, C]`` of the first stages of a sequence that is alive to that depth."""
        return self._answer(lambda server: server.logits(shard, order, depth, data))

    def export(self, shard: int, folder: str | Path) -> Path:
        """Write a shard's served prefix as a plain PEFT adapter, which ``PeftModel.from_pretrained`` reads."""
        return self._answer(lambda server: server.export(shard, Path(folder)))

    def retrain(
        self,
        data: Any,
        labels: Any = None,
        ids: Sequence[Any] | None = None,
        *,
        shards: Literal["dead", "all"] | Sequence[int] = "dead",
        owners: Sequence[Any] | None = None,
        risk: ArrayLike | None = None,
        same_records: bool | None = None,
        checkpoint_dir: Path | None = None,
        progress: Progress = no_progress,
    ) -> list[int]:
        """Train shards again on the records that are left, with new slices; return which.

        The folder can be read and served meanwhile, and records can be deleted from it: if one of these shards loses a
        record, it is trained once more without it.

        Parameters
        ----------
        data, labels, ids : the records, at least all that are left of these shards. Deleted ones are not trained on.
        shards : "dead" ones that serve nothing, "all", or numbers.
        owners, risk : as for ``fit``; without ``risk`` the new slices of a system with a prior are equally likely.
        same_records : raise InputError where records of live slices are not those of fit; default without ``ids``,
            which are row numbers then.
        """
        manifest = self.manifest
        examples, codes, names = self._records(data, labels, ids)
        if ids is None and len(names) != len(manifest.records):
            found = f"{len(names)} records without ids"
            raise InputError("ids", found, f"{len(manifest.records)} records as at fit, or the ids")
        check_classes(self.adapted.model, codes, manifest.classes, examples)
        compare = ids is None if same_records is None else same_records
        job = self._job(manifest.system.layers_per_slice, checkpoint_dir, progress)
        given = Given(examples, codes, names, owners, risk, compare)
        try:
            return retrain_shards(
                self.folder, job, given, shards, selection=self.selection, requests_ahead=self.requests_ahead
            )
        finally:  # whether it ended, failed or was stopped: the network holds what was trained last
            self._serve()

    def _records(self, data: Any, labels: Any, ids: Sequence[Any] | None) -> tuple[Any, np.ndarray | None, list[str]]:
        """Examples, class codes and ids."""
        tokens = self.task == "language" and not isinstance(data, Mapping)
        examples = as_examples({"input_ids": data} if tokens else data)
        count = count_rows(examples)
        names = [str(i) for i in (range(count) if ids is None else ids)]
        check_ids(names, count)
        return examples, None if self.task == "language" else as_codes(labels, count), names

    def _serve(self) -> None:
        self._stamp = self.folder.stamp()  # before the reading: a later change is seen by the next question
        self._server = Server(self.folder, self.folder.read(), self.adapted, self.settings.device)

    def _answer(self, ask: Callable[[Server], _T]) -> _T:
        server = self.server
        try:
            return ask(server)
        except InputError:
            if self._stamp == self.folder.stamp():
                raise
        return ask(self.server)  # another process erased files in the meantime

    def _job(self, per_slice: int, checkpoint_dir: Path | None, progress: Progress) -> Job:
        stages = (self.n_slices, per_slice, self.order, self.settings, self.seed)
        return Job(self.adapted, self.task, *stages, checkpoint_dir, progress)

    def _adapt(self, digest: str | None = None) -> Adapted:
        """The network with its adapters. The head is drawn anew."""
        module = self.base.module
        check_plain(module)
        if self.head is None:
            head = find_head(module, find_layers(module, self.pattern, self.lora.targets))
            head += [name for name in self.base.head if not any(f"{name}.".startswith(f"{h}.") for h in head)]
        else:
            head = list(self.head)
        return Adapted(module, self.lora, pattern=self.pattern, head=head, digest=digest)

    def _per_slice(self) -> int:
        layers = len(find_layers(self.base.module, self.pattern, self.lora.targets))
        chosen = layers // self.n_slices if self.layers_per_slice == "auto" else self.layers_per_slice
        check_fit(layers, self.n_slices, chosen)
        return chosen

    def _prior(self, places: np.ndarray, risk: ArrayLike | None) -> np.ndarray | None:
        if risk is not None:
            return slice_prior(places, self.n_shards, self.n_slices, risk)
        return None if self.prior is None else system_prior(self.prior, self.n_shards, self.n_slices)
