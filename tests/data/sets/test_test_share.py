"""A folder of classes without train/ and test/: a share of each class is the test set."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config import DataConfig
from distill.data.sets import folder_layout, inventory, test_share
from distill.data.sets.folder import opened
from distill.data.sets.inventory import Inventory
from distill.data.sets.places import Place
from distill.errors import UserError
from tests.data.sets.image_files import decoded, load_path, make_files, square, write_folder, write_tar, write_zip

COUNTS = {"cat": 10, "dog": 25, "emu": 3}


def names(counts: dict[str, int] = COUNTS) -> list[str]:
    return [f"{label}/{'sub/' if i % 2 else ''}{i}.png" for label, count in counts.items() for i in range(count)]


def classes(prefix: str = "", counts: dict[str, int] = COUNTS) -> dict[str, bytes]:
    return {f"{prefix}{name}": square(4, colour) for colour, name in enumerate(names(counts))}


def test_of_each_class_a_share_is_tested_and_the_rest_is_cut_as_usual(tmp_path):
    ours = load_path(write_folder(tmp_path / "pets", classes()), tmp_path / "root", test=0.2)
    assert ours.classes == ("cat", "dog", "emu")
    assert ours.test.labels.bincount().tolist() == [2, 5, 1]
    assert ours.held_out.labels.bincount(minlength=3).tolist() == [2, 4, 0]
    assert ours.train.labels.bincount().tolist() == [6, 16, 2]
    seen = [part.images[:, 0, 0, 0].tolist() for part in (ours.train, ours.held_out, ours.test)]
    assert sorted(itertools.chain(*seen)) == list(range(38))
    assert sorted(ours.positions.tolist()) == sorted(set(ours.positions.tolist()))
    assert not ours.held_out_apart


@pytest.mark.parametrize("prefix", ["", "./", "pets/"])
def test_an_archive_and_another_order_of_the_files_give_what_the_folder_gives(tmp_path, prefix):
    folder = load_path(write_folder(tmp_path / "pets", classes()), tmp_path / "root", test=0.2)
    within = load_path(write_folder(tmp_path / "within", classes("pets/")), tmp_path / "root", test=0.2)
    packed = write_zip(tmp_path / "a.zip", classes(prefix)), write_tar(tmp_path / "a.tar", classes(prefix), "w")
    for ours in (within, *(load_path(path, tmp_path / "root", test=0.2) for path in packed)):
        assert ours.fingerprint == folder.fingerprint


def test_names_are_those_of_the_rows(tmp_path):
    path = write_folder(tmp_path / "pets", classes())
    config = DataConfig(name=f"imagefolder:{path}", kwargs={"test": 0.2, "size": 4})
    made = opened(config, tmp_path / "root", progress=False)
    names = made.listing.names()
    for row, name in enumerate(names):
        assert (path / name).read_bytes() == square(4, int(made.images[row, 0, 0, 0]))
    in_order = [names[row] for row in made.listing.positions.argsort().tolist()]
    assert in_order == sorted(
        in_order, key=lambda name: (name.split("/")[0], str(Path(name).parent), Path(name).name)
    )


def splits(files: list[str], share: float, seed: int = 0) -> dict[str, str]:
    places = {name: Place("", "", name.split("/")[0], name) for name in sorted(files)}
    config = DataConfig(name="imagefolder:pets", kwargs={"test": share, "seed": seed})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_share, "take_inventory", lambda path: Inventory(places, ""))
        return {name: place.split for name, place in test_share.inventory_in_splits(config, Path()).places.items()}


@given(
    st.lists(st.integers(1, 30), min_size=2, max_size=5),
    st.floats(0.01, 0.99),
    st.integers(0, 2**63 - 1),
)
@settings(deadline=None)
def test_the_share_is_exact_in_each_class_and_does_not_depend_on_other_classes(sizes, share, seed):
    counts = {f"class {number}": size for number, size in enumerate(sizes)}
    expected = {label: min(round(size * share), size - 1) for label, size in counts.items()}
    if not any(expected.values()):
        with pytest.raises(UserError, match="enough for a test image"):
            splits(names(counts), share, seed)
        return
    drawn = splits(names(counts), share, seed)
    for label, number in expected.items():
        assert sum(split == "test" for name, split in drawn.items() if name.startswith(f"{label}/")) == number
    more = splits(names(counts | {"a new one": 7}), share, seed)
    assert {name: more[name] for name in drawn} == drawn


def test_another_seed_tests_other_images():
    assert splits(names(), 0.2) == splits(names(), 0.2, 0) != splits(names(), 0.2, 1)


def test_the_copy_of_each_share_is_its_own(tmp_path):
    path = write_folder(tmp_path / "pets", classes())
    for kwargs in ({"test": 0.2}, {"test": 0.3}, {"test": 0.2, "seed": 1}, {"test": 0.2, "seed": 0}):
        load_path(path, tmp_path / "root", **kwargs)
    assert len(decoded(tmp_path / "root")) == 3


def refused(path: Path, match: str, **kwargs: object) -> None:
    with pytest.raises(UserError, match=match) as error:
        load_path(path, path.parent / "root", **kwargs)
    assert "\n" not in str(error.value)


def test_a_folder_of_classes_without_a_share_is_told_to_name_it(tmp_path):
    path = write_folder(tmp_path / "pets", classes())
    refused(path, r"^data\.kwargs = \{\}: expected the share of test .*\(cat, dog, emu\).*`data\.kwargs=\{\"test\"")


def test_a_share_beside_splits_is_refused(tmp_path):
    path = write_folder(tmp_path / "pets", make_files())
    refused(path, "expected no share of test images beside test/, train/: .* train/ itself", test=0.2)
    assert len(load_path(path / "train", tmp_path / "root", test=0.2).test) == 4


def test_one_class_or_a_share_of_nothing_is_refused(tmp_path):
    one = write_folder(tmp_path / "one", classes(counts={"cat": 9}))
    refused(one, "a folder for each class, two at least", test=0.2)
    few = write_folder(tmp_path / "few", classes(counts={"cat": 2, "dog": 2}))
    refused(few, "enough for a test image", test=0.2)


def test_what_is_no_class_is_left_out_or_refused(tmp_path):
    files = classes() | dict.fromkeys(("1.png", "@eaDir/cat/1.png", "cat/.x.png", "dog/a.gif"), square())
    path = write_folder(tmp_path / "pets", files)
    assert inventory.take_inventory(path).left_out == (
        "1 file in @eaDir, 1 file hidden, 1 file not in a class folder, 1 file of other types, such as dog/a.gif"
    )
    assert load_path(path, tmp_path / "root", test=0.2).classes == ("cat", "dog", "emu")
    (path / "docs").mkdir()
    (path / "docs" / "notes.txt").write_text("")
    refused(path, r"\(docs\)': expected an image that can be read in each class folder", test=0.3)


@pytest.mark.parametrize("within", ["", "pets/"])
def test_a_linked_class_is_refused(tmp_path, within):
    path = write_folder(tmp_path / "all", classes(within))
    (path / within / "lion").symlink_to(path / within / "cat")
    refused(path, "expected a folder: a link to one can lead anywhere", test=0.2)


def test_a_class_may_be_called_train(tmp_path):
    flat = {name.replace("sub/", ""): data for name, data in classes(counts={"train": 4, "plane": 4}).items()}
    path = write_folder(tmp_path / "flat", flat)
    assert load_path(path, tmp_path / "root", test=0.25).classes == ("plane", "train")


@pytest.mark.parametrize(
    "kwargs",
    [{"test": 0}, {"test": 1}, {"test": 1.0}, {"test": 0.0}, {"test": "0.2"}, {"test": True}, {"test": -0.5},
     {"seed": 1}, {"test": 0.2, "seed": -1}, {"test": 0.2, "seed": 1.5}, {"test": 0.2, "seed": True}],
)  # fmt: skip
def test_a_share_is_a_number_between_nothing_and_all(tmp_path, kwargs):
    refused(write_folder(tmp_path / "pets", classes()), r"^data\.kwargs = \{'(test|seed)'", **kwargs)


def test_the_listing_has_the_rows_of_every_image_once(tmp_path):
    path = write_folder(tmp_path / "pets", classes())
    config = DataConfig(name=f"imagefolder:{path}", kwargs={"test": 0.2})
    listing = folder_layout.arrange(config, test_share.inventory_in_splits(config, tmp_path))
    assert sorted(listing.names) == sorted(classes())
    assert listing.sizes == (27, 3, 8)
