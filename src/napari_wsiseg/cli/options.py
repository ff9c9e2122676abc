"""Options that several verbs have, as typer reads them."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def remember_verbose(context: typer.Context, value: bool) -> bool:
    """Keep it where the handler of errors looks, wherever the option stood."""
    context.obj.verbose |= value
    return value


def option(panel: str, *names: str, metavar: str, text: str, least: float | None = None) -> Any:
    """An option with a value, shown in a panel of the help; a number may have a least."""
    return typer.Option(*names, metavar=metavar, help=text, min=least, rich_help_panel=panel)


def flag(panel: str, name: str, text: str) -> Any:
    """An option without a value."""
    return typer.Option(name, help=text, rich_help_panel=panel)


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", callback=remember_verbose, help="Show the traceback of an error."),
]
