"""Try odd input at random where the tests of a module have only the cases that somebody thought of.

Every generator has a seed, so that a failure comes again.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from distill.audit.verify import examine
from distill.cache.class_order import better_order
from distill.cache.encoding import Encoding, distribution_errors
from distill.cli.commands import COMMANDS
from distill.cli.flag_names import flag
from distill.cli.main import main
from distill.config import TeacherConfig
from distill.data.sets.content import folder_content
from distill.errors import UserError
from distill.store.garbage import collect
from distill.store.store import ArtifactStore
from distill.system.reading import load_json, read_lines
from tests.cli.commands import TINY
from tests.data.sets.image_files import WHOLE, decode, write_folder
from tests.faults.attempts import Attempts
from tests.faults.damage import append, empty, flip, truncate
from tests.store.records import publish

Count = Callable[[int, int], int]

VALUES = (
    *("", " ", "0", "-1", "nan", "-inf", "1e400", "9" * 30, "0x10", "None", "true", "[]", "{", '{"a": NaN}', "é"),
    *(
        "a\nb",
        "\x1b[2J",
        "\udce9",
        "..",
        "~nobody/x",
        "$NOWHERE/x",
        ":",
        "a:b",
        ".x:y",
        "math:hypot",
        "builtins:dict",
    ),
    *("timm:", "imagefolder:", "--help", "--no", "-", "a" * 5000),
)
LINES = (
    *(
        ["teacher", *TINY],
        ["student", "--loss.alpha", "0", *TINY],
        ["cache", "--teacher", "x"],
        ["plan", "teacher"],
    ),
    *(["sweep-smoothing", "--smoothings", "0", "0.1", "--seeds", "1", *TINY], ["import", "x"], ["evaluate", "x"]),
    *(["calibrate", "x"], ["export", "x", "--to", "y"], ["ls"], ["show", "x"], ["verify"], ["gc"], ["plan", "all"]),
)


@pytest.mark.fault("odd JSON and command lines")
def test_command_lines(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    count: Count,
    attempts: Attempts,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    draw, number, wrong = random.Random(1), count(4, 200), []
    for trial in range(number):
        line = [*draw.choice(LINES)]
        for _ in range(draw.choice((1, 1, 2))):
            field = draw.choice(sorted(COMMANDS[line[0]].fields))
            line += [flag(field), *draw.choices(VALUES, k=draw.choice((1, 1, 1, 0, 2)))]
        for name in ("DISTILL_STORE", "DISTILL_DATA"):
            monkeypatch.setenv(name, str(tmp_path / str(trial) / name))
        code: object = 0
        try:
            main(line)
        except SystemExit as stop:
            code = stop.code
        except BaseException as error:
            code = repr(error)
        said = capsys.readouterr().err.splitlines()
        clear = said[-1:] and said[-1].startswith("error: ") if code else code in (0, None)
        if not clear or code not in (0, None, 1, 2) or not all(row.isprintable() for row in said):
            wrong.append(f"{line}: {code}, {said}")
    attempts(number, wrong)


ATOMS = (
    *("1", "-0", "1.5e3", "NaN", "-Infinity", "1e999", "9" * 19, "9" * 40, "01", "true", "null", "", "'a'"),
    *('"a"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\t"'),
)


def odd_json(draw: random.Random, depth: int = 0) -> str:
    """Return a JSON text, or one that is nearly JSON."""
    kind = draw.randrange(8 if depth < 4 else 5)
    if kind < 5:
        return draw.choice(ATOMS)
    items = [odd_json(draw, depth + 1) for _ in range(draw.randrange(4))]
    if kind == 5:
        return f"[{', '.join(items)}{draw.choice(('', '', ','))}]"
    if kind == 6:
        return "{" + ", ".join(f'"{draw.choice("abc")}": {item}' for item in items) + "}"
    deep = draw.choice((2, 90, 200))
    return "[" * deep + odd_json(draw, 4) + "]" * deep


def repeats_no_key(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@pytest.mark.fault("odd JSON and command lines")
def test_json(count: Count, attempts: Attempts) -> None:
    draw, number, wrong = random.Random(2), count(100, 2000), []
    for _ in range(number):
        text = odd_json(draw)
        try:
            value = load_json(text)
        except ValueError:
            continue
        try:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
            assert value == json.loads(text, object_pairs_hook=repeats_no_key)
        except (AssertionError, ValueError) as error:
            wrong.append(f"{text}: {value}, {error!r}")
    attempts(number, wrong)


@pytest.mark.fault("other encodings, closed streams")
def test_encodings_of_names(tmp_path: Path, count: Count, attempts: Attempts) -> None:
    draw, number, wrong, path = random.Random(3), count(20, 300), [], tmp_path / "names.txt"
    for _ in range(number):
        names = [
            "a" + "".join(draw.choices("aM/üéŷ中😀 ", k=draw.randrange(8))) + "b"
            for _ in range(draw.randrange(1, 4))
        ]
        encoding = draw.choice(
            ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "gb18030")
        )
        path.write_bytes(draw.choice(("\n", "\r\n")).join(names).encode(encoding, errors="ignore"))
        try:
            found = read_lines(path, "names")
        except UserError as error:
            wrong += [] if str(path) in str(error) and encoding not in ("utf-8", "utf-8-sig") else [str(error)]
        else:
            kept = [name.encode(encoding, errors="ignore").decode(encoding) for name in names]
            wrong += [] if found == kept else [f"{names} in {encoding}: {found}"]
    attempts(number, wrong)


def confuse(path: Path, draw: random.Random) -> str:
    """Put another kind of image in its place, of another depth, or none."""
    modes = {
        "tiff": ("1", "L", "I;16", "I", "F", "CMYK", "LAB"),
        "png": ("1", "P", "LA", "RGBA", "I;16"),
        "gif": ("P",),
    }
    kind = draw.choice(sorted(modes))
    mode, buffer = draw.choice(modes[kind]), io.BytesIO()
    Image.new(mode, draw.choice(((4, 4), (5, 4), (1, 1)))).save(buffer, kind)
    path.write_bytes(
        draw.choice((buffer.getvalue(), buffer.getvalue(), draw.randbytes(200), b"GIF89a", b"\x89PNG"))
    )
    return f"{kind} of {mode}"


@pytest.mark.fault("images of another depth or kind")
def test_damaged_images(tmp_path: Path, count: Count, attempts: Attempts) -> None:
    draw, number, wrong = random.Random(4), count(6, 300), []
    path, root = tmp_path / "folder", tmp_path / "root"
    write_folder(path, WHOLE)
    for _ in range(number):
        name = draw.choice(sorted(WHOLE))
        done = draw.choice((flip, truncate, empty, append, confuse, confuse))(path / name, draw)
        try:
            images = decode(path, root).images
            wrong += [] if tuple(images.shape) == (len(WHOLE), 3, 4, 4) else [f"{name}, {done}: {images.shape}"]
        except UserError as error:
            line = str(error)
            clear = line.isprintable() and (name in line or "Give a size" in line)
            left = [each for each in (root / "decoded").glob("*") if each.is_dir() or "partial" in each.name]
            wrong += [] if clear and not left else [f"{name}, {done}: {line}, {left}"]
        shutil.rmtree(root)
        (path / name).write_bytes(WHOLE[name])
    attempts(number, wrong)


def images_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def edit_folder(folder: Path, draw: random.Random) -> None:
    """Do to a folder of images what people do."""
    images = sorted(folder.rglob("*.png"))
    path, other = draw.sample(images, 2)
    before = path.stat()
    match draw.randrange(6):
        case 0:  # other pixels, or the same, under the same size and time
            path.write_bytes(path.read_bytes()[:-1] + draw.choice((b"x", path.read_bytes()[-1:])))
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        case 1:
            path.rename(path.with_name(draw.choice(("0.png", "9.png", "x.png"))))
        case 2:
            path.rename(other)
        case 3:
            one, two = path.read_bytes(), other.read_bytes()
            path.write_bytes(two), other.write_bytes(one)
        case 4:
            os.utime(path, (1, 1))
        case _:
            (folder / "train" / draw.choice(("notes.txt", "a/notes.txt"))).write_text("mine")


@pytest.mark.fault("images, labels or code that changed")
def test_edited_folders(tmp_path: Path, count: Count, attempts: Attempts) -> None:
    draw, number, wrong = random.Random(5), count(10, 300), []
    folder = write_folder(tmp_path / "folder", WHOLE)
    first = folder_content(folder, tmp_path / "root", progress=False)
    for _ in range(number):
        for _ in range(draw.randrange(1, 4)):
            edit_folder(folder, draw)
        now = folder_content(folder, tmp_path / "root", progress=False)
        wrong += [] if (now == first) == (images_of(folder) == WHOLE) else [f"{sorted(images_of(folder))}: {now}"]
        shutil.rmtree(folder)
        write_folder(folder, WHOLE)
    attempts(number, wrong)


def foreign_names(draw: random.Random, artifact: str) -> Iterator[str]:
    """Yield paths of files that a person or another program may keep in a store."""
    folders = ("", "drafts/", "logs/", "diverged/", "teachers/", "caches/", "students/", "reports/", "mine/")
    for _ in range(draw.randrange(1, 6)):
        stem = draw.choice(("notes", "x-20240101", "1" * 31, "1" * 32, "2" * 64, f"boot-{'3' * 8}", ".a"))
        end = draw.choice((".log", ".partial", ".lock", ".soft.lock", ".json", ".token", ".deleted", ".png", ""))
        within = draw.choice(("", "", f"{stem}/", f"{'4' * 64}/", "lost+found/", f"{artifact}/", ".snapshot/a/"))
        # A record or a resume point in a draft's folder, under a draft's name, is what an older version left.
        names = [f"{stem}{end}", *(("record.json", "resume.safetensors") if within and len(within) != 65 else ())]
        yield f"{draw.choice(folders)}{within}{draw.choice(names)}"


@pytest.mark.fault("files of others in a store")
def test_files_of_others(tmp_path: Path, count: Count, attempts: Attempts) -> None:
    draw, number, wrong = random.Random(6), count(5, 200), []
    for trial in range(number):
        store = ArtifactStore(tmp_path / str(trial))
        old = publish(store, TeacherConfig(), version=0)
        publish(store, TeacherConfig(seed=1))
        files = {}
        for name in foreign_names(draw, draw.choice(("none", old.name))):
            path, text = store.root / name, draw.choice(('{"key": "other", "reason": "mine"}', "mine", "[]", "\0"))
            if path.exists() or any(each.is_file() for each in path.parents):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            os.utime(path, (0, 0))
            files[path] = text
        list(collect(store, delete=True, drafts=True, unreached=True))
        list(examine(store))
        wrong += [
            f"{path}: {text!r}" for path, text in files.items() if not path.exists() or path.read_text() != text
        ]
    attempts(number, wrong)


@pytest.mark.fault("classes or rows in another order")
def test_orders_of_classes(count: Count, attempts: Attempts) -> None:
    draw, number, wrong = random.Random(7), count(10, 200), []
    for _ in range(number):
        classes, share = draw.choice((2, 3, 10, 40)), draw.choice((1.0, 0.9, 0.8))
        order = torch.arange(classes)
        moved = draw.sample(range(classes), draw.randrange(2, min(classes, 6) + 1))
        order[moved] = torch.tensor(moved[1:] + moved[:1])
        labels = torch.arange(200 * classes) % classes
        noise = torch.tensor(np.random.default_rng(draw.randrange(1000)).integers(classes, size=len(labels)))
        answers = labels.where(
            torch.rand(len(labels), generator=torch.Generator().manual_seed(classes)) < share, noise
        )
        names = tuple(map(str, range(classes)))
        found = better_order(order[answers], labels, names)
        if found is None or better_order(answers, labels, names) is not None:
            wrong.append(f"{classes} classes, moved {moved}, {share}: {found}")
    attempts(number, wrong)


@pytest.mark.fault("logits that a small type loses")
def test_offsets_of_logits(count: Count, attempts: Attempts) -> None:
    draw, number, wrong = random.Random(8), count(10, 300), []
    for trial in range(number):
        classes = draw.choice((2, 10, 100, 1000))
        top_k = draw.choice((None, None, min(5, classes)))
        exact = torch.randn(20, classes, generator=torch.Generator().manual_seed(trial)) * draw.choice((0.1, 3, 30))
        exact += draw.choice((1, -1)) * 10 ** draw.uniform(0, 6)
        half, whole = (Encoding(classes, kind, top_k) for kind in ("float16", "float32"))
        try:
            stored = half.decode(half.encode(exact)[0])
        except UserError:
            continue
        error = distribution_errors(whole.decode(whole.encode(exact)[0]), stored)["tv_max_T1"]
        wrong += [] if error < 0.01 else [f"{classes} classes, top {top_k}, mean {exact.mean()}: {error}"]
    attempts(number, wrong)
