"""The command line as people meet it: help, errors, the commands that read artifacts, what feeds what."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from distill.cli.arguments import print_lines
from distill.cli.main import main
from distill.config import LabelsConfig
from distill.errors import UserError
from distill.pipeline.executors.failures import Failure
from distill.pipeline.experiments import Reproduced
from distill.store.store import ArtifactStore
from tests.store.records import sealed

TINY = ["--model.kwargs", '{"widths": [8]}', "--schedule.epochs", "1", "--device", "cpu"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(list(arguments))
    return capsys.readouterr().out


def fail(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a mistake gives."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    told = capsys.readouterr()
    lines = told.err.strip().splitlines()
    assert len(lines) == 1, told.err
    assert "Traceback" not in told.err
    return lines[0]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTILL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("DISTILL_DATA", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def teacher(folders: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    return Path(run(capsys, "teacher", *TINY).splitlines()[-1])


def test_each_command_feeds_the_next(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    views = ["--augment.pad", "1", "--views", "2", "--min-teacher-accuracy", "0"]
    cache = run(capsys, "cache", "--teacher", str(teacher), *views).splitlines()[-1]
    arguments = ["student", "--cache", cache, *TINY, "--loss.temperature", "2", "--exclude-classes", "3", "5"]
    student = Path(run(capsys, *arguments).splitlines()[-1])
    config = json.loads((student / "record.json").read_text())["config"]
    assert config["cache"]["views"] == 2
    assert config["loss"] == {
        "alpha": 1.0,
        "temperature": 2.0,
        "temperature_on": "both",
        "soft": "kl",
        "kwargs": {},
        "smoothing": 0.0,
        "smoothing_convention": "uniform",
        "labels": LabelsConfig().model_dump(mode="json"),
    }
    assert config["exclude_classes"] == [3, 5]
    assert run(capsys, *arguments).splitlines()[-1] == str(student), "the second time it is a hit"
    alone = Path(run(capsys, "student", *TINY, "--loss.smoothing", "0.1").splitlines()[-1])
    assert json.loads((alone / "record.json").read_text())["config"]["cache"] is None


def test_commands_that_read(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = json.loads((teacher / "record.json").read_text())["key"]
    assert "interclass_variance" in run(capsys, "evaluate", str(teacher))
    assert "accuracy" in run(capsys, "evaluate", key[:8], "--split", "held_out")
    assert str(teacher) in run(capsys, "ls")
    assert str(teacher) in run(capsys, "ls", "teacher")
    assert str(teacher) not in run(capsys, "ls", "student")
    assert json.loads(run(capsys, "show", key[:8]))["key"] == key
    assert "ok" in run(capsys, "verify")
    assert "unfinished" not in run(capsys, "gc")
    (teacher / "model.safetensors").write_bytes(b"not what it was")
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(teacher)])
    assert stop.value.code == 1
    assert "model.safetensors: 15 bytes instead of" in capsys.readouterr().out


def test_evaluate_prints_every_measure(teacher: Path, folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usual = [line.split()[0] for line in run(capsys, "evaluate", str(teacher)).splitlines()]
    assert {"accuracy", "bits_beyond_top1", "conditional_mutual_information", "held_out_accuracy"} <= set(usual)
    told = run(capsys, "evaluate", str(teacher), "--measures", "all", "--temperature", "4", "--device", "cpu")
    names = {line.split()[0] for line in told.splitlines() if line.startswith("  ")}
    assert {*usual, "class_separation", "risk_coverage_area"} <= names
    assert "Soft targets on the test images, T = 4" in told
    assert "Against its teacher on the test images, T = 4: none. It learned from labels." in told
    cache = run(capsys, "cache", "--teacher", str(teacher), "--min-teacher-accuracy", "0").splitlines()[-1]
    assert "Soft targets on the transfer set, T = 1" in run(capsys, "evaluate", cache, "--measures", "all")
    assert "nontarget_entropy" in run(capsys, "evaluate", cache)
    for arguments, says in (
        (("--temperature", "4"), "Add --measures all"),
        (("--measures", "all", "--temperature", "-1"), "KnowledgeProbe.temperature"),
        (("--measures", "some"), "some"),
    ):
        assert says in fail(capsys, "evaluate", str(teacher), *arguments)
    bare = Path(run(capsys, "teacher", *TINY, "--data.held-out", "0").splitlines()[-1])
    assert "expected one that has images" in fail(capsys, "evaluate", str(bare), "--split", "held_out")


def test_plan_says_what_would_run_and_runs_nothing(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "plan", "dark_knowledge", "--scale", "smoke", "--device", "cpu")
    assert "0 hits, 43 to make" in told
    assert not (folders / "store").exists()
    assert "miss" in run(capsys, "plan", "teacher", *TINY)
    run(capsys, "teacher", *TINY)
    assert "1 hits, 0 to make" in run(capsys, "plan", "teacher", *TINY)
    told = run(capsys, "plan", "teacher", "--data.name", "cifar100", "--model.name", "resnet56")
    assert "1 to make" in told
    assert " h" in told or "min" in told, "hours or minutes, not seconds"


def test_plan_of_all_experiments_counts_what_they_share_once(
    folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def to_make(name: str) -> int:
        told = run(capsys, "plan", name, "--scale", "smoke", "--device", "cpu")
        return int(told.splitlines()[-1].split(" hits, ")[1].split()[0])

    monkeypatch.setattr(
        "distill.reports.experiment_files.experiment_names", lambda: ["dark_knowledge", "cache_precision"]
    )
    alone = to_make("dark_knowledge"), to_make("cache_precision")
    assert max(alone) < to_make("all") < sum(alone)
    assert not (folders / "store").exists()


def test_an_experiment_that_fails_or_is_skipped_is_told(
    folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = UserError("data", "mnist", "digits", "Drop --data.")
    failed = {"reports/two": Failure(ZeroDivisionError("in a figure")), "reports/three": Failure(reason)}
    made = Reproduced([], {"one": reason}, failed, folders)
    monkeypatch.setattr("distill.pipeline.experiments.reproduce", lambda *_: made)
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "all", "--data", "mnist"])
    assert stop.value.code == 1
    told = capsys.readouterr()
    assert "skipped      one: data = 'mnist': expected digits. Drop --data.\n" in told.out
    assert f"all reports  {folders}\n" in told.out
    told_of = "error: reports/two: ZeroDivisionError: in a figure\nerror: reports/three: data = 'mnist'"
    assert told_of in told.err
    assert told.err.endswith("Run the same command again to try only what is missing.\n")
    assert "Traceback" not in told.err


def test_doctor_finds_what_is_here(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "doctor")
    assert torch.__version__.split("+")[0] in told
    assert "digits" in told
    assert "not here" in told


def test_help_is_quick_and_needs_no_torch() -> None:
    code = "import sys; from distill.cli.main import main; main(['--help']); assert 'torch' not in sys.modules"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in (
        "reproduce",
        "plan",
        "teacher",
        "cache",
        "student",
        "evaluate",
        "ls",
        "show",
        "verify",
        "gc",
        "doctor",
    ):
        assert f" {name} " in told


@pytest.mark.parametrize("command", ["reproduce", "teacher", "cache", "student", "plan", "evaluate", "gc"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str], folders: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert not stop.value.code
    assert f"distill {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "nonsense"),
        (["teacher", "--no-such-field", "1"], "--no-such-field"),
        (["teacher", "--seed", "many"], "many"),
        (["teacher", "--optim.lr", "-1"], "OptimConfig.lr = -1.0: expected greater than 0"),
        (["teacher", "--smoothing", "1.5"], "less than 1"),
        (["teacher", "--model.name", "no-such-net"], "no-such-net"),
        (["teacher", "--model.name", "timm:resnet51"], "timm:resnet51"),
        (["teacher", "--model.name", "no.such.module:net"], "no.such.module:net"),
        (["teacher", "--model.kwargs", '{"width": 3}'], "width"),
        (["teacher", "--model.kwargs", "{"], "JSON"),
        (["teacher", "--model.name", "torchvision:resnet18"], "shape"),
        (["teacher", "--optim.name", "no-such-optimiser"], "no-such-optimiser"),
        (["teacher", "--data.name", "no-such-data"], "no-such-data"),
        (["teacher", "--data.name", "imagefolder:nowhere"], "nowhere"),
        (["teacher", "--smoothing", "0.95", "--loss.smoothing-convention", "others"], "Lower the smoothing"),
        (["teacher", "--seed", "99999999999999999999999"], "TeacherConfig.seed"),
        (["teacher", "--model.name", "torch.nn:Linear"], "torch.nn:Linear"),
        (["teacher", "--device", "cuda"], "--device auto"),
        (["teacher", "--store", "/proc/here"], "DISTILL_STORE"),
        (["student", "--exclude-classes", *"0123456789"], "a class is left"),
        (["student", "--loss.temperature", "1e30"], "LossConfig.temperature"),
        (["plan", "--data", "no-such-data"], "no-such-data"),
        (["cache"], "--teacher"),
        (["cache", "--teacher", "nowhere"], "nowhere"),
        (["student", "--loss.alpha", "0.5"], "Give a cache"),
        (["student", "--cache", "weights.pt"], "weights.pt"),
        (["reproduce", "no_such_experiment"], "expected all, or one of bits_of_dark_knowledge, cache_precision,"),
        (["plan", "no_such_experiment"], "expected all, or one of"),
        (["reproduce", "all", "--data", "no-such-data"], "no-such-data"),
        (["reproduce", "--scale", "huge"], "huge"),
        (["evaluate", "abc"], "abc"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str],
    says: str,
    folders: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (folders / "weights.pt").write_bytes(b"\x80\x04code")
    told = fail(capsys, *[str(folders / word) if word == "weights.pt" else word for word in arguments])
    assert told.startswith("error: ")
    assert says in told
    store = ArtifactStore(folders / "store")
    assert list(store.all()) == []
    drafts = [path for path in (store.root / "drafts").glob("*") if path.suffix != ".lock"]
    assert drafts == [], "nothing half-made is left"


def test_a_record_that_cannot_be_read_blocks_nothing_else(
    teacher: Path, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(run(capsys, "teacher", *TINY, "--seed", "1").splitlines()[-1])
    (teacher / "record.json").write_text("{")
    assert str(other) in run(capsys, "ls")
    with pytest.raises(SystemExit) as stop:
        main(["verify"])
    assert stop.value.code == 1
    assert f"damaged  {teacher}" in capsys.readouterr().out
    assert "unreadable record" in run(capsys, "gc", "--delete")
    assert not teacher.exists()
    assert "ok" in run(capsys, "verify")


def test_words_of_others_do_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines("a\x1b[2J  1\nb\r  2")
    assert capsys.readouterr().out == "a\\x1b[2J  1\nb\\r  2\n"


def test_a_wrong_kind_of_artifact_is_refused(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the artifact of a cache, this is a teacher" in fail(capsys, "student", "--cache", str(teacher))


def test_a_teacher_of_other_classes_or_shape_is_refused(
    teacher: Path, folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders / "own_data.py").write_text(
        "import torch\n"
        "def two(classes=2, side=8):\n"
        "    images = torch.zeros(40, 1, side, side, dtype=torch.uint8)\n"
        "    labels = torch.arange(40) % classes\n"
        "    return images, labels, images, labels, [str(i) for i in range(classes)]\n"
    )
    monkeypatch.chdir(folders)
    other = ["cache", "--teacher", str(teacher), "--transfer-set.name", "own_data:two"]
    assert "10 classes" in fail(capsys, *other)
    assert "input shape (1, 8, 8)" in fail(capsys, *other, "--transfer-set.kwargs", '{"classes": 10, "side": 9}')


def test_a_loss_that_is_not_finite_ends_in_one_line(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = fail(capsys, "teacher", *TINY, "--optim.lr", "1e30", "--optim.clip", "None")
    assert "finite" in told
    assert "--optim.lr" in told
    assert list(ArtifactStore(folders / "store").all()) == []


def test_an_artifact_of_an_older_form_is_rubbish_and_no_input(
    teacher: Path, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((teacher / "record.json").read_text())
    older = record | {"key": "0" * 64}  # as if a field had been added to configs since
    (teacher / "record.json").write_bytes(sealed(older))
    assert "of an older form" in run(capsys, "gc")
    with pytest.raises(SystemExit) as stopped:
        main(["cache", "--teacher", str(teacher)])
    assert stopped.value.code == 2
    assert "an artifact of this version" in capsys.readouterr().err


SWEEP = ["sweep-smoothing", *TINY, "--schedule.epochs", "3", "--smoothings", "0", "0.3"]


def test_a_sweep_prints_tables_answers_and_its_page(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "0 hits, 5 to make" in run(capsys, "plan", *SWEEP, "--seeds", "2")
    told = run(capsys, *SWEEP, "--seeds", "2", "--jobs", "1")
    for use in ("accuracy", "calibration", "teaching"):
        assert re.search(rf"^{use} +ε = (0|0.3) \(not told apart from ε = (0|0.3)\)$", told, re.MULTILINE)
    assert "Held-out images, which choose" in told
    assert "Test images, which choose nothing" in told
    page = Path(told.split("page ")[-1].split()[0])
    assert "How much label smoothing" in page.read_text()
    assert str(page.parent) in run(capsys, "ls", "sweep")
    assert len(run(capsys, "ls", "teacher").splitlines()) == 4
    assert run(capsys, *SWEEP, "--seeds", "2") == told, "the second time it is a hit"
    assert "2 hits, 3 to make" in run(capsys, "plan", *SWEEP[:-1], "0.2", "--seeds", "2"), "of ε=0 nothing is new"


def test_what_diverges_in_a_sweep_is_told(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = fail(capsys, *SWEEP, "--seeds", "1", "--jobs", "1", "--optim.lr", "1e30", "--optim.clip", "None")
    assert "one or more that learns something" in told


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--smoothing", "0.1"], "--smoothings 0 0.1 0.2"),
        (["--smoothing=0.1"], "--smoothings 0 0.1 0.2"),
        (["--smoothings", "0.1", "0.1"], "each only once"),
        (["--smoothings", "0.1"], "at least 2"),
        (["--smoothings", "0", "1.5"], "less than 1"),
        (["--seeds", "0"], "seeds"),
        (["--data.held-out", "0"], "--data.held-out 0.1"),
        (["--loss.labels.per-class", *["0.1"] * 10, "--smoothings", "0", "0.1"], "loss.labels.per_class"),
        (["--teacher", "x"], "sweep-smoothing --help"),
    ],
)
def test_what_a_sweep_refuses(
    flags: list[str], says: str, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in fail(capsys, "sweep-smoothing", *TINY, *flags)
    assert not (folders / "store").exists()


def test_a_sweep_of_smoothing_that_has_a_schedule(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--loss.labels.schedule", "linear", "--smoothings", "0", "0.3", "--seeds", "1"]
    assert "0 hits, 3 to make" in run(capsys, "plan", "sweep-smoothing", *TINY, *flags)


def test_help_of_a_sweep_has_the_flags_of_a_teacher(capsys: pytest.CaptureFixture[str]) -> None:
    def flags(command: str) -> set[str]:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        return set(re.findall(r"--[\w.-]+", capsys.readouterr().out))

    of_teacher, of_sweep = flags("teacher"), flags("sweep-smoothing")
    assert of_sweep - of_teacher == {"--smoothings", "--seeds", "--bins"}
    assert of_teacher - of_sweep == {"--loss.smoothing", "--smoothing"}


def test_a_sweep_that_cannot_be_taught_trains_nothing(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--smoothings", "0", "0.95", "--loss.smoothing-convention", "others"]
    assert "less than 0.9" in fail(capsys, "sweep-smoothing", *TINY, *flags)
    assert not (folders / "store" / "teachers").exists()


def test_arguments_that_are_nested_too_deep(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = '{"tree": ' + "[" * 100_000 + "]" * 100_000 + "}"
    told = fail(capsys, "teacher", *TINY, "--loss.labels.towards", "hierarchy", "--loss.labels.kwargs", deep)
    assert "a JSON object" in told
