import itertools
import math
import re
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.cache.encoding import Encoding
from distill.cache.tinyvit import TinyViTLogits, find_epochs
from distill.errors import UserError

Row = tuple[str, int, list[int], list[float]]
"""Key, seed, class numbers, probabilities."""


def write_epoch(root, ranks: list[list[Row]], epoch: int = 0, k: int = 2):
    """Write an epoch as TinyViT's save_logits.py does: seed.tobytes() + ids.tobytes() + probabilities.tobytes()."""
    folder = root / f"logits_top{k}_epoch{epoch}"
    folder.mkdir(parents=True)
    for rank, rows in enumerate(ranks):
        (folder / f"rank{rank}-keys.txt").write_text("".join(f"{key}\n" for key, *_ in rows))
        records = [struct.pack(f"<i{k}h{k}e", seed, *ids, *ps) for _, seed, ids, ps in rows]
        assert all(len(record) == 4 + 4 * k for record in records)
        (folder / f"rank{rank}-values.bin").write_bytes(b"".join(records))
    return folder


ROWS: list[Row] = [
    ("2", 7, [3, 0], [0.5, 0.25]),
    ("0", 8, [1, 2], [0.75, 0.125]),
    ("1", 9, [4, 3], [1.0, 0.0]),
]


def ids(source: TinyViTLogits, rows: list[int], view: int = 0) -> list[list[int]]:
    """Return the numbers of the classes that are stored, most probable first."""
    return source.rows(np.array(rows), view).topk(source.top_k).indices.tolist()


def tail(rows: torch.Tensor, k: int = 2) -> torch.Tensor:
    """Return the probability of all classes but the k largest, together."""
    return rows.sort(descending=True).values[:, k:].exp().sum(1)


def test_a_file_set_is_read_by_position(tmp_path):
    found = TinyViTLogits([write_epoch(tmp_path, [ROWS[:2], ROWS[2:]])], classes=5)
    assert found.shape == (3, 1, 5)
    assert found.top_k == 2
    assert [path.name for path in found.files] == [
        "rank0-keys.txt", "rank0-values.bin", "rank1-keys.txt", "rank1-values.bin",
    ]  # fmt: skip
    rows = found.rows(np.array([2, 0, 1]), 0)
    top = rows.topk(2)
    assert top.indices.tolist() == [[3, 0], [1, 2], [4, 3]]
    floor = 2.0**-25
    torch.testing.assert_close(top.values.exp(), torch.tensor([[0.5, 0.25], [0.75, 0.125], [1, floor]]))
    torch.testing.assert_close(tail(rows), torch.tensor([0.25, 0.125, floor]))


def test_missing_classes_share_the_tail(tmp_path):
    found = TinyViTLogits([write_epoch(tmp_path, [ROWS])], classes=5)
    expected = [[0.125 / 3, 0.75, 0.125, 0.125 / 3, 0.125 / 3], [0.25, 0.25 / 3, 0.25 / 3, 0.5, 0.25 / 3]]
    torch.testing.assert_close(found.rows(np.array([0, 2]), 0).exp(), torch.tensor(expected))


def test_all_classes_stored(tmp_path):
    rows: list[Row] = [("0", 1, [1, 0], [0.75, 0.25]), ("1", 1, [0, 1], [0.625, 0.375])]
    found = TinyViTLogits([write_epoch(tmp_path, [rows])], classes=2)
    torch.testing.assert_close(found.rows(np.arange(2), 0).exp(), torch.tensor([[0.25, 0.75], [0.625, 0.375]]))


@given(st.integers(2, 8), st.integers(1, 8), st.floats(0.1, 30), st.integers(0, 999))
def test_a_top_k_of_the_rows_finds_what_was_stored(tmp_path_factory, classes, k, scale, seed):
    """Rows are sharp or flat, and rounded to float16, so that their sums can exceed 1."""
    k = min(k, classes)
    logits = np.random.default_rng(seed).normal(0, scale, (30, classes))
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    ids = np.argsort(-p, axis=1)[:, :k]
    kept = np.take_along_axis(p, ids, 1).astype(np.float16)
    rows: list[Row] = [(str(i), i, ids[i].tolist(), kept[i].tolist()) for i in range(30)]
    found = TinyViTLogits([write_epoch(tmp_path_factory.mktemp("set"), [rows], k=k)], classes)
    stored = Encoding(classes, "float32", k).encode(found.rows(np.arange(30), 0))[0]
    assert (np.sort(stored["ids"], axis=1) == np.sort(ids, axis=1)).all()
    q = np.exp(found.rows(np.arange(30), 0).double().numpy())
    # Rounding of each kept probability, and what the order of the missing ones takes from the tail.
    assert (q > 0).all()
    np.testing.assert_allclose(np.take_along_axis(q, ids, 1), kept, rtol=1e-6, atol=2.0**-24)
    assert (q.sum(1) <= 1 + 2.0**-10).all()
    exact = kept.astype(np.float64).sum(1) < 1 - 2.0**-8
    room = (1 - kept.astype(np.float64).sum(1)) <= (classes - k) * kept[:, -1] * 0.99
    np.testing.assert_allclose(q.sum(1)[exact & room], 1, atol=1e-6)


def test_sums_above_one_are_clamped(tmp_path):
    p = float(np.float16(0.9995))
    rows: list[Row] = [("0", 1, [0, 1], [p, 0.001])]
    assert p + float(np.float16(0.001)) > 1
    logits = TinyViTLogits([write_epoch(tmp_path, [rows])], classes=10).rows(np.array([0]), 0)
    assert float(tail(logits).log()) == pytest.approx(-25 * math.log(2))


def test_one_epoch_is_one_view_in_the_order_of_its_number(tmp_path):
    shuffled = [ROWS[1], ROWS[2], ROWS[0]]
    for epoch, rows in ((10, ROWS), (9, shuffled), (0, [(k, s, i[::-1], p) for k, s, i, p in ROWS])):
        write_epoch(tmp_path, [rows], epoch)
    (tmp_path / "config.json").write_text("{}")
    folders = find_epochs(tmp_path)
    assert {folder.name[-2:] for folder in folders} == {"h0", "h9", "10"}
    assert len(folders) == 3
    found = TinyViTLogits(sorted(folders), classes=5)
    assert found.shape == (3, 3, 5)
    assert [ids(found, [2], view) for view in (0, 1, 2)] == [[[0, 3]], [[3, 0]], [[3, 0]]]
    assert find_epochs(folders[1]) == [folders[1]]
    assert find_epochs(tmp_path / "config.json") == []


def test_padding_of_the_sampler_is_dropped(tmp_path):
    """A rank draws a seed of its own for a key that another rank has too; the lowest rank counts."""
    ranks = [ROWS[:2], [*ROWS[2:], ("2", 99, [0, 1], [0.5, 0.5])]]
    found = TinyViTLogits([write_epoch(tmp_path, ranks)], classes=5)
    assert found.shape[0] == 3
    assert ids(found, [2]) == [[3, 0]]


NAMES = ("cat/1.png", "cat/2.png", "dog/3.png")


@pytest.mark.parametrize("keys", [NAMES, ("cat/1", "cat/2", "dog/3"), ("1.png", "2.png", "3.png")])
def test_keys_can_be_names(tmp_path, keys):
    rows = [(key, *row[1:]) for key, row in zip((keys[2], keys[0], keys[1]), ROWS, strict=True)]
    found = TinyViTLogits([write_epoch(tmp_path, [rows])], 5, lambda count: NAMES[:count])
    assert ids(found, [0, 1, 2]) == [[1, 2], [4, 3], [3, 0]]


def test_keys_of_imagenet_22k(tmp_path):
    """Keys of ImageNet-22k are names without folder and suffix (data/imagenet22k_dataset.py)."""
    names = [f"n{i:08}/n{i:08}_{j}.JPEG" for i, j in itertools.product((4, 7), (1, 2))]
    rows: list[Row] = [(f"n{i:08}_{j}", 1, [i, j], [0.5, 0.25]) for i, j in [(7, 2), (4, 1), (7, 1), (4, 2)]]
    found = TinyViTLogits([write_epoch(tmp_path, [rows])], 9, lambda count: names)
    assert ids(found, [0, 1, 2, 3]) == [[4, 1], [4, 2], [7, 1], [7, 2]]


def refusal(folders, classes: int = 5, names=None, read: bool = True) -> str:
    def attempt():
        found = TinyViTLogits(folders, classes, names)
        assert read, "refused before any record is read"
        found.rows(np.arange(found.shape[0]), 0)

    with pytest.raises(UserError) as caught:
        attempt()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("keys", "names", "message"),
    [
        (("0", "1", "3"), None, "positions up to 3"),
        (("a", "b", "c"), None, "key 'a'"),
        (("0", "01", "2"), None, "key '0'"),
        (("cat/1.png", "cat/2.png", "emu/9.png"), NAMES, "key 'emu/9.png'.*cat/1.png"),
        (("1", "2", "9" * 25), None, "key '1'"),
    ],
)
def test_keys_without_an_image_are_refused(tmp_path, keys, names, message):
    rows = [(key, *row[1:]) for key, row in zip(keys, ROWS, strict=True)]
    told = refusal([write_epoch(tmp_path, [rows])], names=names and (lambda count: names), read=False)
    assert re.search(message, told)


def test_stems_that_are_not_unique_are_refused(tmp_path):
    names = ("cat/1.png", "dog/1.png", "dog/2.png")
    rows = [(key, *row[1:]) for key, row in zip(("1.png", "2.png", "x"), ROWS, strict=True)][:2]
    assert "key '1.png'" in refusal([write_epoch(tmp_path, [rows])], names=lambda count: names, read=False)


@pytest.mark.parametrize(
    ("ids", "p", "message"),
    [
        ([-5, 0], [0.5, 0.25], "negative class number"),
        ([5, 0], [0.5, 0.25], "class number above 4"),
        ([3, 3], [0.5, 0.25], "a class twice"),
        ([3, 0], [0.5, -0.25], "outside 0 to 1"),
        ([3, 0], [float("nan"), 0.25], "outside 0 to 1"),
        ([3, 0], [0.75, 0.5], "sum is above 1"),
        ([3, 0], [0.0, 0.0], "no probability above 0"),
    ],
)
def test_records_that_cannot_be_are_refused(tmp_path, ids, p, message):
    folder = write_epoch(tmp_path, [[*ROWS[:2], ("1", 1, ids, p)]])
    assert f"{message}" in refusal([folder])
    assert "row 1" in refusal([folder])


def test_files_that_contradict_each_other_are_refused(tmp_path):
    def fresh(ranks=None, **kwargs):
        return write_epoch(tmp_path / str(next(count)), ranks or [ROWS[:2], ROWS[2:]], **kwargs)

    count = itertools.count()
    folder = fresh()
    values = folder / "rank1-values.bin"
    values.write_bytes(values.read_bytes()[:-1])
    assert "rank1-values.bin of 11 bytes" in refusal([folder], read=False)
    values.write_bytes(b"")
    assert "1 keys in rank1-keys.txt" in refusal([folder], read=False)
    values.unlink()
    assert "no rank1-values.bin" in refusal([folder], read=False)
    (folder / "rank1-keys.txt").rename(folder / "rank2-keys.txt")
    assert "no rank1-keys.txt" in refusal([folder], read=False)
    folder = fresh()
    (folder / "rank0-keys.txt").write_bytes(b"\xff\xfe\n\xff\n")
    assert "no text" in refusal([folder], read=False)
    empty = tmp_path / "logits_top2_epoch3"
    empty.mkdir()
    assert "no rank0-keys.txt" in refusal([empty], read=False)
    assert "no records" in refusal([fresh([[]])], read=False)
    assert "twice in one rank" in refusal([fresh([[*ROWS, ROWS[0]]])], read=False)
    same_seed = ("2", 7, [3, 0], [0.5, 0.125])
    assert "two answers to one key and seed" in refusal([fresh([ROWS, [same_seed]])], read=False)
    many = [[(str(i), r, [0, 1], [0.5, 0.25]) for i in range(4)] for r in range(2)]
    assert "4 keys in several ranks" in refusal([fresh(many)], read=False)
    assert "epochs of one k" in refusal([fresh(), fresh([[(*ROWS[0][:2], [1], [0.5])]], k=1)], read=False)
    assert "epochs of one k" in refusal([fresh(), fresh()], read=False)
    assert "2 images" in refusal([fresh(), fresh([ROWS[1:]], epoch=1)], read=False)
    assert "at most the 1 classes" in refusal([fresh()], classes=1, read=False)
    assert "at most 32768 classes" in refusal([fresh()], classes=40_000, read=False)
