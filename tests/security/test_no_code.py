"""No file that is read can run code: the package calls nothing that could; a payload is planted on every path."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distill.audit.export import export, load_exported
from distill.audit.export.description import DESCRIPTION
from distill.cache import CachedDataset, LogitCache
from distill.cache.manifest import MANIFEST
from distill.cache.proof import PROOF
from distill.cache.shards import SHARDS
from distill.config import (
    AnalysisConfig,
    CacheConfig,
    CalibrationConfig,
    DataConfig,
    ImportFlags,
    ReportConfig,
    StageConfig,
    SweepConfig,
    TeacherConfig,
)
from distill.data.sets import load as load_module
from distill.data.sets.load import load
from distill.errors import UserError
from distill.pipeline.graph import ensure
from distill.pipeline.importing import import_logits
from distill.pipeline.run import run_stage
from distill.reports.experiment import Experiment
from distill.stages.calibration import SCALING, load_scaling
from distill.stages.report import read_table
from distill.store.artifact import Artifact
from distill.store.inputs import Inputs
from distill.store.key import key
from distill.store.record import RECORD, RESUME, STAMPS, FileEntry, Record
from distill.store.store import ArtifactStore
from distill.system.files import sha256
from distill.system.reading import read_json
from distill.system.runtime import Runtime
from distill.training.kept_weights import snapshot_file
from distill.training.network import PREDICTIONS, WEIGHTS, load_network, load_predictions, snapshot_steps
from distill.training.tracking import read_metrics
from tests.memory import forget_data_sets
from tests.small import SHORT, TINY

pytestmark = pytest.mark.fault("code in files")

PACKAGE = Path(__file__).parents[2] / "distill"

MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "runpy", "torchvision.datasets"}
FUNCTIONS = {
    "torch.load",
    "torch.export.load",
    "torch.hub.load",
    "torch.jit.load",
    "torch.package.PackageImporter",
    "torch.serialization.load",
    "numpy.load",
    "pandas.read_pickle",
    "importlib.import_module",
    "eval",
    "exec",
    "compile",
    "__import__",
}
SAFE = {"allow_pickle": False, "weights_only": True}
ALLOWED = {
    ("system/runtime.py", "joblib"): "counts cores",
    (
        "pipeline/executors/worker.py",
        "pickle",
    ): "an error that was pickled in the same line, to see whether it can be",
    ("system/weights.py", "torch.load"): "tensors of a file that the user names; see test_hostile_weights.py",
    ("system/weights.py", "pickle"): "the name of an error",
    ("system/plugins.py", "importlib.import_module"): "what the user named, see test_trust.py",
    ("__init__.py", "importlib.import_module"): "the modules of this package that stand in its table",
    ("cli/commands.py", "importlib.import_module"): "modules of this package, by names that stand in the code",
    ("system/references.py", "importlib.import_module"): "what stands in the lists of the code",
    ("system/libraries.py", "importlib.import_module"): "timm and torchvision, by names that stand in the code",
    (
        "reports/experiment_files.py",
        "importlib.import_module",
    ): "a file of the user's experiments/",
    ("data/sets/cifar.py", "torchvision.datasets"): "pickles, once their checksums are torchvision's, see below",
    ("data/sets/mnist.py", "torchvision.datasets"): "names of the classes",
    ("data/sets/fetch.py", "torchvision.datasets"): "addresses and checksums",
}
"""Where the package may use what can run code, and why no file decides what runs."""


def dangerous(path: Path) -> Iterator[str]:
    """What a module uses of the above, by whatever name it imports it."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                head = alias.name.split(".")[0]
                names[alias.asname or head] = alias.name if alias.asname else head
                yield from {alias.name, head} & MODULES
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from {node.module, node.module.split(".")[0], *full} & MODULES
    for node in nodes:
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            head, *rest = _dotted(node)
            yield from {".".join([names.get(head, head), *rest])} & FUNCTIONS
        elif isinstance(node, ast.keyword) and node.arg in SAFE:
            yield from {f"{node.arg}={ast.unparse(node.value)}"} - {f"{node.arg}={SAFE[node.arg]}"}


def _dotted(node: ast.expr) -> list[str]:
    match node:
        case ast.Name(id=name):
            return [name]
        case ast.Attribute(value=value, attr=attribute):
            return [*_dotted(value), attribute]
    return ["?"]


def test_the_package_calls_nothing_that_runs_code_of_a_file() -> None:
    found = {(str(path.relative_to(PACKAGE)), use) for path in PACKAGE.rglob("*.py") for use in dangerous(path)}
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load('x')",
        "import torch as t\nread = t.load",
        "from torch import load as read\nread('x')",
        "import numpy as np\nnp.load('x')",
        "def f():\n    import pickle",
        "from pickle import loads",
        "from torchvision import datasets",
        "array(path, allow_pickle=flag)",
        "eval('1')",
    ],
)
def test_which_would_be_noticed(source: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(source)
    assert list(dangerous(tmp_path / "module.py"))


# A payload on every path


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def pickled(folder: Path) -> bytes:
    return pickle.dumps(Payload(folder))


def torch_file(folder: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"step": Payload(folder), "model": torch.zeros(3)}, buffer)
    return buffer.getvalue()


def objects(folder: Path) -> bytes:
    """A npy file of Python objects, which numpy unpickles where it is let."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(folder)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def archive(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("logits.npy", objects(folder))
    return buffer.getvalue()


def behind_a_header(folder: Path) -> bytes:
    """A safetensors file whose header names a plug-in, and which holds a pickle where it says that a tensor is."""
    hidden = pickled(folder)
    tensor = {"dtype": "U8", "shape": [len(hidden)], "data_offsets": [0, len(hidden)]}
    tricks = {"format": "pt", "model": "os:mkdir", "state": f"__import__('os').mkdir({str(folder)!r})"}
    header = json.dumps({"__metadata__": tricks, "state": tensor, "logits": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + hidden


FORMS = [pickled, torch_file, objects, archive, behind_a_header]


@pytest.fixture
def ran(tmp_path: Path) -> Iterator[Path]:
    """What the payload makes; it must not be there in the end."""
    yield tmp_path / "ran"
    assert not (tmp_path / "ran").exists()


def refused(read: Callable[[], object]) -> None:
    with pytest.raises(UserError) as caught:
        read()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", [pickled, torch_file])
def test_the_payload_works(form: Callable[[Path], bytes], tmp_path: Path) -> None:
    content = form(tmp_path / "ran")
    if form is pickled:
        pickle.loads(content)
    else:
        torch.load(io.BytesIO(content), weights_only=False)
    assert (tmp_path / "ran").exists()


TEACHER = TeacherConfig(data=DataConfig(held_out=0.15), model=TINY, schedule=SHORT, snapshots=1)
CACHE = CacheConfig(teacher=TEACHER, transfer_set=TEACHER.data)
CALIBRATION = CalibrationConfig(network=TEACHER)
MADE_UP: dict[str, tuple[StageConfig, str]] = {
    "sweep": (SweepConfig(teacher=TEACHER.replace(snapshots=0)), "sweep.json"),
    "analysis": (AnalysisConfig(runs=(TEACHER,)), "measures.json"),
    "report": (ReportConfig(experiment="e", source="s", scale="smoke", data="digits", analyses=()), "summary.json"),
}


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that somebody sent, without payloads yet."""
    root = tmp_path_factory.mktemp("sent")
    store = ArtifactStore(root)
    runtime = Runtime(store=root, device="cpu", progress=False, min_teacher_accuracy=0, jobs=1)
    ensure([CACHE, CALIBRATION], store, runtime)
    for config, name in MADE_UP.values():
        with store.draft(config) as draft:
            (draft / name).write_text("{}")
            record = Record(
                key=key(config),
                version=1,
                config=config.model_dump(mode="json"),
                inputs={},
                files=store.describe_files(draft),
            )
            store.publish(config, draft, record)
    return root


@pytest.fixture
def there(sent: Path, runtime: Runtime) -> ArtifactStore:
    """A copy of it in the test's own store."""
    shutil.copytree(sent, runtime.store, dirs_exist_ok=True)
    return ArtifactStore(runtime.store)


def plant(store: ArtifactStore, config: StageConfig, name: str, content: bytes) -> Artifact:
    """Replace a file of an artifact, and say so in its record as whoever made it would."""
    found = store.find(config)
    assert found is not None
    (found.path / name).write_bytes(content)
    entry = FileEntry(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    record = found.record.model_copy(update={"files": found.record.files | {name: entry}})
    (found.path / RECORD).write_bytes(record.sealed())
    planted = store.find(config)
    assert planted is not None
    assert planted.problems() == []
    return planted


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [WEIGHTS, PREDICTIONS, "snapshot"])
def test_networks(name: str, form, there: ArtifactStore, ran: Path) -> None:
    if name == "snapshot":
        network = there.find(TEACHER)
        assert network is not None
        step = snapshot_steps(network)[-1]
        planted = plant(there, TEACHER, snapshot_file(step), form(ran))
        refused(lambda: load_network(planted, step=step))
    elif name == WEIGHTS:
        refused(lambda: load_network(plant(there, TEACHER, name, form(ran))))
    else:
        refused(lambda: load_predictions(plant(there, TEACHER, name, form(ran)), "test"))


@pytest.mark.parametrize("form", FORMS)
def test_calibrations(form, there: ArtifactStore, ran: Path) -> None:
    refused(lambda: load_scaling(plant(there, CALIBRATION, SCALING, form(ran))))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["shard", MANIFEST, PROOF])
def test_caches(name: str, form, there: ArtifactStore, runtime: Runtime, ran: Path) -> None:
    cache = there.find(CACHE)
    assert cache is not None
    name = next(file for file in cache.record.files if file.endswith(".npy")) if name == "shard" else name
    planted = plant(there, CACHE, name, form(ran))
    refused(lambda: CachedDataset(LogitCache(planted), runtime.data_root)[0])


@pytest.fixture(scope="module")
def exported(sent: Path) -> Path:
    store = ArtifactStore(sent)
    network = store.find(TEACHER)
    assert network is not None
    return export(network, sent / "exported", None, store, Runtime(store=sent, device="cpu")).folder


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION])
def test_exports(name: str, form, exported: Path, ran: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    shutil.copytree(exported, folder)
    (folder / name).write_bytes(form(ran))
    (folder / "model.pt2").write_bytes(form(ran))
    if name == WEIGHTS:
        described = json.loads((folder / DESCRIPTION).read_text())
        described["files"][WEIGHTS]["sha256"] = sha256(folder / WEIGHTS)
        (folder / DESCRIPTION).write_text(json.dumps(described))
    refused(lambda: load_exported(folder))


@pytest.mark.parametrize("form", FORMS)
def test_records(form, there: ArtifactStore, ran: Path) -> None:
    found = there.find(TEACHER)
    assert found is not None
    (found.path / RECORD).write_bytes(form(ran))
    refused(lambda: there.read(found.path))
    assert not any(artifact.config == TEACHER for artifact in there.all())


@pytest.mark.parametrize("form", [pickled, torch_file])
@pytest.mark.parametrize("stage", [*MADE_UP, "metrics"])
def test_json(stage: str, form, there: ArtifactStore, runtime: Runtime, ran: Path) -> None:
    if stage == "metrics":
        planted = plant(there, TEACHER, "metrics.jsonl", form(ran))
        refused(lambda: read_metrics(planted.path))
        return
    config, name = MADE_UP[stage]
    planted = plant(there, config, name, form(ran))
    if isinstance(config, AnalysisConfig):
        report = ReportConfig(experiment="e", source="s", scale="smoke", data="digits", analyses=(config,))
        refused(lambda: read_table(Experiment, report, Inputs(report, there)))  # pyright: ignore[reportArgumentType]
    else:
        refused(lambda: read_json(planted.file(name)))


# What is no artifact yet


@pytest.mark.parametrize("form", FORMS)
def test_resume_points(form, runtime: Runtime, store: ArtifactStore, ran: Path) -> None:
    with store.draft(TEACHER) as draft:
        (draft / RESUME).write_bytes(form(ran))
    refused(lambda: run_stage(TEACHER, store, runtime))
    assert store.find(TEACHER) is None


def test_half_of_a_file_is_not_read_and_not_published(runtime: Runtime, store: ArtifactStore, ran: Path) -> None:
    with store.draft(TEACHER) as draft:
        (draft / "snapshots").mkdir()
        (draft / "snapshots" / "half.partial").write_bytes(torch_file(ran))
    made = run_stage(TEACHER, store, runtime)
    assert "half.partial" not in [path.name for path in made.path.rglob("*")]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", ["stamps", "shard"])
def test_interrupted_caches(what: str, form, there: ArtifactStore, runtime: Runtime, ran: Path) -> None:
    cache = there.find(CACHE)
    assert cache is not None
    shard = next(name for name in cache.record.files if name.endswith(".npy"))
    with there.draft(CACHE) as draft:
        shutil.copytree(cache.path, draft, dirs_exist_ok=True)
    shutil.rmtree(cache.path)
    (draft / RECORD).unlink()
    if what == "stamps":
        (draft / SHARDS).write_bytes(form(ran))
        (draft / STAMPS).mkdir()
        (draft / STAMPS / f"{Path(shard).stem}.json").write_bytes(form(ran))
        assert run_stage(CACHE, there, runtime).problems() == [], "without stamps all is made anew"
    else:
        (draft / shard).write_bytes(form(ran))
        stamps = json.loads((draft / SHARDS).read_text())
        stamps[shard]["sha256"] = sha256(draft / shard)
        (draft / SHARDS).write_text(json.dumps(stamps))
        refused(lambda: run_stage(CACHE, there, runtime))


@pytest.mark.parametrize(
    ("form", "suffix"),
    [*((form, suffix) for form in FORMS for suffix in (".npy", ".npz", ".safetensors"))],
)
def test_imported_files(
    form, suffix: str, runtime: Runtime, store: ArtifactStore, ran: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"logits{suffix}"
    path.write_bytes(form(ran))
    refused(lambda: import_logits([path], store, runtime, ImportFlags()))


@pytest.mark.parametrize("name", ["logits.pt", "logits.pth", "logits.pkl"])
def test_imported_files_of_torch(
    name: str, runtime: Runtime, store: ArtifactStore, ran: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(torch_file(ran))
    refused(lambda: import_logits([tmp_path / name], store, runtime, ImportFlags()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["rank0-keys.txt", "rank0-values.bin"])
def test_imported_folders(
    name: str, form, runtime: Runtime, store: ArtifactStore, ran: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "logits_top2_epoch0"
    folder.mkdir()
    (folder / "rank0-keys.txt").write_text("0\n")
    (folder / "rank0-values.bin").write_bytes(bytes(12))
    (folder / name).write_bytes(form(ran))
    refused(lambda: import_logits([folder], store, runtime, ImportFlags()))


def image_folder(folder: Path) -> DataConfig:
    for number, part in enumerate(("train/a", "train/b", "test/a", "test/b")):
        (folder / part).mkdir(parents=True)
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / part / "0.png")
    return DataConfig(name=f"imagefolder:{folder}", held_out=0)


@pytest.mark.parametrize("form", FORMS)
def test_images(form, runtime: Runtime, ran: Path, tmp_path: Path) -> None:
    config = image_folder(tmp_path / "photos")
    (tmp_path / "photos" / "train" / "a" / "0.png").write_bytes(form(ran))
    refused(lambda: load(config, runtime.data_root, progress=False))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "positions.npy", "meta.json"])
def test_decoded_images(name: str, form, runtime: Runtime, ran: Path, tmp_path: Path) -> None:
    config = image_folder(tmp_path / "photos")
    load(config, runtime.data_root, progress=False)
    (decoded,) = (runtime.data_root / "decoded").glob("photos-*/")
    (decoded / name).write_bytes(form(ran))
    forget_data_sets()
    refused(lambda: load(config, runtime.data_root, progress=False))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "cifar-10-batches-py/data_batch_1"),
        ("cifar10", "cifar-10-batches-py/batches.meta"),
        ("cifar100", "cifar-100-python/train"),
        ("fashion-mnist", "FashionMNIST/raw/train-images-idx3-ubyte"),
    ],
)
def test_data_sets(name: str, file: str, runtime: Runtime, ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR's own files are pickles: whatever has not the checksum of theirs is not opened."""
    folder = runtime.data_root / Path(file).parent
    folder.mkdir(parents=True)
    monkeypatch.setattr(load_module, "fetch", lambda *_: folder)
    others = ["data_batch_1", "batches.meta", "train", "test", "meta", "train-images-idx3-ubyte"]
    for other in {Path(file).name, *others, *(f"t10k-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))}:
        (folder / other).write_bytes(pickled(ran))
    (folder / "train-labels-idx1-ubyte").write_bytes(pickled(ran))
    refused(lambda: load(DataConfig(name=name), runtime.data_root, progress=False))
