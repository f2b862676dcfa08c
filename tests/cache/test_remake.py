"""Test the command that makes the right cache."""

from __future__ import annotations

import shlex
from pathlib import Path

from distill.cache.remake import remake
from distill.config import AugmentConfig, CacheConfig, DataConfig, ImportConfig


def test_the_command_for_an_import_has_the_flags_of_import() -> None:
    source = ImportConfig(sha256=("a",), values="probabilities", classes=("b", "a"), teacher="a friend's net")
    config = CacheConfig(teacher=source, transfer_set=DataConfig(name="mnist", held_out=0), dtype="float32")
    words = shlex.split(remake(config, Path("checkpoints/caches/x"), ("a", "b"), augment=AugmentConfig(pad=1)))
    assert words[:5] == ["distill", "import", "FILES", "--data.name", "mnist"]
    rest = " ".join(words[5:])
    assert rest == (
        "--data.held-out 0.0 --augment.pad 1 --dtype float32 --values probabilities --classes b a "
        "--teacher a friend's net"
    )
