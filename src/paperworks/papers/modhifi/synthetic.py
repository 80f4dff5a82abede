"""Samples from what is known of a distribution: calibration needs no image of the training set itself."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch

from paperworks.errors import InputError, nearest
from paperworks.parameters import check_number, check_seed, check_whole

Kind = Literal["density", "mixture", "moments", "noise"]
KINDS: tuple[str, ...] = get_args(Kind)
FULL_COVARIANCE = 1024
"""Values of an image up to which a Gaussian has a full covariance; above, only variances."""


class SyntheticImages:
    """Draws images of each class, after a look at some.

    - ``density``: a Gaussian kernel density of each class: a random image of it plus noise of ``bandwidth``, in
      units of the standard deviation over all values;
    - ``mixture``: a Gaussian mixture of each class (scikit-learn, diagonal covariances);
    - ``moments``: one Gaussian of each class, from its mean and covariance;
    - ``noise``: one Gaussian for all, from the mean and variance of every value: no class shows.

    Values are clipped to the range that was seen.

    Parameters
    ----------
    kind, bandwidth : as above.
    components : of each mixture.
    seed : of the mixtures' start.
    """

    def __init__(self, kind: Kind = "density", bandwidth: float = 0.25, *, components: int = 5, seed: int = 0) -> None:
        if kind not in KINDS:
            raise InputError("kind", repr(kind), f"one of {', '.join(KINDS)}{nearest(str(kind), KINDS)}")
        check_number("bandwidth", bandwidth)
        check_whole("components", components, 1)
        check_seed("seed", seed)
        self.kind, self.bandwidth, self.components, self.seed = kind, bandwidth, components, seed

    def fit(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> SyntheticImages:
        """Look at images ``[n, ...]``, with class codes ``[n]`` if there are any (else all are one class)."""
        if not len(images) or not bool(torch.isfinite(images).all()):
            raise InputError("images", f"{len(images)} images, or values that are not finite", "finite images")
        codes = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels.cpu()
        self._shape = images.shape[1:]
        flat = images.reshape(len(images), -1).double().cpu()
        self.classes = codes.unique().tolist()
        self._range = (float(flat.min()), float(flat.max()))
        self._scale = float(flat.std())
        self._flat = {c: flat[codes == c] for c in self.classes}
        self._whole = (flat.mean(0), flat.std(0) if len(flat) > 1 else torch.zeros(flat.shape[1], dtype=flat.dtype))
        if self.kind == "mixture":
            from sklearn.mixture import GaussianMixture

            self._mixtures = {
                c: GaussianMixture(
                    min(self.components, len(x)), covariance_type="diag", reg_covar=1e-4, random_state=self.seed % 2**32
                ).fit(x.numpy())
                for c, x in self._flat.items()
            }
        return self

    def sample(self, per_class: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Images float32 ``[per_class * classes, ...]`` in random order, and their class codes."""
        check_whole("per_class", per_class, 1)
        generator = torch.Generator().manual_seed(check_seed("seed", seed))
        made = [self._of(c, per_class, generator) for c in self.classes]
        labels = torch.tensor(self.classes).repeat_interleave(per_class)
        images = torch.cat(made).clamp(*self._range).float().view(-1, *self._shape)
        order = torch.randperm(len(images), generator=generator)
        return images[order], labels[order]

    def _of(self, label: int, n: int, generator: torch.Generator) -> torch.Tensor:
        flat = self._flat[label]
        noise = torch.randn(n, flat.shape[1], generator=generator, dtype=torch.float64)
        if self.kind == "noise":
            return self._whole[0] + self._whole[1] * noise
        if self.kind == "density":
            rows = torch.randint(len(flat), (n,), generator=generator)
            return flat[rows] + self.bandwidth * self._scale * noise
        if self.kind == "moments":
            mean, centred = flat.mean(0), flat - flat.mean(0)
            if flat.shape[1] > FULL_COVARIANCE or len(flat) < 2:
                return mean + centred.std(0, correction=0) * noise
            mixing = torch.randn(n, len(flat), generator=generator, dtype=torch.float64)
            return mean + mixing @ centred / (len(flat) - 1) ** 0.5
        found = self._mixtures[label]
        part = np.asarray(found.weights_)
        chosen = torch.multinomial(torch.from_numpy(part), n, replacement=True, generator=generator)
        mean, variance = torch.from_numpy(found.means_), torch.from_numpy(found.covariances_)
        return mean[chosen] + variance[chosen].sqrt() * noise


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Squared Frechet distance of two Gaussians fitted to features ``[n, d]``.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^.5); the trace of the root is that of (S1^.5 S2 S1^.5)^.5.
    """
    a, b = (np.asarray(x, dtype=np.float64) for x in (first, second))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise InputError("features", f"shapes {a.shape} and {b.shape}", "[n, d] twice, n of 2 or more")
    s, t = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(s)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ t @ root).clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * cross)
