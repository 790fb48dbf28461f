"""What a benchmark prints: a JSON line for each row, then the rows as a Markdown table."""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, minimum and maximum of some seconds, in milliseconds."""
    return {
        "median_ms": statistics.median(seconds) * 1e3,
        "min_ms": min(seconds) * 1e3,
        "max_ms": max(seconds) * 1e3,
    }


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table; cells of missing values are empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[cell(row.get(name)) for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: Any) -> str:
    """A value in few characters: three digits, or all those before the decimal point."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def tell(row: Row) -> None:
    """Prints a row as a line of JSON."""
    print(json.dumps(row), flush=True)


def show(title: str, machine: str, rows: Sequence[Row]) -> None:
    """Prints the rows as a table, under a title and a line about the machine."""
    print(f"\n{title}\n\n{machine}\n\n{table(rows)}", flush=True)
