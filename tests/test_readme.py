"""The documents' commands are run, so that what people type works; and what documents name is there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
DOCUMENTS = {
    path: path.read_text(encoding="utf-8")
    for folder in (".", "distill", "distill/*", "experiments", "experiments/results", "scripts")
    for path in sorted(ROOT.glob(f"{folder}/*.md"))
}
README = DOCUMENTS[ROOT / "README.md"]
GENERATED = re.compile(r"<!-- (?!end)\w+ -->\n.*?<!-- end -->", flags=re.DOTALL)


def blocks(language: str) -> list[str]:
    return [
        text for page in DOCUMENTS.values() for text in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    ]


def block(language: str, holding: str) -> str:
    (found,) = [text for text in blocks(language) if holding in text]
    return found


def make_clone(folder: Path, python: list[str]) -> Path:
    """A folder that looks like a clone, with its own store and a Python in place of .venv."""
    for name in ("scripts", "experiments"):
        (folder / name).symlink_to(ROOT / name)
    binaries = folder / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for name, module in {"python": "", "distill": "-m distill"}.items():
        (binaries / name).write_text(f'#!/bin/sh\nexec {shlex.join(python)} {module} "$@"\n')
        (binaries / name).chmod(0o755)
    (binaries / "activate").write_text(f'PATH="{binaries}:$PATH"\n')
    return folder


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, python: list[str]) -> Path:
    return make_clone(tmp_path_factory.mktemp("clone"), python)


def shell(script: str, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DISTILL_")}
    environment |= {"OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"}  # other tests run beside this one
    command = ["bash", "-euo", "pipefail", "-c", f"source .venv/bin/activate\n{script}"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def two_stages(clone: Path) -> str:
    return shell(block("bash", "train_teacher.py"), clone)


def test_the_two_stages_feed_each_other(two_stages: str, clone: Path) -> None:
    assert "checkpoints/students/" in two_stages
    for stage in ("teacher", "cache", "student"):
        assert f"  {stage} " in two_stages
    assert len(list((clone / "checkpoints").glob("*/*/record.json"))) == 3


def test_the_cache_is_read_from_ones_own_loop(two_stages: str, clone: Path) -> None:
    (clone / "loop.py").write_text(block("python", "LogitCache"))
    told = shell("python loop.py", clone)
    assert "1 view(s)" in told
    assert "loss" in told


def test_the_cache_is_proven_truncated_and_imported(clone: Path) -> None:
    from distill.config import DataConfig
    from distill.data.sets.load import load

    labels = load(DataConfig(name="digits"), clone).train.labels
    np.save(clone / "logits.npy", 5 * np.eye(10, dtype=np.float32)[labels.numpy()])
    told = shell(block("bash", "distill import"), clone)
    assert "ok       pixels: 80 of 80 views" in told
    assert "interclass_variance" in told
    assert "bytes_per_view           24.0000" in told
    assert len(re.findall("^checkpoints/caches/", told, flags=re.MULTILINE)) == 3


def test_a_network_is_calibrated_exported_and_swept(clone: Path) -> None:
    told = shell(block("bash", "distill calibrate"), clone)
    assert "scaling, before → after" in told
    assert (clone / "exported" / "model.safetensors").is_file()
    assert "Held-out images, which choose" in told


def test_ones_own_model_and_data(tmp_path: Path) -> None:
    clone = make_clone(tmp_path, [sys.executable])  # which has imported nothing, as where people type this
    (clone / "mine.py").write_text(block("python", "def net("))
    told = shell(block("bash", "distill teacher --model mine:net"), clone)
    assert "checkpoints/teachers/mine-stripes-mine-net" in told
    (weights,) = (clone / "checkpoints" / "teachers").glob("*/model.safetensors")
    torch.save({"state_dict": load_file(weights)}, clone / "checkpoint.pth")
    told = shell(block("bash", "distill adopt checkpoint.pth"), clone)
    assert "-from-adopted-s0-" in told
    assert "checkpoints/teachers/mine-stripes-mine-net-adopted" in told


def test_ones_own_images(clone: Path) -> None:
    for split, count in {"train": 12, "test": 4}.items():
        for label, name in enumerate(("rose", "tulip")):
            folder = clone / "flowers" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (40, 40), (200 * label, 5 * number, 100)).save(folder / f"{number}.png")
    told = shell(block("bash", "imagefolder:flowers"), clone)
    assert "flowers-cnn-ls0.1" in told
    assert len(list((clone / "checkpoints" / "students").glob("flowers-*/record.json"))) == 1


def test_the_two_commands_are_there_and_executable() -> None:
    named = set(re.findall(r"^(scripts/\w+)", "\n".join(blocks("bash")), flags=re.MULTILINE))
    assert named == {"scripts/reproduce", "scripts/test"}
    for name in named:
        assert os.access(ROOT / name, os.X_OK)
        subprocess.run(["bash", "-n", ROOT / name], check=True)


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert len(README.splitlines()) <= 200


def test_every_command_in_the_table_exists() -> None:
    from distill.cli.commands import COMMANDS

    named = {name for page in DOCUMENTS.values() for name in re.findall(r"`distill ([a-z][\w-]+)", page)}
    assert named == set(COMMANDS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_it_names_exists(document: Path) -> None:
    page = DOCUMENTS[document]
    for name in re.findall(r"`((?:distill|experiments|scripts|tests)/[\w./-]+)`", page):
        assert (ROOT / name).exists(), name
    for link in re.findall(r"\]\((?!http)([^)]+)\)", page):
        path, _, heading = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}, link


def test_its_table_of_faults_has_every_kind_that_is_tried() -> None:
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    tried = {path: re.findall(r'mark\.fault\("(.*?)"\)', path.read_text()) for path in files}
    (table,) = re.findall(
        r"\| kind of fault \|.*?\n\n", DOCUMENTS[ROOT / "distill/pipeline/README.md"], flags=re.DOTALL
    )
    told = re.findall(r"^\| (.*?) \|", table, flags=re.MULTILINE)[2:]
    assert told == [*sorted({kind for kinds in tried.values() for kind in kinds}), "all"]
    assert [path for path, kinds in tried.items() if path.parent.name in ("faults", "security") and not kinds] == []


def test_no_sentence_stands_twice() -> None:
    seen: dict[str, Path] = {}
    for document, page in DOCUMENTS.items():
        if document.parent.name == "results" and document.name != "README.md":
            continue  # written by a script, with a sentence on how to read them
        prose = re.sub(r"```.*?```|^\|.*?$", "", GENERATED.sub("", page), flags=re.DOTALL | re.MULTILINE)
        for sentence in re.split(r"(?<=[.:?!])\s|\n\n", prose):
            words = " ".join(sentence.split())
            if len(words.split()) > 8:
                assert words not in seen, f"{words!r} stands in {seen[words]} and in {document}"
                seen[words] = document
