"""Networks from elsewhere give here the logits of the script that trained them, and are taken as teachers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_model
from scipy.optimize import minimize_scalar
from torch import nn
from torch.nn.functional import cross_entropy
from torchmetrics.functional.classification import multiclass_calibration_error

from distill.audit.evaluate import measures_of_network
from distill.audit.export import export, load_exported
from distill.audit.replay import replay
from distill.audit.verify import examine
from distill.cache import LogitCache
from distill.config import (
    AdoptFlags,
    AnalysisConfig,
    AugmentConfig,
    CacheConfig,
    CalibrationConfig,
    DataConfig,
    EnsembleConfig,
    LabelsConfig,
    LossConfig,
    ModelConfig,
    StudentConfig,
    TeacherConfig,
)
from distill.data.sets.load import load
from distill.errors import UnfitTeacher, UserError
from distill.metrics.accuracy import accuracy
from distill.pipeline import adopting
from distill.pipeline.adopting import adopt
from distill.pipeline.calibrating import calibrated
from distill.pipeline.graph import run
from distill.store.garbage import collect
from distill.system.files import sha256
from distill.training.network import load_network, load_predictions
from tests.checkpoints import MEAN, SAVE, STD, normalised, teach
from tests.small import SHORT, TINY

DATA = DataConfig(held_out=0.2)
OURS = {"data": DATA, "mean": (MEAN,), "std": (STD,)}


@pytest.fixture
def runtime(runtime):
    """Return a runtime with the usual lowest accuracy of a teacher."""
    return runtime.model_copy(update={"min_teacher_accuracy": None})


@pytest.fixture
def data(runtime):
    return load(DATA, runtime.data_root, progress=False)


@pytest.fixture
def small(data):
    """A timm network with one channel, taught by a script of somebody else."""
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=10, in_chans=1)
    return teach(net, net.get_classifier(), normalised(data.train.images), data.train.labels)


@pytest.fixture
def take(store, runtime):
    """Return a function that adopts a file into the store of this test."""

    def call(path, name="timm:test_resnet", **flags):
        return adopt(path, store, runtime, AdoptFlags(model=ModelConfig(name=name), **{**OURS, **flags}))

    return call


@pytest.fixture
def adopted(small, take, tmp_path):
    """An artifact of the small network."""
    SAVE["plain.pth"](small, tmp_path / "t.pth")
    return take(tmp_path / "t.pth")


@pytest.mark.parametrize("name", SAVE)
def test_a_checkpoint_in_any_form_gives_the_logits_of_its_script(name, small, take, tmp_path, data):
    SAVE[name](small, tmp_path / name)
    made = take(tmp_path / name, ema=name == "averaged.ckpt")
    logits, labels = load_predictions(made, "test")
    with torch.inference_mode():
        theirs = small(normalised(data.test.images))
    torch.testing.assert_close(logits, theirs, rtol=1e-4, atol=1e-4)
    assert torch.equal(labels, data.test.labels)
    save_model(small, str(tmp_path / "same"))
    assert sha256(made.path / "model.safetensors") == sha256(tmp_path / "same"), "however they were saved"
    assert made.record.metrics["test/accuracy"] == pytest.approx(accuracy(theirs, data.test.labels))


def test_calibration_is_that_of_the_script(adopted, small, store, runtime, data):
    """ECE of torchmetrics, NLL of torch, and a temperature that scipy finds, all from the network itself."""
    with torch.inference_mode():
        held_out, test = (small(normalised(split.images)).double() for split in (data.held_out, data.test))
    labels = data.test.labels
    ece = multiclass_calibration_error(test.softmax(1), labels, 10, n_bins=15).item()
    measured = adopted.record.metrics
    assert measured["test/ece"] == pytest.approx(ece, abs=1e-5)
    assert measured["test/nll"] == pytest.approx(cross_entropy(test, labels).item(), abs=1e-5)

    def nll(log: float) -> float:
        return cross_entropy(held_out / math.exp(log), data.held_out.labels).item()

    best = math.exp(minimize_scalar(nll, bounds=(-3, 3), method="bounded").x)
    fitted = calibrated(adopted, "temperature", store, runtime)
    assert fitted.record.metrics["temperature"] == pytest.approx(best, rel=1e-3)
    assert fitted.record.metrics["test/nll"] == pytest.approx(cross_entropy(test / best, labels).item(), abs=1e-4)


def test_a_network_of_torchvision_takes_grey_images_as_three_channels(take, store, runtime, tmp_path, data):
    torch.manual_seed(0)
    net = torchvision.models.resnet18(num_classes=10)
    teach(net, net.fc, normalised(data.train.images[:400], 3), data.train.labels[:400])
    torch.save(net.state_dict(), tmp_path / "t.pth")
    made = take(tmp_path / "t.pth", "torchvision:resnet18")
    with torch.inference_mode():
        theirs = net(normalised(data.test.images, 3))
    torch.testing.assert_close(load_predictions(made, "test")[0], theirs, rtol=1e-4, atol=1e-4)
    assert made.data["takes"] == {"shape": [3, 8, 8], "interpolation": "bilinear", "crop": 1.0, "repeated": True}
    assert made.data["mean"] == [MEAN] * 3
    written = export(made, tmp_path / "out", None, store, runtime)
    assert load_file(written.folder / "model.safetensors").keys() == net.state_dict().keys()
    assert not (written.folder / "timm").exists()
    with torch.inference_mode():
        torch.testing.assert_close(load_exported(written.folder)(data.test.images), theirs, rtol=1e-4, atol=1e-4)


def test_the_record_says_what_is_proven_and_what_is_declared(adopted, take, tmp_path):
    assert adopted.path.parent.name == "teachers"
    assert adopted.data["proven"] == ["sha256 of the file of weights", "accuracy on these images"]
    assert "training" in adopted.data["declared"]
    (tmp_path / "t.pth").rename(tmp_path / "other.pth")
    assert take(tmp_path / "other.pth").path == adopted.path, "the key is of the content, not of the path"
    assert take(tmp_path / "other.pth", provenance="a friend").path != adopted.path


def test_a_file_that_changes_while_it_is_read_is_refused(small, take, tmp_path, store, monkeypatch):
    SAVE["plain.pth"](small, tmp_path / "t.pth")
    fit = adopting.fit_weights

    def changed(*arguments):
        fitting = fit(*arguments)
        SAVE["nested.pt"](small, tmp_path / "new.pth")
        (tmp_path / "new.pth").replace(tmp_path / "t.pth")
        return fitting

    monkeypatch.setattr(adopting, "fit_weights", changed)
    with pytest.raises(UserError, match="stays as it is"):
        take(tmp_path / "t.pth")
    assert not list(store.root.glob("*/*"))


def test_all_that_takes_a_teacher_takes_an_adopted_one(adopted, store, runtime, tmp_path, data):
    trained = run(TeacherConfig(data=DATA, model=TINY, schedule=SHORT), store, runtime)
    augment = AugmentConfig(pad=1)
    gentle = runtime.model_copy(update={"min_teacher_accuracy": 0.0})
    cached = CacheConfig(teacher=adopted.config, transfer_set=DATA, augment=augment, views=2)
    both = EnsembleConfig(members=(adopted.config, trained.config))
    cache = run(cached, store, gentle)
    mean = run(CacheConfig(teacher=both, transfer_set=DATA), store, gentle)
    assert all(finding.ok for finding in replay(cache, store, runtime, 16))
    opened, net = LogitCache(mean), load_network(adopted)
    index = torch.arange(8)
    parts = [net(normalised(data.train.images[index])), load_network(trained)(_own(data, index))]
    mixed = torch.stack([part.softmax(1) for part in parts]).mean(0)
    torch.testing.assert_close(opened.logits(index).float().softmax(1), mixed, rtol=1e-2, atol=1e-3)
    student = run(StudentConfig(cache=cached, model=TINY, schedule=SHORT), store, runtime)
    assert student.record.metrics["cache/gate/accuracy"] > 0.2
    beside = next(
        each for each in measures_of_network(student, store, runtime, "test", 1.0) if "teacher" in each.heading
    )
    assert beside.rows["agreement"]
    analysis = AnalysisConfig(runs=(adopted.config, student.config), reference=adopted.config)
    assert (run(analysis, store, runtime).path / "measures.json").is_file()
    like = LossConfig(alpha=0, smoothing=0.1, labels=LabelsConfig(towards="similar"))
    source = TeacherConfig(data=DATA, model=TINY, schedule=SHORT, loss=like, smoothing_source=adopted.config)
    assert run(source, store, runtime).record.inputs
    assert run(CalibrationConfig(network=adopted.config), store, runtime).record.metrics["temperature"] > 0
    assert not [each for each in examine(store) if each.problems or each.unproven]
    assert not [line for line in collect(store, False, False, False) if "teachers" in line]


def _own(data, index):
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (data.mean, data.std))
    return (data.train.images[index].float() / 255 - mean) / std


def test_the_network_resizes_views_for_itself(take, tmp_path, data, store, runtime):
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=10, in_chans=1)
    larger = nn.functional.interpolate(data.train.images.float(), (20, 20), mode="bicubic", antialias=True)
    teach(net, net.get_classifier(), (larger.clamp(0, 255) / 255 - MEAN) / STD, data.train.labels)
    torch.save(net.state_dict(), tmp_path / "t.pth")
    made = take(tmp_path / "t.pth", size=20, interpolation="bicubic")
    cache = LogitCache(run(CacheConfig(teacher=made.config, transfer_set=DATA, dtype="float32"), store, runtime))
    with torch.inference_mode():
        theirs = net((larger[:64].clamp(0, 255) / 255 - MEAN) / STD)
    torch.testing.assert_close(cache.logits(torch.arange(64)), theirs, rtol=1e-4, atol=1e-4)
    assert cache.manifest.teachers[0].size == (1, 20, 20)
    assert cache.manifest.teachers[0].interpolation == "bicubic"
    written = export(made, tmp_path / "out", None, store, runtime, onnx=True)
    assert not written.no_program
    torch.testing.assert_close(onnx_logits(written.folder, data.train.images[:64]), theirs, rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        torch.testing.assert_close(
            load_exported(written.folder)(data.train.images[:64]), theirs, rtol=1e-4, atol=1e-4
        )
        program = torch.export.load(written.folder / "model.pt2").module()
        torch.testing.assert_close(program(data.train.images[:64]), theirs, rtol=1e-4, atol=1e-4)


def onnx_logits(folder: Path, images: torch.Tensor) -> torch.Tensor:
    session = pytest.importorskip("onnxruntime").InferenceSession(folder / "model.onnx")
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


WORDNET = {0: "n01440764", 2: "n01484850", 3: "n01491361", 4: "n01494475", 5: "n01496331"}
"""Class of ImageNet → its WordNet id."""


@pytest.fixture
def folder(tmp_path, data):
    """A folder of five classes of ImageNet, whose images are digits; in it class i of ImageNet shows digit i."""
    for digit, name in WORDNET.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        shown = data.train.images[data.train.labels == digit][:60]
        for number, image in enumerate(shown):
            Image.fromarray(image[0].numpy()).save(tmp_path / "images" / name / f"{number}.png")
    return DataConfig(name=f"imagefolder:{tmp_path / 'images'}", kwargs={"size": 8, "test": 0.2}, held_out=0.2)


@pytest.fixture
def thousand(tmp_path, data):
    """The weights of a network of 1,000 classes that knows ten of them, and the network."""
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=1000)
    teach(net, net.get_classifier(), normalised(data.train.images, 3), data.train.labels)
    torch.save(net.state_dict(), tmp_path / "t.pth")
    return tmp_path / "t.pth", net


def test_five_of_a_thousand_classes_are_found_by_their_wordnet_ids(
    thousand, folder, take, store, runtime, tmp_path
):
    path, net = thousand
    made = take(path, data=folder, size=8)
    images = load(folder, runtime.data_root, progress=False)
    with torch.inference_mode():
        theirs = net(normalised(images.test.images, 3))[:, [0, 2, 3, 4, 5]]
    torch.testing.assert_close(load_predictions(made, "test")[0], theirs, rtol=1e-4, atol=1e-4)
    assert made.config.columns == (0, 2, 3, 4, 5)
    assert made.data["softmax"] == "over 5 of the network's 1000 logits"
    assert len(made.data["classes"]) == 5
    written = export(made, tmp_path / "out", None, store, runtime, onnx=True)
    torch.testing.assert_close(onnx_logits(written.folder, images.test.images), theirs, rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        again = load_exported(written.folder)(images.test.images)
    torch.testing.assert_close(again, theirs, rtol=1e-4, atol=1e-4)
    assert written.no_timm == ""
    opened = timm.create_model(f"local-dir:{written.folder / 'timm'}", pretrained=True).eval()
    with torch.inference_mode():
        alone = opened(normalised(images.test.images, 3))
    torch.testing.assert_close(alone, theirs, rtol=1e-4, atol=1e-4)


def test_classes_by_a_list_of_names_and_by_a_mapping(thousand, folder, take, tmp_path):
    path, _ = thousand
    listed = [WORDNET.get(number, f"other {number}") for number in range(1000)]
    (tmp_path / "names.txt").write_text("\n".join(listed))
    numbers = {name: number for number, name in WORDNET.items()}
    (tmp_path / "map.json").write_text(json.dumps(numbers | {WORDNET[4]: WORDNET[4]}))
    for file in ("names.txt", "map.json"):
        assert take(path, data=folder, size=8, classes=(str(tmp_path / file),)).config.columns == (0, 2, 3, 4, 5)


def test_wrong_classes_leave_nothing_half_made(thousand, folder, take, tmp_path, store):
    (tmp_path / "c.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match="one for each of the 1000 outputs"):
        take(thousand[0], data=folder, size=8, classes=(str(tmp_path / "c.txt"),))
    assert not list(store.root.glob("*/*"))


def test_other_classes_without_names_are_refused(thousand, take):
    with pytest.raises(UserError, match="1000 outputs without names"):
        take(thousand[0])


def test_a_wrong_order_of_classes_is_found_by_the_gate(small, take, tmp_path, store):
    with torch.no_grad():
        for each in (small.get_classifier().weight, small.get_classifier().bias):
            each.copy_(each.roll(1, 0))
    torch.save(small.state_dict(), tmp_path / "t.pth")
    with pytest.raises(UnfitTeacher, match="in another order it is right on"):
        take(tmp_path / "t.pth")
    assert not list(store.root.glob("teachers/*"))


def test_a_network_no_better_than_chance_is_refused_unless_it_is_meant(small, take, tmp_path, store, runtime):
    nn.init.normal_(small.get_classifier().weight, std=0.01)
    torch.save(small.state_dict(), tmp_path / "t.pth")
    with pytest.raises(UnfitTeacher, match=r"at least .* `mean`"):
        take(tmp_path / "t.pth")
    gentle = runtime.model_copy(update={"min_teacher_accuracy": 0.0, "accept_class_order": True})
    assert adopt(tmp_path / "t.pth", store, gentle, AdoptFlags(model=ModelConfig(name="timm:test_resnet"), **OURS))


def test_a_folder_of_timm_is_adopted_with_its_own_preprocessing(small, take, tmp_path, data):
    small.pretrained_cfg.update(mean=(MEAN,), std=(STD,), input_size=(1, 8, 8), interpolation="bilinear")
    timm.models.save_for_hf(small, tmp_path / "folder")
    made = take(None, f"local-dir:{tmp_path / 'folder'}", mean=(), std=())
    with torch.inference_mode():
        theirs = small(normalised(data.test.images))
    torch.testing.assert_close(load_predictions(made, "test")[0], theirs, rtol=1e-4, atol=1e-4)
    assert made.config.model.name == "timm:test_resnet"
    assert made.config.provenance.startswith("local-dir:")
