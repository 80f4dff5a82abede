"""The manifest: where every record is, what every served tensor was trained on, and what was deleted.

``manifest.json`` is the truth about a folder, and is replaced in one step: a deletion is done when the new manifest is
there. It ends with a digest of itself, an HMAC where a key is given, so that an edit by hand is found. What grows with
the number of records or of deletions is in files beside it, of which it has the digests: the records (``records.py``)
and the receipts (``receipts.py``), which are chained by their own. So a deletion writes a few kilobytes. Manifests that
earlier versions wrote are read too (``formats.py``).
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field, SkipValidation, ValidationError

from paperworks.errors import InputError
from paperworks.papers.s3t.blocks import PEFT_PREFIX, BlockOrder, block_layers
from paperworks.papers.s3t.formats import FORMAT, INLINE, inline_parts, known_format, seal
from paperworks.papers.s3t.receipts import Cut, DeletionReceipt, Journal, JournalHead, Stored, canonical, sha256
from paperworks.papers.s3t.records import IndexHead, Place
from paperworks.parameters import LARGEST_SEED

MANIFEST = "manifest.json"
_KEY_CHARACTERS = 32


class Stage(Stored):
    """One trained stage.

    Attributes
    ----------
    digest : SHA-256 of the tensors of its layers and of its head.
    trained_on : digest of the membership of each slice that it was trained on, by slice id.
    records : records in those slices.
    validation : accuracy on records that cannot be deleted, if there were any.
    """

    digest: str
    trained_on: dict[str, str]
    records: int
    validation: float | None = None


class TrainedSequence(Stored):
    """One order of a shard's slices, and the stages of it that are alive; ``depth`` is their number."""

    order: tuple[int, ...]
    stages: tuple[Stage, ...]

    @property
    def depth(self) -> int:
        return len(self.stages)


class System(Stored):
    """Shards, slices, sequences and layers, and how the answers of shards are combined."""

    n_shards: int
    n_slices: int
    budget: int
    layers_per_slice: int
    order: BlockOrder
    aggregation: Literal["mean_logits", "mean_probs", "vote"]
    layers: tuple[tuple[str, ...], ...]
    head: tuple[str, ...]
    prior: tuple[tuple[float, ...], ...] | None = None
    pattern: str | None = None

    def stage_modules(self, stage: int) -> list[str]:
        """Names of the modules that stage l (from 1) trains adapters of."""
        owned = block_layers(len(self.layers), self.n_slices, self.layers_per_slice, stage, self.order)
        return [name for layer in owned for name in self.layers[layer]]

    def stage_tensors(self, stage: int) -> list[str]:
        """Names of the stored adapters of stage l."""
        return [f"{PEFT_PREFIX}{name}.lora_{part}.weight" for name in self.stage_modules(stage) for part in "AB"]


class Manifest(Stored):
    """The content of ``manifest.json``, with the records and the receipts that it names.

    Attributes
    ----------
    records : key of a record -> (shard, slice); it never changes but for shards that are trained again, where deleted
        records are in slice -1: in none.
    journal : the receipts.
    dead : slices of each shard that a deletion has hit.
    slice_digests : digest of the content of every slice's records; None once the slice is dead.
    sequences : of each shard.
    generations : how often each shard was trained again; part of its seeds and of its folder's name.
    requests : requests served so far.
    stored_format : of the file that it was read from; not written.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    format: Literal[3] = FORMAT
    created_time: str
    versions: dict[str, str]
    seed: int = Field(ge=0, le=LARGEST_SEED)
    salt: str
    task: Literal["classification", "language"]
    classes: tuple[str, ...]
    base: dict[str, Any]
    adapter: dict[str, Any]
    training: dict[str, Any]
    extra: dict[str, Any] = Field(default_factory=dict)
    system: System
    records: SkipValidation[Mapping[str, Place]]
    dead: tuple[tuple[int, ...], ...]
    slice_digests: tuple[tuple[str | None, ...], ...]
    sequences: tuple[tuple[TrainedSequence, ...], ...]
    generations: tuple[int, ...]
    requests: int = 0
    journal: SkipValidation[Journal] = Journal()
    stored_format: int = FORMAT

    @property
    def deleted(self) -> dict[str, int]:
        """Key of each deleted record -> number of its receipt. It reads all receipts."""
        return self.journal.deleted

    @property
    def log(self) -> tuple[DeletionReceipt, ...]:
        """The receipts, in order."""
        return self.journal.receipts

    def key(self, record: str) -> str:
        """The key of a record: a hash of its id."""
        return record_key(self.salt, record)

    def serving(self, shard: int) -> TrainedSequence | None:
        """The sequence that a shard serves: the longest live one; of equal ones the best validated, then the first."""

        def rank(sequence: TrainedSequence) -> tuple[int, float]:
            score = sequence.stages[-1].validation
            return sequence.depth, float("-inf") if score is None else score

        live = [sequence for sequence in self.sequences[shard] if sequence.depth]
        return max(live, key=rank, default=None)

    @property
    def live_shards(self) -> list[int]:
        return [shard for shard in range(self.system.n_shards) if self.serving(shard) is not None]

    @property
    def status(self) -> Literal["live", "retrain-required"]:
        return "live" if self.live_shards else "retrain-required"

    def members(self, shard: int, slice_: int) -> list[str]:
        """Keys of the records of a slice, deleted ones included, in order."""
        return sorted(key for key, place in self.records.items() if place == (shard, slice_))

    def to_json(self, index: IndexHead, key: bytes | None = None) -> str:
        """The text of ``manifest.json``, with its digest; ``index`` is that of the records."""
        content = self.model_dump(mode="json", exclude={"records", "journal", "stored_format"})
        content |= {"records": index.model_dump(), "journal": self.journal.head.model_dump()}
        lines = [f" {json.dumps(name)}: {canonical(value)}" for name, value in content.items()]
        return "{\n" + ",\n".join([*lines, f' "digest": "{seal(content, key)}"']) + "\n}\n"

    @classmethod
    def from_json(
        cls, text: str, where: str, key: bytes | None = None
    ) -> tuple[Manifest, IndexHead | None, JournalHead | None]:
        """Read and check; the records and the receipts are to be read by what it says of them.

        A manifest of format 1 has both itself, and no heads. Raises InputError where the text is no manifest, or is not
        as this package wrote it.
        """
        try:
            content = json.loads(text)
            given = content.pop("digest")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise InputError(
                where, f"no manifest ({error or type(error).__name__})", "manifest.json as fit wrote it"
            ) from None
        stored = known_format(content, where)
        if not isinstance(given, str) or not given.isascii() or not hmac.compare_digest(given, seal(content, key)):
            raise InputError(
                where,
                "content that is not what its digest says: it was edited, or the key is another one",
                "manifest.json as fit, delete and retrain wrote it",
            )
        index = journal = None
        own: dict[str, Any] = {"records": {}}
        if stored <= INLINE:
            own["records"], own["journal"] = inline_parts(content, where)
        try:
            if stored > INLINE:
                index = IndexHead.model_validate(content.pop("records", None))
                journal = JournalHead.model_validate(content.pop("journal", None))
            content |= {"format": FORMAT, "stored_format": stored}
            return cls.model_validate(content | own), index, journal
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise InputError(f"{where}: {place}", first["msg"], "manifest.json as fit wrote it") from None


def record_key(salt: str, record: str) -> str:
    """The first 128 bits of the SHA-256 of salt and id."""
    return sha256(f"{salt}:{record}")[:_KEY_CHARACTERS]


def membership(keys: Iterable[str]) -> str:
    """A digest of which records a slice has."""
    return sha256("\n".join(sorted(keys)))


def with_deleted(manifest: Manifest, records: Sequence[str], time: str) -> tuple[Manifest, DeletionReceipt]:
    """The manifest after some records were deleted (Algorithm 4), and the receipt.

    Every sequence loses its stages from the first slice that was hit on. A record that was deleted before changes
    nothing. Raises ``UnknownRecordError`` for ids that were never trained on.
    """
    keys = [manifest.key(record) for record in dict.fromkeys(records)]
    unknown = [record for record in dict.fromkeys(records) if manifest.key(record) not in manifest.records]
    if unknown or not keys:
        raise UnknownRecordError(unknown)
    gone = manifest.journal.deleted_among(keys)
    repeated = [key for key in keys if key in gone]
    fresh = [key for key in keys if key not in gone]
    hit = sorted({manifest.records[key] for key in fresh})
    dead = [set(slices) for slices in manifest.dead]
    for shard, slice_ in hit:
        dead[shard].add(slice_)
    cuts: list[Cut] = []
    sequences = []
    for shard, trained in enumerate(manifest.sequences):
        kept = []
        for sequence in trained:
            after = next(
                (i for i, s in enumerate(sequence.order[: sequence.depth]) if s in dead[shard]), sequence.depth
            )
            if after < sequence.depth:
                cuts.append(Cut(shard=shard, order=sequence.order, before=sequence.depth, after=after))
                sequence = sequence.model_copy(update={"stages": sequence.stages[:after]})
            kept.append(sequence)
        sequences.append(tuple(kept))
    changed = manifest.model_copy(
        update={
            "dead": tuple(tuple(sorted(slices)) for slices in dead),
            "slice_digests": tuple(
                tuple(None if c in dead[s] else digest for c, digest in enumerate(digests))
                for s, digests in enumerate(manifest.slice_digests)
            ),
            "sequences": tuple(sequences),
            "requests": manifest.requests + len(fresh),
        }
    )
    receipt = DeletionReceipt(
        number=manifest.journal.head.receipts + 1,
        time=time,
        records=tuple(fresh),
        repeated=tuple(repeated),
        slices=tuple(hit),
        cuts=tuple(cuts),
        erased=tuple(path for cut in cuts for path in cut_files(manifest, cut)),
        status=changed.status,
        previous=manifest.journal.head.last,
    ).sealed()
    return changed.model_copy(update={"journal": manifest.journal.with_receipt(receipt)}), receipt


def cut_files(manifest: Manifest, cut: Cut) -> list[str]:
    """Files that a cut erases, or rewrites without the stages that are gone."""
    folder = sequence_folder(manifest, cut.shard, cut.order)
    whole = [ADAPTER, ADAPTER_CONFIG]
    return [f"{folder}/{name}" for name in [*whole, *(stage_file(n) for n in range(cut.after + 1, cut.before + 1))]]


ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"


def stage_file(stage: int) -> str:
    """Name of the file with the head after stage l."""
    return f"stage-{stage}.safetensors"


def sequence_folder(manifest: Manifest, shard: int, order: Sequence[int]) -> str:
    """Where the adapter of a sequence is, relative to the folder."""
    return f"shards/{shard}-{manifest.generations[shard]}/{'-'.join(map(str, order))}"


class UnknownRecordError(InputError, KeyError):
    """Ids that no record has."""

    def __init__(self, ids: Sequence[str]) -> None:
        shown = ", ".join(map(repr, list(ids)[:20])) + (f" and {len(ids) - 20} more" if len(ids) > 20 else "")
        self.ids = list(ids)
        InputError.__init__(self, "ids", shown or "none", "ids of records that were trained on")

    __str__ = Exception.__str__

    def __reduce__(self) -> Any:
        return type(self), (self.ids,)
