"""Prints tables whole: what does not fit a line is folded between words, and nothing is cut."""

from __future__ import annotations

import itertools
import os
import sys

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

WIDTH_MAX = 1_000
"""Of a table that is piped; wider than this it is folded too."""


def print_table(table: Table, console: Console | None = None) -> None:
    """Print a table as wide as the terminal; into a pipe or a file, as wide as it is.

    COLUMNS in the environment says another width for either. A table that is wider is folded without its frame; one
    whose very words have no room beside each other is printed row by row, with a line for each column.
    """
    console = console or Console()
    whole = _widths(table, console)
    if whole.maximum > console.width and not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        console.width = min(whole.maximum, WIDTH_MAX)
    if whole.maximum <= console.width:
        console.print(table)
        return
    table.box, table.show_lines, table.padding = box.SIMPLE_HEAD, True, (0, 1, 0, 0)
    if _folded(table, console):
        console.print(table)
    else:
        _print_rows(table, console)


def _folded(table: Table, console: Console) -> bool:
    """Give each column the width of its longest word, and what is left to those that would take more.

    Returns: False: even the words have no room.
    """
    wanted = []
    for column in table.columns:
        widths = [Measurement.get(console, console.options, cell) for cell in (column.header, *column.cells)]
        column.width = max(width.minimum for width in widths)
        wanted.append(max(width.maximum for width in widths))
    left = console.width - _widths(table, console).maximum
    if left < 0:
        return False
    for place in itertools.cycle(range(len(wanted))):
        if left == 0 or all((column.width or 0) >= most for column, most in zip(table.columns, wanted, strict=True)):
            return True
        column = table.columns[place]
        if (column.width or 0) < wanted[place]:
            column.width = (column.width or 0) + 1
            left -= 1
    return True


def _widths(table: Table, console: Console) -> Measurement:
    """The widths that a table may have; the largest is that of one line a row."""
    return Measurement.get(console, console.options.update(max_width=WIDTH_MAX), table)


def _print_rows(table: Table, console: Console) -> None:
    """Each row as a list of its columns; empty cells are left out."""
    if table.title:
        console.print(table.title, style="italic")
    names = [column.header for column in table.columns]
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        console.print(cells[0], style="bold", overflow="fold")
        rows = Table.grid(padding=(0, 2, 0, 0))
        rows.add_column(style="dim")
        rows.add_column(overflow="fold")
        for name, cell in zip(names[1:], cells[1:], strict=True):
            if cell:
                rows.add_row(f"  {name}", cell)
        console.print(rows)
