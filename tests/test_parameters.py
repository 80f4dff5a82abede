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
from sklearn.base import BaseEstimator

import paperworks
from paperworks.errors import InputError
from paperworks.parameters import LARGEST_SEED, check_number, check_seed, check_whole

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
    if inspect.isgenerator(made):
        next(made)
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


def estimators() -> list[type[BaseEstimator]]:
    """scikit-learn's kind of estimators in the shared packages."""
    modules = [importlib.import_module(name) for name in packages() if ".papers" not in name]
    found = [getattr(module, name) for module in modules for name in getattr(module, "__all__", ())]
    kinds = {value for value in found if inspect.isclass(value) and issubclass(value, BaseEstimator)}
    return sorted(kinds, key=lambda kind: kind.__name__)


def test_bad_numbers_are_named_by_estimators() -> None:
    """Of another type, negative or NaN: InputError from the constructor or from fit."""
    x, y = np.random.default_rng(0).random((30, 4)), np.arange(30) % 3
    tried: set[str] = set()
    for estimator in estimators():
        needed = {name: 2 for name, p in parameters(estimator).items() if p.default is p.empty}
        for name, parameter in parameters(estimator).items():
            kind = str(parameter.annotation).replace(" ", "").split("|")[0]
            for bad in {"int": [-1, 1.5, "x", True], "float": [-1.0, "x", float("nan")]}.get(kind, []):
                with pytest.raises(InputError) as caught:
                    estimator(**needed | {name: bad}).fit(x, y)
                assert caught.value.field == name, f"{estimator.__name__}({name}={bad!r}): {caught.value}"
                tried.add(estimator.__name__)
    assert {"KMeans", "NearestNeighbors", "TorchClassifier"} <= tried


def test_numbers() -> None:
    assert check_number("tol", np.float32(0.5)) == 0.5
    for value in (float("inf"), float("nan"), "1", None, True, -0.1):
        with pytest.raises(InputError, match=r"^tol: found .*; expected a number of 0 or more$"):
            check_number("tol", value)
    with pytest.raises(InputError, match="a number from 0 to 1, or None"):
        check_number("share", 2, 0, 1, "or None")


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
