import io
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distill.config import DataConfig
from distill.data.sets import decoded_copy
from distill.data.sets.dataset import Dataset
from distill.data.sets.load import load
from distill.errors import UserError
from tests.memory import forget_data_sets


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def make_files(test: str = "test", sides: tuple[int, int] = (6, 5)) -> dict[str, bytes]:
    """Two classes of ten and four images; the first pixel of image i of class c is (i, c, 0)."""
    files = {}
    for split, count in (("train", 10), (test, 4)):
        for number, label in enumerate(("cat", "dog")):
            for i in range(count):
                pixels = np.random.default_rng(i).integers(0, 256, (*sides, 3), dtype=np.uint8)
                pixels[0, 0] = (i, number, 0)
                files[f"{split}/{label}/{i:02}.png"] = png(pixels)
    return files


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def write_tar(path: Path, files: dict[str, bytes], mode: str) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in reversed(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in reversed(files.items()):
            archive.writestr(name, data)
    return path


def load_path(path: Path, root: Path, held_out: float = 0.2, **kwargs) -> Dataset:
    return load(DataConfig(name=f"imagefolder:{path}", held_out=held_out, kwargs=kwargs), root, progress=False)


def decoded(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "decoded").iterdir() if path.is_dir())


def test_folder_is_decoded_and_split(tmp_path):
    data = load_path(write_folder(tmp_path / "pets", make_files()), tmp_path / "root")
    assert data.classes == ("cat", "dog")
    assert (len(data.train), len(data.held_out), len(data.test)) == (16, 4, 8)
    assert data.shape == (3, 6, 5)
    for split in (data.train, data.held_out, data.test):
        assert torch.equal(split.images[:, 1, 0, 0].long(), split.labels)
    seen = torch.cat([data.train.images, data.held_out.images])
    assert sorted(seen[:, 0, 0, 0].tolist()) == sorted(list(range(10)) * 2)


@pytest.mark.parametrize("prefix", ["", "./", "pets/"])
def test_a_zip_gives_what_the_folder_gives(tmp_path, prefix):
    files = make_files("val")
    folder = load_path(write_folder(tmp_path / "pets", files), tmp_path / "root")
    packed = write_zip(tmp_path / "pets.zip", {prefix + name: data for name, data in files.items()})
    ours = load_path(packed, tmp_path / "root")
    assert ours.fingerprint == folder.fingerprint
    packed.write_bytes(packed.read_bytes()[:1000])
    forget_data_sets()
    with pytest.raises(UserError, match=r"pets\.zip \(1,000 bytes\).*a complete zip"):
        load_path(packed, tmp_path / "root")


@pytest.mark.parametrize(
    ("suffix", "mode"), [("tar", "w"), ("tar.gz", "w:gz"), ("tar.xz", "w:xz"), ("tar.bz2", "w:bz2")]
)
@pytest.mark.parametrize("prefix", ["", "./", "pets/"])
def test_a_tar_gives_what_the_folder_gives(tmp_path, suffix, mode, prefix):
    files = make_files("val")
    folder = load_path(write_folder(tmp_path / "pets", files), tmp_path / "root")
    renamed = {prefix + name: data for name, data in files.items()}
    tar = load_path(write_tar(tmp_path / f"pets.{suffix}", renamed, mode), tmp_path / "root")
    assert tar.fingerprint == folder.fingerprint
    assert torch.equal(tar.train.images, folder.train.images)


def test_the_second_load_decodes_nothing(tmp_path, monkeypatch):
    path = write_folder(tmp_path / "pets", make_files())
    first = load_path(path, tmp_path / "root")
    forget_data_sets()
    monkeypatch.setattr(decoded_copy, "_decode_all", lambda *args: pytest.fail("decoded again"))
    second = load_path(path, tmp_path / "root")
    assert second is not first
    assert (second.fingerprint, second.mean, second.std) == (first.fingerprint, first.mean, first.std)


def test_a_changed_folder_is_decoded_again(tmp_path):
    path = write_folder(tmp_path / "pets", make_files())
    first = load_path(path, tmp_path / "root")
    (path / "train" / "cat" / "10.png").write_bytes(png(np.zeros((6, 5, 3), np.uint8)))
    forget_data_sets()
    second = load_path(path, tmp_path / "root")
    assert first.fingerprint != second.fingerprint
    assert len(decoded(tmp_path / "root")) == 2


def test_size_resizes_and_crops_images_of_many_shapes(tmp_path):
    files = {**make_files(), "train/cat/wide.png": png(np.full((4, 12, 3), 9, np.uint8))}
    path = write_folder(tmp_path / "pets", files)
    with pytest.raises(UserError, match=r"wide\.png.*Give a size"):
        load_path(path, tmp_path / "root")
    assert decoded(tmp_path / "root") == []
    assert load_path(path, tmp_path / "root", size=8).shape == (3, 8, 8)


def test_a_corrupt_image_is_named_and_nothing_is_left(tmp_path):
    files = make_files()
    files["train/dog/03.png"] = files["train/dog/03.png"][:60]
    path = write_folder(tmp_path / "pets", files)
    with pytest.raises(UserError, match=r"train/dog/03\.png \(60 bytes\)"):
        load_path(path, tmp_path / "root")
    assert decoded(tmp_path / "root") == []


@pytest.mark.parametrize(("suffix", "mode"), [("tar", "w"), ("tar.gz", "w:gz"), ("tar.xz", "w:xz")])
def test_a_truncated_tar_is_named(tmp_path, suffix, mode):
    path = write_tar(tmp_path / f"pets.{suffix}", make_files(), mode)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=rf"pets\.{suffix} \(1,000 bytes\).*a complete tar"):
        load_path(path, tmp_path / "root")


@pytest.mark.parametrize("files", [{}, {"train/cat/1.png": b""}, {"cat/1.png": b"", "dog/2.png": b""}])
def test_another_layout_is_refused(tmp_path, files):
    path = write_folder(tmp_path / "pets", files)
    path.mkdir(exist_ok=True)
    with pytest.raises(UserError, match="train/CLASS/ and test/CLASS/"):
        load_path(path, tmp_path / "root")


def test_a_test_class_that_was_never_trained_is_refused(tmp_path):
    path = write_folder(tmp_path / "pets", {**make_files(), "test/emu/1.png": b""})
    with pytest.raises(UserError, match="emu"):
        load_path(path, tmp_path / "root")


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(UserError, match="an existing folder, tar or zip"):
        load_path(tmp_path / "nowhere", tmp_path / "root")


@pytest.mark.parametrize("kwargs", [{"size": 0}, {"size": "8"}, {"sizes": 8}])
def test_wrong_arguments_are_refused(tmp_path, kwargs):
    with pytest.raises(UserError, match=r"data\.kwargs"):
        load_path(tmp_path, tmp_path / "root", **kwargs)


def test_two_at_once_decode_once(tmp_path, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    path = write_folder(tmp_path / "pets", make_files())
    decode_all, calls = decoded_copy._decode_all, []

    def slow(*args):
        calls.append(args)
        time.sleep(0.1)
        decode_all(*args)

    monkeypatch.setattr(decoded_copy, "_decode_all", slow)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: load_path(path, tmp_path / "root"), range(2)))
    assert len(calls) == 1
    assert results[0].fingerprint == results[1].fingerprint


AWKWARD = ("cat", "cat-2", "Emu", "dog", "dog x")
"""Class names of which the paths sort otherwise than the names."""


def test_rows_are_in_the_order_of_torchvisions_image_folder(tmp_path):
    from torchvision.datasets import ImageFolder

    inside = ("b.png", "C.png", "10.png", "9.png", "a/1.png", "a-b/1.png", "a/c/1.png")
    files = {
        f"{split}/{label}/{name}": png(np.full((2, 2, 3), 20 * i + j, np.uint8))
        for split in ("train", "test")
        for i, label in enumerate(AWKWARD)
        for j, name in enumerate(inside)
    }
    path = write_folder(tmp_path / "pets", files)
    for held_out in (0.0, 0.3):
        ours = load_path(path, tmp_path / "root", held_out=held_out)
        theirs = ImageFolder(str(path / "train"))
        assert list(ours.classes) == theirs.classes
        first_bytes = torch.tensor([int(np.asarray(image)[0, 0, 0]) for image, _ in theirs])
        assert torch.equal(first_bytes[ours.positions], ours.train.images[:, 0, 0, 0].long())
        assert torch.equal(torch.tensor(theirs.targets)[ours.positions], ours.train.labels)


@pytest.mark.parametrize("prefix", ["", "./", "pets/"])
def test_names_of_the_rows_are_kept(tmp_path, prefix):
    files = {prefix + name: data for name, data in make_files().items()}
    path = write_tar(tmp_path / "pets.tar", files, "w")
    found = decoded_copy.decode_once(path, None, 0.2, 0, tmp_path / "root", progress=False)
    classes, numbers = found.images[:, 1, 0, 0].tolist(), found.images[:, 0, 0, 0].tolist()
    expected = [f"{('cat', 'dog')[c]}/{i:02}.png" for c, i in zip(classes, numbers, strict=True)]
    assert found.names() == tuple(expected)
    assert sorted(found.positions.tolist()) == list(range(20))
    published = [name.removeprefix("train/") for name in sorted(make_files()) if name.startswith("train/")]
    assert [published[position] for position in found.positions] == expected[:20]
