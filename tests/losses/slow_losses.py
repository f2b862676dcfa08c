"""Every loss the slow way, in Python loops over samples and classes, and inputs for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from statistics import fmean

import torch
import torch.nn.functional as F

from distill.config import IGNORED, LossConfig

N, K = 5, 4
Rows = list[list[float]]


def draw(n: int = N, k: int = K, scale: float = 2.0, seed: int = 0, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(n, k, generator=generator, dtype=torch.float64) * scale
    teacher = torch.randn(n, k, generator=generator, dtype=torch.float64) * scale
    labels = torch.randint(k, (n,), generator=generator)
    return student.to(dtype).requires_grad_(), labels, teacher.to(dtype)


def mixed(labels: torch.Tensor, classes: int, seed: int = 5) -> torch.Tensor:
    """Shares of two classes per sample, as mixup makes them."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.randint(0, 257, (len(labels), 1), generator=generator) / 256
    own = F.one_hot(labels, classes)
    return share * own + (1 - share) * own[torch.randperm(len(labels), generator=generator)]


def slow_softmax(row: list[float], temperature: float = 1.0) -> list[float]:
    top = max(row)
    weights = [math.exp((z - top) / temperature) for z in row]
    return [w / sum(weights) for w in weights]


def slow_target(label: int, classes: int, smoothing: float, convention: str) -> list[float]:
    if convention == "uniform":
        return [(1 - smoothing) * (k == label) + smoothing / classes for k in range(classes)]
    return [1 - smoothing if k == label else smoothing / (classes - 1) for k in range(classes)]


def slow_mixed_target(shares: list[float], smoothing: float, convention: str) -> list[float]:
    """The mean of the classes' targets, weighted by their shares."""
    each = [slow_target(label, len(shares), smoothing, convention) for label in range(len(shares))]
    return [sum(w * target[k] for w, target in zip(shares, each, strict=True)) for k in range(len(shares))]


def slow_maxsup(z: list[float], strength: float) -> float:
    return strength * (max(z) - fmean(z))


def slow_hard(z: list[float], label: int | list[float], smoothing: float, convention: str) -> float:
    of = slow_mixed_target if isinstance(label, list) else partial(slow_target, classes=len(z))
    if convention == "maxsup":
        return slow_hard(z, label, 0, "uniform") + slow_maxsup(z, smoothing)
    target = of(label, smoothing=smoothing, convention=convention)
    return -sum(y * (math.log(p) if p else -math.inf) for y, p in zip(target, slow_softmax(z), strict=True) if y)


def slow_kl(p: list[float], q: list[float]) -> float:
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a)


def slow_class(label: int | list[float]) -> int:
    return label.index(max(label)) if isinstance(label, list) else label


def slow_parts(z: list[float], z_t: list[float], label: int, temperature: float) -> tuple[float, float, float]:
    """TCKD, NCKD and the teacher's probability of the label."""
    q, p = slow_softmax(z, temperature), slow_softmax(z_t, temperature)
    others = [k for k in range(len(z)) if k != label]
    of_target = slow_kl([p[label], sum(p[k] for k in others)], [q[label], sum(q[k] for k in others)])
    if not any(p[k] for k in others):
        return of_target, 0.0, p[label]
    rest_t = slow_softmax([z_t[k] for k in others], temperature)
    rest_s = slow_softmax([z[k] for k in others], temperature)
    return of_target, slow_kl(rest_t, rest_s), p[label]


def slow_pearson(a: list[float], b: list[float]) -> float:
    a_mean, b_mean = fmean(a), fmean(b)
    product = sum((x - a_mean) * (y - b_mean) for x, y in zip(a, b, strict=True))
    squares = [sum((x - mean) ** 2 for x in row) for row, mean in ((a, a_mean), (b, b_mean))]
    return product / math.sqrt(squares[0]) / math.sqrt(squares[1])


def slow_z_scores(z: list[float]) -> list[float]:
    finite = [x for x in z if x > -math.inf]
    mean = fmean(finite)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in finite) / max(1, len(finite) - 1))
    return [(x - mean) / (1e-7 + deviation) for x in z]


def slow_wsl_weight(z: list[float], z_t: list[float], label: int | list[float]) -> float:
    of_student, of_teacher = (slow_hard(row, label, 0, "uniform") for row in (z, z_t))
    return 1 - math.exp(-of_student / (of_teacher + 1e-7))


def slow_soft(student: Rows, labels: list, teacher: Rows, c: LossConfig, at: Rows) -> float:
    """The soft term, mean over the batch; `at` is the student whose sample weights are taken as constants."""
    t, arguments = c.temperature, c.soft_term.defaults | c.kwargs
    if c.soft == "dist":
        q, p = ([slow_softmax(z, t) for z in rows] for rows in (student, teacher))
        between_classes = 1 - fmean(map(slow_pearson, q, p))
        between_samples = 1 - fmean(
            slow_pearson([row[k] for row in q], [row[k] for row in p]) for k in range(len(q[0]))
        )
        return t**2 * (arguments["inter"] * between_classes + arguments["intra"] * between_samples)
    terms = []
    for z, label, z_t, fixed in zip(student, labels, teacher, at, strict=True):
        if label == IGNORED and c.soft_term.needs_labels:
            continue
        plain = t**2 * slow_kl(slow_softmax(z_t, t), slow_softmax(z, t))
        if c.soft == "logit-matching":
            terms.append(0.5 * sum((a - b) ** 2 for a, b in zip(z, z_t, strict=True) if b > -math.inf))
        elif c.soft == "standardised":
            p, q = slow_softmax(slow_z_scores(z_t), t), slow_softmax(slow_z_scores(z), t)
            terms.append(t**2 * slow_kl(p, q))
        elif c.soft == "dkd":
            of_target, of_others, _ = slow_parts(z, z_t, slow_class(label), t)
            terms.append(t**2 * (arguments["target"] * of_target + arguments["nontarget"] * of_others))
        elif c.soft == "wsl":
            terms.append(slow_wsl_weight(fixed, z_t, label) * plain)
        elif c.soft == "decoupled":
            own = slow_class(label)
            tempered = [x / (arguments["label_temperature"] if k == own else t) for k, x in enumerate(z_t)]
            terms.append(slow_kl(slow_softmax(tempered), slow_softmax(z)))
        elif c.soft == "kl":
            terms.append(slow_kl(slow_softmax(z_t, t), slow_softmax(z)) if c.temperature_on == "teacher" else plain)
        else:
            raise NotImplementedError(f"no slow twin of the soft term {c.soft}: write one in {__name__}.slow_soft")
    return fmean(terms) if terms else 0.0


def slow_loss(student: Rows, labels: list, teacher: Rows, c: LossConfig, at: Rows | None = None) -> float:
    hard = [
        slow_hard(z, label, c.smoothing, c.smoothing_convention)
        for z, label in zip(student, labels, strict=True)
        if label != IGNORED
    ]
    soft = slow_soft(student, labels, teacher, c, at or student)
    return (1 - c.alpha) * (fmean(hard) if hard else 0.0) + c.alpha * soft


def slow_sequence_loss(logits: torch.Tensor, labels: torch.Tensor, smoothing: float, convention: str) -> float:
    """Mean over the positions that count, of logits [n][t][k] and labels [n][t]."""
    terms = []
    for sentence, own in zip(logits.tolist(), labels.tolist(), strict=True):
        for z, label in zip(sentence, own, strict=True):
            if label != IGNORED:
                terms.append(slow_hard(z, label, smoothing, convention))
    return sum(terms) / len(terms)


def slow_gradient(loss: Callable[[Rows], float], student: Rows, step: float = 1e-5) -> Rows:
    """Central differences."""
    gradient = []
    for i, row in enumerate(student):
        gradient.append([])
        for k in range(len(row)):
            moved = []
            for sign in (1, -1):
                copy = [list(r) for r in student]
                copy[i][k] += sign * step
                moved.append(loss(copy))
            gradient[-1].append((moved[0] - moved[1]) / (2 * step))
    return gradient
