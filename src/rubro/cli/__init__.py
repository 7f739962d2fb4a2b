"""The `rubro` command.

Each command is a module of this package. Its docstring is the help of the command, and its function
`main` has the command's options as parameters and returns the exit code.
"""

from __future__ import annotations

import os
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from rubro.base.console import show_control_characters

# Without this, pydantic searches the metadata of every installed package for plugins.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
# Starting one thread per core takes longer than the matrix products of a title.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# In the order of `rubro --help`.
_GROUPS = {
    "Use a model": ("predict", "explain", "serve"),
    "Measure a model": ("evaluate", "thresholds", "report"),
    "Improve the labels": ("audit", "next"),
    "Compare experiments": ("compare", "sweep", "search", "overrides"),
    "Check the project": ("check", "fresh", "gate"),
    "Try it without data": ("sample",),
}
COMMANDS = tuple(chain.from_iterable(_GROUPS.values()))
# Help is plain text because rich takes twice as long to print it.
_OPTIONS: dict[str, Any] = {"pretty_exceptions_enable": False, "rich_markup_mode": None}


class _Group(TyperGroup):
    """Commands in groups, whose errors and signals become messages and exit codes."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command, and show control characters in all of its messages."""
        show_control_characters()
        return super().main(*args, **kwargs)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands with their summaries, under the heading of each group."""
        width = max(map(len, COMMANDS))
        for heading, names in _GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [
                        (name.ljust(width), self.commands[name].get_short_help_str())
                        for name in names
                    ]
                )

    def invoke(self, ctx: Any) -> None:
        from rubro.cli.runtime import exit_codes

        with exit_codes(ctx):
            code = super().invoke(ctx)
        ctx.exit(code or 0)


class _LazyCommand(TyperCommand):
    """A command whose module is imported when the command is used."""

    def get_short_help_str(self, limit: int = 0) -> str:
        """Return the first line of the module's docstring, which is the command's summary."""
        with Path(__file__).with_name(f"{self.name}.py").open(encoding="utf-8") as file:
            return file.readline().strip('"\n')

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Import the module of the command and parse the arguments."""
        module = import_module(f"rubro.cli.{self.name}")
        loaded = typer.Typer(add_completion=False, **_OPTIONS)
        settings = getattr(module, "CONTEXT_SETTINGS", None)
        loaded.command(self.name, help=module.__doc__, context_settings=settings)(module.main)
        try:
            return typer.main.get_command(loaded).make_context(*args, **kwargs)
        except typer.BadParameter as error:
            _name_variable(error)
            raise


def _name_variable(error: typer.BadParameter) -> None:
    """Name the environment variable in the message about an option that it gives a wrong value."""
    context, option = error.ctx, error.param
    if context is None or option is None or option.name is None:
        return
    source = context.get_parameter_source(option.name)
    if source is not None and source.name == "ENVIRONMENT":
        variable = f"{context.auto_envvar_prefix}_{option.name.upper()}"
        error.param_hint = f"environment variable {variable}={os.environ[variable]!a:.50}"


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    help="Sort product titles into categories. To train the models, run `dvc repro`.",
    **_OPTIONS,
)
for _name in COMMANDS:
    app.command(_name, cls=_LazyCommand)(lambda: None)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from rubro import __version__

        typer.echo(f"rubro {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Accept the options of `rubro` itself, such as --version."""
