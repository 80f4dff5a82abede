"""What slicing did: where it cut, what each cut kept, and what the model costs before and after."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cut:
    """One point of the stream.

    ``width``: dimensions kept. ``kept``: share of the signal's energy (uncentred variance) that they hold.
    ``spectrum``: energy per direction and token, most important first (the eigenvalues, for the basis ``pca``).
    """

    name: str
    width: int
    kept: float
    spectrum: tuple[float, ...]


@dataclass(frozen=True)
class SliceReport:
    """The result of ``SliceGPT.fit``.

    ``stream_widths``: per layer ``[d_in, d_mid, d_out]`` (``[d_in, d_out]`` where attention and feed-forward are
    parallel). ``parameters_before`` counts a tied head once; ``parameters_untied`` counts it as slicing needs it,
    apart. ``macs_*``: multiply-accumulates per token in the matrices. ``cache_bytes_per_token``: keys and values, the
    same before and after, since slicing touches neither heads nor their sizes. ``peak_bytes``: highest resident memory
    of the process during the fit; ``start_bytes``: that at its start. ``spilled_bytes``: activations on disk.
    """

    family: str
    hidden_size: int
    stream_widths: list[list[int]]
    cuts: list[Cut]
    parameters_before: int
    parameters_untied: int
    parameters_after: int
    macs_before: int
    macs_after: int
    cache_bytes_per_token: int
    calibration_sequences: int
    calibration_tokens: int
    seconds: float
    start_bytes: int
    peak_bytes: int
    spilled_bytes: int
    resumed_at_layer: int
    dtype: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def parameters_removed(self) -> float:
        """Share of the dense model's parameters that is gone (negative if the residual matrices cost more)."""
        return 1 - self.parameters_after / self.parameters_before

    @property
    def notes(self) -> list[str]:
        """What slicing does not change, in sentences."""
        found = ["Slicing narrows the hidden state; heads, feed-forward width and depth stay."]
        if self.cache_bytes_per_token:
            found.append(f"The key-value cache does not shrink: {self.cache_bytes_per_token:,} bytes per token.")
        if self.parameters_untied != self.parameters_before:
            found.append("The head was tied to the embedding and is now a matrix of its own.")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and texts."""
        return {**asdict(self), "parameters_removed": self.parameters_removed, "notes": self.notes}


@dataclass(frozen=True)
class Prediction:
    """One slicing level of a dry run: its width, counts, and the least and mean share of energy that a cut keeps."""

    slicing: float
    width: int
    parameters: int
    parameters_removed: float
    macs: int
    least_kept: float
    mean_kept: float


@dataclass(frozen=True)
class DryRun:
    """The result of ``SliceGPT.dry_run``: the spectra of the unchanged model, and what slicing levels would give."""

    family: str
    hidden_size: int
    parameters_before: int
    macs_before: int
    calibration_tokens: int
    names: list[str]
    spectra: list[tuple[float, ...]]
    predictions: list[Prediction]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and texts."""
        return asdict(self)
