"""Check the wheel, the lines that install something, and which private parts of libraries are used."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill.pipeline.executors import ray_cluster
from distill.system.version import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
REQUIRED: list[str] = [*PROJECT["dependencies"], *(each for extra in EXTRAS.values() for each in extra)]
CODE = [path for folder in ("distill", "experiments", "scripts") for path in (ROOT / folder).rglob("*.py")]

BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
COMMANDS = "reproduce dark_knowledge", "reproduce all", "plan dark_knowledge", "plan all"
RUN = f"""
import contextlib, io, json
import distill
from distill.cli.main import main
from distill.store.provenance import provenance
from distill.system.runtime import Runtime
ended = []
for command in {COMMANDS}:
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        try:
            code = main(command.split())
        except SystemExit as stop:
            code = stop.code
    ended.append([code, told.getvalue()])
print(json.dumps([distill.__file__, provenance(Runtime(device="cpu")), ended]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that is built from a copy of this clone."""
    copy, out = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("wheel")
    for name in ("distill", "experiments", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    subprocess.run([sys.executable, "-c", BUILD, out], cwd=copy, capture_output=True, text=True, check=True)
    return zipfile.ZipFile(next(out.iterdir()))


def test_the_wheel_has_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    about = f"distill_dark_knowledge-{__version__}.dist-info/"
    packed = {name for name in wheel.namelist() if not name.startswith(about)}
    files = (path for path in (ROOT / "distill").rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert packed == {path.relative_to(ROOT).as_posix() for path in files}
    assert {"distill/py.typed", "distill/LICENSE", "distill/reports/templates/report.html.j2"} < packed
    metadata = wheel.read(f"{about}METADATA").decode()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert (ROOT / "README.md").read_text() in metadata


def test_without_a_clone_there_are_no_experiments_and_no_commit(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=they", "-c", "user.email=they@there"]
    for words in (["init", "-q"], ["add", "distill"], ["commit", "-qm", "Theirs"]):
        subprocess.run([*git, *words], check=True)
    ran = subprocess.run([sys.executable, "-c", RUN], cwd=tmp_path, capture_output=True, text=True, check=True)
    imported, made_with, ended = json.loads(ran.stdout)
    assert Path(imported) == tmp_path / "distill" / "__init__.py"
    assert (made_with["version"], made_with["commit"], made_with["dirty"]) == (__version__, None, None)
    for command, (code, told) in zip(COMMANDS, ended, strict=True):
        assert code == 2, command
        assert re.fullmatch(r"error: experiment = .*a clone of the source repository.*Clone it.*\n", told), command


INSTALL = re.compile(
    r"""\bpip install (?P<flags>(?:-e |--[\w-]+ )*)(?P<what>\\?["'][^"'\\]+|[\w.{][\w.{}\[\]-]*)"""
)


def installs() -> Iterator[tuple[str, bool, str]]:
    """Yield file, whether it is `pip install -e`, and the first requirement, for every line that installs."""
    scripts = (path for path in (ROOT / "scripts").iterdir() if path.is_file())
    documents = (path for path in ROOT.rglob("*.md") if not path.relative_to(ROOT).parts[0].startswith("."))
    for path in {*CODE, *scripts, *documents}:
        for match in INSTALL.finditer(path.read_text()):
            yield path.name, "-e" in match["flags"], match["what"].strip("\\\"'")


def test_every_line_that_installs_something_works() -> None:
    """The project is on no index: its extras are installed from a clone, and messages name the library itself."""
    libraries = {re.split(r"[<>=\[]", each)[0] for each in REQUIRED} - {PROJECT["name"]} | {"{package}"}
    sources = {".", *(f".[{extra}]" for extra in EXTRAS)}
    found = [*installs()]
    assert len(found) > 5
    for file, editable, what in found:
        assert what in sources if editable else re.split("[<>=]", what)[0] in libraries, (file, what)


def test_the_message_about_ray_has_the_versions_of_the_extra() -> None:
    (wanted,) = EXTRAS["ray"]
    assert f'pip install "{wanted}"' == ray_cluster._INSTALL


# Library → its private or undocumented parts, and where they are used. A library in this list needs an upper bound.
PRIVATE = {
    "timm": {"timm_folder.py: _hub"},
    "ray": {"ray_cluster.py: _private", "ray_cluster.py: _raylet"},
    "tensorboard": {"event_file.py: compat.proto.event_pb2", "event_file.py: summary.writer.record_writer"},
    "torch": {
        "batch_norm.py: _foreach_add_",
        "batch_norm.py: _foreach_copy_",
        "batch_norm.py: _functions",
        "event_file.py: _get_file_writer",
        "likelihood.py: _log_softmax_backward_data",
        "step_distributed.py: _foreach_div_",
    },
}
UNSEEN = {"event_file.py: _get_file_writer", *PRIVATE["tensorboard"]}
"""Parts that the search below cannot see: a method that is replaced, and modules without underscore."""
DOCUMENTED = {"_asdict", "_exit", "_fields", "_replace"}  # of named tuples, and of os


def used() -> Iterator[str]:
    """Yield every private name in the code that our own code does not define."""
    texts = {path: path.read_text() for path in CODE}
    every = "\n".join(texts.values())
    own = {*re.findall(r"\b(?:def|class) (_\w+)", every), *re.findall(r"\bself\.(_\w+)\b[^=()]*= ", every)}
    imported = re.compile(r"^ *(?:from|import) (?!distill|experiments)[\w.]*(?<=[ .])(_[a-z]\w*)", re.MULTILINE)
    for path, text in texts.items():
        taken = re.findall(r"^ *from (?!distill|experiments|__)\S+ import (_\w+)", text, re.MULTILINE)
        read = re.findall(r"""(?<=[\w)\]])(?<!\bself)\.(_[a-z]\w*)|attr\([^()]+, ["'](_[a-z]\w*)["']""", text)
        names = {*taken, *imported.findall(text), *(one or other for one, other in read)}
        yield from (f"{path.name}: {name}" for name in names - own - DOCUMENTED)


def test_private_parts_of_libraries_are_these_and_their_versions_are_bounded() -> None:
    assert {*used()} == {each for parts in PRIVATE.values() for each in parts} - UNSEEN
    for library in PRIVATE:
        assert any(re.match(rf"{library}[^,\w]+[\d.]+,<\d", each) for each in REQUIRED), library
