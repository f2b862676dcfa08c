import numpy as np
import pytest
import torch

from distill.errors import UserError
from tests.data.sets.image_files import decoded, load_path, make_files, png, write_folder, write_tar, write_zip
from tests.memory import forget_data_sets


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


@pytest.mark.fault("images, labels or code that changed")
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


@pytest.mark.fault("images of another depth or kind")
def test_a_corrupt_image_is_named_and_nothing_is_left(tmp_path):
    files = make_files()
    files["train/dog/03.png"] = files["train/dog/03.png"][:60]
    path = write_folder(tmp_path / "pets", files)
    with pytest.raises(UserError, match=r"train/dog/03\.png \(60 bytes\)"):
        load_path(path, tmp_path / "root")
    assert decoded(tmp_path / "root") == []


@pytest.mark.fault("hostile archives, weights, arrays and records")
@pytest.mark.parametrize(("suffix", "mode"), [("tar", "w"), ("tar.gz", "w:gz"), ("tar.xz", "w:xz")])
def test_a_truncated_tar_is_named(tmp_path, suffix, mode):
    path = write_tar(tmp_path / f"pets.{suffix}", make_files(), mode)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=rf"pets\.{suffix} \(1,000 bytes\).*a complete tar"):
        load_path(path, tmp_path / "root")


@pytest.mark.fault("other things in a folder of images")
@pytest.mark.parametrize("files", [{}, {"train/cat/1.png": b""}, {"cat/1.png": b"", "dog/2.png": b""}])
def test_another_layout_is_refused(tmp_path, files):
    path = write_folder(tmp_path / "pets", files)
    path.mkdir(exist_ok=True)
    with pytest.raises(UserError, match="train/CLASS/ and test/CLASS/"):
        load_path(path, tmp_path / "root")


@pytest.mark.fault("other things in a folder of images")
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
