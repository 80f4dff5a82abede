"""Parameters that many estimators and functions share: a bad value raises InputError that names it, before any work."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

import paperworks
from paperworks.errors import InputError
from paperworks.parameters import LARGEST_SEED, check_seed, check_whole

SEEDS = ("seed", "random_state")
BAD_SEEDS: list[Any] = [-1, 1.5, "x", float("nan"), 2**64, [1], True, np.float32(3)]


def packages() -> list[str]:
    """All packages of Paperworks that have public names."""
    found = pkgutil.walk_packages(paperworks.__path__, "paperworks.")
    return sorted(package.name for package in found if package.ispkg)


def parameters(value: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(value).parameters)
    except (TypeError, ValueError):  # a type or an alias of another library
        return {}


def seeded(package: str) -> Iterator[tuple[str, Callable[..., Any], str]]:
    """Name, object and parameter of each public function or class of a package that takes a seed."""
    module = importlib.import_module(package)
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if callable(value) and getattr(value, "__module__", "").startswith(f"{package}."):
            for parameter in SEEDS:
                if parameter in parameters(value):
                    yield f"{package}.{name}", value, parameter


class Unread:
    """An argument that must not be looked at before the seed."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the input was read first ({name})")

    def __bool__(self) -> bool:
        raise AssertionError("the input was read first")

    __len__ = __iter__ = __array__ = __index__ = __float__ = __lt__ = __gt__ = __bool__  # type: ignore[assignment]


def arguments(value: Callable[..., Any]) -> dict[str, Any]:
    """An argument for every parameter that has no default."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        name: Unread()
        for name, parameter in parameters(value).items()
        if parameter.default is parameter.empty and parameter.kind not in kinds and name != "self"
    }


def use(value: Callable[..., Any], parameter: str, seed: Any) -> None:
    """Call a function with a seed, or make an estimator with it and fit that."""
    made = value(**arguments(value) | {parameter: seed})
    if inspect.isclass(value) and hasattr(made, "fit"):  # scikit-learn's way: parameters are checked by fit
        made.fit(**arguments(made.fit))


def refused(value: Callable[..., Any], parameter: str, seed: Any) -> str:
    """The parameter that the error names."""
    with pytest.raises((InputError, ValidationError)) as caught:
        use(value, parameter, seed)
    if isinstance(caught.value, InputError):
        return caught.value.field
    return str(next((e["loc"][0] for e in caught.value.errors() if e["loc"] == (parameter,)), ""))  # of a stored model


@pytest.mark.parametrize("package", packages())
def test_a_bad_seed_is_named_before_the_input_is_read(package: str) -> None:
    for name, value, parameter in seeded(package):
        stored = inspect.isclass(value) and issubclass(value, BaseModel)  # pydantic takes True for 1, 3.0 for 3
        for seed in BAD_SEEDS[: len(BAD_SEEDS) - 2 * stored]:
            assert refused(value, parameter, seed) == parameter, f"{name}({parameter}={seed!r})"


def test_estimators_and_functions_are_found() -> None:
    """The walk is not empty: what it finds in the shared packages alone."""
    found = {name.rpartition(".")[2] for p in packages() if ".papers." not in p for name, _, _ in seeded(p)}
    assert {"KMeans", "NearestNeighbors", "TorchClassifier", "linear_probe", "TrainSettings"} <= found


def test_whole_numbers() -> None:
    assert check_whole("k", np.int64(3), 1, 5) == 3
    assert check_seed("seed", LARGEST_SEED) == LARGEST_SEED
    for value, words in (
        (0, "k: found 0; expected a whole number of 1 or more"),
        (True, "k: found True; expected a whole number of 1 or more"),
        ("3", "k: found '3'; expected a whole number of 1 or more"),
    ):
        with pytest.raises(InputError) as caught:
            check_whole("k", value, 1)
        assert str(caught.value) == words
    with pytest.raises(InputError, match=r"from 1 to 5, or None$"):
        check_whole("k", 6, 1, 5, "or None")
    with pytest.raises(InputError, match=r"seed: found 18446744073709551616; expected a whole number below 2\*\*64"):
        check_seed("seed", 2**64)
