"""Files that are written as a whole or not, and digests that are read once."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from distill.errors import UserError
from distill.system import files
from distill.system.files import expanded, sha256
from distill.system.runtime import Folders


def test_threads_that_write_the_same_json_do_not_meet(tmp_path: Path) -> None:
    values = [[number] * 1000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for written in [pool.submit(files.write_json, tmp_path / "value.json", value) for value in values * 4]:
            written.result()
    assert json.loads((tmp_path / "value.json").read_text()) in values
    assert [path.name for path in tmp_path.iterdir()] == ["value.json"]


def test_a_change_is_seen_whatever_it_does_to_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"

    def changed(content: bytes) -> str:
        before = path.stat()
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return sha256(path)

    path.write_bytes(b"one")
    # Within one tick of the clock, as far as this is fast enough.
    assert len({sha256(path), changed(b"two"), changed(b"six"), changed(b"ten")}) == 4
    monkeypatch.setattr(files, "TICK_NS", -(10**18))  # as if it had been written long ago
    known = sha256(path)
    with monkeypatch.context() as unread:
        unread.setattr("hashlib.file_digest", lambda *_: pytest.fail("it is read once"))
        assert sha256(path) == known
    time.sleep(0.05)
    assert changed(b"two") != known


@pytest.mark.parametrize("name", ["~/x", "$HOME/x", "$FOLDER"])
def test_paths_are_expanded_where_no_shell_did(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FOLDER", "~/x")
    for variable in ("DISTILL_STORE", "DISTILL_DATA"):
        monkeypatch.setenv(variable, name)
    assert Folders().store == Folders().data_root == expanded(Path(name)) == tmp_path / "x"
    assert Folders(store=Path(name), data_root=Path(name)) == Folders()


def test_a_path_of_an_unknown_user_makes_no_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("~nobody-at-all/x", "$NOT_SET_AT_ALL/x"):
        with pytest.raises(UserError, match=r"Write the path in full"):
            Folders(store=Path(name))
        Path(name).mkdir(parents=True)
        assert expanded(Path(name)) == Path(name), "it is there"
    assert expanded(Path("a$HOME")) == Path("a$HOME")


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_STORE", "")
    assert Folders().store == Path("checkpoints")
