"""Run the `rubro` command as `python -m rubro.cli`."""

from rubro.cli import app

app()
