"""Train a student from a logit cache in a plain PyTorch loop.

    python -m distill.integrations.pytorch_loop CACHE --epochs 10 --temperature 4

The data set yields (image, label, teacher, index), collated by torch as usual. `dataset.set_epoch` before each
epoch chooses the view, also for worker processes that live on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.data import DataLoader

from distill.cache import CachedDataset, LogitCache
from distill.integrations.frame import Evaluation, evaluate, parser, run
from distill.losses import kl_distillation


def main(argv: Sequence[str] | None = None) -> Evaluation:
    """Train a student, and print how it does after each epoch.

    Args:
        argv: of the command line; None takes the process's.

    Raises:
        UserError: there is no such cache, or it does not fit the images.
    """
    args = parser(__doc__).parse_args(argv)
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    dataset = CachedDataset(LogitCache.open(args.cache), args.data_root)
    loader = DataLoader(
        dataset,
        args.batch_size,
        shuffle=True,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
        pin_memory=device == "cuda",
        drop_last=True,
    )
    channels, height, width = dataset.shape
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(channels * height * width, 64), nn.ReLU(), nn.Linear(64, len(dataset.classes))
    ).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.epochs * len(loader))

    for epoch in range(args.epochs):
        dataset.set_epoch(epoch)
        model.train()
        for image, _label, teacher, _index in loader:
            student = model(image.to(device, non_blocking=True))
            loss = kl_distillation(student, teacher.to(device, non_blocking=True), args.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    found = evaluate(model, dataset)
    print(found)
    return found


if __name__ == "__main__":
    run(main)
