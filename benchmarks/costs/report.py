# Copyright 2026 The DeepRS Authors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The rows and the table of a measurement of iterations."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: heading of each column of the table, with the key of the row that it shows
COLUMNS = {
    "wall ms": "wall_ms",
    "p90": "wall_ms_p90",
    "cpu ms": "cpu_ms",
    "data ms": "data_wait_ms",
    "aten ops": "aten_ops",
    "launches": "launches",
    "kernels ms": "kernels_ms",
    "GFLOP": "gflop",
    "x floor": "wall_over_floor",
    "peak MiB": "peak_memory_mib",
    "x first": "wall_to_first",
    "cpu x first": "cpu_to_first",
    "x against": "wall_to_against",
}


def row_of(entry: Any, entries: Sequence[Any], peaks: Mapping[str, float]) -> dict[str, Any]:
    """What was measured of an alternative: medians, counts, floors, and ratios to others.

    Args:
        entry: of :class:`benchmarks.costs.entries.Entry`.
        entries: all of them.
        peaks: of :func:`benchmarks.costs.counting.peaks`.

    Returns:
        Times in ms; ``floor_flops_ms`` and ``floor_bytes_ms``, and ``wall_over_floor``, how many times the larger the
        median is; ratios of medians and counts ``_to_first`` alternative, and ``_to_against`` the other build.
    """
    row = {
        "name": entry.name,
        "method": entry.method,
        "variant": entry.variant,
        "build": entry.build,
        **_figures(entry),
    }
    if peaks and row.get("flops"):
        row["gflop"] = row["flops"] / 1e9
        row["floor_flops_ms"] = 1e3 * row["flops"] / peaks["flops_per_s"]
        row["floor_bytes_ms"] = 1e3 * row["bytes_at_least"] / peaks["bytes_per_s"]  # 0 where nothing learns
        row["wall_over_floor"] = row["wall_ms"] / max(row["floor_flops_ms"], row["floor_bytes_ms"])
    row |= _ratios(row, _figures(entries[0]), "first")
    same = [e for e in entries if (e.method, e.variant, e.build) == (entry.method, entry.variant, "against")]
    if same and entry.build != "against":
        row |= _ratios(row, _figures(same[0]), "against")
    return {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in row.items()}


def _figures(entry: Any) -> dict[str, Any]:
    times = {key: statistics.median(turn[key] for turn in entry.turns) for key in entry.turns[0]}
    p90 = statistics.quantiles((turn["wall_ms"] for turn in entry.turns), n=10, method="inclusive")[-1]
    return {**times, "wall_ms_p90": p90, **entry.facts}


def _ratios(row: Mapping[str, Any], other: Mapping[str, Any], name: str) -> dict[str, float]:
    compared = {"wall": "wall_ms", "cpu": "cpu_ms", "aten_ops": "aten_ops", "launches": "launches", "flops": "flops"}
    return {
        f"{short}_to_{name}": row[key] / other[key]
        for short, key in compared.items()
        if row.get(key) and other.get(key)
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as aligned text; a column that no row has is left out."""
    columns = {heading: key for heading, key in COLUMNS.items() if any(key in row for row in rows)}
    lines = [["", *columns], *([row["name"], *(_cell(row.get(key)) for key in columns.values())] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def _cell(value: float | None) -> str:
    return (
        ""
        if value is None
        else f"{value:,}"
        if isinstance(value, int)
        else f"{value:.3g}"
        if value < 10
        else f"{value:,.1f}"
    )


def processor() -> str:
    """The model of the processor, where Linux tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())
