"""Simulated PET/CT scans: bodies, organs and lesions of ellipsoids, two scanners. Nothing here is clinical evidence.

A patient has a body of his own size, place and uptake; lungs, brain, liver, kidneys and a bladder, and in 60 % of the
patients a heart that shows. One to four lesions of two to eight slices are brighter by 2 to 9 SUV; the CT does not
show them. Center "B" resolves less, is noisier and reads 1.25 times higher than center "A".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.scans.geometry import Geometry, Volume
from paperworks.parameters import check_seed

FIELD_OF_VIEW = 420.0
"""Width of a slice, mm."""
_REFERENCE_PIXELS = 64
"""The resolution of a center is given in pixels of slices of this width."""


@dataclass(frozen=True)
class Center:
    """A scanner: resolution (sigma, pixels of a slice of 64), noise, and the factor of its SUV."""

    name: str
    sigma: float
    noise: float
    scale: float


CENTERS = (Center("A", 0.9, 0.08, 1.0), Center("B", 1.3, 0.14, 1.25))


@dataclass(frozen=True)
class PhantomSettings:
    """Options of the simulation.

    Attributes
    ----------
    size : pixels of a slice along each side.
    slices : slices of a scan, from the thighs to the head.
    thickness : mm.
    second_scans : every fourth patient has a second scan, with other lesions.
    """

    size: int = 64
    slices: int = 60
    thickness: float = 5.0
    second_scans: bool = True

    def __post_init__(self) -> None:
        for name, least in (("size", 16), ("slices", 20)):
            if getattr(self, name) < least:
                raise InputError(name, getattr(self, name), f"{least} or more")


@dataclass(frozen=True)
class SimulatedScan:
    """One scan: PET in SUV and CT in HU (float32), lesions (bool), and whose it is."""

    pet: Volume
    ct: Volume
    mask: Volume
    patient_id: str
    case_id: str
    center: str
    disease: str


def phantom_cases(n: int, seed: int = 0, settings: PhantomSettings | None = None) -> Iterator[SimulatedScan]:
    """So many scans, one after the other; the same for the same seed. Patients take turns between the two centers."""
    check_seed("seed", seed)
    if n < 1:
        raise InputError("n", n, "1 or more scans")
    chosen = settings or PhantomSettings()
    number = patient = 0
    while number < n:
        scans = 2 if chosen.second_scans and patient % 4 == 3 else 1
        for scan in range(scans):
            if number < n:
                yield _scan(seed, patient, scan, chosen)
                number += 1
        patient += 1


def _scan(seed: int, patient: int, scan: int, settings: PhantomSettings) -> SimulatedScan:
    center = CENTERS[patient % len(CENTERS)]
    body = _Body(np.random.default_rng([seed, patient]), settings)
    rng = np.random.default_rng([seed, patient, 1 + scan])
    uptake, density = body.uptake.copy(), body.density
    mask = body.lesions(rng, uptake)
    pet = _scanned(uptake, center, settings, rng)
    ct = (density + rng.normal(0, 12, density.shape)).astype(np.float32)
    ct[density < -900] = np.minimum(ct[density < -900], -950)
    geometry = body.geometry
    disease = ("DLBCL", "PMBCL")[int(np.random.default_rng([seed, patient, 99]).integers(2))]
    name = f"phantom-{patient:03d}"
    case = f"{name}-{scan}"
    return SimulatedScan(
        Volume(pet, geometry), Volume(ct, geometry), Volume(mask, geometry), name, case, center.name, disease
    )


def _scanned(uptake: np.ndarray, center: Center, settings: PhantomSettings, rng: np.random.Generator) -> np.ndarray:
    """The uptake as a scanner sees it: blurred, scaled, with noise that grows with the root of the activity."""
    from scipy.ndimage import gaussian_filter

    sigma = center.sigma * settings.size / _REFERENCE_PIXELS
    seen = gaussian_filter(uptake, (sigma, sigma, center.sigma * 0.6))
    noise = gaussian_filter(rng.normal(0, 1, uptake.shape).astype(np.float32), (0.5, 0.5, 0.3))
    seen = seen + center.noise * noise / noise.std() * np.sqrt(np.maximum(seen, 0) + 0.02)
    return np.maximum(seen * center.scale, 0).astype(np.float32)


class _Body:
    """Uptake and density of a patient without lesions."""

    def __init__(self, rng: np.random.Generator, settings: PhantomSettings) -> None:
        n, slices = settings.size, settings.slices
        width = FIELD_OF_VIEW / n
        # x to the right, y to the front, in units of half a field of view; t from the thighs (0) to the vertex (1)
        axis = (np.arange(n) + 0.5) / n * 2 - 1
        self.x, self.y = axis[:, None, None], axis[None, :, None]
        self.t = ((np.arange(slices) + 0.5) / slices)[None, None, :]
        affine = np.diag([width, width, settings.thickness, 1.0])
        affine[:3, 3] = [-FIELD_OF_VIEW / 2 + width / 2, -FIELD_OF_VIEW / 2 + width / 2, 0]
        self.geometry = Geometry((n, n, slices), affine)
        self.centre = rng.uniform(-0.06, 0.06, 2)
        self.radii = np.array([rng.uniform(0.55, 0.78), rng.uniform(0.38, 0.52)])
        self.shift = rng.uniform(-0.03, 0.03)
        self.inside = self._outline()
        self.uptake = np.where(self.inside, rng.uniform(0.5, 1.2), 0.0).astype(np.float32)
        self.density = np.where(self.inside, rng.uniform(20, 50), -1000.0).astype(np.float32)
        self.liver = float(rng.uniform(1.6, 2.8))
        self._organs(rng)

    def _outline(self) -> np.ndarray:
        """A trunk, and a head that is narrower."""
        narrow = 1 / (1 + np.exp((self.t + self.shift - 0.84) / 0.012))
        scale = 0.42 + 0.58 * narrow
        return self._distance(self.centre, self.radii[:, None, None, None] * scale) < 1

    def _distance(self, centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
        return ((self.x - centre[0]) / radii[0]) ** 2 + ((self.y - centre[1]) / radii[1]) ** 2

    def ellipsoid(self, place: tuple[float, float, float], size: tuple[float, float, float]) -> np.ndarray:
        """Voxels of an ellipsoid; place and size in the plane relative to the body, along it as shares of the scan."""
        centre = self.centre + np.array(place[:2]) * self.radii
        radii = np.array(size[:2]) * self.radii
        along = ((self.t + self.shift - place[2]) / size[2]) ** 2
        return (self._distance(centre, radii[:, None, None, None]) + along < 1) & self.inside

    def _organs(self, rng: np.random.Generator) -> None:
        def vary(*values: float) -> tuple[float, float, float]:
            x, y, z = (v + float(rng.normal(0, s)) for v, s in zip(values, (0.03, 0.03, 0.01), strict=True))
            return x, y, z

        for side in (-1, 1):
            lung = self.ellipsoid(vary(0.45 * side, 0.0, 0.70), (0.36, 0.62, 0.11))
            self.uptake[lung], self.density[lung] = 0.35, -780.0
        spine = self.ellipsoid((0.0, -0.62, 0.45), (0.1, 0.14, 0.42))
        self.density[spine] = 320.0
        self._organ(self.ellipsoid(vary(0.4, 0.1, 0.52), (0.48, 0.6, 0.085)), self.liver, 60)
        for side in (-1, 1):
            kidney = self.ellipsoid(vary(0.42 * side, -0.35, 0.43), (0.13, 0.17, 0.05))
            self._organ(kidney, float(rng.uniform(2, 6)), 35)
        if rng.random() < 0.6:
            self._organ(self.ellipsoid(vary(-0.15, 0.25, 0.64), (0.17, 0.24, 0.045)), float(rng.uniform(2.5, 9)), 45)
        bladder = self.ellipsoid(vary(0.0, 0.2, 0.12), (0.17, 0.24, 0.04))
        self._organ(bladder, float(rng.uniform(4, 30)), 10)
        brain = self.ellipsoid((0.0, 0.0, 0.94), (0.33, 0.33, 0.05))
        self._organ(brain, float(rng.uniform(5, 11)), 38)

    def _organ(self, voxels: np.ndarray, uptake: float, density: float) -> None:
        self.uptake[voxels], self.density[voxels] = uptake, density

    def lesions(self, rng: np.random.Generator, uptake: np.ndarray) -> np.ndarray:
        """Add one to four lesions to ``uptake`` in place; returns where they are."""
        mask = np.zeros(uptake.shape, dtype=bool)
        n, slices = uptake.shape[0], uptake.shape[2]
        for _ in range(int(rng.integers(1, 5))):
            length = int(rng.integers(2, 9))
            added = float(rng.uniform(2, 9))
            radii = rng.uniform(1.6, 4.0, 2) / _REFERENCE_PIXELS * 2
            for _ in range(20):  # until it lies within the body
                first = int(rng.integers(int(0.16 * slices), int(0.82 * slices) - length))
                angle, far = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0, 0.55))
                centre = self.centre + self.radii * far * np.array([np.cos(angle), np.sin(angle)])
                middle = first + (length - 1) / 2
                along = ((np.arange(slices) - middle) / (length / 2)) ** 2
                flat = ((self.x - centre[0]) / radii[0]) ** 2 + ((self.y - centre[1]) / radii[1]) ** 2
                lesion = flat + along[None, None, :] < 1
                # in every slice of its length a lesion has at least the voxel nearest to its axis
                voxel = np.clip(np.floor((centre + 1) / 2 * n).astype(int), 0, n - 1)
                lesion[voxel[0], voxel[1], first : first + length] = True
                if (lesion & ~self.inside).any():
                    continue
                uptake[lesion] += np.float32(added)
                mask |= lesion
                break
        return mask
