"""Soft terms of distillation, written to be read: each takes logits and averages over the batch.

`distill.config.SOFT_TERMS` lists them, with their papers; the parameters of all of them have the same names.
`classes_of` says what counts as the label of a mixed view where a term needs one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from distill.losses.terms import Labels, at_least_float32

TemperatureOn = Literal["both", "teacher"]


def kl_distillation(
    student_logits: Float[Tensor, "n k"],
    teacher_logits: Float[Tensor, "n k"],
    temperature: float,
    temperature_on: TemperatureOn = "both",
) -> Float[Tensor, ""]:
    """Compute the KL divergence from teacher to student, KL(p_t ‖ p_s), in nats, mean over the batch.

    "both" tempers both sides and multiplies by T², so that the gradient does not shrink with T (Hinton et al.
    2015, section 2); "teacher" tempers the teacher only, without T² (Müller et al. 2019, appendix A.1).
    """
    student = at_least_float32(student_logits)
    student_temperature = temperature if temperature_on == "both" else 1.0
    log_student = torch.log_softmax(student / student_temperature, dim=1)
    log_teacher = torch.log_softmax(teacher_logits.to(student.dtype) / temperature, dim=1)
    kl = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return student_temperature**2 * kl


def logit_matching(
    student_logits: Float[Tensor, "n k"], teacher_logits: Float[Tensor, "n k"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    """Compute ½ ‖z_s - z_t‖², summed over classes, mean over the batch (Müller et al. 2019, appendix A.5).

    It is the same at every temperature, which it takes as all soft terms do.
    """
    student = at_least_float32(student_logits)
    squares = F.mse_loss(student, teacher_logits.to(student.dtype), reduction="sum")
    return squares * (0.5 / student.shape[0])


def standardised_distillation(
    student_logits: Float[Tensor, "n k"], teacher_logits: Float[Tensor, "n k"], temperature: float
) -> Float[Tensor, ""]:
    """Compute T² KL(softmax(z'_t / T) ‖ softmax(z'_s / T)) of logits as z-scores, in nats, mean over the batch.

    z' = (z - mean z) / (10⁻⁷ + std z), over the classes of each sample, std unbiased, on both sides (Sun et al.,
    CVPR 2024, and their code): the student need not match the mean and the spread of the teacher's logits. Of two
    classes nothing is left: z-scores of two logits are ±1/√2.
    """
    student, teacher = _in_one_dtype(student_logits, teacher_logits)
    return kl_distillation(_z_scores(student), _z_scores(teacher), temperature)


def _z_scores(logits: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    return (logits - logits.mean(1, keepdim=True)) / (1e-7 + logits.std(1, keepdim=True))


class DecoupledKL(NamedTuple):
    """The two parts that make up KL(p_t ‖ p_s): `target` + (1 - `label_probability`) `nontarget`, per sample."""

    target: Float[Tensor, " n"]
    """TCKD: KL of (label, all others), in nats."""
    nontarget: Float[Tensor, " n"]
    """NCKD: KL of the softmax over the other classes, in nats."""
    label_probability: Float[Tensor, " n"]
    """The teacher's probability of the label."""


def decoupled_kl(
    student_logits: Float[Tensor, "n k"],
    teacher_logits: Float[Tensor, "n k"],
    labels: Labels,
    temperature: float = 1.0,
) -> DecoupledKL:
    """Compute both parts of the KL divergence at a temperature, without T² (Zhao et al., CVPR 2022, section 3.1).

    In log space throughout, so that it holds for logits of any size.
    """
    student, teacher = (z / temperature for z in _in_one_dtype(student_logits, teacher_logits))
    label = classes_of(labels).unsqueeze(1)
    # Gathered and not masked: a masked class needs a constant for "no logit", which large logits would reach.
    others = torch.arange(student.shape[1] - 1, device=student.device).expand(len(student), -1)
    others = others + (others >= label)
    margin_s, margin_t = (
        z.gather(1, label).squeeze(1) - z.gather(1, others).logsumexp(1) for z in (student, teacher)
    )
    in_t, in_s = F.logsigmoid(margin_t), F.logsigmoid(margin_s)
    out_t, out_s = F.logsigmoid(-margin_t), F.logsigmoid(-margin_s)
    target = in_t.exp() * (in_t - in_s) + out_t.exp() * (out_t - out_s)
    rest_s, rest_t = (torch.log_softmax(z.gather(1, others), 1) for z in (student, teacher))
    return DecoupledKL(target, _kl(rest_t, rest_s), in_t.exp())


def decoupled_distillation(
    student_logits: Float[Tensor, "n k"],
    teacher_logits: Float[Tensor, "n k"],
    labels: Labels,
    temperature: float,
    target: float = 1.0,
    nontarget: float = 8.0,
) -> Float[Tensor, ""]:
    """Compute DKD: T² (target x TCKD + nontarget x NCKD), mean over the batch (Zhao et al., CVPR 2022).

    `decoupled_kl` gives both parts. `target` and `nontarget` are the paper's α and β; in plain distillation β is
    1 - p_t(label), small where the teacher is sure.
    """
    parts = decoupled_kl(student_logits, teacher_logits, labels, temperature)
    return temperature**2 * (target * parts.target + nontarget * parts.nontarget).mean()


def dist_distillation(
    student_logits: Float[Tensor, "n k"],
    teacher_logits: Float[Tensor, "n k"],
    temperature: float,
    inter: float = 1.0,
    intra: float = 1.0,
) -> Float[Tensor, ""]:
    """Compute DIST: T² (inter x (1 - mean_i r(p_s[i], p_t[i])) + intra x (1 - mean_k r(p_s[:, k], p_t[:, k]))).

    r is Pearson's correlation, over the classes of a sample and over the samples of the batch for a class; p is
    softmax(z / T) on both sides (Huang et al., NeurIPS 2022). `inter` and `intra` are the paper's β and γ. Their
    code multiplies by T², and its default is T = 1; since a correlation has no scale, its gradient does not shrink
    with T as that of a KL does.
    """
    student, teacher = (torch.softmax(z / temperature, 1) for z in _in_one_dtype(student_logits, teacher_logits))
    between_classes = 1 - correlation(student, teacher).mean()
    between_samples = 1 - correlation(student.t(), teacher.t()).mean()
    return temperature**2 * (inter * between_classes + intra * between_samples)


def correlation(a: Float[Tensor, "n m"], b: Float[Tensor, "n m"]) -> Float[Tensor, " n"]:
    """Correlate each row of `a` with that of `b` (Pearson); 0, without gradient, where either is constant.

    A row counts as constant when it varies by no more than rounding does.
    """
    a_centred, a_varies = _centred(a)
    b_centred, b_varies = _centred(b)
    vary = a_varies & b_varies
    a_unit, b_unit = (x * x.square().sum(1).where(vary, 1).rsqrt().unsqueeze(1) for x in (a_centred, b_centred))
    return (a_unit * b_unit).sum(1).where(vary, 0)


def _centred(x: Float[Tensor, "n m"]) -> tuple[Float[Tensor, "n m"], Tensor]:
    centred = x - x.mean(1, keepdim=True)
    limits = torch.finfo(x.dtype)
    # The second bound keeps the -3/2 power of the squares, which is in the gradient, from overflowing.
    rounding = ((8 * limits.eps) ** 2 * x.square().sum(1)).clamp_min(limits.tiny ** (2 / 3))
    return centred, centred.square().sum(1) > rounding


def weighted_soft_labels(
    student_logits: Float[Tensor, "n k"],
    teacher_logits: Float[Tensor, "n k"],
    labels: Labels,
    temperature: float,
) -> Float[Tensor, ""]:
    """Compute WSL: T² mean_i w_i KL_i, with w_i = 1 - exp(-L_s / L_t) (Zhou et al., ICLR 2021, and their code).

    KL_i is that of plain distillation at T on both sides. L_s and L_t are the cross-entropies of student and
    teacher with the label at T = 1 (10⁻⁷ is added to L_t, as in their code); w has no gradient. A sample that the
    student already gets better than its teacher weighs little. Mixed labels go into the cross-entropies as they
    are.
    """
    student, teacher = _in_one_dtype(student_logits, teacher_logits)
    with torch.no_grad():
        shares = labels.to(student.dtype) if labels.is_floating_point() else labels
        of_student, of_teacher = (F.cross_entropy(z, shares, reduction="none") for z in (student, teacher))
        weight = -torch.expm1(-of_student / (of_teacher + 1e-7))
    log_student, log_teacher = (torch.log_softmax(z / temperature, 1) for z in (student, teacher))
    return temperature**2 * (weight * _kl(log_teacher, log_student)).mean()


def decoupled_temperatures(
    student_logits: Float[Tensor, "n k"],
    teacher_logits: Float[Tensor, "n k"],
    labels: Labels,
    temperature: float,
    label_temperature: float,
) -> Float[Tensor, ""]:
    """Compute ATS: KL(p_t ‖ softmax(z_s)), p_t of z_t / τ, where τ is a temperature of its own for the label.

    `label_temperature` is the paper's τ₁, `temperature` its τ₂ for all other classes; they take τ₁ > τ₂ (Li et
    al., NeurIPS 2022). The student is at temperature 1 and there is no T², as in their code and as in
    `kl_distillation` with the temperature on the teacher, which this is when both temperatures agree. When they do
    not, a constant added to the teacher's logits changes the targets: they are taken as they come, as in their
    code.
    """
    student, teacher = _in_one_dtype(student_logits, teacher_logits)
    label = classes_of(labels).unsqueeze(1)
    tempered = (teacher / temperature).scatter(1, label, teacher.gather(1, label) / label_temperature)
    return _kl(torch.log_softmax(tempered, 1), torch.log_softmax(student, 1)).mean()


def classes_of(labels: Labels) -> Int[Tensor, " n"]:
    """Give the class of each sample: for a mixed label that of the largest share, the first one of a draw."""
    return labels.argmax(1) if labels.is_floating_point() else labels


def _in_one_dtype(student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    student = at_least_float32(student_logits)
    return student, teacher_logits.to(student.dtype)


def _kl(log_p: Float[Tensor, "n k"], log_q: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
