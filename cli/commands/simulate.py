"""``ipa simulate``: simulated attempts as files, the truth apart from what could be observed."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from rich.console import Console

from cli.errors import CliError, MissingPart

if TYPE_CHECKING:
    from simulator.export import Manifest

EXIT_CANNOT_CREATE = 73
"""As in sysexits.h."""


class OutputRefused(CliError):
    """The files cannot be written there."""

    exit_code = EXIT_CANNOT_CREATE


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Directory to write into.")
@click.option("--scenario", default="demo", show_default=True, help="A shipped name, a YAML file, or random:SEED.")
@click.option("--attempts", default=100_000, show_default=True, type=click.IntRange(1, 20_000_000), help="How many.")
@click.option("--seed", default=7, show_default=True, help="The same seed makes the same bytes.")
@click.option(
    "--rate", default=50.0, show_default=True, type=click.FloatRange(0.001, 100_000), help="Orders per world second."
)
@click.option("--format", "kind", default="csv", show_default=True, type=click.Choice(["csv", "parquet"]))
def simulate(out: Path, scenario: str, attempts: int, seed: int, rate: float, kind: Literal["csv", "parquet"]) -> None:
    """Write simulated attempts to files, without a running system.

    Makes attempts, truth (one row an attempt, only the world knows it), incidents and manifest.json; the columns are in
    docs/data-dictionary.md. Files of the same name are replaced.
    """
    if kind == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise MissingPart("pyarrow, which writes Parquet,", [f"{sys.executable} -m pip install pyarrow"])
    from simulator.export import ExportError, SimulateOptions
    from simulator.export import simulate as write

    console = Console(highlight=False)
    options = SimulateOptions(out=out, scenario=scenario, attempts=attempts, seed=seed, rate=rate, format=kind)
    began = time.monotonic()
    try:
        with console.status(f"simulating {attempts:,} attempts of scenario {scenario!r}"):
            manifest = write(options)
    except ExportError as error:
        raise OutputRefused(str(error)) from None
    for line in written_lines(out, manifest, time.monotonic() - began):
        console.print(line, markup=False, soft_wrap=True)


def written_lines(out: Path, manifest: Manifest, seconds: float) -> list[str]:
    """Say what was written."""
    lines = [
        f"{manifest.attempts:,} attempts of scenario {manifest.scenario!r}, seed {manifest.seed}, in {seconds:.1f} s:"
    ]
    for file in manifest.files:
        size = f"{file.size_bytes / 1e6:,.1f} MB"
        lines.append(f"  {out / file.name!s:40} {file.rows:>10,} rows  {size:>10}  sha256 {file.sha256[:12]}…")
    lines.append(f"  {out / 'manifest.json'}")
    incidents = next(file.rows for file in manifest.files if file.name.startswith("incidents."))
    if not incidents:
        lines.append("No incident began in the time simulated: more --attempts or a lower --rate cover more of it.")
    return lines
