"""The errors that a user can cause, each of one line that says what to do about it."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in what the user gave: printed as one line, without a traceback, exit code 2.

    The line names the field, the value it has, what was expected, and the way out.
    """

    def __init__(self, field: str, value: object, expected: str, way_out: str):
        super().__init__(field, value, expected, way_out)
        self.field = field

    def __str__(self) -> str:
        field, value, expected, way_out = self.args
        return " ".join(f"{field} = {value!r}: expected {expected}. {way_out}".split())


class UnfitTeacher(UserError):
    """A teacher that must not teach these images: wrong too often, not finite, or not in evaluation mode."""


class Diverged(UserError):
    """Training met a loss that is not finite; nothing is published."""

    def __init__(self, step: int, lr: float, loss: float):
        super().__init__(
            "loss",
            loss,
            f"a finite number (step {step}, learning rate {lr:g})",
            "Lower --optim.lr or set --optim.clip; with a temperature, the soft term grows as T² × alpha.",
        )
        self.step, self.lr, self.loss = step, lr, loss

    def __reduce__(self) -> tuple[type[Diverged], tuple[int, float, float]]:
        return Diverged, (self.step, self.lr, self.loss)  # it crosses from a worker to its parent
