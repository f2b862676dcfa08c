"""Images in folders, tars and zips, and what comes of decoding them."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.config import DataConfig
from distill.data.sets.dataset import Dataset
from distill.data.sets.decoded_copy import Decoded
from distill.data.sets.folder import opened
from distill.data.sets.load import load
from distill.errors import UserError


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def make_files(test: str = "test", sides: tuple[int, int] = (6, 5)) -> dict[str, bytes]:
    """Two classes of ten and four images; the first pixel of image i of class c is (i, c, 0)."""
    files = {}
    for split, count in (("train", 10), (test, 4)):
        for number, label in enumerate(("cat", "dog")):
            for i in range(count):
                pixels = np.random.default_rng(i).integers(0, 256, (*sides, 3), dtype=np.uint8)
                pixels[0, 0] = (i, number, 0)
                files[f"{split}/{label}/{i:02}.png"] = png(pixels)
    return files


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def write_tar(path: Path, files: dict[str, bytes], mode: str) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in reversed(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in reversed(files.items()):
            archive.writestr(name, data)
    return path


def load_path(path: Path, root: Path, held_out: float = 0.2, **kwargs) -> Dataset:
    return load(DataConfig(name=f"imagefolder:{path}", held_out=held_out, kwargs=kwargs), root, progress=False)


def decoded(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "decoded").iterdir() if path.is_dir())


def square(side: int = 4, colour: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), colour, np.uint8)).save(buffer, "png")
    return buffer.getvalue()


WHOLE = {
    f"{split}/{label}/{i}.png": square(4, i) for split in ("train", "test") for label in "ab" for i in range(3)
}


def decode(path: Path, root: Path, size: int | None = None) -> Decoded:
    kwargs = {} if size is None else {"size": size}
    found = opened(DataConfig(name=f"imagefolder:{path}", held_out=0.0, kwargs=kwargs), root, progress=False)
    assert isinstance(found, Decoded)
    return found


def refused(path: Path, match: str, size: int | None = None) -> str:
    """The line that refuses it; nothing is left anywhere."""
    before = set(path.parent.rglob("*"))
    with pytest.raises(UserError, match=match) as error:
        decode(path, path.parent / "root", size)
    line = str(error.value)
    assert "\n" not in line
    assert line.isprintable()
    root = path.parent / "root"
    left = {file for file in set(path.parent.rglob("*")) - before if file.suffix != ".lock"}
    assert left <= {root, root / "decoded", root / "digests", *root.glob("digests/*.safetensors")}
    return line
