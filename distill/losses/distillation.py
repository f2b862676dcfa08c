"""Compute the soft terms of distillation in plain, readable functions of logits, each the mean over the batch.

`distill.config.SOFT_TERMS` lists the soft terms with their papers. Parameters have one name in all of them.
Where a term needs the label of a mixed view, `classes_of` decides what it is. A class whose logit is -inf has
probability 0 for the teacher, and adds 0 to terms that weigh classes by this probability, as KL does. A sample with
the label -100 has no label: terms that need labels leave it out of their mean, and are 0 if all samples of a batch
are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from distill.config.loss import IGNORED, TemperatureOn
from distill.losses.checks import check_shapes
from distill.losses.terms import Labels, at_least_float32, log_softmax_of_teacher


def kl_distillation(
    student_logits: Float[Tensor, "n k"],
    teacher_logits: Float[Tensor, "n k"],
    temperature: float,
    temperature_on: TemperatureOn = "both",
) -> Float[Tensor, ""]:
    """Compute the KL divergence from teacher to student, KL(p_t ‖ p_s), in nats, mean over the batch.

    `temperature_on` "both" divides both sides' logits by T and multiplies the loss by T², so that the gradient does
    not shrink with T (Hinton et al. 2015, section 2). "teacher" divides the teacher's logits only, without T²
    (Müller et al. 2019, appendix A.1).
    """
    # Training runs the fast twin of this function, `fused.distilled`; tests hold both to one another.
    student, teacher = _in_one_dtype(student_logits, teacher_logits)
    student_temperature = temperature if temperature_on == "both" else 1.0
    log_student = torch.log_softmax(student / student_temperature, dim=1)
    log_teacher = log_softmax_of_teacher(teacher / temperature)
    kl = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return student_temperature**2 * kl


def logit_matching(
    student_logits: Float[Tensor, "n k"], teacher_logits: Float[Tensor, "n k"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    """Compute ½ ‖z_s - z_t‖², summed over classes, mean over the batch (Müller et al. 2019, appendix A.5).

    The temperature has no effect; it is an argument because all soft terms take one. A class with logit -inf of the
    teacher adds 0.
    """
    student, teacher = _in_one_dtype(student_logits, teacher_logits)
    teacher = teacher.where(teacher > -torch.inf, student.detach())
    return F.mse_loss(student, teacher, reduction="sum") * (0.5 / student.shape[0])


def standardised_distillation(
    student_logits: Float[Tensor, "n k"], teacher_logits: Float[Tensor, "n k"], temperature: float
) -> Float[Tensor, ""]:
    """Compute T² KL(softmax(z'_t / T) ‖ softmax(z'_s / T)) of standardised logits z', in nats, mean over the batch.

    On both sides z' = (z - mean z) / (10⁻⁷ + std z), over the classes of each sample, with the unbiased std (Sun et
    al., CVPR 2024, and their code). So the student need not match the mean and the spread of the teacher's logits.
    With two classes nothing is left to learn: z' of two logits is ±1/√2. Mean and std of the teacher leave out
    logits of -inf.
    """
    student, teacher = _in_one_dtype(student_logits, teacher_logits)
    return kl_distillation(_z_scores(student), _z_scores_of_teacher(teacher), temperature)


def _z_scores(logits: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    return (logits - logits.mean(1, keepdim=True)) / (1e-7 + logits.std(1, keepdim=True))


def _z_scores_of_teacher(logits: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    excluded = logits == -torch.inf
    number = (~excluded).sum(1, keepdim=True)
    centred = logits - logits.masked_fill(excluded, 0).sum(1, keepdim=True) / number
    squares = centred.square().masked_fill(excluded, 0).sum(1, keepdim=True)
    among_finite = centred / (1e-7 + (squares / (number - 1).clamp_min(1)).sqrt())
    # Rows without -inf keep the bits that mean and std give.
    return among_finite.where(excluded.any(1, keepdim=True), _z_scores(logits))


class DecoupledKL(NamedTuple):
    """Split KL(p_t ‖ p_s) of each sample: it is `target` + (1 - `label_probability`) x `nontarget`."""

    target: Float[Tensor, " n"]
    """TCKD: the KL divergence between the binary distributions (label, all other classes), in nats."""
    nontarget: Float[Tensor, " n"]
    """NCKD: the KL divergence between the softmax distributions over the other classes, in nats."""
    label_probability: Float[Tensor, " n"]
    """The teacher's probability of the label."""


def decoupled_kl(
    student_logits: Float[Tensor, "n k"],
    teacher_logits: Float[Tensor, "n k"],
    labels: Labels,
    temperature: float = 1.0,
) -> DecoupledKL:
    """Compute the parts of the KL divergence, from target and non-target classes, at a temperature, without T²
    (Zhao et al., CVPR 2022, section 3.1).

    The computation stays in log space, so it holds for logits of any size. All parts of a sample without label are
    0, and so is `nontarget` where the teacher excludes all other classes.
    """
    student, teacher = (z / temperature for z in _in_one_dtype(student_logits, teacher_logits, labels))
    counts, label = _counted(labels)
    # Classes are gathered and not masked: a mask needs a constant for "no logit", which large logits would reach.
    others = torch.arange(student.shape[1] - 1, device=student.device).expand(len(student), -1)
    others = others + (others >= label)
    all_others_s, all_others_t = (z.gather(1, others).logsumexp(1) for z in (student, teacher))
    margin_s = student.gather(1, label).squeeze(1) - all_others_s
    margin_t = teacher.gather(1, label).squeeze(1) - all_others_t
    lowest = torch.finfo(teacher.dtype).min
    in_t, out_t = (F.logsigmoid(margin).clamp_min(lowest) for margin in (margin_t, -margin_t))
    in_s, out_s = F.logsigmoid(margin_s), F.logsigmoid(-margin_s)
    target = in_t.exp() * (in_t - in_s) + out_t.exp() * (out_t - out_s)
    rest_s, rest_t = (torch.log_softmax(z.gather(1, others), 1) for z in (student, teacher))
    rest_t = rest_t.where((all_others_t != -torch.inf).unsqueeze(1), rest_s.detach())
    parts = DecoupledKL(target, _kl(rest_t, rest_s), in_t.exp())
    return parts if counts is None else DecoupledKL(*(part.where(counts, 0) for part in parts))


def decoupled_distillation(
    student_logits: Float[Tensor, "n k"],
    teacher_logits: Float[Tensor, "n k"],
    labels: Labels,
    temperature: float,
    target: float = 1.0,
    nontarget: float = 8.0,
) -> Float[Tensor, ""]:
    """Compute DKD: T² (target x TCKD + nontarget x NCKD), mean over the batch (Zhao et al., CVPR 2022).

    `decoupled_kl` gives both parts. `target` and `nontarget` are the paper's α and β. In plain distillation β is 1
    - p_t(label), which is small where the teacher is sure.
    """
    parts = decoupled_kl(student_logits, teacher_logits, labels, temperature)
    of_sample = target * parts.target + nontarget * parts.nontarget
    return temperature**2 * _mean_of_counted(of_sample, _counted(labels)[0])


def dist_distillation(
    student_logits: Float[Tensor, "n k"],
    teacher_logits: Float[Tensor, "n k"],
    temperature: float,
    inter: float = 1.0,
    intra: float = 1.0,
) -> Float[Tensor, ""]:
    """Compute DIST: T² (inter x (1 - mean_i r(p_s[i], p_t[i])) + intra x (1 - mean_k r(p_s[:, k], p_t[:, k]))).

    r is Pearson's correlation: over the classes of a sample in the first part, over the samples of the batch for
    one class in the second. p is softmax(z / T) on both sides (Huang et al., NeurIPS 2022). `inter` and `intra` are
    the paper's β and γ. The authors' code multiplies by T², and its default is T = 1. A correlation has no scale,
    so its gradient does not shrink with T as the gradient of a KL divergence does.
    """
    student, teacher = (torch.softmax(z / temperature, 1) for z in _in_one_dtype(student_logits, teacher_logits))
    between_classes = 1 - correlation(student, teacher).mean()
    between_samples = 1 - correlation(student.t(), teacher.t()).mean()
    return temperature**2 * (inter * between_classes + intra * between_samples)


def correlation(a: Float[Tensor, "n m"], b: Float[Tensor, "n m"]) -> Float[Tensor, " n"]:
    """Compute Pearson's correlation of each row of `a` with its row of `b`.

    The result is 0, without gradient, where either row varies by no more than rounding does.
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
    """Compute WSL: T² mean_i w_i KL_i, the KL divergence of each sample weighted by w_i = 1 - exp(-L_s / L_t),
    where L_s and L_t are the cross-entropies of student and teacher with the label (Zhou et al., ICLR 2021).

    KL_i is the KL divergence of plain distillation at T on both sides. L_s and L_t are the cross-entropies of
    student and teacher with the label at T = 1; 10⁻⁷ is added to L_t, as in the authors' code. w has no gradient. A
    sample on which the student is already better than its teacher weighs little. Mixed labels enter the
    cross-entropies as shares.
    """
    student, teacher = _in_one_dtype(student_logits, teacher_logits, labels)
    with torch.no_grad():
        shares = labels.to(student.dtype) if labels.is_floating_point() else labels
        # A share of 0 times a logarithm of -inf would be NaN.
        finite = teacher.clamp_min(torch.finfo(teacher.dtype).min)
        of_student, of_teacher = (F.cross_entropy(z, shares, reduction="none") for z in (student, finite))
        weight = -torch.expm1(-of_student / (of_teacher + 1e-7))
    log_student, log_teacher = (torch.log_softmax(z / temperature, 1) for z in (student, teacher))
    return temperature**2 * _mean_of_counted(weight * _kl(log_teacher, log_student), _counted(labels)[0])


def decoupled_temperatures(
    student_logits: Float[Tensor, "n k"],
    teacher_logits: Float[Tensor, "n k"],
    labels: Labels,
    temperature: float,
    label_temperature: float,
) -> Float[Tensor, ""]:
    """Compute ATS: KL(p_t ‖ softmax(z_s)) with student logits z_s, where the teacher's p_t has a separate
    temperature for the logit of the label.

    p_t is the softmax of z_t / τ (Li et al., NeurIPS 2022). `label_temperature` is the paper's τ₁, for the label,
    and `temperature` its τ₂, for all other classes; the paper takes τ₁ > τ₂. The student is at temperature 1 and
    there is no T², as in the authors' code. When both temperatures agree, this is `kl_distillation` with the
    temperature on the teacher. When they differ, a constant added to the teacher's logits changes the targets; the
    logits are taken without centring, as in the authors' code.
    """
    student, teacher = _in_one_dtype(student_logits, teacher_logits, labels)
    counts, label = _counted(labels)
    tempered = (teacher / temperature).scatter(1, label, teacher.gather(1, label) / label_temperature)
    return _mean_of_counted(_kl(torch.log_softmax(tempered, 1), torch.log_softmax(student, 1)), counts)


def classes_of(labels: Labels) -> Int[Tensor, " n"]:
    """Return the class of each sample: for a mixed label the first class of the largest share."""
    return labels.argmax(1) if labels.is_floating_point() else labels


def _counted(labels: Labels) -> tuple[Tensor | None, Int[Tensor, "n 1"]]:
    """Return which samples have a label (None if labels are mixed, so that all have), and each sample's class,
    which is 0 where the label is missing.
    """
    counts = None if labels.is_floating_point() else labels != IGNORED
    classes = classes_of(labels)
    return counts, (classes if counts is None else classes.where(counts, 0)).unsqueeze(1)


def _mean_of_counted(of_sample: Float[Tensor, " n"], counts: Tensor | None) -> Float[Tensor, ""]:
    if counts is None:
        return of_sample.mean()
    # The second factor is exactly 1 where all samples count.
    return of_sample.where(counts, 0).mean() * (len(counts) / counts.sum().clamp_min(1).to(of_sample.dtype))


def _in_one_dtype(
    student_logits: Tensor, teacher_logits: Tensor, labels: Labels | None = None
) -> tuple[Tensor, Tensor]:
    check_shapes(student_logits, teacher_logits, labels)
    student = at_least_float32(student_logits)
    return student, teacher_logits.to(student.dtype)


def _kl(log_p: Float[Tensor, "n k"], log_q: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    log_p = log_p.clamp_min(torch.finfo(log_p.dtype).min)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
