"""Golden digests: small runs give the numbers that `numerics.json` holds, however the code is moved about.

An entry is the final weights of a network, the shards of a cache, the measures of an analysis or the rows
of a report. Where torch's version, its CPU capability and a few of its kernels are those recorded, every bit is
compared; elsewhere a few numbers of each array, and every measure, to within 1e-4. What is not a number is no part
of a digest: no key, path, time or commit.

To record: `python tests/test_numerics.py NAME...`, in the root of the clone, writes the entries that it names, new
or old, with this machine's environment where it is another; without a name it writes all. A new entry changes no
line of the others, and a new measure needs no record. Old entries are written anew only for a change of numbers
that is meant, and the message of the commit then says which numbers change and why. Never to make a refactoring
pass: these tests are there to find what it changed.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from distill.config import (
    SOFT_TERMS,
    AnalysisConfig,
    AugmentConfig,
    CacheConfig,
    DataConfig,
    EnsembleConfig,
    KnowledgeProbe,
    LabelsConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ScalingProbe,
    ScheduleConfig,
    StudentConfig,
    TeacherConfig,
    TemperaturesProbe,
)
from distill.metrics.measured import MEASURES_FILE
from distill.pipeline.experiments import reproduce
from distill.pipeline.graph import ensure
from distill.store.key import key
from distill.store.store import ArtifactStore
from distill.system import trust
from distill.system.runtime import Runtime
from distill.training.network import WEIGHTS

RECORDED = Path(__file__).with_name("numerics.json")
RECORD = "python tests/test_numerics.py"
TOLERANCE = 1e-4
"""Absolute and relative, where the environment is another. Runs are so short that rounding does not grow to it."""
SAMPLES = 6
"""Elements of an array that are recorded, evenly spread: the first ones may be of a row that is never trained."""

trust.name("torchvision.transforms.v2:RandomAffine")
HARD = TeacherConfig(
    data=DataConfig(held_out=0.15),
    model=ModelConfig(name="mlp", kwargs={"widths": [32]}),
    schedule=ScheduleConfig(epochs=3, batch_size=64),
)
SMOOTHED = HARD.with_loss(smoothing=0.1)
KEEPING = HARD.replace(snapshots=3, augment=AugmentConfig(pad=1))
CACHE = CacheConfig(teacher=HARD, transfer_set=HARD.data)
STUDENT = StudentConfig(
    cache=CACHE,
    data=HARD.data,
    model=ModelConfig(name="mlp", kwargs={"widths": [16]}),
    schedule=ScheduleConfig(epochs=3, batch_size=64, warmup_epochs=1),
    loss=LossConfig(alpha=0.5, temperature=4),
)
TRANSLATOR = TeacherConfig(
    data=DataConfig(name="translation", limit=400),
    model=ModelConfig(name="transformer", kwargs={"width": 16, "layers": 1, "heads": 2}),
    # Not Adam: it divides noise by noise, of the bias of a key, whose gradient is 0 but for rounding.
    optim=OptimConfig(lr=0.1),
    schedule=ScheduleConfig(epochs=2, batch_size=64),
    loss=LossConfig(alpha=0, smoothing=0.1),
)


def labels(source: TeacherConfig | None = None, **fields: Any) -> TeacherConfig:
    loss = SMOOTHED.loss.replace(labels=LabelsConfig(**fields))
    return SMOOTHED.replace(loss=loss, smoothing_source=source)


def student(**fields: Any) -> StudentConfig:
    return STUDENT.replace(loss=LossConfig(**{"alpha": 0.5, "temperature": 2} | fields))


OWN: dict[str, dict[str, Any]] = {
    "logit-matching": {"alpha": 0.9},
    "dkd": {"temperature": 4},
    "dist": {"temperature": 1},
}
"""Soft term → the fields of its loss that are not those of the others."""
ENTRIES: dict[str, TeacherConfig | StudentConfig | CacheConfig | AnalysisConfig | str] = {
    "hard-teacher": HARD,
    "smoothed-teacher": SMOOTHED,
    "others": SMOOTHED.with_loss(smoothing_convention="others"),
    "maxsup": SMOOTHED.with_loss(smoothing_convention="maxsup"),
    "per-class": HARD.with_loss(labels=LabelsConfig(per_class=tuple(0.02 * digit for digit in range(10)))),
    "towards-matrix": labels(
        towards="matrix", kwargs={"rows": [[1 + (a * b) % 7 for b in range(10)] for a in range(10)]}
    ),
    "towards-hierarchy": labels(
        towards="hierarchy", kwargs={"tree": [[[0, 6], 8], [[1, 7], 4, 2], [[3, 5], 9]], "beta": 3}
    ),
    "towards-similar": labels(source=HARD, towards="similar", kwargs={"temperature": 2}),
    "by-step-and-sample": labels(schedule="cosine", first=0.2, by_sample="difficulty", confidence_penalty=0.1),
    "mixup": SMOOTHED.replace(augment=AugmentConfig(pad=1, mixup=0.4)),
    "ema": HARD.replace(ema=0.9, optim=OptimConfig(lr=0.05, weight_decay=1e-3, head_lr=0.5)),
    "adamw": HARD.replace(optim=OptimConfig(name="adamw", lr=0.003, weight_decay=0.05)),
    "view-program": HARD.replace(
        augment=AugmentConfig(
            program="torchvision.transforms.v2:RandomAffine",
            kwargs={"degrees": 15, "translate": [0.1, 0.1]},
        )
    ),
    # A net with batch norm, which sees a part at a time, and with dropout, of which each part has its own.
    "two-parts": HARD.replace(
        model=ModelConfig(name="cnn", kwargs={"widths": [8, 16], "hidden": 32, "dropout": 0.2}),
        schedule=ScheduleConfig(epochs=2, batch_size=64, parts=2),
    ),
    "tokens": TRANSLATOR,
    "cached-student": STUDENT,
    "temperature-on-teacher": student(temperature_on="teacher"),
    **{soft: student(soft=soft, **OWN.get(soft, {})) for soft in SOFT_TERMS if soft != "kl"},
    "cache": CACHE,
    "snapshot-cache": CacheConfig(teacher=KEEPING, snapshot=1, transfer_set=HARD.data, dtype="float32"),
    "views-cache": CACHE.replace(
        views=2, augment=AugmentConfig(pad=1, flip=True, mixup=0.4, cutmix=0.5), dtype="float32"
    ),
    "top-k-cache": CACHE.replace(top_k=3),
    "ensemble-cache": CACHE.replace(teacher=EnsembleConfig(members=(HARD, SMOOTHED)), dtype="float32"),
    "analysis": AnalysisConfig(
        runs=(HARD, STUDENT),
        reference=HARD,
        probes=(TemperaturesProbe(temperatures=(1, 2, 4)), KnowledgeProbe(temperature=2), ScalingProbe()),
    ),
    # Of the fast experiments two whose measures are stable. Where students learn from a cache at this scale, a CPU
    # that rounds otherwise changes ranks and accuracies; `analysis` has a student that is steadier.
    "report-of-accuracy": "table2_accuracy",
    "report-of-theory": "smoothing_theory",
}
"""Name → what is trained, cached or measured, or the experiment that is reported, at the scale `smoke`."""


class Numbers(NamedTuple):
    """What is recorded of an entry."""

    sha256: str
    values: dict[str, list[float | None]]
    """Of an array its mean, its root mean square and a few elements; of a row its numbers."""


def environment() -> dict[str, str]:
    """What the bits depend on beside the code: torch, and which kernels it and its libraries take on this CPU."""
    return {
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "kernels": _kernels(),
    }


def _kernels() -> str:
    """Digest of a few products and a convolution.

    The capability is torch's own; the libraries beneath it choose kernels by the maker of the CPU too.
    """
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    results = [torch.nn.functional.conv2d(*(torch.rand(8, 8, 8, 8, generator=generator) for _ in range(2)))]
    for n, k, m in ((64, 64, 32), (64, 32, 10), (32, 64, 64), (832, 16, 190)):
        results.append(torch.rand(n, k, generator=generator) @ torch.rand(k, m, generator=generator))
    return _digest({str(place): result.numpy() for place, result in enumerate(results)})


def measure(name: str, store: ArtifactStore, runtime: Runtime) -> Numbers:
    """Make what an entry names, as far as it is not in the store, and read its numbers."""
    entry = ENTRIES[name]
    if isinstance(entry, str):
        (report,) = reproduce(entry, "smoke", None, store, runtime).reports
        return _of_rows(_read(report.path / "summary.json")["rows"])
    made = ensure([entry], store, runtime)[key(entry)].path
    if isinstance(entry, AnalysisConfig):
        measures = _read(made / MEASURES_FILE)
        return _of_rows(
            {"condition": run.stage, "measure": measure, "value": value}
            for run in entry.runs
            for measure, value in measures[key(run)]["values"].items()
        )
    if isinstance(entry, CacheConfig):
        shards = sorted(made.rglob("*.npy"))
        arrays = {f"shard {place}": np.load(path) for place, path in enumerate(shards)}
    else:
        arrays = load_file(made / WEIGHTS)
    return Numbers(_digest(arrays), {each: _few(array) for each, array in _plain(arrays)})


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _of_rows(rows: Iterable[dict[str, Any]]) -> Numbers:
    """All numbers of each row; in no order, which is no number."""
    values: dict[str, list[float | None]] = {}
    for row in rows:
        name = f"{row['condition']}: {row['measure']}"
        assert name not in values
        values[name] = [value for field, value in sorted(row.items()) if field not in ("condition", "measure")]
    return _of_values(values)


def _of_values(values: dict[str, list[float | None]]) -> Numbers:
    return Numbers(hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest(), values)


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Digest of the arrays, not of their files, whose headers may change."""
    assert arrays
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype} {arrays[name].shape}\n".encode())
        found.update(arrays[name].tobytes())
    return found.hexdigest()


def _plain(arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Arrays of numbers: the fields of a row of several are taken one by one."""
    for name in sorted(arrays):
        array = arrays[name]
        if array.dtype.names is None:
            yield name, array
        else:
            yield from ((f"{name} {field}", array[field]) for field in array.dtype.names)


def _few(array: np.ndarray) -> list[float | None]:
    flat = array.astype(np.float64).ravel()
    some = flat[np.linspace(0, flat.size - 1, min(SAMPLES, flat.size)).astype(int)]
    return [float(f"{value:.9g}") for value in (flat.mean(), np.sqrt((flat**2).mean()), *some)]


def runtime_in(folder: Path) -> Runtime:
    return Runtime(
        store=folder / "store",
        data_root=folder / "data",
        device="cpu",
        executor="inline",
        threads=1,
        workers=0,
        progress=False,
        min_teacher_accuracy=0,  # these are trained for a few steps
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one store for all entries: what several of them need is made once."""
    return tmp_path_factory.mktemp("numerics")


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return _read(RECORDED)


def test_every_entry_is_recorded(recorded: dict[str, Any]) -> None:
    assert list(recorded["entries"]) == list(ENTRIES), f"run `{RECORD} NAME` for what is missing"
    digests = {entry["sha256"] for entry in recorded["entries"].values()}
    assert len(digests) == len(ENTRIES), "two entries give the same, so one of them tests nothing"


@pytest.mark.parametrize("name", ENTRIES)
def test_the_numbers_are_those_recorded(name: str, recorded: dict[str, Any], folder: Path) -> None:
    runtime = runtime_in(folder)
    found = measure(name, ArtifactStore(runtime.store), runtime)
    entry = {"environment": recorded["environment"], **recorded["entries"][name]}
    expected = Numbers(entry["sha256"], entry["values"])
    if isinstance(ENTRIES[name], AnalysisConfig | str):  # a measure that was added since is no change
        found = _of_values({each: values for each, values in found.values.items() if each in expected.values})
    assert sorted(found.values) == sorted(expected.values)
    for each, values in found.values.items():
        wanted = np.array(expected.values[each], float)  # None, of what is not finite, becomes nan
        np.testing.assert_allclose(np.array(values, float), wanted, TOLERANCE, TOLERANCE, err_msg=each)
    if environment() == entry["environment"]:
        told = f"some bits differ, though the numbers are within the tolerance; if meant: `{RECORD} {name}`"
        assert found.sha256 == expected.sha256, told


def record(names: list[str]) -> None:
    """Write what this code and this machine give for the named entries, or for all if none is named."""
    before = _read(RECORDED)
    if unknown := {*names} - ENTRIES.keys():
        raise SystemExit(f"{', '.join(sorted(unknown))}: no entry; the entries are {', '.join(ENTRIES)}")
    with tempfile.TemporaryDirectory() as folder:
        runtime = runtime_in(Path(folder))
        store = ArtifactStore(runtime.store)
        anew = {name: measure(name, store, runtime)._asdict() for name in names or ENTRIES}
    if names and environment() != before["environment"]:
        anew = {name: {**entry, "environment": environment()} for name, entry in anew.items()}
    known = before["entries"] | anew
    entries = {name: known[name] for name in ENTRIES if name in known}
    whole = {"environment": before["environment"] if names else environment(), "entries": entries}
    text = json.dumps(whole, indent=1, ensure_ascii=False)
    # A list on a line, so that a diff shows what changed.
    text = re.sub(r"\[[^][{}]*\]", lambda found: re.sub(r"\n\s*", " ", found[0]), text)
    RECORDED.write_text(text.replace("[ ", "[").replace(" ]", "]") + "\n", encoding="utf-8")


if __name__ == "__main__":
    record(sys.argv[1:])
