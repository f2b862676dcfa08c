"""Take one step on a batch that is cut into parts: by gradient accumulation, and over the ranks of torchrun."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from distill.config import StudentConfig, TeacherConfig
from distill.data.batch_share import BatchShare
from distill.errors import UserError
from distill.losses import Loss
from distill.system import ranks
from distill.training.batch_norm import RunningStatistics, SharedBatchNorm
from distill.training.recent_samples import StepPart
from distill.training.state import Run
from distill.training.step import Forward, TaughtBatch


class StepInParts:
    """Take steps like `take_step`, on batches whose parts this rank computes one after another.

    Args:
        run: training of this rank; its share says how batches are cut.

    Attributes:
        network: module that a step calls; under torchrun its backward pass averages gradients over the ranks.

    Raises:
        UserError: the ranks cannot share this training.
    """

    def __init__(self, run: Run):
        self._run, self._share = run, run.share
        self.network: nn.Module = run.model
        self._replica: nn.parallel.DistributedDataParallel | None = None
        self._statistics: RunningStatistics | None = None
        if self._share.world == 1:
            return
        refuse_shares(run.config, self._share, run.device)
        ranks.join()
        if not self._share.shared:
            self._statistics = RunningStatistics(run.model, self._share)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.11 does not know the new name of the argument
            self._replica = nn.parallel.DistributedDataParallel(
                run.model, broadcast_buffers=False, find_unused_parameters=True
            )
        self.network = self._replica

    def __call__(self, forward: Forward, batches: Iterator[TaughtBatch], loss: Loss) -> Sequence[StepPart]:
        """Take one step on all parts of a batch, without waiting for the device."""
        run, done = self._run, list[StepPart]()
        counting: list[Tensor] = []
        for batch in batches:
            with self._around(len(done)):
                logits = forward(batch.images)
            share = _share_that_counts(batch.labels) / self._share.pieces
            if isinstance(share, Tensor):
                counting.append(share)
            terms = loss(logits, batch.labels, batch.teacher, run.progress).map(
                lambda term, share=share: term * share
            )
            if not done:
                run.optimizer.zero_grad(set_to_none=True)
            run.scaler.scale(terms.total).backward()
            done.append(StepPart(logits.detach(), batch.labels, terms.map(Tensor.detach)))
        if counting:
            done = self._over_all_that_count(done, torch.stack(counting).sum())
        run.clip_gradients()
        if self._statistics is not None:
            self._statistics.merge()
        run.update()
        return done

    @contextmanager
    def _around(self, part: int) -> Iterator[None]:
        """Enter the contexts in which the forward pass of one part of a batch runs."""
        share = self._share
        with ExitStack() as stack:
            if self._replica is not None and part < share.pieces - 1:
                stack.enter_context(self._replica.no_sync())
            stack.enter_context(self._run.autocast())
            if share.shared:
                stack.enter_context(SharedBatchNorm())
            # Dropout depends on the step and the part, not on the rank, so that a run can be resumed with another
            # number of ranks.
            draws = np.random.SeedSequence([self._run.config.seed, self._run.step, share.number(part)])
            torch.manual_seed(int(draws.generate_state(1, np.uint64)[0]))
            yield

    def _over_all_that_count(self, done: Sequence[StepPart], counting: Tensor) -> list[StepPart]:
        """Rescale gradients and loss terms from means over all labels to means over labels that are not ignored.

        Args:
            done: results of this rank's parts.
            counting: share of this rank's labels that count.
        """
        counting = counting / self._share.world
        ranks.reduce_sum(counting)
        gradients = [parameter.grad for parameter in self._run.parameters if parameter.grad is not None]
        torch._foreach_div_(gradients, counting)  # pyright: ignore[reportPrivateImportUsage]
        return [part._replace(terms=part.terms.map(lambda term: term / counting)) for part in done]


def _share_that_counts(labels: Tensor) -> float | Tensor:
    """Return the share of labels that are not ignored, which is 1 unless each position has a label."""
    if labels.ndim == 1 or labels.is_floating_point():
        return 1.0
    return (labels >= 0).float().mean()


def refuse_shares(config: TeacherConfig | StudentConfig, share: BatchShare, device: str) -> None:
    """Refuse a training that the ranks of torchrun cannot share.

    Raises:
        UserError: the device cannot be shared, there are fewer GPUs than ranks, or the loss compares samples, or
            weighs classes, that lie on several ranks.
    """
    if device not in ("cpu", "cuda"):
        raise UserError("device", device, "cpu or cuda under torchrun", "Set `device`, or run it without torchrun.")
    if device == "cuda" and ranks.on_this_machine() > torch.cuda.device_count():
        gpus = torch.cuda.device_count()
        expected = f"one GPU for each rank of this machine, which has {gpus}"
        raise UserError(
            "nproc-per-node", ranks.on_this_machine(), expected, f"Run torchrun with --nproc-per-node {gpus}."
        )
    if share.shared and config.loss.class_weights:
        expected = f"none for a batch that {share.world} ranks share, since its mean is over the weights of a part"
        way_out = f"Set `schedule.parts={share.world}`: each rank then has parts of its own."
        raise UserError("loss.class_weights", config.loss.class_weights, expected, way_out)
    soft = config.loss.soft
    if share.shared and config.loss.alpha > 0 and config.loss.soft_term.compares_samples:
        expected = f"another one for a batch that {share.world} ranks share, since {soft} compares its samples"
        way_out = f"Set `schedule.parts={share.world}`: it then compares those of a part, on one rank or more."
        raise UserError("loss.soft", soft, expected, way_out)
