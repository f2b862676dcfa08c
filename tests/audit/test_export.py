"""Check that an exported folder answers like its network, is whole or absent, and runs no code."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from distill.audit.export import export, load_exported
from distill.audit.export.description import DESCRIPTION
from distill.audit.export.programs import ONNX, PROGRAM
from distill.audit.export.timm_folder import write_timm_folder
from distill.cli.main import main
from distill.config import CalibrationConfig, DataConfig, ModelConfig, ScheduleConfig, TeacherConfig
from distill.data.network_input import NetworkInput
from distill.data.normaliser import Normaliser
from distill.data.sets.load import load
from distill.errors import UserError
from distill.metrics import logit_scaling
from distill.pipeline.graph import ensure
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.store import ArtifactStore
from distill.system.files import sha256
from distill.system.runtime import Runtime
from distill.training.network import WEIGHTS, load_network, load_predictions
from tests.data import copies

# torch's own, about its internals, while it traces.
pytestmark = [pytest.mark.filterwarnings("ignore:::torch"), pytest.mark.filterwarnings("ignore:::copyreg")]


def teacher_with(model: ModelConfig) -> TeacherConfig:
    return TeacherConfig(
        data=DataConfig(held_out=0.15, limit=300), model=model, schedule=ScheduleConfig(epochs=1, batch_size=64)
    )


class Counting(torch.nn.Module):
    """A network that torch.export cannot trace, because it branches on the values of its input."""

    def __init__(self, num_classes: int, in_shape: tuple[int, int, int]):
        super().__init__()
        self.linear = torch.nn.Linear(in_shape[0] * in_shape[1] * in_shape[2], num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.linear(images.flatten(1))
        return logits if images.is_meta or images.sum().item() > -1e9 else -logits


def counts(num_classes: int, in_shape: tuple[int, int, int]) -> torch.nn.Module:
    return Counting(num_classes, in_shape)


MODELS = {
    "mlp": ModelConfig(name="mlp", kwargs={"widths": [16]}),
    "cnn": ModelConfig(name="cnn", kwargs={"widths": [4, 8], "hidden": 8}),
    "timm": ModelConfig(name="timm:resnet10t"),
    "plug-in": ModelConfig(name=counts),
}


def expected_logits(network: Artifact, method: logit_scaling.Method, images: torch.Tensor) -> torch.Tensor:
    data = network.record.data
    with torch.inference_mode():
        logits = load_network(network)(Normaliser(data["mean"], data["std"])(images))
    return logit_scaling.fit(method, *load_predictions(network, "held_out")).apply(logits)


@pytest.mark.parametrize(
    ("name", "method"), [("mlp", "none"), ("mlp", "temperature"), ("cnn", "platt"), ("timm", "vector")]
)
def test_answers_are_those_of_network_and_calibration(name, method, make, store, runtime, tmp_path):
    network = make(teacher_with(MODELS[name]))
    images = load(network.config.data, runtime.data_root, False).test.images[:7]
    folder = tmp_path / "out"
    written = export(network, folder, method, store, runtime)
    assert written.no_program == ""
    expected = expected_logits(network, method, images)
    loaded = load_exported(str(folder))
    assert not loaded.training
    with torch.inference_mode():
        found = loaded(images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    program = torch.export.load(folder / PROGRAM).module()
    with torch.inference_mode():
        for some in (images, images[:1], images[:3]):
            torch.testing.assert_close(program(some), loaded(some), rtol=1e-5, atol=1e-5)


def test_onnx_answers_as_the_network_does(make, store, runtime, tmp_path):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    network = make(teacher_with(MODELS["mlp"]))
    export(network, tmp_path / "out", "platt", store, runtime, onnx=True)
    images = load(network.config.data, runtime.data_root, False).test.images[:7]
    session = onnxruntime.InferenceSession(tmp_path / "out" / ONNX)
    for some in (images, images[:1]):
        (found,) = session.run(None, {"images": some.numpy()})
        expected = expected_logits(network, "platt", some)
        torch.testing.assert_close(torch.from_numpy(found).double(), expected, rtol=1e-4, atol=1e-4)
    said = json.loads((tmp_path / "out" / DESCRIPTION).read_text())
    assert said["onnx"]["largest_difference"] < 1e-4
    assert said["files"][ONNX]["sha256"] == sha256(tmp_path / "out" / ONNX)
    metadata = {each.key: each.value for each in onnx.load(tmp_path / "out" / ONNX).metadata_props}
    assert {name: json.loads(metadata[name]) for name in ("classes", "calibration")} == {
        name: said[name] for name in ("classes", "calibration")
    }


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_onnx_without_its_packages_is_refused_at_once(missing, store, runtime, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=f"onnx = True.*{missing} is missing.*pip install onnx onnxruntime"):
        export(None, tmp_path / "out", None, store, runtime, onnx=True)


def test_a_network_that_onnx_cannot_say_is_refused_in_a_line_and_leaves_nothing(make, store, runtime, tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(UserError, match="a network that ONNX can say") as raised:
        export(make(teacher_with(MODELS["plug-in"])), tmp_path / "here" / "out", None, store, runtime, onnx=True)
    assert "\n" not in str(raised.value)
    assert list((tmp_path / "here").iterdir()) == []


def test_what_the_description_says(make, store, runtime, tmp_path):
    network = make(teacher_with(MODELS["mlp"]))
    export(network, tmp_path / "out", "temperature", store, runtime)
    said = json.loads((tmp_path / "out" / DESCRIPTION).read_text())
    calibration = make(CalibrationConfig(network=network.config))
    assert said["source"]["network"]["key"] == network.record.key
    assert said["source"]["calibration"]["key"] == calibration.record.key
    assert said["classes"] == network.record.data["classes"]
    assert said["model"] == network.config.model.model_dump(mode="json")
    assert said["calibration"]["method"] == "temperature"
    assert 1 / said["calibration"]["scale"][0] == pytest.approx(calibration.record.metrics["temperature"])
    for name in (WEIGHTS, PROGRAM):
        assert said["files"][name]["sha256"] == sha256(tmp_path / "out" / name)
    assert said["metrics"]["test"]["before"]["nll"] == calibration.record.metrics["test/nll_before"]
    assert said["metrics"]["test"]["after"]["nll"] == calibration.record.metrics["test/nll"]
    assert {"torch", "timm"} <= said["made_by"]["packages"].keys()


def test_a_calibration_brings_its_network(make, store, runtime, tmp_path):
    network = make(teacher_with(MODELS["mlp"]))
    calibration = make(CalibrationConfig(network=network.config, method="platt"))
    export(calibration, tmp_path / "one", None, store, runtime)
    export(network, tmp_path / "two", "platt", store, runtime)
    assert sha256(tmp_path / "one" / WEIGHTS) == sha256(tmp_path / "two" / WEIGHTS)
    with pytest.raises(UserError, match="platt, which"):
        export(calibration, tmp_path / "three", "vector", store, runtime)
    assert not (tmp_path / "three").exists()


def test_a_folder_with_something_in_it_is_left_alone(make, store, runtime, tmp_path):
    network = make(teacher_with(MODELS["mlp"]))
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.mkdir()
    empty.mkdir()
    (full / "mine").write_text("mine")
    with pytest.raises(UserError, match="new or empty") as raised:
        export(network, full, None, store, runtime)
    assert "\n" not in str(raised.value)
    assert [path.name for path in full.iterdir()] == ["mine"]
    export(network, empty, None, store, runtime)
    assert sorted(path.name for path in empty.iterdir()) == [DESCRIPTION, PROGRAM, WEIGHTS]


def test_nothing_is_left_of_what_fails(make, store, runtime, tmp_path, monkeypatch):
    network = make(teacher_with(MODELS["mlp"]))

    def fail(*_):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("distill.audit.export.writing.write_json", fail)
    with pytest.raises(RuntimeError):
        export(network, tmp_path / "here" / "out", None, store, runtime)
    assert list((tmp_path / "here").iterdir()) == []


def test_a_network_that_cannot_be_traced_is_written_without_a_program(make, store, runtime, tmp_path, capfd):
    network = make(teacher_with(MODELS["plug-in"]))
    written = export(network, tmp_path / "out", "temperature", store, runtime)
    assert written.no_program
    assert "\n" not in written.no_program
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [DESCRIPTION, WEIGHTS]
    assert json.loads((tmp_path / "out" / DESCRIPTION).read_text())["program"] is None
    with pytest.raises(UserError, match="plugins=True"):
        load_exported(tmp_path / "out")
    images = torch.randint(256, (3, *network.record.data["shape"]), dtype=torch.uint8)
    with torch.inference_mode():
        found = load_exported(tmp_path / "out", plugins=True)(images)
    torch.testing.assert_close(
        found.double(), expected_logits(network, "temperature", images), rtol=1e-5, atol=1e-5
    )


@pytest.mark.fault("a damaged file in a store")
@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION])
@pytest.mark.parametrize("how", ["gone", "changed"])
def test_a_damaged_folder_is_refused_in_a_line(name, how, make, store, runtime, tmp_path):
    export(make(teacher_with(MODELS["mlp"])), tmp_path / "out", None, store, runtime)
    path = tmp_path / "out" / name
    if how == "gone":
        path.unlink()
    elif name == WEIGHTS:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    else:
        path.write_text('{"format": 1}')
    with pytest.raises(UserError) as raised:
        load_exported(tmp_path / "out")
    assert "\n" not in str(raised.value)


def test_sentences_and_caches_are_refused(make, cache, store, runtime, tmp_path):
    with pytest.raises(UserError, match="a teacher or a student"):
        export(make(cache), tmp_path / "out", None, store, runtime)
    tokens = copies.TEACHER.replace(schedule=ScheduleConfig(epochs=1, batch_size=64))
    with pytest.raises(UserError, match="a network of images") as raised:
        export(make(tokens), tmp_path / "out", None, store, runtime)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_network_of_another_store_is_not_trained_again(make, store, runtime, tmp_path):
    network = make(teacher_with(MODELS["mlp"]))
    elsewhere = type(store)(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"expected an artifact of the store .*elsewhere"):
        export(network, tmp_path / "out", "temperature", elsewhere, runtime)
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "out").exists()


def test_the_command_writes_what_others_may_read(make, store, tmp_path, capsys):
    network = make(teacher_with(MODELS["mlp"]))
    folder = tmp_path / "out"
    main(["export", network.record.key, "--to", str(folder), "--calibration", "vector", "--store", str(store.root)])
    assert Path(capsys.readouterr().out.strip()) == folder
    assert load_exported(folder).method == "vector"
    assert (folder / WEIGHTS).stat().st_mode == (folder / DESCRIPTION).stat().st_mode


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exported")
    runtime = Runtime(store=root / "store", data_root=root / "data", device="cpu", progress=False)
    store, config = ArtifactStore(runtime.store), teacher_with(MODELS["mlp"])
    network = ensure([config], store, runtime)[key(config)]
    assert isinstance(network, Artifact)
    export(network, root / "out", "platt", store, runtime)
    return root / "out"


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "out"))


@pytest.mark.fault("a damaged file in a store")
@pytest.mark.parametrize(
    "change",
    [
        {"files": {}},
        {"files": []},
        {"calibration": {}},
        {"calibration": {"method": "foo", "scale": [1.0], "bias": [0.0]}},
        {"calibration": {"method": "platt", "scale": ["a"], "bias": [0.0]}},
        {"calibration": {"method": "temperature", "scale": [1.0], "bias": [0.0]}},  # of other weights
        {"calibration": {"method": "platt", "scale": [1.0, 2.0], "bias": [0.0]}},
        {"mean": [0.5]},  # a number beside that of the weights file
        {"mean": "x"},
        {"std": [0.0]},
        {"shape": ["a", 1, 1]},
        {"classes": 10},
        {"classes": ["a", "b"]},
        {"model": None},
        {"model": "mlp"},
        {"model": {"name": "os:system", "kwargs": {"command": "true"}}},
        {"model": {"name": "timm:hf-hub:someone/something"}},
        {"model": {"name": "timm:resnet10t", "kwargs": {"checkpoint_path": "weights.pth"}}},
        {"model": {"name": "timm:resnet10t", "kwargs": {"pretrained_cfg": {"file": "weights.pth"}}}},
        {"format": 1},
    ],
)
def test_a_description_that_was_tampered_with_is_refused_in_a_line(change, folder):
    path = folder / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError) as raised:
        load_exported(folder)
    assert "\n" not in str(raised.value)
    assert "_" not in str(raised.value.field).split("/")[-1].split(" ")[0], "no name of ours"


def timm_logits(folder: Path, images: torch.Tensor) -> torch.Tensor:
    opened = timm.create_model(f"local-dir:{folder / 'timm'}", pretrained=True).eval()
    config = opened.pretrained_cfg
    with torch.inference_mode():
        return opened(Normaliser(config["mean"], config["std"])(images))


@pytest.mark.parametrize("method", ["none", "temperature", "vector", "platt"])
def test_timm_opens_the_calibrated_network_by_itself(method, make, store, runtime, tmp_path):
    network = make(teacher_with(ModelConfig(name="timm:test_resnet")))
    written = export(network, tmp_path / "out", method, store, runtime)
    own = timm.create_model("test_resnet", num_classes=10, in_chans=1).state_dict()
    assert load_file(tmp_path / "out" / WEIGHTS).keys() == own.keys()
    if method == "platt":
        assert "not linear" in written.no_timm
        assert not (tmp_path / "out" / "timm").exists()
        return
    assert written.no_timm == ""
    images = load(network.config.data, runtime.data_root, False).test.images[:7]
    found = timm_logits(tmp_path / "out", images)
    torch.testing.assert_close(found.double(), expected_logits(network, method, images), rtol=1e-4, atol=1e-4)
    config = json.loads((tmp_path / "out" / "timm" / "config.json").read_text())
    assert config["label_names"] == network.record.data["classes"]


def test_a_last_layer_that_is_shared_is_not_folded(tmp_path):
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(4, 4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(self.head(images.flatten(1)))

    scaling = logit_scaling.Scaling("temperature", torch.tensor([0.5]), torch.zeros(1))
    takes = NetworkInput((0.0,), (1.0,), (1, 2, 2))
    reason, difference = write_timm_folder(Twice(), scaling, (), takes, list("abcd"), tmp_path / "timm")
    assert reason.startswith("its last layer cannot hold the calibration")
    assert difference is None
    assert not (tmp_path / "timm").exists()
