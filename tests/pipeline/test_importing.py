import hashlib
import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from distill.cache.logit_cache import LogitCache
from distill.config import AugmentConfig, CacheConfig, DataConfig, ImportConfig, ImportFlags
from distill.data.sets.load import load
from distill.errors import UserError
from distill.pipeline import importing
from distill.pipeline.import_order import columns_by_name
from distill.pipeline.importing import import_logits

DATA = DataConfig(held_out=0.15)


@pytest.fixture
def runtime(runtime):
    """Return a runtime with the usual lowest accuracy of a teacher."""
    return runtime.model_copy(update={"min_teacher_accuracy": None})


@pytest.fixture
def split(runtime):
    return load(DATA, runtime.data_root, progress=False)


@pytest.fixture
def whole(runtime):
    """Return the training set as published, with no image held out."""
    return load(DATA.replace(held_out=0.0), runtime.data_root, progress=False).train


def answers(labels: torch.Tensor, classes: int = 10, right: float = 0.8, views: int | None = None) -> np.ndarray:
    """Make logits of a teacher that is right on about this share of images; all rows differ."""
    shape = (len(labels), classes) if views is None else (len(labels), views, classes)
    random = np.random.default_rng(0)
    said = np.where(random.random(shape[:-1]) < right, labels.numpy().reshape(-1, *[1] * (len(shape) - 2)), 0)
    logits = random.normal(0, 1, shape)
    np.put_along_axis(logits, said[..., None], 8.0, axis=-1)
    return logits.astype(np.float32)


def save(path, array):
    np.save(path, array)
    return path


@pytest.fixture
def bring(store, runtime):
    """Return a function that imports files into the store of this test."""

    def run(*files, **flags):
        return import_logits(files, store, runtime, ImportFlags(**{"data": DATA, "dtype": "float32"} | flags))

    return run


def cached(artifact, view: int = 0) -> torch.Tensor:
    cache = LogitCache.open(artifact.path)
    return cache.logits(torch.arange(len(cache)), view).float()


def test_rows_of_the_split_and_of_the_whole_set(tmp_path, bring, split, whole):
    everything = answers(whole.labels)
    mine = everything[split.positions.numpy()]
    one = bring(save(tmp_path / "all.npy", everything))
    other = bring(save(tmp_path / "split.npy", mine))
    assert len(mine) < len(everything)
    assert torch.equal(cached(one), torch.from_numpy(mine))
    assert torch.equal(cached(other), torch.from_numpy(mine))
    right = float((mine.argmax(1) == split.train.labels.numpy()).mean())
    assert one.record.metrics["transfer/accuracy"] == pytest.approx(right)


def test_what_is_published_says_what_it_is(tmp_path, bring, split, store):
    path = save(tmp_path / "a.npy", answers(split.train.labels))
    artifact = bring(path, teacher="a network of a friend")
    assert isinstance(artifact.config, CacheConfig)
    assert artifact.config.teacher == ImportConfig(
        sha256=(hashlib.sha256(path.read_bytes()).hexdigest(),),
        classes=split.classes,
        teacher="a network of a friend",
    )
    assert artifact.problems() == []
    assert store.find(artifact.config) == artifact
    assert artifact.record.inputs == {}
    cache = LogitCache.open(artifact.path)
    assert cache.manifest.teachers == ()
    assert cache.manifest.source["kind"] == "import"
    assert set(cache.manifest.declared) == {
        "teacher weights", "preprocessing", "views", "sample order", "class order",
    }  # fmt: skip
    cache.check_fits(split)


def test_a_second_import_finds_the_first(tmp_path, bring, split, monkeypatch):
    path = save(tmp_path / "a.npy", answers(split.train.labels))
    first = bring(path)
    monkeypatch.setattr(importing, "write_cache", lambda *args: pytest.fail("written again"))
    assert bring(path).path == first.path
    assert bring(path, mean="logits").path == first.path, "one array has no mean"


def test_an_interrupted_import_goes_on(tmp_path, bring, split, monkeypatch):
    path = save(tmp_path / "a.npy", answers(split.train.labels, views=2))
    flags = {"augment": AugmentConfig(pad=1)}
    of_shard, seen = importing.Aligned.of_shard, []

    def die_at_the_second(self, shard):
        seen.append(shard.view)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return of_shard(self, shard)

    monkeypatch.setattr(importing.Aligned, "of_shard", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        bring(path, **flags)
    artifact = bring(path, **flags)
    assert seen == [0, 1, 1]
    for view in (0, 1):
        assert torch.equal(cached(artifact, view), torch.from_numpy(np.load(path)[:, view]))


def test_permuted_columns_are_put_in_order(tmp_path, bring, split):
    logits = answers(split.train.labels)
    order = np.random.default_rng(1).permutation(10)
    path = save(tmp_path / "a.npy", logits[:, order])
    artifact = bring(path, classes=[split.classes[column] for column in order])
    assert torch.equal(cached(artifact), torch.from_numpy(logits))
    assert "class order" not in LogitCache.open(artifact.path).manifest.declared
    with pytest.raises(UserError, match="in another order"):
        bring(path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "b"), r"classes = '2 names \(a, b, …\)': expected the 3 of the data set \(a, b, c, …\).*: c\."),
        (("a", "b", "d"), "Only in one of them: d"),
        (("a", "b", "b"), "Only in one of them: c"),
    ],
)
def test_other_names_are_refused(names, message):
    with pytest.raises(UserError, match=message):
        columns_by_name(names, 3, ("a", "b", "c"))


def test_names_that_occur_twice_have_no_order_but_their_own():
    twice = ("crane", "dog", "crane")
    assert columns_by_name(twice, 3, twice) is None
    with pytest.raises(UserError, match=r"'crane'.*names that differ"):
        columns_by_name(("crane", "crane", "dog"), 3, twice)


def test_shuffled_rows_are_refused_and_named(tmp_path, bring, split):
    """Rows in another order are refused: they would teach a student the logits of other images."""
    logits = answers(split.train.labels)
    np.random.default_rng(2).shuffle(logits)
    with pytest.raises(UserError, match=r"files = 'right on .*sample order"):
        bring(save(tmp_path / "a.npy", logits))


def test_shuffled_rows_of_a_later_view_are_refused_too(tmp_path, bring, split):
    logits = answers(split.train.labels, views=3)
    np.random.default_rng(2).shuffle(logits[:, 2])
    with pytest.raises(UserError, match="sample order"):
        bring(save(tmp_path / "a.npy", logits), augment=AugmentConfig(flip=True))


def test_a_poor_teacher_passes_when_it_is_told_so(tmp_path, store, runtime, split):
    path = save(tmp_path / "a.npy", answers(split.train.labels, right=0.0))
    poor = runtime.model_copy(update={"min_teacher_accuracy": 0.0})
    with pytest.raises(UserError, match="`min_teacher_accuracy`"):
        import_logits([path], store, runtime, ImportFlags(data=DATA))
    assert import_logits([path], store, poor, ImportFlags(data=DATA)).record.metrics["gate/accuracy"] < 0.2


@pytest.mark.parametrize(
    ("change", "flags", "message"),
    [
        (lambda z: z[:-1], {}, r"files = '\d+ rows': expected \d+, as many as training images, or \d+"),
        (lambda z: z[:, :9], {}, "files = '9 columns': expected a column for each of the 10"),
        (lambda z: z * np.nan, {}, "inf or nan"),
        (lambda z: z, {"values": "probabilities"}, "`values=logits`"),
        (lambda z: z, {"temperature": 4}, "temperature = 4.0: expected 1 for logits, .* `values=probabilities`"),
        (lambda z: z, {"top_k": 11}, "top_k = 11"),
        (lambda z: z[:, None].repeat(2, 1), {}, "1 without augmentation"),
        (lambda z: z * 1e30, {"dtype": "float16"}, "`dtype=float32`"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path, bring, split, store, change, flags, message):
    with pytest.raises(UserError, match=message):
        bring(save(tmp_path / "a.npy", change(answers(split.train.labels))), **flags)
    assert list(store.all()) == []
    assert not list((store.root / "drafts").glob("*/*"))


def test_mean_of_two_probabilities(tmp_path, bring, split):
    logits = [answers(split.train.labels), answers(split.train.labels, right=0.5)]
    p = [np.exp(z.astype(np.float64)) / np.exp(z.astype(np.float64)).sum(1, keepdims=True) for z in logits]
    files = [save(tmp_path / f"{i}.npy", each) for i, each in enumerate(p)]
    artifact = bring(*files, values="probabilities")
    np.testing.assert_allclose(cached(artifact).numpy(), np.log((p[0] + p[1]) / 2), atol=1e-5)
    assert len(artifact.config.teacher.sha256) == 2
    assert bring(*files, values="probabilities", mean="logits").path != artifact.path


def test_the_temperature_of_softened_probabilities_is_declared_and_in_the_key(tmp_path, bring, split):
    logits = answers(split.train.labels).astype(np.float64)
    path = save(tmp_path / "p.npy", np.exp(logits / 4) / np.exp(logits / 4).sum(1, keepdims=True))
    artifact = bring(path, values="probabilities", temperature=4)
    np.testing.assert_allclose(cached(artifact).softmax(1), torch.from_numpy(logits).softmax(1), atol=1e-5)
    manifest = LogitCache.open(artifact.path).manifest
    assert "temperature" in manifest.declared
    assert manifest.source["temperature"] == 4
    plain = bring(path, values="probabilities")
    assert plain.path != artifact.path
    assert plain.path == bring(path, values="probabilities", temperature=1).path
    assert "temperature" not in LogitCache.open(plain.path).manifest.declared


def test_truncated_and_half_precision(tmp_path, bring, split):
    logits = answers(split.train.labels)
    artifact = bring(save(tmp_path / "a.npy", logits), top_k=3, dtype="float16")
    mass = np.exp(logits).sum(1)
    np.testing.assert_allclose(cached(artifact).exp().sum(1).numpy(), mass, rtol=5e-3)
    assert artifact.config.top_k == 3


# --- TinyViT's file sets


def write_epoch(folder, keys, logits: np.ndarray, k: int):
    """Write the files of one epoch byte by byte, as two ranks do."""
    folder.mkdir(parents=True)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(1, keepdims=True)
    ids = np.argsort(-p, axis=1)[:, :k]
    for rank in (0, 1):
        rows = range(rank, len(keys), 2)
        (folder / f"rank{rank}-keys.txt").write_text("".join(f"{keys[row]}\n" for row in rows))
        records = [struct.pack(f"<i{k}h{k}e", row, *ids[row], *p[row, ids[row]]) for row in rows]
        (folder / f"rank{rank}-values.bin").write_bytes(b"".join(records))
    return folder


@pytest.mark.parametrize("k", [3, 10])
def test_a_file_set_by_position(tmp_path, bring, split, whole, k):
    logits = answers(whole.labels, views=2)
    order = np.random.default_rng(3).permutation(len(logits))
    for epoch in (0, 1):
        folder = tmp_path / "logits" / f"logits_top{k}_epoch{epoch}"
        write_epoch(folder, [str(row) for row in order], logits[order, epoch], k)
    artifact = bring(tmp_path / "logits", augment=AugmentConfig(pad=2), teacher="CLIP")
    assert artifact.config.top_k == (3 if k == 3 else None)
    assert artifact.config.views == 2
    assert artifact.config.teacher.values == "probabilities"
    assert len(artifact.config.teacher.sha256) == 2 * 2 * 2
    assert "sample order" in LogitCache.open(artifact.path).manifest.declared
    mine = torch.from_numpy(logits[split.positions.numpy()])
    for view in (0, 1):
        exact, got = mine[:, view].softmax(1), cached(artifact, view).softmax(1)
        kept = exact.topk(k).indices
        torch.testing.assert_close(got.gather(1, kept), exact.gather(1, kept), atol=1e-3, rtol=2e-3)
    with pytest.raises(UserError, match="at most the"):
        bring(tmp_path / "logits", augment=AugmentConfig(pad=2), top_k=11)
    with pytest.raises(UserError, match="expected 1 for a TinyViT file set"):
        bring(tmp_path / "logits", augment=AugmentConfig(pad=2), values="probabilities", temperature=4)


def test_arrays_and_file_sets_are_not_mixed(tmp_path, bring, split):
    logits = answers(split.train.labels)
    folder = write_epoch(tmp_path / "logits_top2_epoch0", range(len(logits)), logits, 2)
    with pytest.raises(UserError, match="one kind"):
        bring(folder, save(tmp_path / "a.npy", logits))
    with pytest.raises(UserError, match="at least one"):
        bring()


@pytest.fixture
def pets(tmp_path):
    """Make an image folder whose class names sort otherwise than its paths; all images differ."""
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 4)):
        for label in ("cat", "cat-2", "dog"):
            (tmp_path / "pets" / split / label).mkdir(parents=True)
            for i in range(count):
                buffer = io.BytesIO()
                Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(buffer, "png")
                (tmp_path / "pets" / split / label / f"{label}_{i}.png").write_bytes(buffer.getvalue())
    return tmp_path / "pets"


@pytest.mark.parametrize("held_out", [0.0, 0.2])
@pytest.mark.parametrize("keys", ["position", "path", "stem"])
@pytest.mark.parametrize("only_split", [False, True])
def test_an_image_folder_by_position_and_by_name(tmp_path, bring, runtime, pets, held_out, keys, only_split):
    from torchvision.datasets import ImageFolder

    listed = ImageFolder(str(pets / "train"))
    names = [path.removeprefix(f"{pets}/train/") for path, _ in listed.samples]
    logits = answers(torch.tensor(listed.targets), classes=3)
    data = DataConfig(name=f"imagefolder:{pets}", held_out=held_out)
    positions = load(data, runtime.data_root, progress=False).positions.numpy()
    rows = positions if only_split else np.arange(len(names))
    key_of = {
        "position": [str(row) for row in range(len(rows))],
        "path": [names[row] for row in rows],
        "stem": [names[row].split("/")[1].removesuffix(".png") for row in rows],
    }[keys]
    order = np.random.default_rng(4).permutation(len(rows))
    write_epoch(tmp_path / "logits_top3_epoch7", [key_of[i] for i in order], logits[rows[order]], 3)
    artifact = bring(tmp_path / "logits_top3_epoch7", data=data)
    got = cached(artifact)
    declared = LogitCache.open(artifact.path).manifest.declared
    assert ("sample order" in declared) == (keys == "position"), "a name proves which image it is"
    exact = torch.from_numpy(logits[positions]).softmax(1)
    torch.testing.assert_close(got.softmax(1), exact, atol=1e-3, rtol=0)


def test_names_without_an_image_folder_are_refused(tmp_path, bring, split):
    logits = answers(split.train.labels)
    write_epoch(tmp_path / "logits_top2_epoch0", [f"n{row}" for row in range(len(logits))], logits, 2)
    with pytest.raises(UserError, match="only the files of an image folder have names"):
        bring(tmp_path / "logits_top2_epoch0")
