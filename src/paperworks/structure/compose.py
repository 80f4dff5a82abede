"""Methods one after the other: a pruned checkpoint as one that a method for stock models takes."""

from __future__ import annotations

from pathlib import Path

from paperworks.structure.checkpoints import copy_other_files
from paperworks.structure.export import uniform_export
from paperworks.structure.registry import read_config


def stock_folder(folder: Path, where: Path) -> Path:
    """``folder``, or, of a pruned checkpoint, its form in the stock class, which is written to ``where`` once.

    Layers that are narrower than others are filled up with zeros (see ``uniform_export``): the function is the same,
    the size is that of the widest layer. The whole model is in memory meanwhile.

    Raises InputError for what has no stock form.
    """
    if not (folder / "config.json").is_file() or not read_config(folder).model_type.startswith("pruned_"):
        return folder
    if where.exists():
        return where
    from transformers import AutoModel, AutoModelForCausalLM

    from paperworks.runs.files import new_folder
    from paperworks.structure.units import family_of

    auto = AutoModelForCausalLM if family_of(read_config(folder)).head else AutoModel
    model = auto.from_pretrained(folder, local_files_only=True, dtype="auto")
    with new_folder(where) as out:
        uniform_export(model).save_pretrained(out)
        copy_other_files(folder, out)
    return where
