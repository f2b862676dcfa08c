"""A stranger adds one of each kind, a file and a line, and finds it everywhere.

The package is copied, and a toy of each kind is added to the copy: what the tests see is what a stranger sees.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FILES = {
    "distill/metrics/toy_measure.py": '''
"""A toy."""

def toy_measure(logits, labels):
    """Say how many samples there are."""
    return float(len(labels))
''',
    "distill/losses/toy_term.py": '''
"""A toy."""

def toy_term(student_logits, teacher_logits, temperature, weight):
    """Compare logits by their absolute difference."""
    return weight * (student_logits - teacher_logits).abs().mean() / temperature
''',
    "distill/data/sets/toy_set.py": '''
"""A toy."""
import torch
from distill.data.sets.dataset import Split

def load_toy(_):
    """Make images whose brightness is their class."""
    def split(n):
        labels = torch.arange(n) % 2
        images = (labels.view(-1, 1, 1, 1) * 200 + torch.arange(n).view(-1, 1, 1, 1) % 50).to(torch.uint8)
        return Split(images.expand(n, 1, 4, 4).contiguous(), labels)
    return split(128), split(32), ("dark", "bright")
''',
    "distill/models/toy_network.py": '''
"""A toy."""
import math
from torch import nn

def toy_network(num_classes, in_shape):
    """Build one linear layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(in_shape), num_classes))
''',
    "distill/stages/toy_stage.py": '''
"""A toy."""
from distill.store.outcome import Outcome

def run(config, inputs, folder, runtime):
    """Write the accuracy of a network."""
    accuracy = inputs.artifact(config.network).record.metrics["test/accuracy"]
    (folder / "toy.txt").write_text(str(accuracy))
    return Outcome({"test/accuracy": accuracy}, {})
''',
    "experiments/toy_experiment.py": '''
"""A toy of an experiment."""
from distill.config import DataConfig, ModelConfig, ScheduleConfig, TeacherConfig
from distill.reports.experiment import Claim, Label

DATA = dict.fromkeys(("smoke", "quick", "short", "paper"), "toy_set")
CLAIMS = [Claim("all", "smoothing changes nothing", "toy_measure", "smoothed", "hard", "higher")]

def runs(scale, data):
    schedule = ScheduleConfig(epochs=2, batch_size=16)
    hard = TeacherConfig(data=DataConfig(name=data), model=ModelConfig(name="toy_network"), schedule=schedule)
    return {Label("hard", 0): hard, Label("smoothed", 0): hard.with_loss(smoothing=0.1)}

def draw(table):
    return {}
''',
}
"""The new files; all but the experiment need a line in one list too."""
LINES = {
    "distill/metrics/measures.py": (
        "_LISTED = (\n",
        '    Measure("toy_measure", "toys", "", 0, _NETWORKS, "answers", "toy_measure:toy_measure", usual=True,\n'
        '            what="number of toys"),\n',
    ),
    "distill/config/loss.py": (
        "    for term in (\n",
        '        SoftTerm("toy", "distill.losses.toy_term:toy_term", "toys of logits", {"weight": 2.0}),\n',
    ),
    "distill/config/data_sets.py": (
        "    for data_set in (\n",
        '        DataSet("toy_set", Shape(128, 32, (1, 4, 4), 2), "distill.data.sets.toy_set:load_toy"),\n',
    ),
    "distill/config/network.py": (
        "    for network in (\n",
        '        Network("toy_network", "distill.models.toy_network:toy_network", "of a toy shop"),\n',
    ),
    "distill/store/stages.py": (
        "    for stage in (\n",
        '        Stage(ToyConfig, "toys", lambda config: ["toy"], "distill.stages.toy_stage:run"),\n',
    ),
}
"""File → where its list begins, and the line."""
CONFIG = '''
class ToyConfig(Config):
    """A toy of a network."""

    stage: Literal["toy"] = "toy"
    network: TeacherConfig


'''
"""Of the stage. Its name enters the union of configs too, which stays written out for type checkers."""

SESSION = """
import contextlib, io, json, sys
from pathlib import Path
from distill.cli.main import main

told = {}
def call(name, *arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main(list(arguments))
    told[name] = out.getvalue()

call("help of a student", "student", "--help-all")
call("help of an experiment's plan", "plan", "--help")
call("help of ls", "ls", "--help")
call("doctor", "doctor")
assert "torch.nn" not in sys.modules or told["doctor"], "help needs no torch"
here = ["--device", "cpu", "--executor", "inline", "--schedule.epochs", "2", "--schedule.batch-size", "16"]
net = ["--data.name", "toy_set", "--model.name", "toy_network"]
call("plan", "plan", "teacher", *net, *here)
call("teacher", "teacher", *net, *here)
teacher = told["teacher"].split()[-1]
call("cache", "cache", "--teacher", teacher, *here[:4])
call("student", "student", "--cache", told["cache"].split()[-1], "--model.name", "toy_network", *here,
     "--loss.soft", "toy", "--loss.kwargs", '{"weight": 3}')
call("evaluate", "evaluate", teacher, "--device", "cpu")
call("evaluate all", "evaluate", teacher, "--measures", "all", "--device", "cpu")
here = ("--scale", "smoke", "--device", "cpu", "--executor", "inline")
call("report", "reproduce", "toy_experiment", "--tables", *here)

from distill.audit.plan import describe
from distill.config.stages import ToyConfig, parse_stage
from distill.pipeline.graph import ensure
from distill.store import ArtifactStore
from distill.system.runtime import Runtime
store, runtime = ArtifactStore(Path("checkpoints")), Runtime(device="cpu", executor="inline")
toy = ToyConfig(network=store.read(Path(teacher)).config)
assert parse_stage(json.loads(toy.model_dump_json())) == toy
told["plan of the stage"] = describe([toy], store, runtime).text
(made,) = ensure([toy], store, runtime).values()
told["toy"] = (made.path / "toy.txt").read_text()
call("ls", "ls", "toy")
call("verify", "verify", str(made.path))
call("show", "show", made.record.key)
print("\\n" + json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the commands of the copy print, by a name for each call."""
    copy = tmp_path_factory.mktemp("copy")
    for folder in ("distill", "experiments"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for name, text in FILES.items():
        (copy / name).write_text(text)
    for name, (begin, line) in LINES.items():
        edit(copy / name, begin, begin + line)
    stages = copy / "distill/config/stages.py"
    edit(stages, "class ReportConfig(Config):", f"{CONFIG.lstrip()}class ReportConfig(Config):")
    edit(stages, "    TeacherConfig\n    | Adopted", "    ToyConfig\n    | TeacherConfig\n    | Adopted")
    edit(copy / "distill/store/stages.py", "from distill.store import titles", _IMPORT)
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    command = [sys.executable, "-c", SESSION]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


_IMPORT = "from distill.config.stages import ToyConfig\nfrom distill.store import titles"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name}: {old!r}"
    path.write_text(text.replace(old, new))


def words(text: str) -> str:
    """A help text without its box and its line breaks."""
    return re.sub(r"[\s│]+", " ", text)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("help of a student", "toy_set"),
        ("help of a student", "toy_network (of a toy shop)"),
        ("help of a student", "toy: toys of logits"),
        ("help of a student", '{"weight": 2.0} of toy'),
        ("help of ls", "toy"),
        ("doctor", "toy_set"),
        ("evaluate", "toy_measure"),
        ("evaluate all", "number of toys"),
        ("report", "toys"),
        ("plan of the stage", "miss toy"),
        ("show", '"stage": "toy"'),
    ],
)
def test_what_was_added_is_told(told: dict[str, str], call: str, says: str) -> None:
    assert says in words(told[call])


def test_what_was_added_works(told: dict[str, str]) -> None:
    assert "1 to make" in told["plan"]
    assert "toy_set-toy_network" in told["teacher"].splitlines()[-1]
    assert "toy-T4-weight3" in told["student"].splitlines()[-1]
    assert float(told["toy"]) == 1
    assert re.search(r"toy +1\.0000 +checkpoints/toys/toy-", told["ls"])
    assert told["verify"].startswith("ok")
    assert re.search(r"toy_measure +32\b", told["evaluate"])
