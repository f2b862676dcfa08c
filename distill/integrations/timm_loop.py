"""Train a student from a logit cache in the style of timm's train.py.

    python -m distill.integrations.timm_loop CACHE --model resnet18 --epochs 10 --temperature 4

Network, optimiser, schedule, weight average and meters are timm's. Recent versions of timm distil with a task,
`timm.task.LogitDistillationTask`, that runs the teacher in every step; here `teacher` comes with the batch in place
of that forward pass, and the rest is the same: KL x T², and the weights `--task-loss-weight` and
`--distill-loss-weight` with the task's meaning (only the first: the other is its complement; neither: both are 1).
timm's own train.py calls `dataset_train.set_epoch(epoch)` where a data set has it.
"""

# pyright: reportPrivateImportUsage=false
from __future__ import annotations

from collections.abc import Sequence

import torch
from timm import create_model
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, ModelEmaV3, accuracy
from torch.nn import functional as F
from torch.utils.data import DataLoader

from distill.cache import CachedDataset, LogitCache
from distill.integrations.frame import Evaluation, evaluate, parser, run
from distill.losses import kl_distillation


def weights(task: float | None, distill: float | None) -> tuple[float, float]:
    """Return the weights of the labels' and the teacher's term, as timm's `LogitDistillationTask` takes them."""
    if distill is not None:
        return (1.0 if task is None else task), distill
    return (1.0, 1.0) if task is None else (task, 1 - task)


def main(argv: Sequence[str] | None = None) -> Evaluation:
    """Train a student, print how each epoch went and how its weight average does at the end.

    Args:
        argv: of the command line; None takes the process's.

    Raises:
        UserError: there is no such cache, or it does not fit the images.
    """
    options = parser(__doc__)
    options.add_argument("--model", default="resnet10t", help="any name of timm.list_models()")
    options.add_argument("--task-loss-weight", type=float, help="of the cross-entropy with the labels")
    options.add_argument("--distill-loss-weight", type=float, help="of the distance to the teacher")
    options.add_argument("--ema-decay", type=float, default=0.99)
    args = options.parse_args(argv)
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    dataset_train = CachedDataset(LogitCache.open(args.cache), args.data_root)
    loader_train = DataLoader(
        dataset_train,
        args.batch_size,
        shuffle=True,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
        pin_memory=device.type == "cuda",
        drop_last=True,
    )
    channels = dataset_train.shape[0]
    model = create_model(args.model, num_classes=len(dataset_train.classes), in_chans=channels).to(device)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=args.lr, weight_decay=0.01)
    scheduler, num_epochs = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=args.epochs,
        step_on_epochs=False,
        updates_per_epoch=len(loader_train),
    )
    model_ema = ModelEmaV3(model, decay=args.ema_decay, use_warmup=True)
    task_weight, distill_weight = weights(args.task_loss_weight, args.distill_loss_weight)

    for epoch in range(num_epochs):
        dataset_train.set_epoch(epoch)
        model.train()
        losses, top1 = AverageMeter(), AverageMeter()
        for update, (input, target, teacher, _) in enumerate(loader_train, start=epoch * len(loader_train)):
            input, target, teacher = (x.to(device, non_blocking=True) for x in (input, target, teacher))
            output = model(input)
            task_loss = F.cross_entropy(output, target)
            distill_loss = kl_distillation(output, teacher, args.temperature)
            loss = task_weight * task_loss + distill_weight * distill_loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            model_ema.update(model, step=update)
            if scheduler is not None:
                scheduler.step_update(num_updates=update + 1)
            hard = target if target.ndim == 1 else target.argmax(1)  # mixed views have shares of classes
            losses.update(loss.detach(), len(input))
            top1.update(accuracy(output.detach(), hard)[0], len(input))
        if scheduler is not None:
            scheduler.step(epoch + 1)
        print(f"epoch {epoch}: loss {float(losses.avg):.3f}, top-1 {float(top1.avg):.1f}")
    found = evaluate(model_ema.module, dataset_train)
    print(found)
    return found


if __name__ == "__main__":
    run(main)
