"""Limits of what an archive may hold."""

from __future__ import annotations

import gzip
import tarfile

from distill.data.sets import archives
from tests.data.sets.image_files import refused


def test_more_members_than_a_tar_can_hold_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FREE_MEMBERS", 20)
    path = tmp_path / "a.tar.gz"
    headers = b"".join(tarfile.TarInfo(f"{i}").tobuf() for i in range(2000))
    path.write_bytes(gzip.compress(headers + bytes(1024)))
    refused(path, "files, one for 16 bytes")
