"""Load a data set by its name, once per process, and hold out some images of its published training split."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from distill.config import DATA_SETS, DataConfig
from distill.data.sets.content import data_content
from distill.data.sets.dataset import Dataset, Splits
from distill.data.sets.fetch import fetch
from distill.data.sets.folder import load_image_folder
from distill.data.sets.folder_arguments import folder_arguments
from distill.data.sets.noise import with_wrong_labels
from distill.data.sets.pixel_summary import summarise
from distill.data.sets.plugin import call_plugin
from distill.data.sets.splits import limited_rows, stratified_split
from distill.errors import UserError
from distill.system.files import expanded
from distill.system.references import referenced


@dataclass(frozen=True)
class _Request:
    """Identify a load within a process, by what decides its result."""

    config: str
    root: Path
    progress: bool = field(compare=False)
    looked: bool = field(compare=False)
    """Whether the content in the config was found just now."""


def load(config: DataConfig, root: Path, progress: bool = True) -> Dataset:
    """Load the data set that a config names; its images are read once per process.

    The data root has torchvision's layout, and missing files are fetched into it.

    Raises:
        UserError: the name or an argument is unknown, or the files are missing, damaged or changed.
    """
    if config.folder:
        folder_arguments(config)  # refuse an argument before all files are read
    clean = config.replace(label_noise=0.0, noise="symmetric", noise_seed=0, balanced=False)
    looked = config.content is None
    if looked:  # what is kept in memory is known by its content
        clean = clean.replace(content=data_content(config, root, progress=progress))
    dataset = _load(_Request(clean.model_dump_json(), expanded(root).resolve(), progress, looked))
    return with_wrong_labels(dataset, config) if config.label_noise else dataset


@lru_cache(maxsize=4)
def _load(request: _Request) -> Dataset:
    config = DataConfig.model_validate_json(request.config)
    if config.folder:
        content = config.content if request.looked else None
        return load_image_folder(config, request.root, request.progress, content)
    train, test, classes = call_plugin(config) if config.plugin else _listed(config, request.root, request.progress)
    kept, held = stratified_split(train.labels, config.held_out, config.split_seed)
    kept = kept[limited_rows(train.labels[kept], config.limit, config.split_seed)]
    splits = train.rows(kept), train.rows(held), test
    return Dataset(config.name, *splits, classes, *summarise(*splits, classes), positions=kept)


def _listed(config: DataConfig, root: Path, progress: bool) -> Splits:
    """Load a data set of the table `DATA_SETS`."""
    if config.kwargs:
        raise UserError("data.kwargs", config.kwargs, f"none for {config.name}", "Drop `data.kwargs`.")
    data_set = DATA_SETS[config.name]
    folder = root if data_set.origin is None else fetch(data_set.name, data_set.origin, root, progress)
    return referenced(data_set.load)(folder)
