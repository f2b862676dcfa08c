"""Measure how long it takes to tell the content of an image folder: at the first look, and when nothing changed.

The first look reads every file; a later look asks for the status of each. A third look, after one file has changed,
reads that file alone.

    python scripts/bench_identity.py [FOLDER] [--full] [--files 20000] [--bytes 2000] [--rounds 5]
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from rounds import announce, make_parser, parse
from tqdm import tqdm

from distill.data.sets.content import folder_content
from distill.system.files import TICK_NS

CLASSES = 100


def write_images(folder: Path, files: int, size: int) -> None:
    """Write files with random bytes, which need not be images, to class folders."""
    for number in tqdm(range(files), desc="writing", unit="file", leave=False):
        path = folder / "train" / f"class{number % CLASSES:02}" / f"{number:07}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))


def seconds(folder: Path, root: Path) -> tuple[float, float]:
    """Return the seconds of one look, and those of the processor alone."""
    wall, cpu = time.perf_counter(), time.process_time()
    folder_content(folder, root, progress=False)
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Write a folder, look at it, and print seconds and ratios."""
    parser = make_parser(__doc__)
    new = Path(tempfile.gettempdir()) / f"bench-identity-{os.getpid()}"
    parser.add_argument("folder", type=Path, nargs="?", default=new, help="new folder, deleted afterwards")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=2000, help="size of a file")
    parser.add_argument("--rounds", type=int, default=5)
    given = parse(parser, files=100_000)
    images, root = given.folder / "images", given.folder / "data"
    if given.folder.exists():
        parser.error(f"{given.folder} exists; name a folder that can be made, and deleted afterwards")
    announce(TICK_NS / 1e9 + 1 + 0.0005 * given.files + 0.00002 * given.files * given.rounds)
    given.folder.mkdir()
    try:
        write_images(images, given.files, given.bytes)
        time.sleep(TICK_NS / 1e9 + 1)  # a file that has just changed is not remembered
        first, first_cpu = seconds(images, root)
        later = [seconds(images, root) for _ in tqdm(range(given.rounds), desc="looking", leave=False)]
        again, again_cpu = (statistics.median(each) for each in zip(*later, strict=True))
        os.utime(next(images.rglob("*.jpg")))
        one, one_cpu = seconds(images, root)
    finally:
        shutil.rmtree(given.folder)
    print(f"{given.files:,} files of {given.bytes:,} bytes       wall       CPU")
    print(f"first look                {first:8.2f} s {first_cpu:8.2f} s")
    print(f"later look                {again:8.2f} s {again_cpu:8.2f} s")
    print(f"after a change of one     {one:8.2f} s {one_cpu:8.2f} s")
    print(f"first / later look        {first / again:8.1f}   {first_cpu / again_cpu:8.1f}")


if __name__ == "__main__":
    main()
