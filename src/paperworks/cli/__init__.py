"""The command line. ``main`` is the entry point; errors that a user can act on are one line and exit code 2."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from paperworks.errors import PaperworksError, plain

if TYPE_CHECKING:
    from cyclopts import CycloptsError

FAILED, BAD_INPUT, CANCELLED = 1, 2, 130

NEEDS = {"digest": "page", "feed": "page", "mcp": "mcp", "page": "page"}
"""The extra of a whole group of commands. A paper's is in its ``paper.toml``."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 bad input, 130 cancelled."""
    # Progress is ours to show; the libraries' own bars and advice would stand between it.
    for name, value in (("HF_HUB_DISABLE_PROGRESS_BARS", "1"), ("TRANSFORMERS_VERBOSITY", "error")):
        os.environ.setdefault(name, value)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    if not sys.warnoptions and not debug:
        # What a user has to know is in the report; the rest is for developers. Workers inherit the variable.
        warnings.simplefilter("ignore")
        os.environ.setdefault("PYTHONWARNINGS", "ignore")
    sys.exit(run_command([a for a in given if a != "--debug"], debug))


def run_command(arguments: list[str], debug: bool = False) -> int:
    """Run one command and return its exit code; ``debug`` lets errors through with their traceback."""
    from cyclopts import CycloptsError

    from paperworks.cli.app import build_app
    from paperworks.extras import require_extra
    from paperworks.runs.run import Cancelled

    try:
        if arguments[:1] and "--help" not in arguments:
            require_extra(NEEDS.get(arguments[0], ""), f"paperworks {arguments[0]}")
        code = build_app(arguments)(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return code if isinstance(code, int) else 0
    except Cancelled as error:
        if debug:
            raise
        return _complain(f"cancelled: {error}", CANCELLED)
    except CycloptsError as error:
        if debug:
            raise
        return _complain(_parsing(error), BAD_INPUT)
    except PaperworksError as error:
        if debug:
            raise
        return _complain(str(error), BAD_INPUT if isinstance(error, ValueError) else FAILED)
    except KeyboardInterrupt:
        if debug:
            raise
        return _complain("interrupted; 'paperworks runs' shows what can be resumed", CANCELLED)
    except BrokenPipeError:
        # The reader (head, less) has gone. Nothing is wrong; keep the interpreter from complaining at exit.
        sys.stdout = None  # type: ignore[assignment]
        return 0
    except ModuleNotFoundError as error:
        if debug:
            raise
        return _complain(
            f"the package {error.name} is not installed; pip install 'paperworks[all]' installs every extra", BAD_INPUT
        )
    except Exception as error:
        if debug:
            raise
        return _complain(f"{type(error).__name__}: {error or 'no message'} (--debug shows where)", FAILED)


def _parsing(error: CycloptsError) -> str:
    """What is wrong with the words of a command, as our own errors say it where a value does not fit its flag."""
    from cyclopts import CoercionError

    from paperworks.errors import InputError

    token, kind = getattr(error, "token", None), getattr(error, "target_type", None)
    known: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number"}
    expected = known.get(kind)
    if isinstance(error, CoercionError) and token is not None and token.keyword and expected:
        return str(InputError(token.keyword, repr(token.value), expected))
    return " ".join(str(error).split())


def _complain(message: str, code: int) -> int:
    print(f"paperworks: {' '.join(plain(message).split())}", file=sys.stderr)
    return code
