"""Stage 2: a teacher's logits on every view of every image of a transfer set, on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from distill.artifact import Artifact
from distill.config import CacheConfig
from distill.data.datasets import Dataset, load
from distill.data.loader import Loader
from distill.data.logit_cache import LOGITS
from distill.errors import UserError
from distill.network import Outcome, identity, load_network
from distill.runtime import Runtime
from distill.trainer import inference_batch


def cache_logits(config: CacheConfig, teacher: Artifact, folder: Path, runtime: Runtime) -> Outcome:
    """Write `logits.npy` [sample, view, class] of the training split of the transfer set.

    Raises:
        UserError: the teacher knows other classes, takes another input, or gives logits that are not finite or
            do not fit the dtype of the cache.
    """
    dataset = load(config.transfer_set, runtime.data_root, runtime.progress)
    _check_teacher(teacher, dataset)
    device = runtime.torch_device()
    # Each network normalises by the data it was trained on, which need not be the transfer set.
    mean, std = tuple(teacher.record.data["mean"]), tuple(teacher.record.data["std"])
    model = load_network(teacher, device)
    loader = Loader(
        dataset.train,
        mean,
        std,
        config.augment,
        seed=config.view_seed,
        batch_size=inference_batch(device),
        device=device,
        views=config.views,
        shuffle=False,
        drop_last=False,
    )
    shape = (len(dataset.train), config.views, len(dataset.classes))
    logits = np.lib.format.open_memmap(folder / LOGITS, mode="w+", dtype=config.dtype, shape=shape)
    correct = error = 0.0
    with (
        torch.inference_mode(),
        tqdm(
            total=shape[0] * shape[1],
            unit="view",
            desc="cache",
            delay=2,
            disable=None if runtime.progress else True,
        ) as bar,
    ):
        for view in range(config.views):
            for batch in loader.epoch(view):
                exact = model(batch.images).float()
                index = batch.index.cpu().numpy()
                logits[index, view] = exact.cpu().numpy()
                correct += float((exact.argmax(1) == batch.labels).sum())
                stored = torch.from_numpy(logits[index, view]).to(device).float()
                if not torch.isfinite(stored).all():
                    raise UserError(
                        "dtype",
                        config.dtype,
                        "a type that holds the teacher's logits",
                        "Set --dtype float32, or look at the teacher: it may have diverged.",
                    )
                error = max(error, float((stored - exact).abs().max()))
                bar.update(len(index))
    logits.flush()
    metrics = {"transfer/accuracy": correct / (shape[0] * shape[1]), "rounding_error": error}
    return Outcome(metrics, identity(dataset) | {"mean": list(mean), "std": list(std)})


def _check_teacher(teacher: Artifact, dataset: Dataset) -> None:
    known = teacher.record.data
    way_out = "Use the data set that the teacher was trained on, or train a teacher for these images."
    if tuple(known["classes"]) != dataset.classes:
        raise UserError(
            "transfer_set",
            f"{dataset.name} with {len(dataset.classes)} classes {dataset.classes[:3]}…",
            f"the teacher's {len(known['classes'])} classes {tuple(known['classes'][:3])}…",
            way_out,
        )
    if tuple(known["shape"]) != dataset.shape:
        expected = f"the teacher's input shape {tuple(known['shape'])}"
        raise UserError("transfer_set", f"{dataset.name} of shape {dataset.shape}", expected, way_out)
