"""Train a student from a logit cache in Lightning.

    python -m distill.integrations.lightning_module CACHE --epochs 10 --temperature 4

The epoch chooses the view. `on_train_epoch_start` sets it, and every iterator but the first is made after it.
The first one of a run is made earlier, and its workers start at once: so `setup` sets the epoch too, and
`on_load_checkpoint` where a run goes on. Whatever asks for the loader even earlier, such as
`trainer.estimated_stepping_batches` in `configure_optimizers`, is better left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from distill.cache import CachedDataset, LogitCache
from distill.cache.transfer_set import Sample
from distill.integrations.frame import Evaluation, evaluate, parser, run
from distill.losses import kl_distillation

try:
    import lightning as L
except ImportError as error:
    raise SystemExit('lightning is missing: pip install "lightning>=2.5"') from error


class Distilled(L.LightningModule):
    """Train a small student from cached logits.

    Args:
        dataset: transfer set with logits.
        temperature: of the soft targets.
        lr: peak learning rate.
        batch_size: samples per step.
        workers: processes that make views.
    """

    def __init__(self, dataset: CachedDataset, temperature: float, lr: float, batch_size: int, workers: int):
        super().__init__()
        channels, height, width = dataset.shape
        self.network = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * height * width, 64), nn.ReLU(), nn.Linear(64, len(dataset.classes))
        )
        self.dataset, self.temperature, self.lr = dataset, temperature, lr
        self.batch_size, self.workers = batch_size, workers

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of normalised images."""
        return self.network(image)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return a loader of the transfer set."""
        return DataLoader(
            self.dataset,
            self.batch_size,
            shuffle=True,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            drop_last=True,
        )

    def setup(self, stage: str) -> None:
        """Choose the view of the first epoch."""
        self.dataset.set_epoch(0)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Choose the view of the epoch at which the run goes on."""
        # Not checkpoint["epoch"]: when it was saved at the end of an epoch, that is the one behind.
        self.dataset.set_epoch(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])

    def on_train_epoch_start(self) -> None:
        """Choose the view of the epoch."""
        self.dataset.set_epoch(self.current_epoch)

    def training_step(self, batch: Sample, _batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        return kl_distillation(self(batch.image), batch.teacher, self.temperature)

    def configure_optimizers(self) -> Any:
        """Return AdamW, with a learning rate that falls along a cosine over the epochs."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr)
        assert self.trainer.max_epochs
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs)]


def main(argv: Sequence[str] | None = None) -> Evaluation:
    """Train a student, and print how it does at the end.

    Args:
        argv: of the command line; None takes the process's.

    Raises:
        UserError: there is no such cache, or it does not fit the images.
    """
    args = parser(__doc__).parse_args(argv)
    L.seed_everything(args.seed, verbose=False)
    dataset = CachedDataset(LogitCache.open(args.cache), args.data_root)
    module = Distilled(dataset, args.temperature, args.lr, args.batch_size, args.workers)
    trainer = L.Trainer(
        max_epochs=args.epochs, logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    trainer.fit(module)
    found = evaluate(module, dataset)
    print(found)
    return found


if __name__ == "__main__":
    run(main)
