"""Make smoothed targets as a matrix [K, K]: row y is the target of label y.

Every `towards_...` function says how the smoothed mass of a label is shared among the other classes: in float64,
with a diagonal of zeros and rows that sum to 1. `smoothed` combines these shares with the strength of smoothing.
Equal shares give the two plain conventions exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.config import SmoothingConvention
from distill.errors import UserError

_KWARGS = "loss.labels.kwargs"


class Rows(NamedTuple):
    """Hold a matrix of smoothed targets, ready for the training step."""

    table: Float[Tensor, "k+1 k"]
    """Targets: row y is for label y; the last row, of zeros, is for a label that does not count."""


def smoothed(
    smoothing: float | Sequence[float],
    towards: Float[Tensor, "k k"],
    convention: SmoothingConvention = "uniform",
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "k k"]:
    """Make each label's targets: 1 - m for the label itself, and the smoothed mass m shared as `towards` says.

    m is ε (K - 1) / K for "uniform" and ε for "others"; ε is one number, or one for each class. All is
    computed in float64.

    Raises:
        UserError: there is not one ε per class, an ε is outside 0 to 1, a label would get no more than another
            class, or the convention is "maxsup", which smooths no label.
    """
    classes = len(towards)
    if convention == "maxsup":
        expected, way_out = "uniform or others with a matrix", "Take one of these."
        raise UserError("loss.smoothing_convention", convention, expected, way_out)
    strength = torch.as_tensor(smoothing, dtype=torch.float64)
    field = "loss.labels.per_class" if strength.ndim else "loss.smoothing"
    if strength.ndim and strength.shape != (classes,):
        raise UserError(field, smoothing, f"one for each of the {classes} classes", "Give as many.")
    if not ((strength >= 0) & (strength < 1)).all():
        raise UserError(field, smoothing, "0 or more and less than 1", "Lower it.")
    mass = (strength * (classes - 1) / classes if convention == "uniform" else strength).expand(classes)
    elsewhere = mass.unsqueeze(1) * towards.double()
    if (worst := _first(elsewhere.amax(1) >= 1 - mass)) is not None:
        reached = f"{elsewhere[worst].max():.3g} against {1 - mass[worst]:.3g} for class {worst}"
        expected = f"so little that each label gets more than any other class (another gets {reached})"
        raise UserError(field, smoothing, expected, "Lower the smoothing.")
    return (torch.diag(1 - mass) + elsewhere).to(dtype)


def towards_all(classes: int) -> Float[Tensor, "k k"]:
    """Share the smoothed mass equally among all other classes.

    Raises:
        UserError: there is one class only.
    """
    return _shares(torch.ones(classes, classes, dtype=torch.float64))


def towards_near(tree: Sequence[Any], classes: Sequence[str], beta: float = 4.0) -> Float[Tensor, "k k"]:
    """Share more of the smoothed mass with classes that are nearer in a tree, by exp(-β d).

    d is the height of the lowest common ancestor over the largest height, in 0 to 1. Source: Bertinetto et al.
    (2020), "Making Better Mistakes", section 3.2. These are the paper's soft labels without the label's own share,
    which the smoothing decides. The paper takes β of 4 to 30; with β = 0 all classes share equally.

    Args:
        tree: nested lists of class numbers or names, each class once: [["cat", "dog"], [["car", "bus"], "ship"]].
        classes: names, in the order of their numbers.
        beta: β of the formula.

    Raises:
        UserError: the tree does not hold exactly these classes, or β is not a number of at least 0.
    """
    _at_least_two(len(classes))
    if not _is_weight(beta):
        raise UserError(_KWARGS, {"beta": beta}, "a number of at least 0", "The paper takes 4 to 30.")
    numbers = {entry: number for number, name in enumerate(classes) for entry in (name, number)}
    heights = torch.zeros(len(classes), len(classes), dtype=torch.float64)
    try:
        _check_leaves(tree, classes, numbers)
        _put_heights(tree, numbers, heights)
    except RecursionError as error:
        way_out = "Write it flatter: levels that part no classes say nothing."
        raise UserError(_KWARGS, "nested too deep", "a tree of some levels", way_out) from error
    logits = -beta * heights / heights.max()
    # Without a softmax, a large β would make all of exp(-β d) zero.
    return torch.softmax(logits.fill_diagonal_(-math.inf), 1)


def _check_leaves(tree: Any, classes: Sequence[str], numbers: Mapping[str | int, int]) -> None:
    way_out = _in_order(classes)
    if not _is_node(tree):
        raise UserError(_KWARGS, tree, "tree as nested lists of class numbers or names", way_out)
    seen: set[int] = set()
    for leaf in _leaves(tree):
        if type(leaf) not in (int, str) or leaf not in numbers:  # True is equal to 1, and no class
            expected = f"in the tree a name, a number from 0 to {len(classes) - 1} or a list"
            raise UserError(_KWARGS, leaf, expected, way_out)
        if numbers[leaf] in seen:
            raise UserError(_KWARGS, leaf, "each class only once in the tree", way_out)
        seen.add(numbers[leaf])
    if missing := [name for name in classes if numbers[name] not in seen]:
        raise UserError(_KWARGS, tree, f"all classes in the tree, also {', '.join(missing)}", way_out)


def _is_node(entry: Any) -> bool:
    return isinstance(entry, Sequence) and not isinstance(entry, str)


def _leaves(entry: Any) -> Iterator[Any]:
    if not _is_node(entry):
        yield entry
        return
    for part in entry:
        yield from _leaves(part)


def _put_heights(node: Sequence[Any], numbers: Mapping[str | int, int], heights: Float[Tensor, "k k"]) -> float:
    """Fill in `heights` for every two leaves of a node: the height of their lowest common ancestor; return the
    node's own height.
    """
    height = 1 + max((_put_heights(part, numbers, heights) for part in node if _is_node(part)), default=0.0)
    below = torch.tensor([numbers[leaf] for leaf in _leaves(node)], dtype=torch.long)
    block = below.unsqueeze(1), below
    # The parts of a node have written their heights already; what is left belongs to the node.
    heights[block] = heights[block].where(heights[block] > 0, height)
    return height


def towards_confused(
    answers: Int[Tensor, " n"], labels: Int[Tensor, " n"], classes: int, count: float = 1.0
) -> Float[Tensor, "k k"]:
    """Share the smoothed mass by how often a network takes one class for another, with pseudo-count `count`.

    Raises:
        UserError: `count` is not a number of at least 0, or `count` is 0 and a class is never confused.
    """
    if not _is_weight(count):
        raise UserError(_KWARGS, {"count": count}, "a number of at least 0", "It is added to each count.")
    counts = torch.bincount(labels * classes + answers, minlength=classes * classes).view(classes, classes)
    weights = counts.double().cpu() + count
    if (never := _without_mass(weights)) is not None:
        expected = f"more than 0, since the source never takes class {never} for another"
        raise UserError(_KWARGS, {"count": count}, expected, "Set it to 1.")
    return _shares(weights)


def towards_similar(similarity: Float[Tensor, "k k"]) -> Float[Tensor, "k k"]:
    """Share the smoothed mass by how similar a teacher finds the classes.

    The matrix is one of `metrics.dark_knowledge.class_similarity`, or any like it.

    Raises:
        UserError: a row has a negative or non-finite number, as for a class without samples, or only zeros beside
            the diagonal. No default replaces the row, since a default would not be the teacher's opinion.
    """
    weights = similarity.detach().double().cpu().clone().fill_diagonal_(0)
    wrong = _first(~((weights >= 0) & weights.isfinite()).all(1))
    wrong = _without_mass(weights) if wrong is None else wrong
    if wrong is not None:
        expected = f"a source that says what class {wrong} is like: numbers of at least 0, some above, not NaN"
        way_out = (
            "Name as `smoothing_source` one with held-out images of it, or set `loss.labels.towards=confusions`."
        )
        raise UserError("loss.labels.towards", "similar", expected, way_out)
    return _shares(weights)


def towards_given(rows: Sequence[Sequence[float]], classes: Sequence[str]) -> Float[Tensor, "k k"]:
    """Share each label's smoothed mass among the other classes in proportion to numbers that the user gives.

    The diagonal is left out, and the rest of each row is scaled to sum to 1.

    Raises:
        UserError: there is not one row and one column per class, an entry is negative or no finite number, or a row
            has only zeros beside the diagonal.
    """
    size, way_out = len(classes), _in_order(classes)
    if not _is_node(rows) or len(rows) != size:
        given = f"{len(rows)} rows" if _is_node(rows) else rows
        raise UserError(_KWARGS, given, f"{size} rows, one per class", way_out)
    for name, row in zip(classes, rows, strict=True):
        if not _is_node(row) or len(row) != size:
            raise UserError(_KWARGS, row, f"{size} numbers in the row of {name}, one per class", way_out)
        for entry in row:
            if not _is_weight(entry):
                raise UserError(_KWARGS, entry, f"finite numbers of at least 0 in the row of {name}", way_out)
    weights = torch.tensor(rows, dtype=torch.float64)
    if (empty := _without_mass(weights)) is not None:
        expected = f"in rows a number above 0 for another class than {classes[empty]} itself"
        raise UserError(_KWARGS, list(rows[empty]), expected, way_out)
    return _shares(weights)


def rows_of(matrix: Float[Tensor, "k k"], like: Tensor) -> Rows:
    """Make a matrix ready for the training step, in the precision and on the device of `like`."""
    table = torch.cat([matrix, matrix.new_zeros(1, matrix.shape[1])])
    return Rows(table.to(like.dtype).to(like.device))  # Cast before the move, since mps has no float64.


def _at_least_two(classes: int) -> None:
    if classes < 2:
        raise UserError("classes", classes, "at least 2, since mass goes to others", "Drop the smoothing.")


def _in_order(classes: Sequence[str]) -> str:
    return f"Classes are numbered in this order: {', '.join(classes)}."


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _first(rows: Tensor) -> int | None:
    """Return the first index at which `rows` is true; None if there is none."""
    return int(rows.int().argmax()) if rows.any() else None


def _without_mass(weights: Float[Tensor, "k k"]) -> int | None:
    """Find the first class whose row is 0 everywhere off the diagonal; None if there is none."""
    return _first(weights.clone().fill_diagonal_(0).sum(1) == 0)


def _shares(weights: Float[Tensor, "k k"]) -> Float[Tensor, "k k"]:
    _at_least_two(len(weights))
    others = weights.clone().fill_diagonal_(0)
    # Scale first, since the sum of very large numbers would overflow.
    others = others / others.amax(1, keepdim=True)
    return others / others.sum(1, keepdim=True)
