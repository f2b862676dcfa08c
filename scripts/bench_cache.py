"""Measure what a logit cache costs (bytes, time, memory), beside other formats and an online teacher.

One run measures everything and prints one table. Each ratio stands beside the largest value that is asked for.

- Reading: 128 random samples are read from a warm page cache, up to the logits or probabilities that a loss takes.
  Each read comes right after a training step of the student (MLP 784-800-800-K, cross-entropy, batch 128). The
  ratio is the time of the read as a share of this step, which also leaves the processor's caches as a real step
  does. The formats take turns in a new order every round; results are medians over rounds. A loop of your own calls
  `logits()` per batch. "chunks" is how the student stage reads: as many samples at a time as
  `distill.cache.soft_targets` takes. A dense cache of up to 1 GiB is held in memory; "mapped" is how larger caches
  are read.
- Other formats: the TinyViT record (int32 seed, k int16 class numbers, k float16 probabilities) is found by its
  key, read by a seek and parsed, sample by sample, and spread over all classes batch by batch, as in
  microsoft/Cream (TinyViT/main.py, data/augmentation/manager.py and dataset_wrapper.py). torchdistill has one
  `torch.save` per sample. Both do their reading in DataLoader workers, and it is timed where it is done. The online
  teacher is a forward pass of the MLP 784-1200-1200-K in inference mode.
- Writing: the shards (fsync, sha256, stamps) and the whole artifact (manifest, proof, errors of the stored form,
  sha256 of every file, record) are compared, in turns, with equal forward passes that store nothing.
- Opening: a cache is opened in a fresh process, and its first batch is read, which hashes the shards that it needs.
- `--imagenet`: one process writes a synthetic cache of 1,281,167 × 1,000 float16 (2.6 GB), and another process
  reads all of it in random order. The peak of the reader's memory beyond the page cache (RssAnon) is measured.

    python scripts/bench_cache.py [--full] [--threads 1] [--imagenet] [--folder DIR]
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rounds import announce, make_parser, parse, take_turns
from torch import nn
from torch.nn.functional import cross_entropy

from distill.cache import LogitCache
from distill.cache.manifest import TeacherIdentity
from distill.cache.shards import Piece, layout_of, write_shards
from distill.cache.soft_targets import TARGET_BYTES
from distill.cache.tinyvit import record_type
from distill.cache.writing import make_manifest, write_cache
from distill.config import CacheConfig, DataConfig, ModelConfig, NamedTeacher, OptimConfig
from distill.data.loader import CHUNK_BYTES, Loader
from distill.data.sets.dataset import Dataset, Split
from distill.data.views.views import Views
from distill.errors import UserError
from distill.models import build_model
from distill.store.key import key
from distill.store.record import Record
from distill.store.stages import STAGES, inputs, title
from distill.store.store import ArtifactStore
from distill.system.memory import keep_freed_memory
from distill.system.runtime import free_bytes
from distill.training.optim import build_optimizer

BATCH, FEW, MANY = 128, 10, 1000
MNIST, PIXEL = (1, 28, 28), (1, 1, 1)
TEACHER = ModelConfig(name="mlp", kwargs={"widths": [1200, 1200]})
STUDENT = ModelConfig(name="mlp", kwargs={"widths": [800, 800]})
FILES = 2048
"""Number of samples that are saved, each to a file of its own."""
WARM_UP = 3
"""Number of rounds of reading before the first timed round."""
STATUS = Path("/proc/self/status")
READ, WRITE, RESIDENT = 0.01, 1.05, 1e9
"""Largest values that are asked for: a share of a step, a ratio to bare inference, and bytes in memory."""
WIDTH = 54
"""Width of the table's first column in characters."""


@dataclass(frozen=True)
class Line:
    """One line of the printed table."""

    what: str
    bytes_per_view: float | None = None
    measured: str = ""
    ratio: float | None = None
    of: str = ""
    most: float | None = None

    def __str__(self) -> str:
        size = "" if self.bytes_per_view is None else f"{self.bytes_per_view:,.0f}"
        ratio = "" if self.ratio is None else f"{self.ratio:.4f}"
        most = "" if self.most is None else f"{self.most:g}"
        return f"| {self.what:{WIDTH}} | {size:>6} | {self.measured:>10} | {ratio:>7} | {self.of:14} | {most:>5} |"


HEADING = (
    f"| {'what':{WIDTH}} | {'B/view':6} | {'measured':>10} | {'ratio':>7} | {'to':14} | {'asked':5} |\n"
    f"| {'-' * WIDTH} | {'-' * 5}: | {'-' * 9}: | {'-' * 6}: | {'-' * 14} | {'-' * 4}: |"
)


class Synthetic:
    """Logits as a pure function of the sample's number; class number % classes has by far the largest logit."""

    def __init__(self, classes: int):
        self.classes = classes
        self.base = torch.randn(997, classes, generator=torch.Generator().manual_seed(0))

    def pieces(self, index: torch.Tensor) -> Iterator[Piece]:
        """Yield the logits and labels of samples, given by their numbers, in pieces."""
        for part in index.split(2048):
            labels = part % self.classes
            logits = self.base[part % 997] + (part // 997).unsqueeze(1) / 256
            yield Piece(logits.scatter_add_(1, labels.unsqueeze(1), torch.full((len(part), 1), 10.0)), labels)


class Network:
    """A network that gives logits on the images of a data set in pieces, like `distill.cache.teacher_logits`."""

    def __init__(self, model: ModelConfig, data: Dataset, config: CacheConfig):
        self.model = build_model(model, len(data.classes), data.shape).eval()
        views = Views.of_training(data, config.augment, config.view_seed)
        self.loader = Loader(views, BATCH, seed=None)

    @torch.inference_mode()
    def pieces(self, index: torch.Tensor) -> Iterator[Piece]:
        """Yield the logits and labels of samples, given by their numbers, in pieces."""
        for batch in self.loader.batches(index, 0):
            yield Piece(self.model(batch.images).float().cpu(), batch.labels.cpu())


def make_dataset(samples: int, classes: int, shape: tuple[int, int, int]) -> Dataset:
    """Make a data set of random images; the label of a sample is its number % classes."""
    images = torch.randint(256, (samples, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    number = torch.arange(samples)
    train, none = Split(images, number % classes), Split(images[:0], number[:0])
    names = tuple(f"class {number}" for number in range(classes))
    channels = shape[0]
    return Dataset("bench", train, none, none, names, (0.5,) * channels, (0.3,) * channels, "", number)


def make_config(samples: int, classes: int, top_k: int | None = None) -> CacheConfig:
    """Make the config of a cache of synthetic samples."""
    transfer_set = DataConfig(name="bench:samples", kwargs={"samples": samples, "classes": classes})
    return CacheConfig(transfer_set=transfer_set, top_k=top_k)


def _identity(teacher: NamedTeacher, data: Dataset) -> TeacherIdentity:
    """Return the identity of a teacher that has no weights."""
    return TeacherIdentity(
        title=title(teacher),
        key=key(teacher),
        weights="",
        mean=data.mean,
        std=data.std,
        size=data.shape,
        interpolation="none",
    )


def publish(root: Path, config: CacheConfig, data: Dataset, teacher: Synthetic | Network) -> Path:
    """Write a whole cache as the pipeline does, and return its folder."""
    store = ArtifactStore(root)
    views = Views.of_training(data, config.augment, config.view_seed)

    def answer(index: torch.Tensor, _view: int) -> torch.Tensor:
        return torch.cat([piece.logits for piece in teacher.pieces(index)])

    with store.draft(config) as draft:
        manifest = make_manifest(config, data, tuple(_identity(each, data) for each in config.teachers))
        metrics = write_cache(
            draft,
            config,
            manifest,
            views,
            lambda shard: teacher.pieces(torch.arange(shard.first, shard.last)),
            answer,
            progress=False,
        )
        record = Record(
            key=key(config),
            version=STAGES["cache"].version,
            config=config.model_dump(mode="json"),
            inputs={key(upstream): "" for upstream in inputs(config)},
            files=store.describe_files(draft),
            metrics=metrics,
        )
        return store.publish(config, draft, record).path


# Reading


@dataclass(frozen=True)
class Format:
    """A format of teacher outputs, or another way to get them.

    Attributes:
        name: name of its line in the table.
        bytes_per_view: bytes of a view on disk.
        read: function from sample numbers to what a loss takes.
        samples: number of samples.
        size: number of samples that are read at a time.
        most: largest share of a step that reading may take.
        stored: whether the outputs are the stored outputs of `Synthetic`.
    """

    name: str
    bytes_per_view: float
    read: Callable[[torch.Tensor], torch.Tensor]
    samples: int
    size: int = BATCH
    most: float | None = None
    stored: bool = True


def chunk_size(classes: int) -> int:
    """Return the number of samples that the student stage reads at a time, for 28 × 28 images."""
    by_images = max(1, CHUNK_BYTES // (4 * 784 * BATCH)) * BATCH
    by_targets = max(1, TARGET_BYTES // (4 * classes) // BATCH) * BATCH
    return min(by_images, by_targets)


def ours(root: Path, samples: int, classes: int, top_k: int | None = None) -> list[Format]:
    """Write our cache, and return how it is read: by batches and by chunks, in memory and mapped."""
    data = make_dataset(samples, classes, PIXEL)
    cache = LogitCache.open(publish(root, make_config(samples, classes, top_k), data, Synthetic(classes)))
    kind = "dense float16" if top_k is None else f"top-{top_k}"
    ways: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {f"{kind}, logits()": cache.logits}
    if classes == MANY and top_k is None:
        # This is what logits() does with a cache that does not fit into memory.
        ways[f"{kind}, mapped"] = lambda index: cache.encoding.decode(cache.rows(index))
    size, many = cache.encoding.bytes_per_row, min(chunk_size(classes), samples)
    return [
        Format(f"ours {name}, {unit}", size, read, samples, number, READ)
        for name, read in ways.items()
        for unit, number in (("batches", BATCH), ("chunks", many))
    ]


def tinyvit(root: Path, samples: int, classes: int, top_k: int, until: ExitStack) -> Format:
    """Write TinyViT's records, and return how they are read, one by one; `until` closes their file."""
    root.mkdir()
    values, record = root / "rank0-values.bin", record_type(top_k)
    (root / "rank0-keys.txt").write_text("".join(f"{number}\n" for number in range(samples)))
    with values.open("wb") as written:
        for piece in Synthetic(classes).pieces(torch.arange(samples)):
            probabilities, ids = piece.logits.softmax(1).topk(top_k)
            rows = np.zeros(len(ids), record)
            rows["ids"], rows["probabilities"] = ids.numpy(), probabilities.half().numpy()
            written.write(rows.tobytes())
    place = {name: row for row, name in enumerate((root / "rank0-keys.txt").read_text().split())}
    stored, ends = until.enter_context(values.open("rb")), (4, 4 + 2 * top_k)

    def one(number: int) -> tuple[np.ndarray, np.ndarray]:
        stored.seek(place[str(number)] * record.itemsize)
        found = stored.read(record.itemsize)
        np.frombuffer(found[: ends[0]], np.int32)  # the seed of the view
        ids = np.frombuffer(found[ends[0] : ends[1]], np.int16).copy()
        return ids, np.frombuffer(found[ends[1] :], np.float16).copy()

    def read(index: torch.Tensor) -> torch.Tensor:
        ids, kept = zip(*map(one, index.tolist()), strict=True)
        numbers = torch.stack([torch.from_numpy(row) for row in ids]).long()
        probabilities = torch.stack([torch.from_numpy(row) for row in kept]).float()
        rest = (1 - probabilities.sum(1, keepdim=True)) / (classes - top_k)
        return rest.repeat_interleave(classes, dim=1).scatter_(1, numbers, probabilities)

    return Format(f"TinyViT record, k = {top_k}", values.stat().st_size / samples, read, samples)


def file_each(root: Path, samples: int, classes: int) -> Format:
    """Write a file per sample, in folders named by the last four digits of its number; return how they are read."""
    samples = min(samples, FILES)

    def path(number: int) -> Path:
        return root / f"{number:04d}"[-4:] / f"{number:04d}.pt"

    index = torch.arange(samples)
    for number, row in enumerate(torch.cat([piece.logits for piece in Synthetic(classes).pieces(index)])):
        path(number).parent.mkdir(parents=True)
        torch.save({"teacher_outputs": row.clone()}, path(number))

    def read(index: torch.Tensor) -> torch.Tensor:
        # As in torchdistill: a check of what is unpickled would cost time.
        rows = [torch.load(path(number), weights_only=False) for number in index.tolist()]
        return torch.stack([row["teacher_outputs"] for row in rows])

    size = sum(file.stat().st_size for file in root.rglob("*.pt")) / samples
    return Format("torch.save per sample", size, read, samples)


def online(classes: int) -> Format:
    """Return the format in which no logits are stored: the teacher runs in every step."""
    model = build_model(TEACHER, classes, MNIST).eval()
    images = torch.randn(BATCH, *MNIST)

    def read(_index: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return model(images)

    return Format("online teacher", 0, read, BATCH, stored=False)


def student_step(classes: int) -> Callable[[], None]:
    """Make the training step of a student on labels alone, which is the least that a student costs."""
    model = build_model(STUDENT, classes, MNIST)
    optimizer = build_optimizer(model, OptimConfig(lr=0.01))
    images, labels = torch.randn(BATCH, *MNIST), torch.arange(BATCH) % classes

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(model(images), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def endless(format: Format) -> Iterator[torch.Tensor]:
    """Yield random parts of a format's samples; every sample comes once before any comes again."""
    parts = max(1, format.samples // format.size)
    while True:
        yield from torch.randperm(format.samples).split(format.size)[:parts]


def timed(action: Callable[[], Any]) -> float:
    """Run an action, and return the seconds that it takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def reading(title: str, formats: Sequence[Format], classes: int, rounds: int) -> list[Line]:
    """Measure the seconds per batch that each format takes to read, and their share of a student's step."""
    for format in formats:
        check(format, classes)
    step = student_step(classes)
    parts = {format.name: endless(format) for format in formats}

    def measure(format: Format) -> tuple[float, float]:
        index = next(parts[format.name])
        of_step = timed(step)
        return of_step, timed(partial(format.read, index)) * BATCH / len(index)

    found = take_turns({format.name: partial(measure, format) for format in formats}, rounds, WARM_UP, title)
    of, median = f"step, K = {classes}", statistics.median
    steps = show(median(of_step for taken in found.values() for of_step, _ in taken))
    lines = [Line(f"{title}: student's step", None, steps, 1.0, of)]
    for format in formats:
        name, taken = f"{title}: {format.name}", found[format.name]
        share = median(of_read / of_step for of_step, of_read in taken)
        seconds = show(median(of_read for _, of_read in taken))
        lines.append(Line(name, format.bytes_per_view, seconds, share, of, format.most))
    return lines


def check(format: Format, classes: int) -> None:
    """Read some samples, and refuse to time a format that gives the outputs of other samples.

    Raises:
        RuntimeError: the outputs belong to other samples.
    """
    if not format.stored:
        return
    index = torch.randperm(format.samples)[: format.size]
    found = format.read(index)
    if found.shape != (len(index), classes) or not torch.equal(found.argmax(1), index % classes):
        raise RuntimeError(f"{format.name} gave the answers to other samples")


def show(seconds: float) -> str:
    """Format a duration with its unit, for people."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{1e3 * seconds:.3f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.1f} µs"


# Writing


def writing(
    folder: Path, model: ModelConfig, shape: tuple[int, int, int], config: CacheConfig, rounds: int
) -> list[Line]:
    """Measure the seconds of a bare teacher, of writing its shards, and of making the artifact, in turns."""
    samples, classes = (config.transfer_set.kwargs[name] for name in ("samples", "classes"))
    data, layout = make_dataset(samples, classes, shape), layout_of(config, samples, classes)
    teacher = Network(model, data, config)

    def bare(_place: Path) -> None:
        for _piece in teacher.pieces(torch.arange(samples)):
            pass

    def shards(place: Path) -> None:
        write_shards(place, layout, lambda shard: teacher.pieces(torch.arange(shard.first, shard.last)))

    def artifact(place: Path) -> None:
        publish(place, config, data, teacher)

    def measure(write: Callable[[Path], None]) -> float:
        place = folder / "written"
        place.mkdir()
        seconds = timed(partial(write, place))
        shutil.rmtree(place)
        return seconds

    contestants = {"bare": bare, "shards": shards, "artifact": artifact}
    times = take_turns({name: partial(measure, write) for name, write in contestants.items()}, rounds)
    title = f"{model.name}, K = {classes}, {f'top-{config.top_k}' if config.top_k else 'dense'}"
    bare_seconds = show(statistics.median(times["bare"]))
    lines = [Line(f"{title}: bare teacher, {samples:,} samples", None, bare_seconds, 1.0, "bare teacher")]
    for name in ("shards", "artifact"):
        ratio = statistics.median(a / b for a, b in zip(times[name], times["bare"], strict=True))
        seconds = show(statistics.median(times[name]))
        lines.append(Line(f"{title}: writing, {name}", None, seconds, ratio, "bare teacher", WRITE))
    return lines


# Opening, and the resident set: in processes of their own


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process, and return its result."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def settle(threads: int) -> None:
    """Make the settings that every stage makes: memory, threads and seeds."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    random.seed(0)
    torch.manual_seed(0)


def opening(title: str, path: Path) -> tuple[LogitCache, list[Line]]:
    """Open a cache, and measure the seconds to open it and to read its first batch."""
    started = time.perf_counter()
    cache = LogitCache.open(path)
    opened = time.perf_counter() - started
    index = torch.randperm(len(cache))[:BATCH]
    first = timed(partial(cache.logits, index))
    lines = [Line(f"{title}: opening", None, show(opened))]
    return cache, [*lines, Line(f"{title}: first batch, shards hashed", None, show(first))]


def openings(paths: dict[str, Path], threads: int) -> list[Line]:
    """Measure the opening and the first batch of several caches."""
    settle(threads)
    return [line for title, path in paths.items() for line in opening(title, path)[1]]


def resident() -> tuple[float, float]:
    """Return the bytes of this process in memory: its own (RssAnon), and files in the page cache (RssFile)."""
    fields = dict(line.split(":", 1) for line in STATUS.read_text(encoding="utf-8").splitlines())
    anonymous, of_files = (1024.0 * int(fields[name].split()[0]) for name in ("RssAnon", "RssFile"))
    return anonymous, of_files


def write_imagenet(root: Path, samples: int, threads: int) -> tuple[Path, float]:
    """Write the synthetic cache of ImageNet's size, and return its folder and the seconds that it took."""
    settle(threads)
    data, config = make_dataset(samples, MANY, PIXEL), make_config(samples, MANY)
    started = time.perf_counter()
    return publish(root, config, data, Synthetic(MANY)), time.perf_counter() - started


def read_imagenet(path: Path, threads: int, rounds: int) -> list[Line]:
    """Read a whole cache in random order, by batches and by chunks, then in turns with a student's step."""
    title = "ImageNet size"
    settle(threads)
    before = resident()[0]
    cache, lines = opening(title, path)
    samples, size, seen = len(cache), cache.encoding.bytes_per_row, [resident()]
    units = {"batches": BATCH, "chunks": min(chunk_size(MANY), samples)}
    for unit, number in units.items():
        times = []
        for index in torch.randperm(samples).split(number):
            times.append(timed(partial(cache.logits, index)) * BATCH / len(index))
            seen.append(resident())
        lines.append(Line(f"{title}: all of it once, {unit}", size, show(statistics.median(times))))
    anonymous, of_files = (max(values) for values in zip(*seen, strict=True))
    lines += [
        Line(f"{title}: RssAnon before opening", None, f"{before / 1e9:.3f} GB"),
        Line(f"{title}: RssAnon, peak", None, f"{anonymous / 1e9:.3f} GB", anonymous / RESIDENT, "1 GB", 1.0),
        Line(f"{title}: RssFile, peak (page cache)", None, f"{of_files / 1e9:.3f} GB"),
    ]
    formats = [
        Format(f"ours dense float16, {unit}", size, cache.logits, samples, number, READ)
        for unit, number in units.items()
    ]
    return lines + reading(title, formats, MANY, rounds)


def refuse_imagenet(folder: Path, samples: int) -> None:
    """Refuse `--imagenet` where it cannot work, before anything is measured.

    Raises:
        UserError: there is no /proc, or the disk is too small.
    """
    if not STATUS.exists():
        raise UserError("imagenet", f"no {STATUS}", "a system that has it, such as Linux", "Drop --imagenet.")
    needed, free = 1.1 * layout_of(make_config(samples, MANY), samples, MANY).bytes, free_bytes(folder)
    if free < needed:
        value = f"{folder} with {free / 1e9:.2g} GB free"
        raise UserError("folder", value, f"{needed / 1e9:.2g} GB", "Set --folder to another disk.")


def imagenet(folder: Path, samples: int, threads: int, rounds: int) -> list[Line]:
    """Measure a synthetic cache of ImageNet's size, written by one process and read by another."""
    path, seconds = alone(write_imagenet, folder, samples, threads)
    written = sum(file.stat().st_size for file in path.rglob("*.npy")) / 1e9
    line = Line(f"ImageNet size: writing {written:.2f} GB, no teacher", None, show(seconds))
    return [line, *alone(read_imagenet, path, threads, rounds)]


def main() -> None:
    """Measure, and print the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--samples", type=int, default=10_000, help="samples of the caches that are read")
    parser.add_argument("--rounds", type=int, default=40, help="reads of each format")
    parser.add_argument("--write-samples", type=int, default=10_000, help="samples that the MLP answers to")
    parser.add_argument("--write-rounds", type=int, default=3, help="times that each writes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--imagenet", action="store_true", help="write and read 2.6 GB too")
    parser.add_argument("--imagenet-samples", type=int, default=1_281_167, help="samples of that cache")
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    given = parse(parser, samples=60_000, rounds=200, write_samples=60_000, write_rounds=7)
    announce(
        10
        + 0.001 * given.samples
        + 0.4 * given.rounds
        + 0.0012 * given.write_samples * (1 + given.write_rounds)
        + 0.0002 * given.imagenet * given.imagenet_samples
    )
    settle(given.threads)
    print(f"{given.threads} threads, torch {torch.__version__}, medians of {given.rounds} reads", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-cache-", dir=given.folder) as folder:
            if given.imagenet:
                refuse_imagenet(Path(folder), given.imagenet_samples)
            print(HEADING, flush=True)
            for lines in measurements(Path(folder), given):
                print(*lines, sep="\n", flush=True)
    except UserError as error:
        parser.error(str(error))


def measurements(folder: Path, given: argparse.Namespace) -> Iterator[list[Line]]:
    """Yield the lines of the table, part by part, as soon as each part is measured."""
    samples, threads = given.samples, given.threads
    few = [*ours(folder / "store", samples, FEW), file_each(folder / "files", samples, FEW), online(FEW)]
    yield reading(f"K = {FEW}", few, FEW, given.rounds)
    many = [format for top_k in (None, 10, 100) for format in ours(folder / "store", samples, MANY, top_k)]
    with ExitStack() as until:
        many += [tinyvit(folder / f"tinyvit{top_k}", samples, MANY, top_k, until) for top_k in (10, 100)]
        many += [file_each(folder / "more-files", samples, MANY), online(MANY)]
        yield reading(f"K = {MANY}", many, MANY, given.rounds)
    # Slower teachers get fewer samples, so that each case takes a few seconds.
    for model, shape, classes, top_k, share in (
        (TEACHER, MNIST, FEW, None, 1),
        (TEACHER, MNIST, MANY, None, 2),
        (TEACHER, MNIST, MANY, 100, 2),
        (ModelConfig(name="cnn"), MNIST, FEW, None, 4),
        (ModelConfig(name="resnet56_preact"), (3, 32, 32), FEW, None, 50),
    ):
        config = make_config(max(16, given.write_samples // share), classes, top_k)
        yield writing(folder, model, shape, config, given.write_rounds)
    store = ArtifactStore(folder / "store")
    paths = {f"{samples:,} × {classes}": store.path(make_config(samples, classes)) for classes in (FEW, MANY)}
    yield alone(openings, paths, threads)
    if given.imagenet:
        yield imagenet(folder / "imagenet", given.imagenet_samples, threads, given.rounds)


if __name__ == "__main__":
    main()
