"""The copy of the pixels that a folder or archive is decoded into, once."""

import time

import pytest

from distill.config import DataConfig
from distill.data.sets import decoded_copy
from distill.data.sets.folder import opened
from tests.data.sets.image_files import load_path, make_files, refused, write_folder, write_tar
from tests.memory import forget_data_sets


def test_the_second_load_decodes_nothing(tmp_path, monkeypatch):
    path = write_folder(tmp_path / "pets", make_files())
    first = load_path(path, tmp_path / "root")
    forget_data_sets()
    monkeypatch.setattr(decoded_copy, "decode_all", lambda *args: pytest.fail("decoded again"))
    second = load_path(path, tmp_path / "root")
    assert second is not first
    assert (second.fingerprint, second.mean, second.std) == (first.fingerprint, first.mean, first.std)


def test_two_at_once_decode_once(tmp_path, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    path = write_folder(tmp_path / "pets", make_files())
    decode_all, calls = decoded_copy.decode_all, []

    def slow(*args):
        calls.append(args)
        time.sleep(0.1)
        decode_all(*args)

    monkeypatch.setattr(decoded_copy, "decode_all", slow)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: load_path(path, tmp_path / "root"), range(2)))
    assert len(calls) == 1
    assert results[0].fingerprint == results[1].fingerprint


@pytest.mark.fault("images, labels or code that changed")
def test_images_that_change_while_they_are_decoded_are_refused(tmp_path, monkeypatch):
    path = write_folder(tmp_path / "pets", make_files())
    decode_into = decoded_copy.decode_into

    def changed(*args):
        number = decode_into(*args)
        (path / "train/cat/00.png").write_bytes(make_files()["train/dog/00.png"])
        return number

    monkeypatch.setattr(decoded_copy, "decode_into", changed)
    refused(path, "a file that stays as it is. Run it again when nobody changes it")


@pytest.mark.parametrize("prefix", ["", "./", "pets/"])
def test_names_of_the_rows_are_kept(tmp_path, prefix):
    files = {prefix + name: data for name, data in make_files().items()}
    path = write_tar(tmp_path / "pets.tar", files, "w")
    copy = opened(DataConfig(name=f"imagefolder:{path}", held_out=0.2), tmp_path / "root", progress=False)
    listing = copy.listing
    classes, numbers = copy.images[:, 1, 0, 0].tolist(), copy.images[:, 0, 0, 0].tolist()
    expected = [f"{('cat', 'dog')[c]}/{i:02}.png" for c, i in zip(classes, numbers, strict=True)]
    assert [*listing.names()] == expected
    assert sorted(listing.positions.tolist()) == list(range(20))
    published = [name.removeprefix("train/") for name in sorted(make_files()) if name.startswith("train/")]
    assert [published[position] for position in listing.positions] == expected[:20]
