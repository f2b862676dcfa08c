"""A record from somebody else can name a plug-in: it is imported only when the user names it too, or trusts all."""

from __future__ import annotations

import copy
import functools
import importlib
import json
import pickle
import shutil
import sys
import types
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from distill.audit.export import load_exported
from distill.cache import CachedDataset, LogitCache
from distill.cli.main import main
from distill.config import (
    AugmentConfig,
    CacheConfig,
    DataConfig,
    ModelConfig,
    StudentConfig,
    TeacherConfig,
    parse_stage,
)
from distill.data.sets.load import load
from distill.data.views.program import ProgramViews
from distill.errors import UserError
from distill.models import build_model
from distill.pipeline.graph import ensure
from distill.store.store import ArtifactStore
from distill.system import trust
from distill.system.plugins import resolve
from distill.system.runtime import Runtime
from tests.data import copies as sentences
from tests.data.copies import Copyist, copies, copyist
from tests.memory import forget_data_sets, forget_names
from tests.small import SHORT

pytestmark = pytest.mark.fault("plug-ins that nobody named")

EVIL = {"name": "evil:net"}
STRANGER = """
from pathlib import Path
import torch
from torch import nn

Path(__file__).with_name("ran").touch()

def net(num_classes, in_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

def images(n=40):
    labels = torch.arange(n) % 2
    pixels = torch.zeros(n, 1, 8, 8, dtype=torch.uint8)
    pixels[labels == 1, :, ::2] += 127
    return pixels, labels, pixels, labels, ["plain", "stripes"]

def program():
    return lambda image: image
"""


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process in which nobody named anything yet."""
    forget_names(monkeypatch)
    yield
    forget_data_sets()


def read(config: dict[str, object], path: Path = Path("theirs/record.json")) -> TeacherConfig:
    """The teacher of a record, as a store reads it."""
    teacher = parse_stage({"stage": "teacher", **config})
    trust.note_file(teacher.plugins(), path)
    assert isinstance(teacher, TeacherConfig)
    return teacher


def refused(reference: str) -> str:
    with pytest.raises(UserError) as caught:
        resolve(reference, "model.name")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What makes a plug-in trusted, and what does not


def flags(*words: str) -> None:
    """Run a command that may fail because there is no such module."""
    with suppress(SystemExit):
        main(["plan", *words])


@pytest.mark.parametrize(
    ("grant", "reference"),
    [
        (lambda: trust.name("evil:net"), "evil:net"),
        (lambda: Runtime(trust=True), "evil:net"),
        (lambda: flags("teacher", "--model.name", "evil:net"), "evil:net"),
        (lambda: flags("teacher", "--data.name=evil:net"), "evil:net"),
        (lambda: flags("teacher", "--augment.program", "evil:net"), "evil:net"),
        (lambda: flags("teacher", "--trust"), "evil:net"),
        (lambda: flags("dark_knowledge", "--data", "evil:net"), "evil:net"),
        (lambda: ModelConfig(name=copyist), "tests.data.copies:copyist"),
        (lambda: DataConfig(name=copies), "tests.data.copies:copies"),
        (lambda: AugmentConfig(program=Copyist), "tests.data.copies:Copyist"),
        (lambda: TeacherConfig().replace(model=ModelConfig().replace(name=copyist)), "tests.data.copies:copyist"),
        (lambda: TeacherConfig.model_validate({"model": {"name": copyist}}), "tests.data.copies:copyist"),
    ],
)
def test_a_flag_a_call_and_the_function_itself_are_the_users_word(grant, reference: str) -> None:
    assert not trust.is_trusted(reference)
    grant()
    assert trust.is_trusted(reference)
    assert not trust.is_trusted("other:net") or trust.current.everything


def test_a_function_is_stored_as_its_reference() -> None:
    config = ModelConfig(name=copyist)
    assert config == ModelConfig(name="tests.data.copies:copyist")
    assert resolve(config.name, "model.name") is copyist


def test_a_function_that_no_other_process_can_import_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def nested() -> None: ...

    def of_main() -> None: ...

    of_main.__module__, of_main.__qualname__ = "__main__", "of_main"
    monkeypatch.setattr(sys.modules["__main__"], "of_main", of_main, raising=False)
    imposter = types.FunctionType(nested.__code__, {}, "copyist")
    imposter.__module__, imposter.__qualname__ = "tests.data.copies", "copyist"
    for function in (nested, of_main, imposter, lambda: None, functools.partial(copyist, 2), Copyist.forward):
        for make in (
            lambda function=function: ModelConfig(name=function),
            lambda function=function: TeacherConfig().replace(augment={"program": function}),
        ):
            with pytest.raises(UserError, match=r"top level of a module\. Move it into a module") as caught:
                make()
            assert caught.value.field in ("model.name", "augment.program")
            assert "\n" not in str(caught.value)
    assert trust.current == trust.Trusted()


NAMING = [{"model": EVIL}, {"data": EVIL}, {"augment": {"program": "evil:net"}}]


@pytest.mark.parametrize("field", NAMING)
@pytest.mark.parametrize(
    "use",
    [
        lambda config: config,
        lambda config: config.replace(seed=1),
        lambda config: config.replace(model=config.model, data=config.data.replace(label_noise=0.5)),
        lambda config: config.replace(model=EVIL, data=EVIL, augment={"program": "evil:net"}),
        lambda config: config.model.replace(name="evil:net"),
        lambda config: config.model.replace(kwargs={"width": 3}),
        lambda config: config.augment.replace(mixup=0.5),
        lambda config: CacheConfig(teacher=config, transfer_set=config.data, augment=config.augment),
        lambda config: StudentConfig(cache=CacheConfig(teacher=config, transfer_set=config.data), data=config.data),
        lambda config: pickle.loads(pickle.dumps(config)),
        lambda config: copy.deepcopy(config),
        lambda config: config.model_copy(update={"seed": 1}),
        lambda config: config.model_copy(update={"model": ModelConfig.model_construct(name="evil:net")}),
        lambda config: TeacherConfig.model_validate_json(config.model_dump_json()),
        lambda config: Runtime(),
    ],
)
@pytest.mark.parametrize("by", [read, lambda fields: TeacherConfig(**fields)], ids=["a record", "code"])
def test_no_config_is(by, field: dict[str, object], use) -> None:
    use(by(field))
    assert trust.current == trust.Trusted()
    told = refused("evil:net")
    for part in ("import 'evil' and call 'net'", "set `trust`", "distill.system.trust.name('evil:net')"):
        assert part in told
    assert ("'theirs/record.json' names it" in told) is (by is read)


def test_neither_is_a_default() -> None:
    class Theirs(TeacherConfig):
        model: ModelConfig = ModelConfig(name="evil:net")

    Theirs()
    assert trust.current == trust.Trusted()


@pytest.mark.parametrize("imported", [False, True])
def test_a_module_that_can_be_imported_or_is_makes_nothing_trusted(
    imported: bool, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(stranger))
    if imported:
        importlib.import_module("stranger")
    assert "expected a plug-in that you trust" in refused("stranger:net")
    assert (stranger / "ran").exists() is imported


def test_nested_inputs_of_a_record_are_not_the_users_word_either() -> None:
    teacher = {"stage": "teacher", "model": EVIL}
    for fields in (
        {"stage": "student", "cache": {"stage": "cache", "teacher": teacher}},
        {"stage": "calibration", "network": teacher},
        {"stage": "analysis", "runs": [teacher]},
        {
            "stage": "teacher",
            "smoothing_source": teacher,
            "loss": {"alpha": 0, "smoothing": 0.1, "labels": {"towards": "similar"}},
        },
    ):
        assert set(parse_stage(fields).plugins()) == {"evil:net"}
    assert trust.current == trust.Trusted()
    assert "names it" not in refused("evil:net")


def test_one_plug_in_is_not_another() -> None:
    trust.name("mine:net")
    read({"model": {"name": "mine:other"}})
    refused("mine:other")
    refused("mine.net:net")
    refused("os:system")


def test_a_name_in_a_library_is_no_plug_in_of_that_name() -> None:
    assert not list(ModelConfig(name="timm:create_model").plugins())  # would take a path of a checkpoint
    assert not list(DataConfig(name="imagefolder:photos").plugins())
    with pytest.raises(UserError, match="expected a plug-in that you trust"):
        load(read({"data": {"name": "timm:create_model"}}).data, Path())


def test_odd_characters_are_escaped() -> None:
    read({"model": {"name": "\x1b[2Jevil\n:net"}}, Path("a\x1b\nb"))
    assert refused("\x1b[2Jevil\n:net").isprintable()


def test_programs_of_libraries_that_can_do_no_harm_need_no_word(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # where somebody's artifact lies, and perhaps a timm.py beside it
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    crop = read({"augment": {"program": "torchvision.transforms.v2:RandomResizedCrop", "kwargs": {"size": 8}}})
    timm = read({"augment": {"program": "timm.data:create_transform", "kwargs": {"input_size": 8}}})
    for config in (crop, timm):
        assert config.augment.program is not None
        assert not trust.is_trusted(config.augment.program)
        resolve(config.augment.program, "augment.program")
    assert str(tmp_path) not in sys.path
    for other in ("torchvision.transforms.v2:Lambda", "timm:create_model", "torch:load"):
        read({"augment": {"program": other}})
        refused(other)


# Worker processes


def test_workers_get_what_their_parent_trusts(monkeypatch: pytest.MonkeyPatch) -> None:
    trust.name("mine:net")
    handed = pickle.dumps(trust.current)
    forget_names(monkeypatch)
    trust.name("own:net")
    trust.add(pickle.loads(handed))
    assert trust.is_trusted("mine:net")
    assert trust.is_trusted("own:net")
    assert not trust.is_trusted("evil:net")
    trust.add(trust.Trusted(everything=True))
    trust.add(trust.Trusted())
    assert trust.is_trusted("evil:net"), "nothing is taken back"


def test_a_worker_of_a_view_program_is_one(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    trust.name("stranger:program")
    views = ProgramViews(images, AugmentConfig(program="stranger:program"), 0)
    handed = pickle.dumps(views._renderer)
    forget_names(monkeypatch)
    assert pickle.loads(handed).pixels(torch.arange(2).numpy(), 0).shape == (2, 1, 8, 8)
    forget_names(monkeypatch)
    with pytest.raises(UserError, match="plug-in that you trust"):
        ProgramViews(images, AugmentConfig(program="stranger:program"), 0)


def test_a_worker_of_a_pool_trusts_what_its_parent_trusts(tmp_path: Path) -> None:
    trust.name("tests.data.copies:copies")
    trust.name("tests.data.copies:copyist")
    runtime = Runtime(store=tmp_path, device="cpu", progress=False, executor="pool", threads=1)
    ensure([sentences.TEACHER.replace(schedule=SHORT)], ArtifactStore(tmp_path), runtime)


# Every command that reads records


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that somebody sent, and the module that their plug-ins were in."""
    folder = tmp_path_factory.mktemp("sent")
    (folder / "stranger.py").write_text(STRANGER)
    with pytest.MonkeyPatch.context() as patch:
        forget_names(patch)
        patch.syspath_prepend(str(folder))
        for name in ("images", "net", "program"):
            trust.name(f"stranger:{name}")
        theirs = TeacherConfig(
            data=DataConfig(name="stranger:images", held_out=0.2),
            model=ModelConfig(name="stranger:net"),
            schedule=SHORT.replace(epochs=20, batch_size=16),
        )
        cache = CacheConfig(
            teacher=theirs, transfer_set=theirs.data, augment=AugmentConfig(program="stranger:program"), views=2
        )
        runtime = Runtime(
            store=folder / "store",
            data_root=folder,
            device="cpu",
            progress=False,
            min_teacher_accuracy=0,
            workers=0,
        )
        made = ensure([theirs, cache], ArtifactStore(runtime.store), runtime)
        for name, artifact in zip(("teacher", "cache"), made.values(), strict=True):
            (folder / name).symlink_to(artifact.path)  # pyright: ignore[reportAttributeAccessIssue]
    return folder


@pytest.fixture
def stranger(sent: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory is what was sent; `ran` is there when its module was imported."""
    sys.modules.pop("stranger", None)
    (sent / "ran").unlink(missing_ok=True)
    forget_data_sets()
    monkeypatch.chdir(sent)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return sent


def run(capsys: pytest.CaptureFixture[str], folder: Path, command: str, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a command; teacher and cache stand for their keys."""
    keys = {name: json.loads((folder / name / "record.json").read_text())["key"] for name in ("teacher", "cache")}
    code = 0
    try:
        main([command, *(keys.get(word, word) for word in arguments), "--store", str(folder / "store")])
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out + captured.err


MACHINE = ["--device", "cpu", "--data-root", "."]
NEED_THEM = [
    (["evaluate", "teacher", "--measures", "all"], 0, "stranger:"),
    (["evaluate", "cache"], 2, "stranger:images"),
    (["verify", "cache"], 1, "stranger:images"),
    (["cache", "--teacher", "teacher", "--views", "1"], 2, "stranger:images"),
    (["student", "--cache", "cache"], 2, "stranger:images"),
    (["student", "--cache", "cache", "--data.name", "stranger:images"], 2, "stranger:program"),
    (["plan", "student", "--cache", "cache"], 2, "stranger:program"),
    (["export", "teacher", "--to", "exported"], 2, "stranger:net"),
]
DO_NOT = [
    ["ls", "--data-root", "."],
    ["show", "teacher"],
    ["gc"],
    ["evaluate", "teacher"],
    ["verify", "teacher"],
    ["verify"],
    ["calibrate", "teacher"],
]


@pytest.mark.parametrize(("arguments", "code", "named"), NEED_THEM)
def test_a_command_that_needs_a_plug_in_says_what_it_would_import(
    arguments: list[str], code: int, named: str, stranger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, told = run(capsys, stranger, *arguments, *MACHINE)
    assert found == code, told
    assert (stranger / "ran").exists() is ("--data.name" in arguments), "its own flag names one of them"
    (line,) = [line for line in told.splitlines() if "plug-in that you trust" in line]
    assert f"'{named}" in line
    assert "record.json' names it" in line
    assert "import 'stranger' and call" in line
    assert "--trust" in line
    assert "Traceback" not in told


@pytest.mark.parametrize("arguments", DO_NOT, ids=" ".join)
def test_other_commands_import_nothing(
    arguments: list[str], stranger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = run(capsys, stranger, *arguments)
    assert not (stranger / "ran").exists()
    assert "Traceback" not in told
    assert code == 0, told


def test_trust_is_given_by_a_flag(stranger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = run(capsys, stranger, "evaluate", "cache", "--trust", *MACHINE)
    assert code == 0, told
    assert (stranger / "ran").exists()


def test_the_name_of_a_folder_is_no_word_for_a_plug_in(stranger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(stranger / "cache", stranger / "stranger:images")
    code, told = run(capsys, stranger, "evaluate", "stranger:images", *MACHINE)
    shutil.rmtree(stranger / "stranger:images")
    assert code == 2
    assert "plug-in that you trust" in told
    assert not (stranger / "ran").exists()


def test_a_cache_in_ones_own_loop_is_refused_too(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = LogitCache.open(Path("cache").resolve())
    with pytest.raises(UserError, match="plug-in that you trust"):
        CachedDataset(cache, stranger)
    assert not (stranger / "ran").exists()
    trust.name("stranger:images")
    trust.name("stranger:program")
    handed = pickle.dumps(CachedDataset(cache, stranger))
    forget_names(monkeypatch)
    assert len(pickle.loads(handed)) == 32, "its workers open it again"


def test_an_exported_folder_is_refused_until_it_is_said_to_be_ones_own(
    stranger: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, told = run(capsys, stranger, "export", "teacher", "--to", "own", "--trust", *MACHINE)
    assert code == 0, told
    forget_names(monkeypatch)
    (stranger / "ran").unlink()
    sys.modules.pop("stranger")
    with pytest.raises(UserError, match="plugins=True"):
        load_exported(stranger / "own")
    assert not (stranger / "ran").exists()
    load_exported(stranger / "own", plugins=True)
    shutil.rmtree(stranger / "own")


def test_code_in_arguments_of_a_network_is_text() -> None:
    touch = "__import__('pathlib').Path('ran').touch()"
    for config in (
        {"name": "mlp", "kwargs": {"widths": touch}},
        {"name": "mlp", "kwargs": {"widths": [touch]}},
        {"name": "timm:resnet10t", "kwargs": {"act_layer": "os.system"}},
        {"name": "timm:resnet10t", "kwargs": {"checkpoint_path": "evil.pth"}},
        {"name": "timm:resnet10t", "kwargs": {"pretrained_cfg": {"file": "evil.pth"}}},
        {"name": "timm:hf-hub:someone/evil"},
        {"name": "timm:local-dir:evil"},
        {"name": "torchvision:resnet18", "kwargs": {"weights": "evil.pth"}},
        {"name": "torchvision:../evil"},
        {"name": "imagefolder:evil"},
    ):
        with pytest.raises(UserError) as caught:
            build_model(read({"model": config}).model, 10, (3, 32, 32))
        assert "\n" not in str(caught.value)
