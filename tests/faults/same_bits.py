"""Compare two folders of one artifact: all bytes of all files are equal, but those that tell the time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_CLOCK = "images_per_second"
"""Fields of a line of `metrics.jsonl` that tell how fast a step went."""


def differences(one: Path, other: Path) -> list[str]:
    """List the files that are in one folder only, or whose content differs.

    Weights, snapshots, predictions, shards, their stamps, manifest, proof, measures, pages, tables and figures are
    compared byte by byte. Three are not:

    - `tb/`: an event of TensorBoard holds the time, the name of its file the process, and whoever goes on after a
      kill opens a file more. All that it shows of a training is in `metrics.jsonl`.
    - `metrics.jsonl`: every number of every line but `images_per_second`, which is a measure of the clock.
    - `record.json`: key, version, config, inputs, data, measures, and the list of files with the sha256 of each
      that is compared by its bytes. Not `provenance`, which holds the seconds it took, nor the seal over all.
    """
    names = {path.relative_to(folder).as_posix() for folder in (one, other) for path in _files(folder)}
    return sorted(name for name in names if _content(one / name, name) != _content(other / name, name))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "tb" not in path.relative_to(folder).parts]


def _content(path: Path, name: str) -> Any:
    if not path.is_file():
        return None
    if name == "record.json":
        record = json.loads(path.read_bytes())
        del record["provenance"]
        record.pop("seal", None)
        record["files"] = {
            file: entry
            for file, entry in record["files"].items()
            if not file.startswith("tb/") and file != "metrics.jsonl"
        }
        return record
    if name == "metrics.jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [{field: value for field, value in line.items() if field != _CLOCK} for line in lines]
    return path.read_bytes()
