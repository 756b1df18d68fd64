"""The locked-down connection: what is set holds for every cursor, and remote reads do not depend on the weather."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb

from coralord_lightning.builder.duck import open_locked

SETTINGS = {
    "TimeZone": "UTC",
    "ieee_floating_point_ops": "true",
    "integer_division": "false",
    "preserve_insertion_order": "true",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
    "enable_external_access": "false",
    "threads": "1",
}


def settings(tmp_path: Path) -> dict[str, str | None]:
    with open_locked([], filesystem=None, temp_dir=tmp_path, threads=1, memory_bytes=None) as connection:
        found = connection.cursor().sql("SELECT name, value FROM duckdb_settings()").fetchall()
    return dict(found)


def test_a_cursor_has_what_was_set(tmp_path):
    found = settings(tmp_path)
    assert {name: found[name] for name in SETTINGS} == SETTINGS


def test_memory_is_bounded_to_half_of_what_duckdb_would_take(tmp_path):
    limit, unit = settings(tmp_path)["memory_limit"].split()
    own, own_unit = duckdb.sql("SELECT current_setting('memory_limit')").fetchall()[0][0].split()
    sizes = {"MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
    assert 0.45 < float(limit) * sizes[unit] / (float(own) * sizes[own_unit]) < 0.55


def test_a_cursor_reads_moments_in_utc_wherever_the_machine_stands(tmp_path):
    code = (
        "from pathlib import Path\n"
        "from coralord_lightning.builder.duck import open_locked\n"
        f"path = Path({str(tmp_path)!r})\n"
        "with open_locked([], filesystem=None, temp_dir=path, threads=1, memory_bytes=None) as connection:\n"
        "    sql = \"SELECT CAST(CAST(TIMESTAMPTZ '2024-01-01 00:00:00Z' AS TIMESTAMP) AS VARCHAR)\"\n"
        "    print(connection.cursor().sql(sql).fetchall()[0][0])\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], env={"TZ": "Asia/Tokyo", "PATH": ""}, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "2024-01-01 00:00:00"


def test_what_lies_between_columns_is_fetched_by_one_rule_only(tmp_path):
    gap = settings(tmp_path).get("parquet_prefetch_column_gap", "16384")  # DuckDB 1.5 has no other rule
    assert gap == "16384"
