"""Measure how long a stream of very many files takes to list, and how much memory its processes share out.

The files are hard links to a few small JPEGs, laid out as ImageNet is: 26 of 27 in train/, the rest in val/.
Memory is the proportional set size (PSS) of this process and its workers: pages that processes share count once.
Each measurement is made in a process of its own; "names" is the difference to a folder of 100 files.

    python scripts/bench_names.py [FOLDER] [--full] [--names 50000] [--workers 8]
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rounds import announce, make_parser, parse
from tqdm import tqdm

from distill.config import AugmentConfig, DataConfig
from distill.data.loader import Loader
from distill.data.sets.content import folder_content
from distill.data.sets.load import load
from distill.data.views.views import Views
from distill.system.files import TICK_NS

_PER_FILE, _PER_TRAINING_CLASS, _PER_CLASS = 60_000, 1300, 1350
"""Links to one file, of which ext4 allows 65,000; images of a class in train/; images of a class altogether."""
_BATCH, _BATCHES = 16, 20


def write_links(folder: Path, names: int) -> None:
    """Write a folder of hard links to random JPEGs of 64 × 48 pixels."""
    rng, sources = np.random.default_rng(0), []
    folder.mkdir(parents=True)
    for number in range(1 + names // _PER_FILE):
        sources.append(folder.with_name(f"{folder.name}-{number}.jpg"))
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((64, 48)).save(sources[-1])
    classes = min(1000, max(2, names // _PER_CLASS))
    for number in tqdm(range(names), desc="linking", unit="file", leave=False):
        split = "val" if number // classes % 27 == 26 else "train"
        place = folder / split / f"n{number % classes:08}"
        if number < 27 * classes:
            place.mkdir(parents=True, exist_ok=True)
        os.link(sources[number % len(sources)], place / f"n{number % classes:08}_{number}.JPEG")


def measure(folder: Path, root: Path, workers: int) -> dict[str, float]:
    """Return seconds of a look at the files and of the listing, and megabytes of all processes of a loader."""
    started = time.perf_counter()
    folder_content(folder, root, progress=False)
    looked = time.perf_counter()
    config = DataConfig(name=f"imagefolder:{folder}", kwargs={"stream": True, "size": 224})
    data = load(config, root)
    listed = time.perf_counter()
    kwargs = {"input_size": 224, "is_training": True, "normalize": False}
    crops = AugmentConfig(program="timm.data:create_transform", kwargs=kwargs)
    # A batch that waits keeps the workers alive.
    loader = Loader(Views.of_training(data, crops, 0), _BATCH, 0, workers=workers)
    batches = loader.epoch(0)
    for _ in range(min(_BATCHES, len(loader) - 1)):
        next(batches)
    parent, *others = map(_pss, [os.getpid(), *(each.pid for each in multiprocessing.active_children())])
    megabytes = {"parent": parent, "workers": sum(others), "all": parent + sum(others)}
    return {"look": looked - started, "list": listed - looked, "start": listed - started, **megabytes}


def _pss(process: int | None) -> float:
    text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8")
    found = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
    assert found is not None, "Linux writes it"
    return int(found[1]) / 1e3


def _in_new_process(*given: Any) -> dict[str, float]:
    words = [sys.executable, __file__, "--measure", *map(str, given)]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])


def main() -> None:
    """Write two folders, look at each twice, and print seconds and megabytes."""
    if sys.argv[1:2] == ["--measure"]:
        folder, root, workers = sys.argv[2:]
        print(json.dumps(measure(Path(folder), Path(root), int(workers))))
        return
    parser = make_parser(__doc__)
    new = Path(tempfile.gettempdir()) / f"bench-names-{os.getpid()}"
    parser.add_argument("folder", type=Path, nargs="?", default=new, help="new folder, deleted afterwards")
    parser.add_argument("--names", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=8)
    given = parse(parser, names=1_300_000)
    if given.folder.exists():
        parser.error(f"{given.folder} exists; name a folder that can be made, and deleted afterwards")
    announce(40 + 0.00025 * given.names)
    found: dict[str, dict[str, float]] = {}
    try:
        for title, names in (("100", 100), ("all", given.names)):
            folder, root = given.folder / title, given.folder / f"data-{title}"
            write_links(folder, names)
            time.sleep(TICK_NS / 1e9 + 1)  # a file that has just changed is not remembered
            for start in ("first", "second"):
                found[f"{title} {start}"] = _in_new_process(folder, root, given.workers)
    finally:
        shutil.rmtree(given.folder)
    first, second = found["all first"], found["all second"]
    print(f"{given.names:,} names        first start  second start")
    print(f"look at the files     {first['look']:9.2f} s  {second['look']:10.2f} s   (first: bytes are hashed)")
    print(f"list, mean of pixels  {first['list']:9.2f} s  {second['list']:10.2f} s")
    print(f"\nmegabytes with {given.workers} workers      parent   workers       all")
    for title in ("100 second", "all first", "all second"):
        print(f"{title:24}" + "".join(f"{found[title][each]:10.0f}" for each in ("parent", "workers", "all")))
    for start in ("first", "second"):
        workers, every = (found[f"all {start}"][kind] - found["100 second"][kind] for kind in ("workers", "all"))
        print(f"more, at the {start} start: {workers:.0f} MB over all workers, {every:.0f} MB with the parent")


if __name__ == "__main__":
    main()
