"""Check what is kept and said when a loss or weights are not finite, or memory does not suffice."""

from __future__ import annotations

import math
import pickle

import pytest
import torch

from distill import losses
from distill.config import CacheConfig, LossConfig, StudentConfig, TeacherConfig
from distill.data.loader import Batch
from distill.errors import Diverged, UserError
from distill.losses import Terms
from distill.pipeline.run import run_stage
from distill.store.record import RESUME
from distill.training import resume
from distill.training.divergence import LossHistory, NotFinite, weights_are_finite
from distill.training.state import Run

pytestmark = pytest.mark.fault("numbers that are not finite, too little memory")

TEACHER = TeacherConfig()
STUDENT = StudentConfig(cache=CacheConfig(teacher=TEACHER), loss=LossConfig(temperature=4, alpha=0.5))
LR = 0.1


def trail(*totals: float, first: int = 1, soft: float | None = None) -> NotFinite:
    noted = LossHistory()
    for step, total in enumerate(totals, first):
        value = torch.tensor(total)
        noted.add(step, [Terms(value, value, None if soft is None else torch.tensor(soft))])
    return noted.first_not_finite()


def batch(images: float = 1.0, teacher: float = 1.0) -> Batch:
    index = torch.zeros(2, dtype=torch.int64)
    return Batch(torch.full((2, 1, 4, 4), images), index, index, 0, torch.full((2, 10), teacher))


def told(
    bad: NotFinite, config: TeacherConfig | StudentConfig = TEACHER, scale: float = 1.0, of: Batch | None = None
) -> str:
    return str(bad.error(config, LR, scale, [of or batch()]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_step_that_is_not_finite_is_named(bad) -> None:
    error = trail(2.0, 2.5, bad, math.nan, first=41).error(TEACHER, LR, 1.0, [])
    assert error.step == 43
    assert error.loss == pytest.approx(bad, nan_ok=True)
    assert "(step 43, learning rate 0.1)" in str(error)


def test_the_pieces_of_a_step_are_one_loss() -> None:
    noted = LossHistory()
    for step in (1, 2):
        noted.add(
            step,
            [Terms(torch.tensor(1.5), None, None), Terms(torch.tensor(step / (2 - step or math.nan)), None, None)],
        )
    bad = noted.first_not_finite()
    assert bad.step == 2
    assert bad.before == [(1, {"total": 2.5})]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (lambda: told(trail(2.0, math.nan), of=batch(images=math.nan)), "Its images hold values"),
        (lambda: told(trail(2.0, math.nan), STUDENT, of=batch(teacher=math.nan)), "The teacher's logits"),
        (
            lambda: told(trail(9.0, 2.0, 2.1, 30.0, 1e9, math.nan)),
            "rose from 2 (step 2) to 1e+09 (step 5): the gradient",
        ),
        (lambda: told(trail(2.0, 2.1)), "The loss was still 2.1, but its update left weights"),
        (lambda: told(trail(math.nan), TEACHER.replace(precision="float16"), 0.25), "has come to 0.25"),
        (lambda: told(trail(math.nan), STUDENT, of=batch()), "Lower `optim.lr`"),
        (lambda: told(trail(math.nan, soft=math.nan), STUDENT), "grows as T² × alpha, here 8: lower `loss.temp"),
        (lambda: told(trail(math.nan), TEACHER.replace(optim={"clip": None})), "or set `optim.clip`"),
        (lambda: told(trail(math.nan), TEACHER.replace(optim={"clip": 5.0})), "or lower (5 now) `optim.clip`"),
    ],
)
def test_the_likely_cause_is_told(line, expected) -> None:
    assert expected in line()
    assert "\n" not in line()


def test_a_loss_that_was_no_higher_than_usual_did_not_explode() -> None:
    assert "rose" not in told(trail(2.0, 1.9, 2.4, 1.8, math.nan))


def test_the_error_crosses_from_a_worker() -> None:
    error = trail(2.0, math.nan).error(TEACHER, LR, 1.0, [batch()])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_weights_are_looked_at() -> None:
    model = torch.nn.Linear(2, 2)
    assert weights_are_finite(model)
    model.bias.data[1] = math.inf
    assert not weights_are_finite(model)


def spoilt(at: int, value: float = math.nan, gradient: bool = False):
    """Make the loss not finite at a step, or with `gradient` only its gradient."""

    def make(*arguments, **keywords):
        loss = losses.make_loss(*arguments, **keywords)
        steps = 0

        def spoil(logits, *rest):
            nonlocal steps
            terms = loss(logits, *rest)
            steps += logits.requires_grad
            if steps != at:
                return terms
            if gradient:
                return terms._replace(total=terms.total + Unlucky.apply(logits.sum()) * 0)
            return terms._replace(total=terms.total * value)

        return spoil

    return make


class Unlucky(torch.autograd.Function):
    """Return a finite loss whose gradient is not finite."""

    @staticmethod
    def forward(ctx, value):
        return value

    @staticmethod
    def backward(ctx, *gradients):
        return gradients[0] + math.inf


@pytest.mark.parametrize("gradient", [False, True], ids=["loss", "gradient"])
def test_what_is_not_finite_is_never_saved(teacher, store, runtime, monkeypatch, gradient) -> None:
    """The last resume point belongs to the last good step, even if one is saved after every step."""
    bad = 10  # in the first epoch: at its end the loss is asked for its targets too
    monkeypatch.setattr("distill.stages.teacher.make_loss", spoilt(bad, gradient=gradient))
    often = runtime.model_copy(update={"checkpoint_seconds": 1e-9})
    with pytest.raises(Diverged, match=rf"step {bad}, .*`optim\.lr`") as caught:
        run_stage(teacher, store, often)
    assert caught.value.step == bad
    assert store.find(teacher) is None
    state = resume.load(store.draft_path(teacher) / RESUME, "cpu")
    assert state["step"] == bad - 1
    assert all(torch.isfinite(weight).all() for weight in state["model"].values())


def test_the_run_goes_on_from_the_last_good_state(teacher, store, runtime, monkeypatch, tmp_path) -> None:
    often = runtime.model_copy(update={"checkpoint_seconds": 1e-9})
    with monkeypatch.context() as patch:
        patch.setattr("distill.stages.teacher.make_loss", spoilt(10, math.inf))
        with pytest.raises(Diverged):
            run_stage(teacher, store, often)
    made = run_stage(teacher, store, runtime)
    alone = run_stage(teacher, type(store)(tmp_path / "alone"), runtime)
    weights = "model.safetensors"
    assert made.record.files[weights].sha256 == alone.record.files[weights].sha256


OUT_OF_MEMORY = {
    "cpu": (
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:126] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
            "to allocate 4294967296 bytes. Error code 12 (Cannot allocate memory)"
        ),
        "4 GiB",
    ),
    "cuda": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has ..."), "2.50 GiB"),
    "mps": (
        RuntimeError(
            "MPS backend out of memory (MPS allocated: 1.00 GB, max allowed: 2 GB). Tried to allocate 256 bytes"
        ),
        "",
    ),
    "numpy": (MemoryError("Unable to allocate 1.20 TiB for an array with shape (1, 2)"), "1.20 TiB"),
    "python": (MemoryError(), ""),
}


@pytest.mark.parametrize("where", OUT_OF_MEMORY)
def test_memory_that_does_not_suffice_is_one_line_and_costs_no_training(
    teacher, store, runtime, monkeypatch, where
) -> None:
    error, asked = OUT_OF_MEMORY[where]
    steps = 0

    def update(run, *arguments):
        nonlocal steps
        steps += 1
        if steps == 5:
            raise error
        return before(run, *arguments)

    before = Run.update
    monkeypatch.setattr(Run, "update", update)
    often = runtime.model_copy(update={"checkpoint_seconds": 1e-9})
    with pytest.raises(UserError) as caught:
        run_stage(teacher, store, often)
    line = str(caught.value)
    advice = (
        "Lower `schedule.batch_size` (now 64), raise `schedule.parts`, set `precision=bfloat16`, or lower `jobs`"
    )
    for part in ("out of memory", asked, "digits-mlp16", advice):
        assert part in line
    assert (store.draft_path(teacher) / RESUME).is_file()


def test_a_resume_point_is_not_blamed_for_memory(teacher, store, runtime, monkeypatch) -> None:
    with store.draft(teacher) as draft:
        (draft / RESUME).write_bytes(b"whole")

    def load(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")

    monkeypatch.setattr(resume, "load", load)
    with pytest.raises(UserError, match=r"out of memory, 2\.50 GiB"):
        run_stage(teacher, store, runtime)
    assert (draft / RESUME).read_bytes() == b"whole"


def test_an_error_of_another_kind_stays_what_it_is(teacher, store) -> None:
    with pytest.raises(RuntimeError, match="mat1"), store.draft(teacher):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
