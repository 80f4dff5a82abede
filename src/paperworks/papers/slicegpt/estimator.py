"""SliceGPT as an estimator: settings, ``fit`` on a live model or on a checkpoint folder, ``dry_run``, ``save``."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from transformers import PreTrainedModel

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.papers.slicegpt.basis import BasisKind
from paperworks.papers.slicegpt.report import DryRun, Prediction, SliceReport
from paperworks.papers.slicegpt.sequential import Rules, SequentialSlicer
from paperworks.papers.slicegpt.settings import Settings
from paperworks.papers.slicegpt.state import FitState, fingerprint_of
from paperworks.papers.slicegpt.widths import Schedule, check_rounding, constant_cuts, width_at
from paperworks.pruning.target import Target, most_parameters
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import require_free
from paperworks.runs.usage import UsageMeter
from paperworks.structure.allocator import freed_at_once
from paperworks.structure.calibration import ActivationStore, TokenBatches
from paperworks.structure.checkpoints import (
    CheckpointReader,
    FolderWeights,
    LiveWeights,
    assemble,
    save_model,
    temporary_parts,
)
from paperworks.structure.cost import StreamCost, cost_of
from paperworks.structure.export import uniform_export
from paperworks.structure.families import Family
from paperworks.structure.modeling_pruned import PrunedModel
from paperworks.structure.modeling_sliced import MODEL_CLASSES
from paperworks.structure.registry import (
    check_config,
    check_model,
    check_rotation,
    read_config,
    skeleton_of,
    spec_for,
)
from paperworks.structure.residual_stream import set_sliced_class

ENOUGH_TOKENS = 10
"""Fewer calibration tokens than this times the hidden size bring a warning."""


class SliceGPT:
    """Slice the hidden size of a transformer.

    Parameters
    ----------
    slicing : fraction of the hidden size D to delete, in [0, 1). The width is rounded down to ``round_to``.
    target : number of parameters to stay within, or a budget in words, such as ``0.75x`` or ``4.5MiB``, instead of
        ``slicing``: the largest width that does.
    dims : widths instead of ``slicing``: one per layer (for its input and its inner sum), or one per cut (the
        embedding, then the sum after each block; the last only with ``slice_head``).
    schedule : ``constant``, ``variance`` (each width follows from ``variance_discarded``), or a function from depth
        in [0, 1] to a slicing fraction.
    variance_discarded : share of the energy that each cut may discard, for ``schedule="variance"`` (appendix A.4).
    round_to : widths are multiples of this.
    orientation : ``pca`` keeps the eigenvectors as the basis of what is kept; ``random`` turns them by a seeded
        random rotation, which spreads outliers and changes no function.
    basis : ``pca`` is the method. ``axis`` (coordinates of most energy) and ``random`` are baselines.
    pca_dtype : type in which second moments are summed and their eigenvectors found. float32 is there to measure what
        it costs (Table 4).
    slice_head : also cut the last sum, which the head reads (in an encoder: the output, which is led back to D).
    seed : of all random rotations.
    device : where one layer at a time is computed: ``auto`` (a GPU if there is one), or a torch device.
    dtype : type of the sliced weights (None: the model's own). Layers are computed in float32 or wider, statistics and
        products of weights in float64.
    activation_budget : bytes of calibration activations kept in memory; past it they go to a file in ``spill_dir``
        (None: the system's temporary folder), which is gone when the fit ends.
    checkpoint_dir : folder from which a killed fit goes on after its last finished layer, with the same result. It
        holds two copies of the activations and the finished layers, and is cleared in the end.

    ``settings`` holds them. After ``fit``: ``report_`` (a SliceReport) and ``model_`` (the sliced model; read from
    ``output_dir`` on first use when a folder was fitted).

    Every wrong setting raises InputError when ``fit`` or ``dry_run`` meets it, before anything is changed.
    """

    report_: SliceReport

    def __init__(
        self,
        slicing: float = 0.25,
        *,
        target: int | str | None = None,
        dims: Sequence[int] | None = None,
        schedule: Schedule = "constant",
        variance_discarded: float = 0.01,
        round_to: int = 8,
        orientation: str = "random",
        basis: BasisKind = "pca",
        pca_dtype: torch.dtype = torch.float64,
        slice_head: bool = False,
        seed: int = 0,
        device: str | torch.device = "auto",
        dtype: torch.dtype | str | None = None,
        activation_budget: float = 2 * 2**30,
        spill_dir: str | Path | None = None,
        checkpoint_dir: str | Path | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self.settings = Settings(**given)
        self._model: PreTrainedModel | None = None
        self._saved: Path | None = None

    @property
    def model_(self) -> PreTrainedModel:
        """The sliced model. Raises AttributeError before ``fit``."""
        if self._model is None:
            if self._saved is None:
                raise AttributeError("model_: nothing is fitted yet; call fit first")
            model_class: Any = MODEL_CLASSES[self.report_.family]
            self._model = model_class.from_pretrained(self._saved)
        return self._model

    def fit(
        self,
        model: PreTrainedModel | str | Path,
        calibration: Any,
        attention_mask: Any = None,
        *,
        batch_size: int = 8,
        output_dir: str | Path | None = None,
        progress: Progress = no_progress,
    ) -> Self:
        """Slice a model with one pass over the calibration tokens.

        A live ``model`` is edited in place, one layer at a time (of a pruned one, a copy in the stock class, see
        ``uniform_export``, whose sliced form ``model_`` is then); if the fit is interrupted it is half edited and has
        to be loaded again. The weights of a checkpoint folder are read, cut and written one layer at a time: the
        folder stays as it is, and the result appears at ``output_dir`` when it is complete.

        calibration : token ids int64 [n, T], or a mapping (or object) with ``input_ids`` and ``attention_mask``.
        attention_mask : [n, T], 1 for tokens and 0 for padding, on either side; None where nothing is padded.
        batch_size : sequences that are computed together.
        output_dir : new or empty folder for the result; needed when ``model`` is a folder.
        progress : told of every batch of every block.

        Warns (UserWarning) about fewer than 10 D calibration tokens. Raises InputError for what cannot be sliced or
        calibrated on; NaN or infinite activations are found when their layer is reached.
        """
        settings = self.settings
        if isinstance(model, PrunedModel):
            model = uniform_export(model)
        tokens, cost, family, dtype = self._prepare(model, calibration, attention_mask, batch_size)
        width_of = settings.width_of(cost, self._target(model, dtype))
        folder = None if isinstance(model, nn.Module) else Path(model)
        if output_dir is not None:
            require_free(Path(output_dir), "output_dir")
        elif folder is not None:
            raise InputError("output_dir", "nothing", "a new folder for the sliced checkpoint")
        started = time.monotonic()
        with torch.no_grad(), ExitStack() as stack, UsageMeter() as usage, freed_at_once():
            state = None
            if settings.checkpoint_dir is not None:
                source = model if isinstance(model, nn.Module) else Path(model)
                state = FitState(Path(settings.checkpoint_dir), fingerprint_of(settings.to_dict(), tokens, source))
            resumed = 0 if state is None else state.layers_done or 0
            weights = self._weights(model, state, output_dir, stack)
            durable = None if state is None else state.folder
            store = self._store(tokens, cost, dtype, durable)
            stack.callback(store.close)
            stack.enter_context(evaluation_mode(weights.model))
            blocks = cost.cuts - 1
            steps = _steps(progress, len(tokens) * (1 + blocks), "slicing")
            rules = Rules(
                settings.basis, settings.orientation, settings.seed, settings.slice_head, width_of, settings.pca_dtype
            )
            slicer = SequentialSlicer(
                weights, family, tokens, store, rules, settings.torch_device(), dtype, steps, state
            )
            order = slicer.slice()
            cuts = [cut.width for cut in slicer.cuts] + ([] if settings.slice_head else [cost.width])
            set_sliced_class(weights.model, family, cost.stream_widths(cuts))
            for _ in steps:
                pass
            report = self._report(cost, cuts, slicer, tokens, usage, started, store.spilled_bytes, resumed, dtype)
            if isinstance(weights, FolderWeights):
                assemble(weights, order, Path(str(output_dir)), dtype, report.to_dict())
        self.report_ = report
        self._model, self._saved = None, None
        if folder is None:
            assert isinstance(model, PreTrainedModel)
            self._model = model
            if output_dir is not None:
                self.save(output_dir)
        else:
            self._saved = Path(str(output_dir))
        if state is not None:
            state.clear()
        return self

    def dry_run(
        self,
        model: PreTrainedModel | str | Path,
        calibration: Any,
        attention_mask: Any = None,
        *,
        slicings: Sequence[float] = (0.1, 0.2, 0.25, 0.3, 0.5),
        batch_size: int = 8,
        progress: Progress = no_progress,
    ) -> DryRun:
        """The spectra of the unchanged model, and what each slicing level would give. Nothing is edited.

        Where the settings have a target, widths or a schedule, the first prediction is theirs.

        Spectra are those of the dense model: a real fit meets the errors of its earlier cuts as well. The last sum is
        counted as cut only with ``slice_head``. Raises InputError as ``fit`` does.
        """
        tokens, cost, family, dtype = self._prepare(model, calibration, attention_mask, batch_size)
        settings = self.settings
        levels = [
            (s, constant_cuts(cost, width_at(s, cost.width, settings.round_to), settings.slice_head)) for s in slicings
        ]
        if settings.target is not None or settings.dims is not None or callable(settings.schedule):
            width_of = settings.width_of(cost, self._target(model, dtype))
            wanted = [width_of(cut, torch.empty(0)) for cut in range(cost.cuts)]
            levels.insert(0, (1 - min(wanted) / cost.width, wanted))
        with torch.no_grad(), ExitStack() as stack, freed_at_once():
            weights = self._weights(model, None, None, stack)
            store = self._store(tokens, cost, dtype, None)
            stack.callback(store.close)
            stack.enter_context(evaluation_mode(weights.model))
            steps = _steps(progress, len(tokens) * cost.cuts, "measuring spectra")
            rules = Rules("pca", "pca", self.settings.seed, self.settings.slice_head, lambda cut, spectrum: cost.width)
            found = SequentialSlicer(
                weights, family, tokens, store, rules, self.settings.torch_device(), dtype, steps
            ).measure()
            for _ in steps:
                pass
        kept = found if self.settings.slice_head else found[:-1]
        predictions = []
        for slicing, cuts in levels:
            shares = [float(s[:d].sum() / s.sum()) for d, (_, s) in zip(cuts, kept, strict=False)]
            count = cost.parameters(cuts, self.settings.slice_head)
            macs = cost.macs(cuts, self.settings.slice_head)
            removed = 1 - count / cost.dense_parameters
            mean = sum(shares) / len(shares)
            predictions.append(Prediction(slicing, min(cuts), count, removed, macs, min(shares), mean))
        return DryRun(
            family.model_type,
            cost.width,
            cost.dense_parameters,
            cost.dense_macs,
            tokens.count,
            [name for name, _ in found],
            [tuple(spectrum.tolist()) for _, spectrum in found],
            predictions,
        )

    def save(self, folder: str | Path, tokenizer: Any = None) -> Path:
        """Save the sliced model with its code, the report and, where given, the tokenizer, to a new folder."""
        return save_model(self.model_, folder, tokenizer, self.report_.to_dict())

    def _prepare(
        self, model: PreTrainedModel | str | Path, calibration: Any, mask: Any, batch_size: int
    ) -> tuple[TokenBatches, StreamCost, Family, torch.dtype]:
        """Check all that can be checked before anything is changed."""
        self.settings.check()
        if isinstance(model, nn.Module):
            family = spec_for(model)
            check_rotation(family)
            check_model(model, family)
            config = model.config
            own = next(model.parameters()).dtype
        else:
            config = read_config(Path(model))
            family = spec_for(config)
            check_rotation(family)
            check_config(config, family)
            reader = CheckpointReader(Path(model), getattr(config, "base_model_prefix", ""))
            own = reader.dtype
        dtype = self.settings.torch_dtype() or own
        cost = cost_of(model)
        check_rounding(self.settings.round_to, cost.width)
        tokens = TokenBatches(calibration, mask, batch_size)
        tokens.check(config, family)
        if tokens.count < cost.width:
            raise InputError(
                "calibration",
                f"{tokens.count} tokens",
                f"at least the hidden size, {cost.width} (better 10 times that): more sequences, or a larger length",
            )
        if tokens.count < ENOUGH_TOKENS * cost.width:
            warnings.warn(
                f"calibration: {tokens.count} tokens for a hidden size of {cost.width}; "
                f"{ENOUGH_TOKENS * cost.width} or more give steadier directions",
                UserWarning,
                stacklevel=3,
            )
        return tokens, cost, family, dtype

    def _target(self, model: PreTrainedModel | str | Path, dtype: torch.dtype) -> int | None:
        """The most parameters, where a target was given. A time is not one: slicing does not run the dense model."""
        target = self.settings.target
        if not isinstance(target, str):
            return target
        if Target.parse(target).timed:
            raise InputError("target", target, "parameters or bytes: slicing does not time the model")
        return most_parameters(target, model if isinstance(model, nn.Module) else skeleton_of(model), dtype=dtype)

    def _weights(
        self, model: PreTrainedModel | str | Path, state: FitState | None, output: Any, stack: ExitStack
    ) -> LiveWeights | FolderWeights:
        if isinstance(model, nn.Module):
            return LiveWeights(model, None if state is None else state.folder)
        if state is not None:
            return FolderWeights(Path(model), state.folder)
        parts = stack.enter_context(temporary_parts(None if output is None else Path(output)))
        return FolderWeights(Path(model), parts)

    def _store(
        self, tokens: TokenBatches, cost: StreamCost, dtype: torch.dtype, durable: Path | None
    ) -> ActivationStore:
        spill = None if self.settings.spill_dir is None else Path(self.settings.spill_dir)
        compute = torch.promote_types(dtype, torch.float32)
        return ActivationStore(tokens, cost.width, compute, int(self.settings.activation_budget), spill, durable)

    def _report(
        self,
        cost: StreamCost,
        cuts: list[int],
        slicer: SequentialSlicer,
        tokens: TokenBatches,
        usage: UsageMeter,
        started: float,
        spilled: int,
        resumed: int,
        dtype: torch.dtype,
    ) -> SliceReport:
        return SliceReport(
            family=cost.family.model_type,
            hidden_size=cost.width,
            stream_widths=cost.stream_widths(cuts),
            cuts=slicer.cuts,
            parameters_before=cost.dense_parameters,
            parameters_untied=cost.untied_parameters,
            parameters_after=cost.parameters(cuts, self.settings.slice_head),
            macs_before=cost.dense_macs,
            macs_after=cost.macs(cuts, self.settings.slice_head),
            cache_bytes_per_token=cost.cache_values * torch.empty(0, dtype=dtype).element_size(),
            calibration_sequences=len(tokens.ids),
            calibration_tokens=tokens.count,
            seconds=time.monotonic() - started,
            start_bytes=usage.start_bytes,
            peak_bytes=usage.peek(),
            spilled_bytes=spilled,
            resumed_at_layer=resumed,
            dtype=str(dtype).removeprefix("torch."),
            settings=self.settings.to_dict(),
        )


def slice_model(
    model: PreTrainedModel,
    calibration: Any,
    attention_mask: Any = None,
    *,
    batch_size: int = 8,
    inplace: bool = False,
    progress: Progress = no_progress,
    **settings: Any,
) -> PreTrainedModel:
    """A sliced model from a model: ``SliceGPT(**settings)`` fitted to a copy, or to ``model`` itself if ``inplace``."""
    method = SliceGPT(**settings)
    target = model if inplace else copy.deepcopy(model)
    method.fit(target, calibration, attention_mask, batch_size=batch_size, progress=progress)
    return method.model_


def _steps(progress: Progress, total: int, description: str) -> Iterator[int]:
    steps: Iterable[int] = progress(range(total), description, total)
    return iter(steps)
