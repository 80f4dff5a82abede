"""Checks of parameters that many estimators and functions have: a bad value is named before any work is done."""

from __future__ import annotations

import math
from numbers import Integral, Real

from paperworks.errors import InputError

LARGEST_SEED = 2**64 - 1
"""What numpy and torch both take. ``Config.seed`` is at most half of it, so that recipes may add to it."""


def check_whole(name: str, value: object, least: int = 0, most: int | None = None, also: str = "") -> int:
    """``value`` as an int. Raises InputError unless it is a whole number from ``least`` to ``most``, and no bool.

    ``also`` are words for what the caller accepts besides, such as "or None".
    """
    whole = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None
    if whole is not None and whole >= least and (most is None or whole <= most):
        return whole
    expected = f"a whole number of {least} or more" if most is None else f"a whole number from {least} to {most}"
    raise InputError(name, repr(value), f"{expected}{also and ', '}{also}")


def check_seed(name: str, value: object, also: str = "") -> int:
    """``value`` as an int. Raises InputError unless it is a seed: a whole number of 0 or more, below 2**64.

    ``name`` is the parameter, such as "random_state"; ``also`` as in ``check_whole``.
    """
    if isinstance(value, Integral) and int(value) > LARGEST_SEED:
        raise InputError(name, repr(value), "a whole number below 2**64")
    return check_whole(name, value, also=also)


def check_number(name: str, value: object, least: float = 0.0, most: float = math.inf, also: str = "") -> float:
    """``value`` as a float. Raises InputError unless it is a finite number from ``least`` to ``most``, and no bool."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if math.isfinite(number) and least <= number <= most:
        return number
    expected = f"a number of {least:g} or more" if math.isinf(most) else f"a number from {least:g} to {most:g}"
    raise InputError(name, repr(value), f"{expected}{also and ', '}{also}")
