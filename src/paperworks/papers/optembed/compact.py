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
from paperworks.runs.files import new_folder

WEIGHTS, CONFIG = "embedding.safetensors", "embedding.json"


class CompactEmbedding(nn.Module):
    """Embeddings of mixed dimensions: ids int64 ``[B, n]`` become float ``[B, n, dim]``, or ``[B, sum of d_i]``.

    Parameters
    ----------
    tables : for every field a matrix ``[kept_i, d_i]``.
    places : for every field int32 ``[F_i]``: the row of each value in its matrix, or -1 where the value was pruned.
    dim : what vectors are padded to.
    oov : for every field the vector ``[d_i]`` of a pruned value; None is zeros.

    Attributes
    ----------
    field_dims, dimensions : F_i and d_i of every field.
    places : the row of every value of all fields in its matrix, 0 for pruned ones: int32 ``[F]``.
    """

    places: torch.Tensor
    starts: torch.Tensor

    def __init__(
        self,
        tables: Sequence[torch.Tensor],
        places: Sequence[torch.Tensor],
        dim: int,
        oov: Sequence[torch.Tensor] | None = None,
    ) -> None:
        super().__init__()
        if len(tables) != len(places) or not tables:
            raise InputError("places", f"{len(places)}", f"{len(tables)}, one for each table; at least one")
        for field, (table, place) in enumerate(zip(tables, places, strict=True)):
            if table.ndim != 2 or not 1 <= table.shape[1] <= dim:
                raise InputError(f"tables[{field}]", f"shape {tuple(table.shape)}", f"[rows, 1 to {dim}]")
            if len(place) < 1 or int(place.min()) < -1 or int(place.max()) >= len(table):
                raise InputError(f"places[{field}]", "rows that the table lacks", f"-1 to {len(table) - 1}")
        self.dim = dim
        # Row 0 of every matrix is the vector of pruned values, so that a lookup is one gather.
        first = [torch.zeros(t.shape[1], dtype=t.dtype) for t in tables] if oov is None else list(oov)
        self.has_oov = oov is not None
        self.tables = nn.ParameterList(
            nn.Parameter(torch.cat([v.to(t.dtype)[None], t]), requires_grad=False)
            for v, t in zip(first, tables, strict=True)
        )
        self.field_dims = [len(place) for place in places]
        self.dimensions = [table.shape[1] for table in tables]
        # One buffer for all fields: the rows of a batch are found by one gather.
        self.register_buffer("places", torch.cat([place.to(torch.int32) + 1 for place in places]))
        sizes = torch.tensor(self.field_dims)
        self.register_buffer("starts", torch.cumsum(sizes, 0) - sizes, persistent=False)

    def vectors(self, ids: torch.Tensor) -> list[torch.Tensor]:
        """For every field the vectors ``[B, d_i]``, without padding."""
        if ids.ndim != 2 or ids.shape[1] != len(self.field_dims):
            raise InputError(
                "ids", f"shape {tuple(ids.shape)}", f"[rows, {len(self.field_dims)}], an id for each field"
            )
        if len(ids):
            low, high = (edge.tolist() for edge in torch.aminmax(ids, dim=0))
            for field, size in enumerate(self.field_dims):
                if low[field] < 0 or high[field] >= size:
                    found = low[field] if low[field] < 0 else high[field]
                    raise InputError("ids", f"{found} in field {field}", f"0 to {size - 1}")
        rows = self.places.index_select(0, (ids + self.starts).t().reshape(-1)).view(len(self.tables), -1)
        return [nn.functional.embedding(own, table) for own, table in zip(rows, self.tables, strict=True)]

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Vectors padded with zeros to ``dim``: float ``[B, n, dim]``."""
        # Field by field in memory: each field's vectors are written in one piece.
        out = self.tables[0].new_zeros(len(self.tables), len(ids), self.dim)
        for own, vectors in zip(out, self.vectors(ids), strict=True):
            own[:, : vectors.shape[1]] = vectors
        return out.transpose(0, 1)

    def concatenated(self, ids: torch.Tensor) -> torch.Tensor:
        """Vectors side by side without padding: float ``[B, sum of d_i]``; see ``slice_first_linear``."""
        return torch.cat(self.vectors(ids), 1)

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
        return sum((len(table) - 1) * table.shape[1] for table in self.tables)

    def torchrec_tables(self, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Keywords of torchrec's ``EmbeddingBagConfig`` for every field: name, rows, dimension and feature name.

        Row 0 is the vector of pruned values; look ids up in ``places`` first.
        """
        known = names or [f"field_{i}" for i in range(len(self.tables))]
        return [
            {
                "name": f"table_{name}",
                "num_embeddings": len(table),
                "embedding_dim": table.shape[1],
                "feature_names": [name],
            }
            for name, table in zip(known, self.tables, strict=True)
        ]

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write ``embedding.safetensors`` (``table.i``, ``place.i``, ``oov.i``) and ``embedding.json`` to a folder."""
        with new_folder(Path(folder)) as out:
            tensors: dict[str, torch.Tensor] = {}
            places = torch.split(self.places.cpu(), self.field_dims)
            for field, table in enumerate(self.tables):
                tensors[f"table.{field}"] = table.detach()[1:].contiguous()
                tensors[f"place.{field}"] = places[field].contiguous() - 1
                if self.has_oov:
                    tensors[f"oov.{field}"] = table.detach()[0].contiguous()
            save_file(tensors, out / WEIGHTS)
            content = {
                "dim": self.dim,
                "field_dims": self.field_dims,
                "dimensions": self.dimensions,
                "kept_rows": [len(table) - 1 for table in self.tables],
                "oov": self.has_oov,
                "parameters": self.counted_parameters(),
            }
            (out / CONFIG).write_text(json.dumps(content, indent=1))
        return Path(folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> CompactEmbedding:
        """The table of a folder. Raises InputError naming ``folder`` where a file is missing or damaged."""
        place = Path(folder)
        try:
            content = json.loads((place / CONFIG).read_text())
            tensors = load_file(place / WEIGHTS)
            fields = range(len(content["field_dims"]))
            oov = [tensors[f"oov.{i}"] for i in fields] if content["oov"] else None
            return cls(
                [tensors[f"table.{i}"] for i in fields], [tensors[f"place.{i}"] for i in fields], content["dim"], oov
            )
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise InputError(
                "folder", f"{place} ({type(error).__name__}: {error})", f"a folder with {CONFIG} and {WEIGHTS}"
            ) from None
