"""The table for serving: one dense matrix a field, of the rows and coordinates that were kept.

::

    field i:  place int32 [F_i] (-1: pruned) --> matrix [kept_i, d_i] --> padded with zeros to D
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.optembed.bags import EMPTY, Bags, Pooling, check_ids
from paperworks.runs.files import new_folder

WEIGHTS, CONFIG = "embedding.safetensors", "embedding.json"


class CompactEmbedding(nn.Module):
    """Embeddings of mixed dimensions: ids int64 ``[B, n]`` become float ``[B, n, dim]``, or ``[B, sum of d_i]``.

    Parameters
    ----------
    tables : for every field a matrix ``[kept_i, d_i]``; of int8 with ``scales``.
    places : for every field int32 ``[F_i]``: the row of each value in its matrix, or -1 where the value was pruned.
    dim : what vectors are padded to.
    oov : for every field the vector ``[d_i]`` of a pruned value; None is zeros.
    scales : for every field float32 ``[d_i]``: a number of eight bits in column j stands for ``scales[i][j]`` times it.
    slots, pooling : of fields of several values, see ``OptEmbedding``.

    Attributes
    ----------
    values : all matrices one after the other, float or int8 ``[numbers]``; each has the vector of pruned values first.
    tables : the matrices with that vector as row 0, ``[kept_i + 1, d_i]``: views of ``values``.
    field_dims, dimensions, bags : F_i and d_i of every field; slots and pooling.
    places : the row of every value of all fields in its matrix, 0 for pruned ones: int32 ``[F]``.

    Notes
    -----
    A lookup is one gather of all fields: it reads ``dim`` numbers from where a vector begins, and those behind the
    vector's end are multiplied by 0.
    """

    starts: torch.Tensor
    first: torch.Tensor
    column_sizes: torch.Tensor
    factors: torch.Tensor

    def __init__(
        self,
        tables: Sequence[torch.Tensor],
        places: Sequence[torch.Tensor],
        dim: int,
        oov: Sequence[torch.Tensor] | None = None,
        *,
        scales: Sequence[torch.Tensor] | None = None,
        slots: Sequence[int] | None = None,
        pooling: Pooling = "sum",
    ) -> None:
        super().__init__()
        _check(tables, places, dim, scales)
        self.dim, self.has_oov, self.eight_bits = dim, oov is not None, scales is not None
        self.field_dims = [len(place) for place in places]
        self.dimensions = [table.shape[1] for table in tables]
        self.rows = [len(table) + 1 for table in tables]
        self.bags = Bags.of(len(tables), slots, pooling)
        pruned = [torch.zeros(t.shape[1], dtype=t.dtype) for t in tables] if oov is None else list(oov)
        parts = [part for v, t in zip(pruned, tables, strict=True) for part in (v.to(t.dtype), t.reshape(-1))]
        # the zeros at the end are what an empty place of a bag reads
        flat = torch.cat([*parts, torch.zeros(dim, dtype=tables[0].dtype)])
        self.values = nn.Parameter(flat, requires_grad=False)
        numbers = torch.tensor([r * d for r, d in zip(self.rows, self.dimensions, strict=True)])
        self.begins = (torch.cumsum(numbers, 0) - numbers).tolist()
        known = zip(places, self.begins, self.dimensions, strict=True)
        first = torch.cat([begin + (place.long() + 1) * d for place, begin, d in known])
        self.register_buffer("first", first.to(torch.int32 if len(flat) < 2**31 else torch.int64))
        sizes = torch.tensor(self.field_dims)
        self.register_buffer("starts", self.bags.per_column((torch.cumsum(sizes, 0) - sizes).tolist()), False)
        self.register_buffer("column_sizes", self.bags.per_column(self.field_dims), False)
        factors = torch.zeros(len(tables), dim, dtype=torch.float32 if self.eight_bits else flat.dtype)
        for field, d in enumerate(self.dimensions):
            factors[field, :d] = 1 if scales is None else scales[field].cpu()
        self.register_buffer("factors", factors)

    @property
    def tables(self) -> list[torch.Tensor]:
        """The matrix of every field, ``[kept_i + 1, d_i]``, with the vector of pruned values first."""
        known = zip(self.begins, self.rows, self.dimensions, strict=True)
        return [self.values.detach()[begin : begin + r * d].view(r, d) for begin, r, d in known]

    @property
    def places(self) -> torch.Tensor:
        """The row of every value of all fields in its matrix, 0 for pruned ones: int32 ``[F]``."""
        known = zip(torch.split(self.first, self.field_dims), self.begins, self.dimensions, strict=True)
        return torch.cat([(first - begin) // d for first, begin, d in known]).to(torch.int32)

    def vectors(self, ids: torch.Tensor) -> list[torch.Tensor]:
        """For every field the vectors ``[B, d_i]``, without padding."""
        first = self._first(ids)
        found, at = [], 0
        for field, (d, slots) in enumerate(zip(self.dimensions, self.bags.slots, strict=True)):
            own = self._gathered(first[:, at : at + slots].contiguous(), d)
            if self.eight_bits:
                own = own * self.factors[field, :d]
            if slots > 1:
                one = Bags((slots,), self.bags.pooling)
                own = one.pool(own, one.filled(ids[:, at : at + slots]))
            found.append(own[:, 0])
            at += slots
        return found

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Vectors padded with zeros to ``dim``: float ``[B, n, dim]``."""
        found = self._gathered(self._first(ids), self.dim)
        if self.bags.plain:
            return found.mul_(self.factors)
        # junk behind short vectors is pooled as well, and goes with the multiplication
        return self.bags.pool(found, self.bags.filled(ids)).mul_(self.factors)

    def concatenated(self, ids: torch.Tensor) -> torch.Tensor:
        """Vectors side by side without padding: float ``[B, sum of d_i]``; see ``slice_first_linear``."""
        return torch.cat(self.vectors(ids), 1)

    def quantized(self) -> CompactEmbedding:
        """The same table in eight bits: int8 numbers, and a float32 scale for each coordinate of a field.

        A number differs from its own by half of its coordinate's scale at most, which is the largest of the column
        by 127. Zeros stay zeros.
        """
        if self.eight_bits:
            return self
        scales = [(table.float().abs().amax(0) / 127).clamp(min=1e-12).cpu() for table in self.tables]
        codes = [(t.float().cpu() / s).round().to(torch.int8) for t, s in zip(self.tables, scales, strict=True)]
        return CompactEmbedding(
            [code[1:] for code in codes],
            [place - 1 for place in torch.split(self.places.cpu(), self.field_dims)],
            self.dim,
            [code[0] for code in codes] if self.has_oov else None,
            scales=scales,
            **self.bags.to_dict(),
        ).to(self.values.device)

    def _first(self, ids: torch.Tensor) -> torch.Tensor:
        """Where each vector begins in ``values``: ``[B, columns]``; of an empty place, where the zeros are."""
        check_ids(ids, self.column_sizes, self.bags)
        if self.bags.plain:
            return self.first.index_select(0, (ids + self.starts).reshape(-1)).view(ids.shape)
        found = self.first.index_select(0, (ids.clamp(min=0) + self.starts).reshape(-1)).view(ids.shape)
        return found.masked_fill(ids == EMPTY, len(self.values) - self.dim)

    def _gathered(self, first: torch.Tensor, width: int) -> torch.Tensor:
        """``width`` numbers from each place on, float ``[B, columns, width]``."""
        values = self.values.detach()
        # rows of this view overlap: row r is values[r : r + width]
        rows = values.as_strided((len(values) - width + 1, width), (1, 1))
        found = rows.index_select(0, first.reshape(-1)).view(*first.shape, width)
        return found.float() if self.eight_bits else found

    def columns(self) -> torch.Tensor:
        """Which of the ``n * dim`` padded coordinates are kept: int64 ``[sum of d_i]``."""
        return torch.cat([torch.arange(d) + field * self.dim for field, d in enumerate(self.dimensions)])

    def slice_first_linear(self, linear: nn.Linear) -> nn.Linear:
        """The first layer of a perceptron that reads all vectors side by side, without the columns of padding.

        Its input is then ``concatenated(ids)``, and its output is that of the whole layer on the padded vectors.
        """
        if linear.in_features != self.dim * len(self.field_dims):
            raise InputError(
                "linear", f"{linear.in_features} inputs", f"{self.dim * len(self.field_dims)}: fields times dimension"
            )
        cut = nn.Linear(sum(self.dimensions), linear.out_features, bias=linear.bias is not None).to(linear.weight)
        with torch.no_grad():
            cut.weight.copy_(linear.weight[:, self.columns().to(linear.weight.device)])
            if linear.bias is not None:
                cut.bias.copy_(linear.bias)
        return cut

    def counted_parameters(self) -> int:
        """Numbers of the table, kept rows times dimension over the fields; vectors of pruned values are not counted."""
        return sum((rows - 1) * d for rows, d in zip(self.rows, self.dimensions, strict=True))

    def embedding_bags(self) -> nn.ModuleList:
        """An ordinary ``torch.nn.EmbeddingBag`` ``[kept_i + 1, d_i]`` for each field, with row 0 for pruned values.

        Its ids are those of ``places``: ``bags[i](places_i[ids_i], offsets)`` pools any number of values a row, and
        gives what this module does before padding.
        """
        scaled = [t * f[:d] if self.eight_bits else t for t, f, d in self._scaled()]
        return nn.ModuleList(
            nn.EmbeddingBag.from_pretrained(table.clone(), freeze=True, mode=self.bags.pooling) for table in scaled
        )

    def torchrec_tables(self, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Keywords of torchrec's ``EmbeddingBagConfig`` for every field: name, rows, dimension and feature name.

        Row 0 is the vector of pruned values; look ids up in ``places`` first. Pooling is an enumeration of torchrec,
        and so is not here: ``PoolingType(bags.pooling.upper())``.
        """
        known = self._names(names)
        return [
            {"name": f"table_{name}", "num_embeddings": rows, "embedding_dim": d, "feature_names": [name]}
            for name, rows, d in zip(known, self.rows, self.dimensions, strict=True)
        ]

    def torchrec_state(self, names: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
        """The state of torchrec's ``EmbeddingBagCollection`` of ``torchrec_tables``: a float matrix for each name."""
        bags = zip(self._names(names), self.embedding_bags(), strict=True)
        return {f"embedding_bags.table_{name}.weight": bag.get_parameter("weight").detach() for name, bag in bags}

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write a folder: ``embedding.safetensors`` and ``embedding.json``.

        Tensors are ``table.i`` ``[kept_i, d_i]`` (float, or int8 with ``scale.i`` ``[d_i]``), ``place.i`` int32
        ``[F_i]``, -1 for pruned values, and ``oov.i`` ``[d_i]``.
        """
        with new_folder(Path(folder)) as out:
            tensors: dict[str, torch.Tensor] = {}
            places = torch.split(self.places.cpu(), self.field_dims)
            for field, (table, factors, d) in enumerate(self._scaled()):
                tensors[f"table.{field}"] = table.cpu()[1:].contiguous()
                tensors[f"place.{field}"] = places[field].contiguous() - 1
                if self.has_oov:
                    tensors[f"oov.{field}"] = table.cpu()[0].contiguous()
                if self.eight_bits:
                    tensors[f"scale.{field}"] = factors.cpu()[:d].contiguous()
            save_file(tensors, out / WEIGHTS)
            content = {
                "dim": self.dim,
                "field_dims": self.field_dims,
                "dimensions": self.dimensions,
                "kept_rows": [rows - 1 for rows in self.rows],
                "oov": self.has_oov,
                "eight_bits": self.eight_bits,
                "parameters": self.counted_parameters(),
                **self.bags.to_dict(),
            }
            (out / CONFIG).write_text(json.dumps(content, indent=1), encoding="utf-8")
        return Path(folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> CompactEmbedding:
        """The table of a folder. Raises InputError naming ``folder`` where a file is missing or damaged."""
        place = Path(folder)
        try:
            content = json.loads((place / CONFIG).read_text(encoding="utf-8"))
            tensors = load_file(place / WEIGHTS)
            fields = range(len(content["field_dims"]))

            def every(name: str) -> list[torch.Tensor]:
                return [tensors[f"{name}.{i}"] for i in fields]

            return cls(
                every("table"),
                every("place"),
                content["dim"],
                every("oov") if content["oov"] else None,
                scales=every("scale") if content.get("eight_bits") else None,
                slots=content.get("slots"),
                pooling=content.get("pooling", "sum"),
            )
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise InputError(
                "folder", f"{place} ({type(error).__name__}: {error})", f"a folder with {CONFIG} and {WEIGHTS}"
            ) from None

    def _scaled(self) -> list[tuple[torch.Tensor, torch.Tensor, int]]:
        """Matrix, factors and dimension of every field."""
        return list(zip(self.tables, self.factors, self.dimensions, strict=True))

    def _names(self, names: Sequence[str] | None) -> list[str]:
        known = [f"field_{i}" for i in range(len(self.rows))] if names is None else list(names)
        if len(known) != len(self.rows) or len(set(known)) != len(known):
            raise InputError("names", known, f"{len(self.rows)} different names, one for each field")
        return known


def _check(
    tables: Sequence[torch.Tensor], places: Sequence[torch.Tensor], dim: int, scales: Sequence[torch.Tensor] | None
) -> None:
    """Raise InputError for matrices, places or scales that do not go together."""
    if len(tables) != len(places) or not tables:
        raise InputError("places", f"{len(places)}", f"{len(tables)}, one for each table; at least one")
    for field, (table, place) in enumerate(zip(tables, places, strict=True)):
        if table.ndim != 2 or not 1 <= table.shape[1] <= dim:
            raise InputError(f"tables[{field}]", f"shape {tuple(table.shape)}", f"[rows, 1 to {dim}]")
        if (table.dtype == torch.int8) != (scales is not None) or table.dtype != tables[0].dtype:
            expected = "int8 with scales, or float without; the same for all"
            raise InputError(f"tables[{field}]", str(table.dtype).removeprefix("torch."), expected)
        if table.is_floating_point() and not bool(torch.isfinite(table).all()):
            raise InputError(f"tables[{field}]", "NaN or infinity", "finite numbers")
        if len(place) < 1 or int(place.min()) < -1 or int(place.max()) >= len(table):
            raise InputError(f"places[{field}]", "rows that the table lacks", f"-1 to {len(table) - 1}")
        if scales is not None and (len(scales) != len(tables) or scales[field].shape != table.shape[1:]):
            raise InputError(f"scales[{field}]", "another shape", f"[{table.shape[1]}], one for each coordinate")
