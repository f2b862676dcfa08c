"""Test that rows of logits find their images by name, and that a class order that fits better is refused."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from distill.cache.logit_cache import LogitCache
from distill.config import DataConfig, ImportFlags
from distill.data.sets.load import load
from distill.errors import UnfitTeacher, UserError
from distill.pipeline.import_order import rows_of_split
from distill.pipeline.importing import import_logits

pytestmark = pytest.mark.fault("classes or rows in another order")

CLASSES, PER_CLASS = 12, 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make an image folder of classes 0 to 11, whose text order is 0, 1, 10, 11, 2, …"""
    random = np.random.default_rng(0)
    for split, count in (("train", PER_CLASS), ("test", 1)):
        for label in range(CLASSES):
            (tmp_path / "f" / split / str(label)).mkdir(parents=True)
            for i in range(count):
                buffer = io.BytesIO()
                Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(buffer, "png")
                (tmp_path / "f" / split / str(label) / f"{label}_{i}.png").write_bytes(buffer.getvalue())
    return tmp_path / "f"


@pytest.fixture
def bring(store, runtime, folder):
    """Return a function that imports a file into the store of this test."""
    strict = runtime.model_copy(update={"min_teacher_accuracy": None, "progress": True})

    def run(path: Path, held_out: float = 0.0, accept_class_order: bool = False, **flags):
        data = DataConfig(name=f"imagefolder:{folder}", held_out=held_out)
        machine = strict.model_copy(update={"accept_class_order": accept_class_order})
        return import_logits([path], store, machine, ImportFlags(data=data, dtype="float32", **flags))

    return run


@pytest.mark.parametrize("with_val", [False, True])
def test_rows_of_a_limited_training_split_are_taken_in_their_order(runtime, folder, with_val) -> None:
    if with_val:
        shutil.copytree(folder / "test", folder / "val")
    data = DataConfig(name=f"imagefolder:{folder}", held_out=0.0, limit=2 * CLASSES)
    dataset = load(data, runtime.data_root, progress=False)
    assert rows_of_split(2 * CLASSES, dataset).tolist() == list(range(2 * CLASSES))


def listed(folder: Path) -> tuple[list[str], torch.Tensor]:
    found = ImageFolder(str(folder / "train"))
    return [path.removeprefix(f"{folder}/train/") for path, _ in found.samples], torch.tensor(found.targets)


def answers(columns: torch.Tensor) -> np.ndarray:
    """Make logits that name a column for each image; all rows differ."""
    logits = np.random.default_rng(0).normal(0, 0.5, (len(columns), CLASSES)).astype(np.float32)
    np.put_along_axis(logits, columns.numpy()[:, None], 6.0, axis=1)
    return logits


def test_columns_in_natural_order_are_refused(tmp_path, folder, bring) -> None:
    _, labels = listed(folder)
    natural = torch.tensor([int(name) for name in sorted(map(str, range(CLASSES)))])
    np.save(tmp_path / "z.npy", answers(natural[labels]))
    with pytest.raises(UnfitTeacher, match=r"in another order it is right on 100.0%.*its \w+ is \w+.*accept_class"):
        bring(tmp_path / "z.npy")
    made = bring(tmp_path / "z.npy", accept_class_order=True)
    assert made.record.metrics["gate/accuracy"] == pytest.approx(2 / 12), "two classes keep their place"


@pytest.mark.parametrize("form", ["a file", "a file of whole paths", "paths in a npz"])
@pytest.mark.parametrize("held_out", [0.0, 0.2])
def test_names_put_rows_that_changed_places_into_order(
    tmp_path, folder, bring, runtime, capsys, form, held_out
) -> None:
    names, labels = listed(folder)
    order = np.random.default_rng(1).permutation(len(names))
    logits, shown = answers(labels), [names[row] for row in order]
    if form == "paths in a npz":
        path, flags = tmp_path / "z.npz", {}
        np.savez(path, logits=logits[order], paths=np.array(shown))
    else:
        path, flags = tmp_path / "z.npy", {"names": tmp_path / "names.txt"}
        np.save(path, logits[order])
        prefix = f"{folder}/train/" if form == "a file of whole paths" else ""
        (tmp_path / "names.txt").write_text("".join(f"{prefix}{name}\n" for name in shown))
    made = bring(path, held_out, **flags)
    cache = LogitCache.open(made.path)
    positions = load(cache.config.transfer_set, runtime.data_root, False).positions.numpy()
    assert torch.equal(cache.logits(torch.arange(len(cache))), torch.from_numpy(logits[positions]))
    assert "sample order" not in cache.manifest.declared
    assert "declared, not proven" not in capsys.readouterr().err


def test_other_names_of_one_file_make_another_cache(tmp_path, folder, bring) -> None:
    names, labels = listed(folder)
    np.save(tmp_path / "z.npy", answers(labels))
    swapped = [names[1], names[0], *names[2:]]
    paths = []
    for number, shown in enumerate((names, swapped)):
        (tmp_path / f"{number}.txt").write_text("\n".join(shown))
        paths.append(bring(tmp_path / "z.npy", names=tmp_path / f"{number}.txt").path)
    assert paths[0] != paths[1]


def test_a_declared_order_is_said_loudly(tmp_path, folder, bring, capsys) -> None:
    np.save(tmp_path / "z.npy", answers(listed(folder)[1]))
    made = bring(tmp_path / "z.npy")
    assert "the order of the rows is declared, not proven" in capsys.readouterr().err
    assert "sample order" in LogitCache.open(made.path).manifest.declared


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda names: ["cat/1.png", *names[1:]], "'cat/1.png': expected names of training images"),
        (lambda names: [names[1], *names[1:]], "expected every name once"),
        (lambda names: names[1:], "359 names': expected one for each of the 360 rows"),
    ],
)
def test_names_that_do_not_fit_are_refused(tmp_path, folder, bring, change, told) -> None:
    names, labels = listed(folder)
    np.save(tmp_path / "z.npy", answers(labels))
    (tmp_path / "names.txt").write_text("\n".join(change(names)))
    with pytest.raises(UserError, match=told):
        bring(tmp_path / "z.npy", names=tmp_path / "names.txt")


def test_paths_that_are_objects_are_not_unpickled(tmp_path, folder, bring) -> None:
    names, labels = listed(folder)
    np.savez(tmp_path / "z.npz", logits=answers(labels), paths=np.array(names, dtype=object))
    with pytest.raises(UserError, match="texts, one per row"):
        bring(tmp_path / "z.npz")


@pytest.mark.parametrize("named", [False, True])
def test_images_of_val_are_no_part_of_the_published_training_set(tmp_path, folder, bring, named) -> None:
    names, labels = listed(folder)
    (folder / "val" / "0").mkdir(parents=True)
    (folder / "val" / names[0]).write_bytes((folder / "train" / names[0]).read_bytes())
    logits, flags = answers(labels), {}
    if named:
        order = np.random.default_rng(1).permutation(len(labels))
        (tmp_path / "names.txt").write_text("\n".join(names[row] for row in order))
        logits, flags = logits[order], {"names": str(tmp_path / "names.txt")}
    np.save(tmp_path / "z.npy", logits)
    assert bring(tmp_path / "z.npy", **flags).record.metrics["gate/accuracy"] == 1
    np.save(tmp_path / "z.npy", np.concatenate([logits, logits[:1]]))
    with pytest.raises(UserError, match="361"):
        bring(tmp_path / "z.npy", **flags)


def test_a_limited_split_with_held_out_images_is_not_the_published_set(tmp_path, runtime, store, folder) -> None:
    data = DataConfig(name=f"imagefolder:{folder}", held_out=0.2, limit=5 * CLASSES)
    dataset = load(data, runtime.data_root, progress=False)
    np.save(tmp_path / "z.npy", np.zeros((len(dataset.train) + len(dataset.held_out), CLASSES), np.float32))
    with pytest.raises(UserError, match="as many as training images"):
        import_logits([tmp_path / "z.npy"], store, runtime, ImportFlags(data=data))


@pytest.mark.parametrize("held_out", [0.0, 0.2])
def test_names_find_the_images_of_a_limited_split(tmp_path, runtime, store, folder, held_out) -> None:
    names, labels = listed(folder)
    order = np.random.default_rng(1).permutation(len(names))
    logits = answers(labels)
    np.savez(tmp_path / "z.npz", logits=logits[order], paths=np.array([names[row] for row in order]))
    data = DataConfig(name=f"imagefolder:{folder}", held_out=held_out, limit=5 * CLASSES)
    made = import_logits([tmp_path / "z.npz"], store, runtime, ImportFlags(data=data, dtype="float32"))
    positions = load(data, runtime.data_root, progress=False).positions.numpy()
    cache = LogitCache.open(made.path)
    assert torch.equal(cache.logits(torch.arange(len(cache))), torch.from_numpy(logits[positions]))
