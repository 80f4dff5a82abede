"""Sliced and pruned checkpoints load with the Auto classes of transformers once paperworks is imported.

``import paperworks`` must not import torch or transformers, and transformers has no entry points for architectures.
Importing transformers must not import our architectures either: its modules import each other, and ours would find
them half executed. So an import hook waits for the module with ``AutoConfig`` and puts a word in front of the first
call of ``AutoConfig.from_pretrained`` (which every Auto class makes) or ``for_model``: register our architectures,
then go on as always. The first configuration of ours that is made by hand does the same.
"""

from __future__ import annotations

import functools
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, cast

AUTO = "transformers.models.auto.configuration_auto"
_REGISTERED: set[type[Any]] = set()
_OTHERS: list[Callable[[], None]] = []
OURS = {
    "paperworks.structure.configuration_sliced": "SlicedConfig",
    "paperworks.structure.configuration_pruned": "PrunedConfig",
}


def install(others: Callable[[], None] | None = None) -> None:
    """See to it that our architectures are registered before transformers is first asked for one.

    ``others`` is called then, too: it registers the architectures of layers above this one.
    """
    if others is not None and others not in _OTHERS:
        _OTHERS.append(others)
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Finder())
    for name in (AUTO, *OURS):
        if name in sys.modules:
            _loaded(sys.modules[name])


def register() -> None:
    """Make the Auto classes know every architecture of ours. Does nothing the second time."""
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    from paperworks.structure.configuration_pruned import PrunedConfig, pruned_config_class
    from paperworks.structure.families import FAMILIES
    from paperworks.structure.modeling_sliced import MODEL_CLASSES

    autos: dict[str, Any] = {"AutoModel": AutoModel, "AutoModelForCausalLM": AutoModelForCausalLM}
    for model in MODEL_CLASSES.values():
        kind: Any = model
        AutoConfig.register(kind.config_class.model_type, kind.config_class, exist_ok=True)
        autos[kind._auto_class].register(kind.config_class, kind, exist_ok=True)
    for family in FAMILIES.values():
        AutoConfig.register(family.pruned_type, pruned_config_class(family), exist_ok=True)
    PrunedConfig.announce = staticmethod(_register_model)
    for others in _OTHERS:
        others()


def _register_model(config_class: type[Any]) -> None:
    """Make the Auto classes know the pruned models of a configuration."""
    import transformers

    from paperworks.structure.families import FAMILIES
    from paperworks.structure.modeling_pruned import pruned_variants

    family = FAMILIES[config_class.model_type.removeprefix("pruned_")]
    if config_class not in _REGISTERED:
        _REGISTERED.add(config_class)
        for auto, model in pruned_variants(family).items():
            getattr(transformers, auto).register(config_class, model, exist_ok=True)


def _loaded(module: ModuleType) -> None:
    """A watched module has run."""
    if module.__name__ in OURS:
        getattr(module, OURS[module.__name__]).before_first = staticmethod(register)
    else:
        _before_first_call(module.AutoConfig, ("from_pretrained", "for_model"), register)  # type: ignore[attr-defined]


def _before_first_call(owner: type, names: Sequence[str], act: Callable[[], None]) -> None:
    """Call ``act`` before the first call of any of the class methods, which are then as they were."""
    originals = {name: owner.__dict__[name] for name in names}

    def put_before(name: str) -> classmethod[Any, Any, Any]:
        @functools.wraps(originals[name].__func__)
        def first(cls: type, *args: Any, **kwargs: Any) -> Any:
            for other, original in originals.items():
                setattr(owner, other, original)
            act()
            return getattr(cls, name)(*args, **kwargs)

        return classmethod(first)

    for name in names:
        setattr(owner, name, put_before(name))


# Neither this nor the loader inherits from importlib.abc, whose import would slow down every start.
class _Finder:
    """Lets the ordinary finders find the watched modules, and says when their code has run."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in (AUTO, *OURS):
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = cast("importlib.machinery.SourceFileLoader", _Loader(spec.loader))
                return spec
        return None


class _Loader:
    """The loader it was given, followed by ``_loaded``."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _loaded(module)
