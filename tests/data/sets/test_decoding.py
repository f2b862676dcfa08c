"""Images that are decoded side by side."""

from __future__ import annotations

from distill.data.sets import decoding
from tests.data.sets.image_files import WHOLE, decode, write_folder


def test_large_images_in_flight_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "BYTES_READ", 1 << 10)
    monkeypatch.setattr(decoding, "LARGE", 1)
    assert len(decode(write_folder(tmp_path / "folder", WHOLE), tmp_path / "root").images) == len(WHOLE)
