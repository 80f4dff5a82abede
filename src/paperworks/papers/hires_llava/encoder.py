"""The high-resolution encoder: a vision tower on slices, the adapter inside it, and the sampler behind it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.hires_llava.adapter import Path as AdapterPath
from paperworks.papers.hires_llava.adapter import SliceRestoreAdapter, merge_slices
from paperworks.papers.hires_llava.features import HiResFeatures, Prepared, TokenRows, joined
from paperworks.papers.hires_llava.grid import Grid, Placement, cut_image, place_image, resize
from paperworks.papers.hires_llava.pixels import all_rgb
from paperworks.papers.hires_llava.samplers import SamplerName, make_sampler
from paperworks.papers.hires_llava.towers import load_tower
from paperworks.parameters import check_seed, check_whole
from paperworks.runs.files import new_folder

Layers = Sequence[int] | Literal["even", "all", "none"]


class HiResVisionEncoder(nn.Module):
    """Reads images of any size with a tower of one size.

    Parameters
    ----------
    vision : a folder of transformers, a module, or a ``VisionTower``; see ``load_tower``. Its weights are frozen.
    sra_layers : layers after which the adapter works, counted from 0; "even" is 4 evenly spaced ones, "all", "none".
    local_kernel, path, stride, normalize, init, skip_single : of the adapter, see ``SliceRestoreAdapter``.
    sampler : "self-mining", "avgpool", "concat", "qformer", "resampler", or None for no sampler.
    window : side of the sampler's windows; must divide the tower's tokens along a side.
    sampler_layers, queries : of the sampler.
    max_slices : of an image, at most.
    global_view : encode the whole image at the tower's size, too.
    seed : of the adapters' and the sampler's weights.

    Raises
    ------
    InputError : a tower without a square grid of patches, a layer that it does not have, a window that does not divide.
    """

    def __init__(
        self,
        vision: Any,
        *,
        sra_layers: Layers = "even",
        local_kernel: int = 3,
        path: AdapterPath = "both",
        stride: int = 1,
        normalize: bool = True,
        init: Literal["zero", "default"] = "zero",
        skip_single: bool = False,
        sampler: SamplerName | None = "self-mining",
        window: int = 2,
        sampler_layers: int = 1,
        queries: int = 16,
        max_slices: int = 4,
        global_view: bool = True,
        seed: int = 0,
    ) -> None:
        check_seed("seed", seed)
        super().__init__()
        self.tower = load_tower(vision)
        tower = self.tower
        check_whole("max_slices", max_slices, 1)
        self.sra_layers = chosen_layers(sra_layers, tower.depth)
        _check_window(window, tower.side, sampler)
        self.max_slices, self.global_view, self.window = max_slices, global_view, window
        self.options: dict[str, Any] = {
            "sra_layers": list(self.sra_layers),
            "local_kernel": local_kernel,
            "path": path,
            "stride": stride,
            "normalize": normalize,
            "init": init,
            "skip_single": skip_single,
            "sampler": sampler,
            "window": window,
            "sampler_layers": sampler_layers,
            "queries": queries,
            "max_slices": max_slices,
            "global_view": global_view,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.adapters = nn.ModuleDict(
                {
                    str(layer): SliceRestoreAdapter(
                        tower.width,
                        tower.heads,
                        kernel=local_kernel,
                        stride=stride,
                        path=path,
                        normalize=normalize,
                        init=init,
                        skip_single=skip_single,
                    )
                    for layer in self.sra_layers
                }
            )
            self.sampler = (
                None
                if sampler is None
                else make_sampler(
                    sampler, tower.width, tower.heads, window=window, layers=sampler_layers, queries=queries
                )
            )
        tower.requires_grad_(False)
        self._groups: list[tuple[Grid, torch.Tensor]] = []
        layers = tower.layers
        for layer in self.sra_layers:
            layers[layer].register_forward_hook(partial(self._mix, layer))

    def train(self, mode: bool = True) -> HiResVisionEncoder:
        """Set the mode; a frozen tower stays in evaluation mode (its dropout is off)."""
        super().train(mode)
        if not any(p.requires_grad for p in self.tower.parameters()):
            self.tower.eval()
        return self

    def prepare(self, images: Sequence[Any], *, max_slices: int | None = None, grid: Grid | None = None) -> Prepared:
        """Images (PIL, arrays or paths, see ``as_rgb``) cut into slices. ``grid`` is the same for all, if given.

        Raises InputError for an empty list, and for an image that cannot be read or is smaller than a patch.
        """
        most = self.max_slices if max_slices is None else check_whole("max_slices", max_slices, 1)
        tower = self.tower
        pixels, notes = all_rgb(images, tower.patch_size)
        fill = tower.fill.numpy() if tower.channels == 3 else np.repeat(tower.fill.numpy(), 3)
        placements = [place_image(image.shape[0], image.shape[1], tower.image_size, most, grid) for image in pixels]
        slices = [cut_image(image, place, fill) for image, place in zip(pixels, placements, strict=True)]
        views = [resize(image, (tower.image_size, tower.image_size)) for image in pixels] if self.global_view else []
        blank = np.empty((0, tower.image_size, tower.image_size, 3), np.uint8)
        return Prepared(
            tower.normalised(np.concatenate(slices)),
            tower.normalised(np.stack(views) if views else blank),
            [place.grid for place in placements],
            [torch.from_numpy(place.valid_tokens(tower.patch_size)) for place in placements],
            placements,
            notes,
        )

    def maps(
        self, slices: torch.Tensor, grids: Sequence[Grid], views: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """Restored maps of images from their slices ``[sum m n, channels, S, S]``, and maps of ``views`` behind them.

        Returns one map ``[m h, n w, D]`` for each grid, then one ``[h, w, D]`` for each view. The adapters work within
        the slices of each image, and not on views. All go through the tower in one call.

        Raises InputError if the number of slices is not that of the grids.
        """
        counts = [m * n for m, n in grids]
        if sum(counts) != len(slices):
            raise InputError("slices", len(slices), f"{sum(counts)}, as many as the grids have")
        tower = self.tower
        given = slices if views is None or not len(views) else torch.cat([slices, views])
        self._groups = _grouped(grids, given.device)
        try:
            tokens = tower(given)[:, tower.prefix :]
        finally:
            self._groups = []
        tokens = tokens.to(self._own_dtype(tokens))
        square = tokens.unflatten(1, (tower.side, tower.side))
        if len(set(grids)) == 1:  # in one piece: its gradient is one tensor, not one for each image
            total = sum(counts)
            maps = merge_slices(square[:total].unflatten(0, (len(grids), counts[0])), grids[0]).unbind()
            return [*maps, *square[total:].unbind()]
        pieces = square.split([*counts, *[1] * (len(square) - sum(counts))])
        maps = tuple(merge_slices(one[None], grid)[0] for one, grid in zip(pieces, grids, strict=False))
        return [*maps, *(one[0] for one in pieces[len(grids) :])]

    def sample(self, maps: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]) -> list[TokenRows]:
        """The sampler's tokens of maps ``[Hf, Wf, D]`` of any sizes, without those of padding only."""
        found: list[TokenRows | None] = [None] * len(maps)
        sizes: dict[tuple[int, ...], list[int]] = {}
        for number, one in enumerate(maps):
            sizes.setdefault(tuple(one.shape), []).append(number)
        for numbers in sizes.values():
            whole = torch.stack([maps[i] for i in numbers])
            mask = torch.stack([masks[i].to(whole.device) for i in numbers])
            if self.sampler is None:
                tokens, known = whole.flatten(1, 2), mask.flatten(1)
            else:
                tokens, known = self.sampler(whole, mask)
            columns = -(-whole.shape[2] // (self.window if self.sampler is not None else 1))
            for place, number in enumerate(numbers):
                kept = known[place].nonzero()[:, 0]
                false = torch.zeros_like(kept, dtype=torch.bool)
                found[number] = TokenRows(tokens[place, kept], kept // columns, kept % columns, false)
        return [one for one in found if one is not None]

    def tokens(self, prepared: Prepared) -> list[TokenRows]:
        """Tokens of each image: those of its global view, then those of its restored map."""
        return self.tokens_of(prepared.slices, prepared.grids, prepared.masks, prepared.views)

    def tokens_of(
        self, slices: torch.Tensor, grids: Sequence[Grid], masks: Sequence[torch.Tensor], views: torch.Tensor
    ) -> list[TokenRows]:
        """As ``tokens``, from the parts of ``Prepared``."""
        maps = self.maps(slices, grids, views)
        every = torch.ones(self.tower.side, self.tower.side, dtype=torch.bool)
        rows = self.sample(maps, [*masks, *[every] * len(views)])
        n = len(grids)
        return [joined(rows[n + i], rows[i]) if len(views) else rows[i] for i in range(n)]

    @torch.no_grad()
    def encode(
        self, images: Sequence[Any], *, max_slices: int | None = None, grid: Grid | None = None, batch_size: int = 8
    ) -> list[HiResFeatures]:
        """Features of images of any sizes, ``batch_size`` images in one call of the tower.

        Raises InputError as ``prepare``.
        """
        check_whole("batch_size", batch_size, 1)
        if len(images) == 0:
            raise InputError("images", "none", "at least one image")
        before, place = self.training, next(self.tower.parameters()).device
        self.eval()
        found = []
        try:
            for start in range(0, len(images), batch_size):
                part = self.prepare(images[start : start + batch_size], max_slices=max_slices, grid=grid)
                maps = self.maps(part.slices.to(place), part.grids, part.views.to(place))
                n = len(part.grids)
                every = torch.ones(self.tower.side, self.tower.side, dtype=torch.bool)
                sampled = self.sample(maps, [*part.masks, *[every] * len(part.views)])
                for i, placement in enumerate(part.placements):
                    rows = joined(sampled[n + i], sampled[i]) if len(part.views) else sampled[i]
                    found.append(self._features(rows, maps[i], part.masks[i], placement))
        finally:
            self.train(before)
        return found

    def _features(
        self, rows: TokenRows, whole: torch.Tensor, mask: torch.Tensor, placement: Placement
    ) -> HiResFeatures:
        side = self.tower.patch_size * (self.window if self.sampler is not None else 1)
        learned = self.options["sampler"] in ("qformer", "resampler")
        boxes = []
        for row, column, is_global in zip(
            rows.rows.tolist(), rows.columns.tolist(), rows.is_global.tolist(), strict=True
        ):
            if learned:
                boxes.append((0.0, 0.0, float(placement.width), float(placement.height)))
                continue
            box = (column * side, row * side, (column + 1) * side, (row + 1) * side)
            if is_global:
                across, down = (extent / self.tower.image_size for extent in (placement.width, placement.height))
                boxes.append((box[0] * across, box[1] * down, box[2] * across, box[3] * down))
            else:
                boxes.append(placement.in_image(box))
        return HiResFeatures(
            rows.values.float().cpu().numpy(),
            int(rows.is_global.sum()),
            whole.float().cpu().numpy(),
            placement.grid,
            mask.numpy(),
            np.array(boxes, dtype=np.float64).reshape(-1, 4),
            placement.slice_boxes(),
        )

    def _mix(self, layer: int, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        """The hook behind a layer: the adapter on the patch tokens of each group of images with the same grid."""
        if not self._groups:
            return None
        hidden = output[0] if isinstance(output, tuple) else output
        tower, adapter = self.tower, self.adapters[str(layer)]
        tokens = hidden[:, tower.prefix :]
        for grid, rows in self._groups:
            every = len(rows) == len(tokens)
            slices = (tokens if every else tokens[rows]).reshape(
                -1, grid[0] * grid[1], tower.side, tower.side, tower.width
            )
            mixed = adapter(slices.to(self._own_dtype(slices)), grid).to(tokens)
            mixed = mixed.reshape(len(rows), tower.side**2, tower.width)
            tokens = mixed if every else tokens.index_copy(0, rows, mixed)
        hidden = torch.cat([hidden[:, : tower.prefix], tokens], 1)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    def _own_dtype(self, like: torch.Tensor) -> torch.dtype:
        """The type of the weights of adapters and sampler, which need not be the tower's; or that of ``like``."""
        parts = [self.adapters, *([] if self.sampler is None else [self.sampler])]
        return next((p.dtype for part in parts for p in part.parameters()), like.dtype)

    def own_state(self) -> dict[str, torch.Tensor]:
        """The weights of adapters and sampler, without the tower's."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("tower.")}

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the options and the weights of adapters and sampler to a new folder, with a reference to the tower.

        A tower that came from no folder is written to the folder's ``vision``.
        """
        from safetensors.torch import save_file

        with new_folder(Path(folder)) as out:
            source = self.tower.source
            if source is None:
                save_tower(self.tower, out / "vision")
            content = {"vision": "vision" if source is None else str(source.resolve()), "options": self.options}
            (out / "hires_encoder.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            save_file(
                {name: value.detach().cpu().contiguous() for name, value in self.own_state().items()},
                out / "hires_encoder.safetensors",
                metadata={"format": "pt"},
            )
        return Path(folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path, vision: Any = None) -> HiResVisionEncoder:
        """Load what ``save_pretrained`` wrote; ``vision`` in place of the tower that it refers to.

        Raises InputError naming ``folder`` for a folder of something else or weights that do not fit.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = Path(folder).expanduser()
        try:
            content = json.loads((path / "hires_encoder.json").read_text(encoding="utf-8"))
            state = load_file(path / "hires_encoder.safetensors")
            source, options = Path(content["vision"]), dict(content["options"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise InputError("folder", f"{path} ({error})", "what save_pretrained of the encoder wrote") from None
        encoder = cls(vision if vision is not None else source if source.is_absolute() else path / source, **options)
        own = encoder.own_state()
        wrong = sorted(own.keys() ^ state.keys()) or [n for n in own if own[n].shape != state[n].shape]
        if wrong:
            raise InputError("folder", f"{path}, whose {wrong[0]} does not fit the tower", "weights of this tower")
        encoder.load_state_dict(state, strict=False)
        return encoder.eval()


def save_tower(tower: Any, folder: Path) -> None:
    """Write a tower with the normalisation of its pixels."""
    tower.module.save_pretrained(folder)
    content = {"image_mean": list(tower.mean), "image_std": list(tower.std)}
    (folder / "preprocessor_config.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


def chosen_layers(layers: Layers, depth: int) -> tuple[int, ...]:
    """Numbers of layers, counted from 0. "even" is 4 evenly spaced ones that end with the last.

    Raises InputError for a layer that the tower does not have.
    """
    if layers == "none":
        return ()
    if layers == "all":
        return tuple(range(depth))
    if layers == "even":
        count = min(4, depth)
        return tuple(sorted({(i + 1) * depth // count - 1 for i in range(count)}))
    if isinstance(layers, str):
        raise InputError("sra_layers", repr(layers), "even, all, none, or numbers of layers")
    found = [check_whole("sra_layers", layer, 0, depth - 1) for layer in layers]
    return tuple(sorted(set(found)))


def _check_window(window: int, side: int, sampler: str | None) -> None:
    check_whole("window", window, 1)
    if sampler in ("self-mining", "avgpool", "concat") and side % window:
        valid = ", ".join(str(s) for s in range(1, side + 1) if side % s == 0)
        raise InputError("window", window, f"a divisor of the {side} tokens along a side: {valid}")


def _grouped(grids: Sequence[Grid], device: torch.device) -> list[tuple[Grid, torch.Tensor]]:
    """Rows of the slices of all images with the same grid."""
    rows: dict[Grid, list[int]] = {}
    start = 0
    for m, n in grids:
        rows.setdefault((m, n), []).extend(range(start, start + m * n))
        start += m * n
    return [(grid, torch.tensor(numbers, device=device)) for grid, numbers in rows.items()]
