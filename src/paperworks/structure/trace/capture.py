"""The graph of a module as torch.export sees it, for analysis only: the module itself is what is cut later."""

from __future__ import annotations

import contextlib
import inspect
import io
import linecache
import logging
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode

Inputs = Any
"""A tensor, a tuple of positional arguments, or a mapping of keyword arguments."""

_ON_DATA = (
    "data-dependent",
    "Could not guard on",
    "GuardOnDataDependent",
    "PendingUnbackedSymbol",
    "aten._local_scalar",
)


@dataclass
class Captured:
    """A traced graph.

    Attributes
    ----------
    graph : the fx graph of ATen operators, its nodes with shapes (``meta["val"]``) and module paths.
    parameters : placeholder -> canonical name of the parameter or buffer (tied ones have one name).
    buffers : canonical names that are buffers.
    unused_parameters : numbers in parameters that the graph does not use.
    """

    graph: torch.fx.Graph
    parameters: dict[str, str]
    buffers: set[str]
    unused_parameters: int = 0

    def count_unused(self, model: nn.Module) -> None:
        """Count the parameters of ``model`` that are not inputs of the graph."""
        used = set(self.parameters.values())
        self.unused_parameters = sum(p.numel() for name, p in model.named_parameters() if name not in used)


def arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of the example inputs. Raises InputError where there is no tensor among them."""
    args: tuple[Any, ...]
    if isinstance(inputs, Mapping):
        args, kwargs = (), {str(name): value for name, value in inputs.items()}
    elif isinstance(inputs, list | tuple):
        args, kwargs = tuple(inputs), {}
    else:
        args, kwargs = (inputs,), {}
    if not any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves((args, kwargs))):
        raise InputError(
            "example_inputs", type(inputs).__name__, "a tensor, a tuple of them, or a dict of keyword arguments"
        )
    return args, kwargs


def call(model: nn.Module, inputs: Inputs) -> list[torch.Tensor]:
    """The tensors that the model returns for ``inputs``, in evaluation mode, without gradients."""
    args, kwargs = arguments(inputs)
    with evaluation_mode(model), torch.no_grad():
        return tensors_of(model(*args, **kwargs))


def tensors_of(output: Any) -> list[torch.Tensor]:
    """All tensors in the output of a model: dataclasses of transformers, tuples, dicts."""
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, Mapping):
        return [tensor for value in output.values() for tensor in tensors_of(value)]
    if isinstance(output, Sequence) and not isinstance(output, str):
        return [tensor for value in output for tensor in tensors_of(value)]
    return []


def canonical_names(model: nn.Module) -> tuple[dict[str, str], set[str]]:
    """Every name of a parameter or buffer -> the first name of the same tensor; and the names that are buffers."""
    first: dict[int, str] = {}
    names: dict[str, str] = {}
    for name, tensor in model.named_parameters(remove_duplicate=False):
        names[name] = first.setdefault(id(tensor), name)
    buffers = set()
    for name, buffer in model.named_buffers(remove_duplicate=False):
        names[name] = first.setdefault(id(buffer), name)
        buffers.add(names[name])
    return names, buffers


def capture(model: nn.Module, inputs: Inputs, opaque: Sequence[str] = (), *, again: bool = True) -> Captured:
    """Trace ``model`` at ``inputs``, in evaluation mode.

    ``opaque``: paths of modules that are not looked into; their outputs have the shapes that a real forward gives, and
    everything that goes into them stays. ``again``: where tracing Python as it runs fails, let Dynamo try.

    Raises InputError that says where tracing stopped and what to do about it.
    """
    args, kwargs = arguments(inputs)
    try:
        with quiet(), evaluation_mode(model), _opaque_modules(model, opaque, args, kwargs):
            program = _export(model, args, kwargs, again=again)
    except InputError:
        raise
    except Exception as error:
        raise _explained(model, error) from error
    names, buffers = canonical_names(model)
    parameters = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.target in names:
            parameters[spec.arg.name] = names[spec.target]
    return Captured(program.graph_module.graph, parameters, buffers)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the logs, warnings and graphs that torch prints while it traces: an error has what matters."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _export(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, again: bool) -> Any:
    parameters = inspect.signature(model.forward).parameters
    if "use_cache" in parameters and "use_cache" not in kwargs and hasattr(model, "config"):
        kwargs = {**kwargs, "use_cache": False}
    try:
        return torch.export.export(model, args, kwargs, strict=False)
    except Exception as first:
        if not again:
            raise
        try:
            return torch.export.export(model, args, kwargs, strict=True)
        except Exception:
            raise first from None


def _explained(model: nn.Module, error: Exception) -> InputError:
    """Where tracing stopped: the innermost line of the model's own code, and its module."""
    own = {inspect.getsourcefile(type(module)) for module in model.modules() if _has_source(module)}
    torch_files = tuple(file for file in own if file and "/torch/" in file.replace("\\", "/"))
    where = ""
    owner = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        if code.co_filename in own and code.co_filename not in torch_files:
            line = linecache.getline(code.co_filename, frame.f_lineno).strip()
            where = f"{code.co_filename.rpartition('/')[2]}:{frame.f_lineno}: {line}"
            this = frame.f_locals.get("self")
            owner = next((path for path, module in model.named_modules() if module is this), owner)
    text = str(error).strip().splitlines()
    first = text[0] if text else type(error).__name__
    found = f"{type(error).__name__}: {first[:200]}{f', at {where}' if where else ''}"
    if any(sign in str(error) or sign in type(error).__name__ for sign in _ON_DATA):
        leave = f"pass opaque=[{owner!r}]" if owner else "move it into a submodule whose path opaque=[...] names,"
        expected = (
            f"no control flow on the values of tensors: use torch.where or torch.cond there, or {leave} so that what "
            "meets it stays as it is"
        )
        return InputError(f"model.{owner}" if owner else "model", f"control flow on data ({found})", expected)
    expected = (
        f"a module that torch.export can trace; opaque=[{owner or 'a path'!r}] leaves a module out of the analysis"
    )
    return InputError(f"model.{owner}" if owner else "model", found, expected)


def _has_source(module: nn.Module) -> bool:
    try:
        return inspect.getsourcefile(type(module)) is not None
    except TypeError:
        return False


_shapes: dict[int, list[torch.Tensor]] = {}


@torch.library.custom_op("paperworks_trace::opaque", mutates_args=())
def _opaque(tensors: list[torch.Tensor], key: int) -> list[torch.Tensor]:
    return [torch.empty_like(tensor) for tensor in _shapes[key]]


@_opaque.register_fake
def _(tensors: list[torch.Tensor], key: int) -> list[torch.Tensor]:
    return [torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device) for tensor in _shapes[key]]


@contextmanager
def _opaque_modules(model: nn.Module, paths: Sequence[str], args: Any, kwargs: Any) -> Iterator[None]:
    """While tracing, modules at ``paths`` are one operator each, with the outputs that forward hooks saw."""
    known = dict(model.named_modules())
    for path in paths:
        if path not in known or not path:
            raise InputError("opaque", path, "the path of a submodule")
    if not paths:
        yield
        return
    seen: dict[str, Any] = {}
    with ExitStack() as stack:
        for path in paths:
            handle = known[path].register_forward_hook(lambda m, a, out, path=path: seen.update({path: out}))
            stack.callback(handle.remove)
        with torch.no_grad():
            model(*args, **kwargs)
    with ExitStack() as stack:
        for number, path in enumerate(paths):
            if path not in seen:
                raise InputError("opaque", path, "a module that the forward at the example inputs calls")
            leaves, spec = pytree.tree_flatten(seen[path])
            _shapes[number] = [leaf.detach() for leaf in leaves if isinstance(leaf, torch.Tensor)]
            module = known[path]

            def forward(*a: Any, _number: int = number, _leaves: Any = leaves, _spec: Any = spec, **k: Any) -> Any:
                tensors = [leaf for leaf in pytree.tree_leaves((a, k)) if isinstance(leaf, torch.Tensor)]
                made = iter(_opaque(tensors, _number))
                return pytree.tree_unflatten([next(made) if isinstance(x, torch.Tensor) else x for x in _leaves], _spec)

            module.forward = forward  # type: ignore[method-assign]
            stack.callback(module.__dict__.pop, "forward", None)
        try:
            yield
        finally:
            _shapes.clear()
