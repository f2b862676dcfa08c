"""The list of data sets: what it says of each is so, and whatever tells of data sets tells of all of them."""

from __future__ import annotations

import gzip
import hashlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from distill.audit.plan import describe
from distill.cli.doctor import examine
from distill.config import DATA_SETS, DataConfig, ModelConfig, TeacherConfig
from distill.config.data_sets import DataSet, Origin, Shape
from distill.data.sets.load import load
from distill.errors import UserError
from distill.store.store import ArtifactStore
from distill.system.references import referenced
from tests.data.sets.mnist_files import write_mnist
from tests.small import TINY

BUILT_IN = ("digits", "translation")
"""Data sets that are here without a download."""


@pytest.mark.parametrize("data_set", DATA_SETS.values(), ids=str)
def test_each_names_a_function_of_a_folder(data_set: DataSet) -> None:
    function = referenced(data_set.load)
    assert inspect.isfunction(function)
    signature = inspect.signature(function)
    assert [each.annotation for each in signature.parameters.values()] == ["Path"]
    assert signature.return_annotation == "Splits"


def test_which_are_built_in() -> None:
    assert {name for name, data_set in DATA_SETS.items() if data_set.origin is None} == set(BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_list_knows_what_is_loaded(name: str, tmp_path: Path) -> None:
    data = load(DataConfig(name=name, held_out=0), tmp_path)
    assert DATA_SETS[name].shape == Shape(len(data.train), len(data.test), data.shape, data.num_classes)
    assert DATA_SETS[name].samples == ("sentences" if data.label_shape else "images")


def test_a_config_can_be_read_without_torch() -> None:
    code = "import sys, distill.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_and_refusal_name_all(tmp_path: Path) -> None:
    helped = DataConfig.model_fields["name"].description
    with pytest.raises(UserError) as refused:
        DataConfig(name="imagenet")
    for name in [*DATA_SETS, "imagefolder:PATH", "package.module:function"]:
        assert name in str(helped)
        assert name in refused.value.args[2]


def test_the_doctor_tells_of_all(tmp_path: Path) -> None:
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    lines, _ = examine(tmp_path, tmp_path)
    told = {name: rest.strip() for name, _, rest in (line.partition(" ") for line in lines)}
    assert told["digits"] == told["translation"] == "built in"
    assert told["mnist"] == str(tmp_path / "MNIST" / "raw")
    others = DATA_SETS.keys() - {"mnist", *BUILT_IN}
    assert {told[name] for name in others} == {"not here; fetched when first used"}


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_plan_knows_all(name: str, tmp_path: Path) -> None:
    model = ModelConfig(name="transformer") if name == "translation" else TINY
    config = TeacherConfig(data=DataConfig(name=name), model=model)
    assert "not known yet" not in describe([config], ArtifactStore(tmp_path), tflops=1).text


def test_one_line_adds_a_data_set_with_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path, gzip.compress, ".gz", train=50, test=20, place="mirror")
    served = sorted((tmp_path / "mirror").iterdir())
    names = tuple(path.name.removesuffix(".gz") for path in served)
    downloads = tuple((path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in served)
    origin = Origin("toy/raw", names, downloads, (f"{(tmp_path / 'mirror').as_uri()}/",))
    shape = Shape(50, 20, (1, 28, 28), 10)
    monkeypatch.setitem(DATA_SETS, "toy", DataSet("toy", shape, "distill.data.sets.mnist:load_mnist", origin))
    config = DataConfig(name="toy", held_out=0)
    root = tmp_path / "root"
    assert any(line.split()[:3] == ["toy", "not", "here;"] for line in examine(root, tmp_path)[0])
    assert "not known yet" not in describe([TeacherConfig(data=config)], ArtifactStore(tmp_path), tflops=1).text
    data = load(config, root, progress=False)
    assert shape == Shape(len(data.train), len(data.test), data.shape, data.num_classes)
    assert any(line.split() == ["toy", str(root / "toy" / "raw")] for line in examine(root, tmp_path)[0])
