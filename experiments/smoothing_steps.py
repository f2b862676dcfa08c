"""The algebra of label smoothing, step by step: what `smoothing_theory` shows above its networks.

Every step is whole: it can be taken from the page and run where `distill` is installed.
"""

from __future__ import annotations


def conventions() -> str:
    """Two conventions, one ε, five classes.

    "Smoothed by ε = 0.1" means one of two things. Uniform (PyTorch, Müller et al. 2019) spreads ε over all classes,
    the label included; others (Shen et al. 2021) leaves 1 - ε for the label and spreads ε over the other classes:

        uniform:  1 - ε + ε/K for the label,  ε/K for each other class
        others:   1 - ε for the label,  ε/(K - 1) for each other class
        the same targets:  ε_uniform = ε_others · K/(K - 1)

    With one ε they differ by ε/K in the label's share, here 0.02. The targets are not written down here but read
    off the loss: at equal logits its gradient is 1/K minus the target.
    """
    import torch

    from distill.losses import cross_entropy, in_uniform

    logits, label = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True), torch.tensor([2])
    losses = {
        "uniform  ε = 0.1 ": cross_entropy(logits, label, 0.1, "uniform"),
        "others   ε = 0.1 ": cross_entropy(logits, label, 0.1, "others"),
        "others   ε = 0.08": cross_entropy(logits, label, 0.08, "others"),
    }
    lines = []
    for name, loss in losses.items():
        target = 1 / 5 - torch.autograd.grad(loss, logits)[0].squeeze()
        lines.append(name + "".join(f"{share:8.3f}" for share in target))
    return "\n".join([*lines, f"others 0.1 is uniform {in_uniform(0.1, 'others', 5):g}"])


def worked_example() -> str:
    """Four samples, three classes.

    A batch to check an implementation by: at ε = 0.1 its loss is 0.47310783, or 0.47310787 as rounded in
    float32. Beside it stands what else the same batch may cost: with the other convention, with hard labels, and
    with probabilities passed for logits, which PyTorch does not notice and this package refuses.
    """
    import torch
    from torch.nn.functional import cross_entropy as of_pytorch

    from distill.losses import cross_entropy

    rows = [[2.0, 0.5, -1.0], [0.1, 1.8, 0.2], [1.2, 0.7, 0.3], [0.0, -0.2, 2.4]]
    logits, labels = torch.tensor(rows, dtype=torch.float64), torch.tensor([0, 1, 0, 2])
    found = {
        "uniform, ε = 0.1": cross_entropy(logits, labels, 0.1),
        "the same of PyTorch": of_pytorch(logits, labels, label_smoothing=0.1),
        "others, ε = 0.1": cross_entropy(logits, labels, 0.1, "others"),
        "hard labels": cross_entropy(logits, labels),
        "probabilities as logits": of_pytorch(logits.softmax(1), labels, label_smoothing=0.1),
    }
    return "\n".join(f"{name:24}{loss:.8f}" for name, loss in found.items())


def gradient() -> str:
    """The gradient is p - y_smooth.

    What a step does to the logits of a sample is the difference between what the network says and what it is
    taught:

        ∂L/∂z = p - y_smooth,   p = softmax(z)

    With hard labels this is never 0, since p never reaches 1. With smoothed ones it changes sign: once p of the
    label exceeds its target, the label's logit is pushed down. Here the first sample is surer than its target.
    """
    import torch

    from distill.losses import cross_entropy

    logits = torch.tensor([[6.0, 0, 0, 0], [0, 1, 2, 0]], dtype=torch.float64, requires_grad=True)
    (by_torch,) = torch.autograd.grad(2 * cross_entropy(logits, torch.tensor([0, 1]), 0.1), logits)
    smooth = 0.9 * torch.eye(4, dtype=torch.float64)[:2] + 0.1 / 4
    by_hand = logits.detach().softmax(1) - smooth
    lines = []
    for name, rows in (("autograd", by_torch), ("p - y_smooth", by_hand)):
        lines += [f"{name:12} sample {row}:  {'  '.join(f'{x:+.5f}' for x in rows[row])}" for row in (0, 1)]
    return "\n".join([*lines, f"equal to 1e-12: {torch.allclose(by_torch, by_hand, rtol=0, atol=1e-12)}"])


def decomposition() -> str:
    """Three parts: the label, a pull towards uniform, a constant.

    With u the uniform distribution,

        L = (1 - ε) CE(y, p) + ε KL(u‖p) + ε H(u),   H(u) = log K

    The pull is KL(u‖p), which grows without bound as any probability goes to 0. The constant is why losses of
    different ε must not be compared: a perfect network pays it too. The other convention is the same sum, with the
    ε that gives its targets (Szegedy et al. 2016, section 7, for the first).
    """
    import torch

    from distill.losses import cross_entropy, in_uniform

    logits, label = torch.tensor([[2.0, 0.5, -1, 0, 1]], dtype=torch.float64), torch.tensor([0])
    log_p, log_k = logits.log_softmax(1), torch.tensor(5.0, dtype=torch.float64).log()
    lines = ["             (1-ε) CE   ε KL(u‖p)    ε H(u)       sum      loss"]
    for convention in ("uniform", "others"):
        e = in_uniform(0.1, convention, 5)
        parts = [-(1 - e) * log_p[0, 0], e * (-log_p.mean() - log_k), e * log_k]
        numbers = [*parts, sum(parts), cross_entropy(logits, label, 0.1, convention)]
        lines.append(f"{convention:10}" + "".join(f"{number:11.6f}" for number in numbers))
    return "\n".join(lines)


def optimum() -> str:
    """The loss is least at a finite gap.

    The gradient is 0 where p is the target, that is where the label's logit exceeds each other one by

        z_y - z_k = log((1 - ε + ε/K) / (ε/K)) = log((1 - ε)K/ε + 1)

    Found here without the formula: L-BFGS moves ten free logits until the loss no longer falls. The least loss is
    not 0 but the entropy of the target.
    """
    import torch
    from scipy.optimize import minimize

    from distill.losses import cross_entropy, in_uniform
    from distill.metrics.dark_knowledge import optimal_gap

    def charged(z, smoothing, convention):
        logits = torch.tensor(z[None], requires_grad=True)
        loss = cross_entropy(logits, torch.tensor([0]), smoothing, convention)
        return loss.item(), torch.autograd.grad(loss, logits)[0].numpy()[0]

    lines = ["                 found  formula  least loss"]
    search = {"jac": True, "method": "L-BFGS-B", "options": {"ftol": 0, "gtol": 1e-9}}
    for convention in ("uniform", "others"):
        for smoothing in (0.05, 0.1, 0.4):
            found = minimize(charged, [0.0] * 10, (smoothing, convention), **search)
            gap, formula = found.x[0] - found.x[1:].mean(), optimal_gap(in_uniform(smoothing, convention, 10), 10)
            lines.append(f"{convention:8} {smoothing:4g} {gap:8.4f} {formula:8.4f} {found.fun:11.4f}")
    return "\n".join(lines)


def hard_labels() -> str:
    """Hard labels have no optimum.

    With ε = 0 the formula gives an infinite gap. Gradient descent on free logits goes there without ever arriving:
    ten times the steps add log 10 = 2.3. It is the end of training that decides where the logits of a network of
    hard labels are. With ε = 0.1 the same descent stands still.
    """
    import torch

    logits = torch.zeros(2, 10, dtype=torch.float64)
    targets = torch.eye(10, dtype=torch.float64)[[0, 0]]
    targets[1] = 0.9 * targets[1] + 0.1 / 10
    lines = ["  steps    ε = 0   ε = 0.1"]
    for step in range(1, 10_001):
        logits -= logits.softmax(1) - targets
        if step in (10, 100, 1_000, 10_000):
            lines.append("{:7d} {:8.3f} {:9.3f}".format(step, *(logits[:, 0] - logits[:, 1]).tolist()))
    return "\n".join(lines)


def shrinking() -> str:
    """More smoothing, smaller logits; more classes, larger ones.

    The gap and the largest probability of a network at its optimum, 1 - ε + ε/K, by ε and number of classes. The
    ceiling hardly depends on K, the gap does: what is left over is shared by more classes, and each must be further
    down. A network that is surer than this on its training images is not at the optimum of its loss.
    """
    from distill.metrics.confidence import ceiling
    from distill.metrics.dark_knowledge import optimal_gap

    lines = ["      K = 10         K = 100        K = 1000", "   ε   gap  ceiling   gap  ceiling   gap  ceiling"]
    for smoothing in (0.01, 0.05, 0.1, 0.2, 0.4, 0.6):
        cells = [(optimal_gap(smoothing, k), 100 * ceiling(smoothing, k)) for k in (10, 100, 1000)]
        lines.append(f"{smoothing:4g}" + "".join(f"{gap:7.2f} {top:6.1f} %" for gap, top in cells))
    return "\n".join(lines)


def penalties() -> str:
    """Three penalties on being sure, side by side.

    Each loss is cross-entropy with hard labels plus 0.1 times a penalty, constants left out:

        smoothing:           KL(u‖p) - CE = z_y - mean z
        confidence penalty:  KL(p‖u) = log K - H(p)
        MaxSup:              max z - mean z

    Below is what each adds to the gradient: above zero pushes a logit down. First a sample that the network gets
    right: smoothing and MaxSup are one loss. Then one that it gets wrong: smoothing pushes the label down, which is
    too low already; MaxSup the wrong winner; and so does the confidence penalty, which does not know the label and
    weighs every class by its p.
    """
    import torch

    from distill.losses import label_loss

    losses = {
        "smoothing": {"smoothing": 0.1},
        "confidence penalty": {"confidence_penalty": 0.1},
        "MaxSup": {"smoothing": 0.1, "convention": "maxsup"},
    }
    lines, label = [], torch.tensor([0])
    for story, z in (("right", [3.0, 1, 0, -1]), ("wrong", [1.0, 3, 0, -1])):
        logits = torch.tensor([z], dtype=torch.float64, requires_grad=True)
        lines.append(f"{story}: logits".ljust(19) + "".join(f"{value:8g}" for value in z))
        for name, how in losses.items():
            added = label_loss(logits, label, **how) - label_loss(logits, label)
            (slope,) = torch.autograd.grad(added, logits)
            lines.append(f"{name:19}" + "".join(f"{value:+8.3f}" for value in slope[0]))
    return "\n".join(lines)


def temperature() -> str:
    """What a temperature can undo, and what it cannot.

    Dividing logits by T divides the gap: at the right T a smoothed network at its optimum has the gap, and the
    confidence, of any other ε. What T cannot do is change a ratio of logits. At the optimum all wrong classes have
    one logit, and of equals every T makes equals: the entropy over wrong classes stays at its largest, log 9. A
    network whose wrong logits differ, here by one part in six of the gap, can be tempered to the same gap, and
    keeps the ratio.
    """
    import torch

    from distill.metrics.dark_knowledge import (
        equivalent_smoothing,
        interclass_variance,
        nontarget_entropy,
        optimal_gap,
    )

    label, other = torch.tensor([0]), torch.linspace(-1, 1, 9, dtype=torch.float64)
    gap = optimal_gap(0.1, 10)
    optimal, lively = (torch.cat([torch.tensor([gap]), spread * gap * other])[None] for spread in (0, 1 / 6))
    lines = ["                 T    gap  same ε  entropy  spread/gap²"]
    for name, logits in (("at the optimum", optimal), ("wrong differ", lively)):
        for t in (0.5, 1.0, 2.0):
            z, found = logits / t, interclass_variance(logits / t, label)
            same, entropy = equivalent_smoothing(z, label, 1), nontarget_entropy(z, label)
            lines.append(f"{name:14} {t:3g} {found.gap:6.2f} {same:7.3f} {entropy:8.3f} {found.relative:12.4f}")
    return "\n".join(lines)


# fmt: off
CELLS = (
    conventions, worked_example, gradient, decomposition, optimum, hard_labels, shrinking, penalties, temperature,
)
# fmt: on
"""Cells in the order of the page."""
