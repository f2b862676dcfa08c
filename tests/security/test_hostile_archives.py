"""Image folders, tars and zips that somebody made up: refused in one line, with nothing written and little read."""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from distill.data.sets import archives, decoded_copy, decoding
from distill.data.sets.fitting import Fit
from distill.data.sets.inventory import take_inventory
from distill.errors import UserError
from tests.data.sets.image_files import WHOLE, decode, refused, square, write_folder

pytestmark = pytest.mark.fault("hostile archives, weights, arrays and records")


def tar(path: Path, *extra: tarfile.TarInfo | tuple[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for entry in [*WHOLE.items(), *extra]:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            member = tarfile.TarInfo(entry[0])
            member.size = len(entry[1])
            archive.addfile(member, io.BytesIO(entry[1]))
    return path


def zipped(path: Path, *extra: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in [*WHOLE.items(), *extra]:
            archive.writestr(name, data)
    return path


OUTSIDE = (
    "/train/a/x.png",
    "../train/a/x.png",
    "train/../../x.png",
    "train/../x/y.png",
    "train\\a\\x.png",
    "C:/train/x.png",
    "train/a/..\\..\\x.png",
)


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_outside_are_refused(tmp_path, name):
    refused(tar(tmp_path / "a.tar", (name, square())), "a path within the archive")
    refused(zipped(tmp_path / "a.zip", (name, square())), "a path within the archive")


@pytest.mark.parametrize("name", ["train/a/\x1b[31m.png", "train/\x07/x.png", "train/a/\u2028.png"])
def test_names_that_a_terminal_would_obey_are_refused(tmp_path, name):
    for path in (tar(tmp_path / "a.tar", (name, square())), zipped(tmp_path / "a.zip", (name, square()))):
        refused(path, "a name of at most")
    refused(write_folder(tmp_path / "folder", {**WHOLE, name: square()}), "a name of at most")


def test_a_name_of_bytes_that_are_no_text_is_refused(tmp_path):
    folder = write_folder(tmp_path / "folder", WHOLE)
    Path(os.fsdecode(os.fsencode(folder) + b"/train/a/\xff.png")).write_bytes(square())
    refused(folder, "a name of at most")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_what_is_no_file_is_refused_where_an_image_should_be(tmp_path, kind):
    for name, is_image in (("train/a/x.png", True), ("readme", False)):
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        path = tar(tmp_path / f"{is_image}.tar", member)
        if is_image:
            refused(path, "no link and nothing else")
        else:
            assert len(decode(path, tmp_path / "root").images) == len(WHOLE)
            assert not list((tmp_path / "root").rglob("readme"))


def test_a_link_in_a_zip_is_refused(tmp_path):
    member = zipfile.ZipInfo("train/a/x.png")
    member.external_attr = 0o120777 << 16
    refused(zipped(tmp_path / "a.zip", (member, b"/etc/passwd")), "no link and nothing else")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice_is_refused(tmp_path):
    refused(tar(tmp_path / "a.tar", ("train/a/0.png", square())), "each name once")
    refused(tar(tmp_path / "b.tar", ("./train/a/0.png", square())), "one image at a place")
    refused(zipped(tmp_path / "a.zip", ("train/a/0.png", square())), "each name once")


def test_links_of_a_folder(tmp_path):
    folder = write_folder(tmp_path / "folder", WHOLE)
    (folder / "train/a/linked.png").symlink_to(folder / "train/a/0.png")
    (folder / "train/a/broken.png").symlink_to(folder / "nothing")
    os.mkfifo(folder / "train/a/pipe.png")
    (folder / "elsewhere").symlink_to("/")
    (folder / "again").symlink_to(folder)
    assert len(decode(folder, tmp_path / "root").images) == len(WHOLE) + 1
    (folder / "train/circle").symlink_to(folder / "train")
    refused(folder, "a link to one can lead anywhere")


@pytest.mark.fault("bombs and numbers without an end")
@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
def test_a_bomb_of_a_tar_is_refused_before_it_is_unpacked(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(archives, "FREE_BYTES", 1 << 20)
    path = tar(tmp_path / "a.tar.gz", ("notes", bytes(1 << 24)), mode=mode)
    assert path.stat().st_size < 1 << 17
    tracemalloc.start()
    refused(path, "bytes inside")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 << 20  # of which 8 are the dictionary of xz


@pytest.mark.fault("bombs and numbers without an end")
def test_a_bomb_of_a_zip_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FREE_BYTES", 1 << 20)
    bomb = [(f"train/a/x{i}.png", bytes(1 << 20)) for i in range(8)]
    refused(zipped(tmp_path / "a.zip", *bomb), "bytes inside")


@pytest.mark.fault("bombs and numbers without an end")
def test_an_image_larger_than_any_is_refused_by_what_is_declared(tmp_path):
    member = tarfile.TarInfo("train/a/x.png")
    member.size = archives.IMAGE_BYTES + 1
    path = tmp_path / "a.tar"
    path.write_bytes(b"".join([member.tobuf(), bytes(1024)]))
    refused(path, "an image of at most")
    lying = zipped(tmp_path / "a.zip", ("train/a/x.png", square()))
    data = bytearray(lying.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFF0)
    lying.write_bytes(data)
    refused(lying, "an image of at most")
    data[at + 24 : at + 28] = struct.pack("<I", 1 << 20)  # more than comes out
    lying.write_bytes(data)
    refused(lying, "a complete zip")


@pytest.mark.fault("bombs and numbers without an end")
def test_headers_of_a_tar_are_bounded(tmp_path):
    def header(kind: bytes, size: int) -> bytes:
        member = tarfile.TarInfo("x")
        member.type, member.size = kind, size
        return member.tobuf()

    attacks = {
        "a name of gigabytes": header(tarfile.GNUTYPE_LONGNAME, 1 << 32),
        "digits for hours": header(tarfile.XHDTYPE, 1 << 15) + b"1" * (1 << 15),
        "names of names": header(tarfile.GNUTYPE_LONGNAME, 512) * 5000,
        "a size below zero": header(tarfile.REGTYPE, 0)[:124] + b"\xff" * 12 + header(tarfile.REGTYPE, 0)[136:],
    }
    for name, data in attacks.items():
        path = tmp_path / "a.tar"
        path.write_bytes(tar(tmp_path / "b.tar").read_bytes()[:-10240] + data + bytes(1024))
        started = time.monotonic()
        refused(path, "a complete tar")
        assert time.monotonic() - started < 5, name


def test_a_cut_or_damaged_tar_does_not_lose_images_silently(tmp_path):
    path = tar(tmp_path / "a.tar")
    data = path.read_bytes()
    end = len(data.rstrip(b"\0")) // 512 * 512 + 512
    path.write_bytes(data[:end])  # between two members
    refused(path, "a complete tar")
    path.write_bytes(data[:5120] + b"\1" + data[5121:])
    for position in range(0, end, 512):
        if data[position + 257 : position + 262] == b"ustar":
            path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
            refused(path, "a complete tar")


def test_packed_streams_after_each_other_are_one(tmp_path):
    import lzma

    data = tar(tmp_path / "a.tar").read_bytes()
    path = tmp_path / "a.tar.xz"
    path.write_bytes(lzma.compress(data[:3000]) + bytes(8) + lzma.compress(data[3000:]))
    assert len(decode(path, tmp_path / "root").images) == len(WHOLE)


@pytest.mark.fault("bombs and numbers without an end")
def test_memory_that_xz_asks_for_is_bounded(tmp_path):
    import lzma

    data = bytearray(lzma.compress(tar(tmp_path / "a.tar").read_bytes()))
    at = data.index(b"\x21\x01") + 2  # LZMA2's size of the dictionary; the header has a checksum
    data[at] = 40
    start, length = 12, (data[12] + 1) * 4
    data[start + length - 4 : start + length] = struct.pack("<I", zlib.crc32(data[start : start + length - 4]))
    path = tmp_path / "a.tar.xz"
    path.write_bytes(data)
    refused(path, "a complete tar.*[Mm]emory")


def test_a_zip_gives_no_more_than_it_declares(tmp_path):
    """Size and checksum of the first image are those of its beginning; 64 MiB of zeros follow."""
    first, whole = "train/a/0.png", WHOLE["train/a/0.png"]
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in WHOLE.items():
            archive.writestr(name, data + bytes(64 << 20 if name == first else 0))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    struct.pack_into("<I", data, at + 16, zlib.crc32(whole))
    struct.pack_into("<I", data, at + 24, len(whole))
    path.write_bytes(data)
    tracemalloc.start()
    refused(path, "a complete zip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


@pytest.mark.parametrize("change", ["password", "method"])
def test_what_a_zip_here_cannot_hold_is_said(tmp_path, change):
    path = zipped(tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 8 if change == "password" else at + 10] = 1
    path.write_bytes(data)
    refused(path, "stored or deflated, without a password")


@pytest.mark.fault("bombs and numbers without an end")
def test_a_directory_of_a_zip_that_fills_the_memory_is_refused(tmp_path):
    path = zipped(tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x05\x06")
    data[at + 12 : at + 16] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(data)
    refused(path, "a directory of at most")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


IMAGES = {
    "between once and twice Pillow's limit": huge(10_000, 9_500),
    "above it": huge(60_000, 60_000),
    "of no width": huge(0, 9),
    "cut": square(32)[:50],
    "a program of PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\nshowpage\n",
    "nothing": b"",
}


@pytest.mark.parametrize("what", IMAGES)
def test_an_image_that_is_none_is_named(tmp_path, what):
    path = write_folder(tmp_path / "folder", {**WHOLE, "train/a/x.png": IMAGES[what]})
    refused(path, r"train/a/x\.png.*an image that can be decoded")


@pytest.mark.parametrize("mode", ["CMYK", "P", "LA", "1", "RGBA"])
def test_images_of_other_kinds_are_decoded_as_ever(tmp_path, mode):
    image = Image.new(mode, (4, 4), 1 if mode in ("1", "P") else None)
    buffer = io.BytesIO()
    image.save(buffer, "tiff" if mode == "CMYK" else "png")
    copy = decode(
        write_folder(tmp_path / "folder", {**WHOLE, "train/a/x.png": buffer.getvalue()}), tmp_path / "root"
    )
    row = [*copy.listing.names()].index("a/x.png")
    assert np.array_equal(copy.images[row].numpy(), np.asarray(image.convert("RGB")).transpose(2, 0, 1))


@pytest.mark.parametrize("size", [None, 4096])
def test_a_set_larger_than_the_disk_is_refused_before_it_is_made(tmp_path, monkeypatch, size):
    monkeypatch.setattr(decoded_copy, "free_bytes", lambda folder: 1 << 20)
    refused(
        write_folder(tmp_path / "folder", WHOLE),
        r"GB free.*GB for 12 images.*`data.kwargs={\"stream\": true}`",
        size,
    )


PIXELS = np.zeros((12, 3, 4, 4), np.uint8)
SUMMARY = [[0, 0, 0], [1, 1, 1], "f" * 64]
NO_SUMMARIES = [[], [[0, 0], [1, 1], "f" * 64], [[0, 0, 0], [1, 1, 0], "f" * 64], [*SUMMARY[:2], "f"], [0, 0, 0]]


def meta(sizes: list[float], classes: list[str], summary: list) -> bytes:
    return json.dumps(
        {"sizes": sizes, "classes": classes, "summary": summary, "left_out": "", "pixels": ""}
    ).encode()


METAS = [meta([1, 2], [], SUMMARY), meta([1e9, 0, 6], ["a"], SUMMARY)]
METAS += [meta([6, 0, 6], ["a", "b"], summary) for summary in NO_SUMMARIES]
TAMPERED = {
    "meta.json": [b"{", b"[]", *METAS],
    "labels.npy": [np.full(12, 2), np.full(12, -1), np.zeros((12, 1), int), np.zeros(12), None],
    "positions.npy": [np.zeros(6, int), np.arange(1, 7), np.arange(5), None],
    "images.npy": [PIXELS.astype(float), PIXELS[1:], PIXELS[:, 1:], np.asfortranarray(PIXELS), None],
    "names.npy": [np.zeros(3, np.uint8), np.zeros(9), None],
    "names_ends.npy": [np.arange(12), np.zeros(11, int), None],
}  # fmt: skip


def test_a_decoded_copy_that_was_changed_is_refused(tmp_path):
    path, root = write_folder(tmp_path / "folder", WHOLE), tmp_path / "root"
    made = decode(path, root).listing
    for name, contents in TAMPERED.items():
        whole = (made.folder / name).read_bytes()
        for content in contents:
            if isinstance(content, np.ndarray):
                np.save(made.folder / name, content)
            else:
                (made.folder / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
            with pytest.raises(UserError, match=f"Delete {made.folder}: it is made again"):
                decode(path, root).listing.names()
        (made.folder / name).write_bytes(whole)
    assert [*decode(path, root).listing.names()] == [*made.names()]


@pytest.mark.parametrize("stem", ["a" * 200, "\x1b[2J", "..", "x y (1)"])
def test_the_copy_of_an_oddly_named_set_lies_where_it_should(tmp_path, stem):
    copy = decode(tar(tmp_path / f"{stem}.tar"), tmp_path / "root").listing
    assert copy.folder.parent == tmp_path / "root" / "decoded"
    assert copy.folder.name.isprintable()


def mutations(whole: bytes) -> st.SearchStrategy[bytes]:
    """The same with some bytes changed, a part repeated or left out."""
    place = st.integers(0, len(whole))

    def change(edits: list[tuple[int, bytes, int]]) -> bytes:
        data = whole
        for at, new, drop in edits:
            data = data[:at] + new + data[at + drop :]
        return data

    edit = st.tuples(place, st.binary(max_size=8), st.integers(0, 8) | st.just(len(whole)))
    return st.lists(edit, min_size=1, max_size=4).map(change)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz", "a.zip"])
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_a_mutated_archive_is_refused_or_read(tmp_path, attempts, name, data):
    fuzz(tmp_path, name, data, 5)
    attempts()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz", "a.zip"])
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_many_mutated_archives_are_refused_or_read(tmp_path, attempts, name, data):
    fuzz(tmp_path, name, data, 5)
    attempts()


def fuzz(tmp_path: Path, name: str, data: st.DataObject, seconds: float) -> None:
    path = tmp_path / name
    if not (tmp_path / f"whole-{name}").exists():
        made = (
            zipped(tmp_path / f"whole-{name}")
            if name.endswith("zip")
            else tar(tmp_path / f"whole-{name}", mode=f"w:{name[6:]}")
        )
        assert made.exists()
    path.write_bytes(data.draw(mutations((tmp_path / f"whole-{name}").read_bytes())))
    started, line = time.monotonic(), ""
    try:
        row_of = {image: row for row, image in enumerate(take_inventory(path).places)}
        with decoding.pillow_is_strict():
            for entry in archives.encoded_images(path, row_of):
                decoding.decode(*entry[1:], decoding.Reading(Fit(4)))
    except UserError as error:
        line = str(error)
    assert line.isprintable()
    assert time.monotonic() - started < seconds


@pytest.mark.fault("bombs and numbers without an end")
@pytest.mark.slow
def test_bombs_are_refused_with_half_a_gigabyte(tmp_path):
    """As their makers meant them, in a process that gets no more memory than that."""
    paths = [
        tar(tmp_path / "a.tar.gz", ("notes", bytes(1 << 29)), mode="w:gz"),
        tar(tmp_path / "a.tar.bz2", ("notes", bytes(1 << 29)), mode="w:bz2"),
        zipped(tmp_path / "a.zip", *((f"train/a/x{i}.png", bytes(255 << 20)) for i in range(4))),
        write_folder(tmp_path / "folder", {**WHOLE, **{f"train/a/x{i}.png": huge(9000, 9000) for i in range(64)}}),
    ]
    child = os.fork()
    if not child:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 29),) * 2)
        refusals = 0
        try:
            for path in paths:
                with pytest.raises(UserError, match=r"bytes inside|Give a size|at most [\d,]+ pixels"):
                    decode(path, tmp_path / "root")
                refusals += 1
        finally:
            os._exit(refusals)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == len(paths)
