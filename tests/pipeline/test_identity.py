"""Identity is content: what is made anew, what is taken, what is refused, and what is said of it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from distill.audit.contents import check_contents
from distill.audit.plan import describe
from distill.cache import LogitCache
from distill.config import (
    AugmentConfig,
    CacheConfig,
    CalibrationConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    ScheduleConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
)
from distill.config.contents import parts
from distill.data.sets import load as loading
from distill.errors import ContentChanged, UserError
from distill.pipeline.experiments import reproduce
from distill.pipeline.graph import ensure
from distill.reports import experiment_files
from distill.reports.experiment import Label
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.store import ArtifactStore
from distill.system import trust
from distill.system.runtime import Runtime
from tests.made import interrupt, make
from tests.memory import forget_data_sets

pytestmark = pytest.mark.fault("images, labels or code that changed")

SHORT = ScheduleConfig(epochs=1, batch_size=8)
TINY = ModelConfig(kwargs={"widths": [4]})
OF_LABELS = LossConfig(alpha=0)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with an image folder `f`: two classes, whose images are dark and light."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    draw("a", 40), draw("b", 200)
    return tmp_path


def draw(name: str, grey: int, count: int = 12, folder: str = "f") -> None:
    """Draw the images of a class: every pixel is near this grey."""
    noise = np.random.default_rng(grey)
    for split in ("train", "test"):
        where = Path(folder) / split / name
        where.mkdir(parents=True)
        for number in range(count):
            pixels = (grey + noise.integers(-20, 20, (6, 6, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(where / f"{number}.bmp")


@pytest.fixture
def store(project: Path) -> ArtifactStore:
    return ArtifactStore(project / "store")


@pytest.fixture
def runtime(project: Path, store: ArtifactStore) -> Runtime:
    return Runtime(
        store=store.root,
        data_root=project / "data",
        device="cpu",
        executor="inline",
        threads=1,
        progress=False,
        min_teacher_accuracy=0,
    )


def teacher(**fields: object) -> TeacherConfig:
    return TeacherConfig(**{"data": DataConfig(name="imagefolder:f"), "model": TINY, "schedule": SHORT, **fields})


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if "imagefolder" in line or "mine" in line]


def exchange(one: Path, other: Path) -> None:
    """Move two images into each other's place."""
    one.rename("x.bmp")
    other.rename(one)
    Path("x.bmp").rename(other)


def replace_image(path: Path) -> None:
    """Put another image in the place of one, under its size and time of change."""
    before = path.stat()
    Image.fromarray(np.full((6, 6, 3), 99, dtype=np.uint8)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


CHANGES = {
    "an image was replaced under its size and time": lambda: replace_image(Path("f/train/a/3.bmp")),
    "a class was added": lambda: draw("c", 120),
    "an image was moved to another class": lambda: Path("f/train/a/3.bmp").rename("f/train/b/99.bmp"),
    "images of two classes were exchanged": lambda: exchange(Path("f/train/a/3.bmp"), Path("f/train/b/3.bmp")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_images_make_another_teacher(
    change: str, store: ArtifactStore, runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    old = make(teacher(), store, runtime)
    assert make(teacher(), store, runtime).path == old.path
    assert said(capsys) == []
    CHANGES[change]()
    new = make(teacher(), store, runtime)
    assert new.path != old.path
    assert new.data["fingerprint"] != old.data["fingerprint"]
    assert said(capsys) == [
        f"imagefolder:f has other content than the artifact teachers/{old.path.name}: it is made anew"
    ]
    assert old.problems() == new.problems() == []


def test_the_old_images_give_the_old_teacher(store: ArtifactStore, runtime: Runtime) -> None:
    old = make(teacher(), store, runtime)
    exchange(Path("f/train/a/3.bmp"), Path("f/train/b/3.bmp"))
    make(teacher(), store, runtime)
    exchange(Path("f/train/a/3.bmp"), Path("f/train/b/3.bmp"))
    assert make(teacher(), store, runtime).path == old.path


def test_a_relative_path_names_the_images_of_its_working_directory(
    project: Path, store: ArtifactStore, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(teacher(), store, runtime)
    shutil.copytree("f", "same/f")
    shutil.copytree("f", "other/f")
    Path("other/f/train/a/3.bmp").unlink()
    monkeypatch.chdir(project / "same")
    assert make(teacher(), store, runtime).path == first.path
    monkeypatch.chdir(project / "other")
    assert make(teacher(), store, runtime).path != first.path


def test_a_graph_has_one_content(store: ArtifactStore, runtime: Runtime) -> None:
    cache = CacheConfig(teacher=teacher(), transfer_set=teacher().data)
    student = StudentConfig(cache=cache, data=teacher().data, model=TINY, schedule=SHORT)
    recipe = teacher(
        data=DataConfig(name="imagefolder:f", held_out=0.5),
        model=ModelConfig(kwargs={"widths": [16]}),
        schedule=ScheduleConfig(epochs=20, batch_size=8),
    )
    sweep = SweepConfig(teacher=recipe, smoothings=(0.0, 0.1), seeds=1)
    before = ensure([student, sweep, CalibrationConfig(network=student)], store, runtime)
    draw("c", 120)
    after = ensure([student, sweep, CalibrationConfig(network=student)], store, runtime)
    assert before.keys() == after.keys(), "results are found by the config that was given"
    for name, artifact in after.items():
        assert isinstance(artifact, Artifact)
        assert artifact.path != getattr(before[name], "path", None)
        assert artifact.data["classes"] == ["a", "b", "c"]
    made = after[key(student)]
    assert isinstance(made, Artifact)
    (digest,) = {part.content for part in parts(made.config)}
    assert digest


def test_an_interrupted_run_does_not_go_on_with_other_images(
    store: ArtifactStore, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = teacher(schedule=ScheduleConfig(epochs=8, batch_size=8))
    steps = interrupt(monkeypatch, 9)
    with pytest.raises(KeyboardInterrupt):
        make(config, store, runtime)
    draw("c", 120)
    make(config, store, runtime)
    assert steps[8:10] == [8, 0]


def test_inputs_from_a_record_need_the_images_that_they_were_made_of(
    store: ArtifactStore, runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make(teacher(), store, runtime)
    named = CacheConfig(teacher=made.config, transfer_set=made.config.data)  # pyright: ignore
    cache = make(named, store, runtime)
    draw("c", 120)
    forget_data_sets()
    said(capsys)
    assert make(named, store, runtime).path == cache.path
    assert said(capsys) == [f"imagefolder:f has other content than caches/{cache.path.name}, which is taken"]
    student = StudentConfig(cache=cache.config, data=cache.config.transfer_set, model=TINY)  # pyright: ignore
    with pytest.raises(ContentChanged, match=r"data.name = 'imagefolder:f': expected what it was .* Bring it back"):
        make(student, store, runtime)
    with pytest.raises(ContentChanged):
        make(named.replace(view_seed=1, dtype="float32"), store, runtime)


def test_a_report_is_drawn_of_the_images_that_are_here(
    store: ArtifactStore, runtime: Runtime, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = SimpleNamespace(
        __doc__="About images.",
        DATA=dict.fromkeys(("smoke", "quick", "short", "paper"), "imagefolder:f"),
        CLAIMS=[],
        runs=lambda scale, data: {Label("teacher", 0): teacher()},
        draw=lambda table: {},
    )
    monkeypatch.setattr(experiment_files, "load_experiment", lambda name: experiment)
    (old,) = reproduce("images", "smoke", None, store, runtime).reports
    assert reproduce("images", "smoke", None, store, runtime).reports[0].path == old.path
    assert said(capsys) == []
    draw("c", 120)
    (new,) = reproduce("images", "smoke", None, store, runtime).reports
    assert new.path != old.path
    assert f"the artifact reports/{old.path.name}: it is made anew" in said(capsys)[0]


def copied(store: ArtifactStore, runtime: Runtime) -> tuple[ArtifactStore, Runtime]:
    """Copy a store to a machine that has no images."""
    shutil.copytree(store.root, "copy")
    shutil.rmtree("f")
    forget_data_sets()
    return ArtifactStore(Path("copy")), runtime.model_copy(
        update={"store": Path("copy"), "data_root": Path("none")}
    )


def test_what_is_not_here_is_not_checked(
    store: ArtifactStore, runtime: Runtime, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = CacheConfig(teacher=teacher(), transfer_set=teacher().data)
    student = StudentConfig(cache=cache, data=teacher().data, model=TINY, schedule=SHORT)
    made = make(student, store, runtime)
    there, machine = copied(store, runtime)
    shutil.rmtree(next(there.root.glob("teachers/*")))
    monkeypatch.setattr(loading, "load", lambda *_: pytest.fail("a hit needs no images"))
    assert make(student, there, machine).path.name == made.path.name
    line = f"imagefolder:f is not checked, since it is not here: students/{made.path.name} is taken"
    assert said(capsys) == [line]
    assert "1 hits, 0 to make" in describe([student], there, machine).text
    assert said(capsys) == [line]


def test_what_lies_upstream_of_what_is_not_here_is_found_too(store: ArtifactStore, runtime: Runtime) -> None:
    """A calibration reads stored predictions: it is made without images."""
    network = make(teacher(), store, runtime)
    there, machine = copied(store, runtime)
    made = make(CalibrationConfig(network=teacher()), there, machine)
    assert made.record.inputs.keys() == {network.record.key}
    with pytest.raises(UserError, match="existing folder"):
        make(teacher(seed=1), there, machine)


def test_of_several_contents_that_are_not_here_the_newest_is_taken(
    store: ArtifactStore, runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    make(teacher(), store, runtime)
    draw("c", 120)
    newest = make(teacher(), store, runtime)
    there, machine = copied(store, runtime)
    said(capsys)
    assert make(teacher(), there, machine).path.name == newest.path.name
    assert said(capsys)[0].endswith("is taken, the newest of 2")


def test_a_plan_reads_no_image(store: ArtifactStore, runtime: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    make(teacher(), store, runtime)
    shutil.rmtree(runtime.data_root)
    assert "1 hits" in describe([teacher()], store, runtime).text
    assert "its files were not read yet" in said(capsys)[0]


PLUGIN = """
import helper_of_mine
from torch import nn
import torch

def net(num_classes, in_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, num_classes))

def images():
    pixels = torch.arange(40 * 64, dtype=torch.uint8).view(40, 1, 8, 8)
    return pixels, torch.arange(40) % 2, pixels, torch.arange(40) % 2, ("a", "b")

def view():
    return lambda image: image
"""


@pytest.fixture
def plugin(project: Path) -> Path:
    for name in ("net", "images", "view"):
        trust.name(f"mine_of_identity:{name}")
    (project / "helper_of_mine.py").write_text("")
    path = project / "mine_of_identity.py"
    path.write_text(PLUGIN)
    new_process()
    return path


def new_process() -> None:
    """Forget what was imported, as a new process has."""
    for name in ("mine_of_identity", "helper_of_mine"):
        sys.modules.pop(name, None)


NAMED = {
    "a network": TeacherConfig(model=ModelConfig(name="mine_of_identity:net"), schedule=SHORT),
    "a data set": TeacherConfig(data=DataConfig(name="mine_of_identity:images"), model=TINY, schedule=SHORT),
    "a view program": TeacherConfig(augment=AugmentConfig(program="mine_of_identity:view"), schedule=SHORT),
}


@pytest.mark.parametrize("edited", ["mine_of_identity.py", "helper_of_mine.py"])
@pytest.mark.parametrize("named", NAMED)
def test_edited_code_makes_another_artifact(
    named: str,
    edited: str,
    plugin: Path,
    store: ArtifactStore,
    runtime: Runtime,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = NAMED[named].replace(schedule=ScheduleConfig(epochs=1, batch_size=256 if "view" in named else 8))
    old = make(config, store, runtime)
    assert make(config, store, runtime).path == old.path
    assert said(capsys) == []
    source = plugin.with_name(edited)
    source.write_text(source.read_text().replace("ReLU", "GELU") + "# edited\n")
    with pytest.raises(UserError, match=r"which was edited since\. Start Python again"):
        make(config, store, runtime)
    assert "has other content than the artifact teachers/" in said(capsys)[0]
    new_process()
    assert make(config, store, runtime).path != old.path


def test_old_weights_do_not_go_into_new_code(plugin: Path, store: ArtifactStore, runtime: Runtime) -> None:
    network = make(NAMED["a network"], store, runtime)
    assert isinstance(network.config, TeacherConfig)
    cache = make(CacheConfig(teacher=network.config), store, runtime)
    plugin.write_text(PLUGIN.replace("ReLU", "GELU"))
    new_process()
    with pytest.raises(ContentChanged, match=r"model.name = 'mine_of_identity:net': expected what it was"):
        make(CacheConfig(teacher=network.config, dtype="float32"), store, runtime)
    for artifact in (network, cache):
        found = {each.what: each.ok for each in check_contents(artifact, runtime)}
        assert found == {"mine_of_identity:net": False}
    plugin.write_text(PLUGIN)
    assert [each.ok for each in check_contents(cache, runtime)] == [True]


def test_code_that_is_not_here_is_not_checked(
    plugin: Path, store: ArtifactStore, runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    network = make(NAMED["a network"], store, runtime)
    plugin.unlink()
    new_process()
    assert make(NAMED["a network"], store, runtime).path == network.path
    name = "mine_of_identity:net"
    assert said(capsys) == [f"{name} is not checked, since it is not here: teachers/{network.path.name} is taken"]
    (finding,) = check_contents(network, runtime)
    assert (finding.ok, finding.text) == (None, "not checked, since it is not here")
    with pytest.raises(UserError, match="a module that can be imported"):
        make(NAMED["a network"].replace(seed=1), store, runtime)


def test_code_that_is_not_trusted_is_neither_run_nor_read(
    plugin: Path,
    store: ArtifactStore,
    runtime: Runtime,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = make(NAMED["a network"], store, runtime)
    new_process()
    monkeypatch.setattr(trust, "current", trust.Trusted())
    plugin.write_text("raise SystemExit")
    monkeypatch.setattr("distill.system.plugins.source_digest", lambda _: pytest.fail("read"))
    assert make(NAMED["a network"], store, runtime).path == network.path
    assert said(capsys) == [
        f"mine_of_identity:net is not checked, since you do not trust it: teachers/{network.path.name} is taken"
    ]
    assert [each.ok for each in check_contents(network, runtime)] == [None]


def test_labels_swapped_in_the_decoded_copy_are_noticed(store: ArtifactStore, runtime: Runtime) -> None:
    network = make(teacher(), store, runtime)
    assert isinstance(network.config, TeacherConfig)
    cache = make(CacheConfig(teacher=network.config, transfer_set=network.config.data), store, runtime)
    assert [each.ok for each in check_contents(cache, runtime)] == [True, True]
    path = next(runtime.data_root.glob("decoded/*/labels.npy"))
    labels = np.load(path)
    np.save(path, 1 - labels)
    forget_data_sets()
    for again in (teacher(seed=1), StudentConfig(data=network.config.data, loss=OF_LABELS)):
        with pytest.raises(UserError, match=r"labels.npy = 'changed'.*it is made again"):
            make(again, store, runtime)
    assert [each.ok for each in check_contents(cache, runtime)] == [True, False]
    shutil.rmtree(path.parent)
    LogitCache(cache).check_fits(loading.load(network.config.data, runtime.data_root, False))


def test_absent_images_are_not_checked_by_verify(store: ArtifactStore, runtime: Runtime) -> None:
    network = make(teacher(), store, runtime)
    there, machine = copied(store, runtime)
    (finding,) = check_contents(there.resolve(str(there.root / "teachers" / network.path.name)), machine)
    assert (finding.ok, finding.text) == (None, "not checked, since it is not here")
