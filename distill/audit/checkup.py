"""Check up on a teacher from one pass over held-out images: smoothing, confidence, knowledge, temperature, costs.

Every finding is a sentence with its number and its basis. Where nothing was measured there is no sentence.
"""

from __future__ import annotations

import math
import shlex
from bisect import bisect_left
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from statistics import mean
from typing import Any

from jaxtyping import Float
from torch import Tensor

from distill.audit.checkup_subject import Subject
from distill.audit.plan import Estimate
from distill.cache.encoding import Encoding, distribution_errors
from distill.config import AdoptedConfig, CacheConfig, StudentConfig, TeacherConfig
from distill.metrics.accuracy import nll
from distill.metrics.calibration_error import ece_adaptive, reliability
from distill.metrics.confidence import ceiling, confidence_gap
from distill.metrics.dark_knowledge import class_similarity, equivalent_smoothing, interclass_variance
from distill.metrics.smoothing_estimate import SmoothingEstimate, estimate_smoothing, facts
from distill.metrics.temperature import fit_temperature
from distill.store.key import key
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.system.units import format_bytes, format_seconds

TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
"""Temperatures at which γ and the loss of a truncated cache are given."""
_EPOCHS = 30
"""Number of epochs of the student in the arithmetic of a cache's cost."""


@dataclass(frozen=True)
class Finding:
    """Hold one sentence of a check-up, with what it rests on."""

    topic: str
    text: str
    basis: str


@dataclass
class Checkup:
    """Hold everything that a check-up found: numbers for a program, sentences for a reader."""

    name: str
    images: str
    numbers: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def say(self, topic: str, text: str, basis: str) -> None:
        """Add a sentence."""
        self.findings.append(Finding(topic, text, basis))

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON takes it."""
        return asdict(self)


def check_up(subject: Subject, store: ArtifactStore, runtime: Runtime) -> Checkup:
    """Measure one teacher, and say what was found.

    Raises:
        UserError: there are too few images.
    """
    made = Checkup(subject.name, subject.images)
    estimate = _smoothing(made, subject)
    _confidence(made, subject)
    _knowledge(made, subject)
    _temperature(made, subject, estimate, store)
    _cost(made, subject, store, runtime)
    _commands(made, subject, estimate)
    return made


def _smoothing(made: Checkup, subject: Subject) -> SmoothingEstimate:
    """Estimate the smoothing, and say how the estimate did on networks held aside."""
    found, classes = estimate_smoothing(subject.logits, subject.labels), subject.logits.shape[1]
    made.numbers["smoothing"] = asdict(found) | {"pile": found.pile._asdict()}
    aside = facts()["tested"]
    basis = found.reason
    if "differ" not in basis:
        basis += f"; wrong logits differ by {found.pile.unevenness:.3f} of the gap"
    proof = (
        f"on networks held aside {aside['covered']} of {aside['told']} intervals held ε, "
        f"and {aside['hard_called_smoothed']} of {aside['hard']} hard ones were called smoothed"
    )
    if found.smoothing is None or found.low is None or found.high is None:
        text = "unknown: smoothing, mixed labels and short training cannot be told apart here"
    elif found.verdict == "not smoothed":
        text = f"not smoothed: the logits of hard labels, with ε below {facts()['constants']['least']:g}"
    else:
        interval = f"ε = {found.smoothing:.3f} (95 % interval {found.low:.3f} to {found.high:.3f})"
        text = f"smoothed with {interval}; confidence piles up at {ceiling(found.smoothing, classes):.3f}"
        if found.verdict == "smoothed or mixed":
            text = f"smoothed with {interval}, or taught with mixed labels (mixup, cutmix): then ε is unknown"
    made.say("Smoothing", text, f"{basis}; {proof}")
    if subject.artifact and isinstance(config := subject.artifact.config, TeacherConfig | StudentConfig):
        taught = " beside a teacher's logits" if config.loss.alpha else ""
        made.say(
            "Smoothing", f"its record says ε = {config.loss.strongest:g}{taught}", "the config of its training"
        )
    return found


def _confidence(made: Checkup, subject: Subject) -> None:
    """Say how far confidence and accuracy are apart, in which direction, and which temperature mends it."""
    logits, labels = subject.logits, subject.labels
    gap, bins = confidence_gap(logits, labels), reliability(logits, labels)
    share = bins.count.double() / bins.count.sum()
    over = (share * (bins.confidence - bins.accuracy).clamp(min=0)).sum().item()
    under = (share * (bins.accuracy - bins.confidence).clamp(min=0)).sum().item()
    fitted, ace = fit_temperature(logits, labels), ece_adaptive(logits, labels)
    numbers = {"ace": ace, "over": over, "under": under, "nll": nll(logits, labels), "temperature": fitted}
    made.numbers["confidence"] = numbers | gap._asdict()
    way = (
        "under-confident"
        if gap.low > 0
        else "over-confident"
        if gap.high < 0
        else "neither over- nor under-confident"
    )
    made.say(
        "Confidence",
        f"{way}: accuracy {gap.accuracy:.3f}, mean confidence {gap.confidence:.3f}",
        f"difference {gap.gap:+.3f}, 95 % interval {gap.low:+.3f} to {gap.high:+.3f}, {len(labels):,} images",
    )
    made.say(
        "Confidence",
        f"calibration error {over + under:.3f}: {over:.3f} too sure, {under:.3f} too unsure; ACE {ace:.4f}",
        "15 bins of confidence (Guo et al. 2017); ACE by class, 15 ranges (Nixon et al. 2019)",
    )
    if gap.accuracy == 1:
        made.numbers["confidence"]["temperature"] = None
        made.say(
            "Confidence", f"NLL {numbers['nll']:.3f} nats", "no answer is wrong, so no temperature can be fitted"
        )
        return
    scaled = nll(logits / fitted, labels)
    made.say(
        "Confidence",
        f"NLL {numbers['nll']:.3f} nats, and {scaled:.3f} at the fitted temperature {fitted:.2f}",
        "fitted on these same images, so it is a lower bound",
    )


def _knowledge(made: Checkup, subject: Subject) -> None:
    """Measure what the logits of wrong classes say, and where that lies among recorded networks."""
    logits, labels = subject.logits, subject.labels
    gammas = {t: equivalent_smoothing(logits, labels, t) for t in TEMPERATURES}
    made.numbers["gamma"] = [{"temperature": t, "gamma": value} for t, value in gammas.items()]
    if logits.shape[1] > 2:  # one wrong class alone does not vary
        found, recorded = interclass_variance(logits, labels), facts()["relative_variances"]
        above = {kind: bisect_left(known, found.relative) / len(known) for kind, known in recorded.items()}
        made.numbers["knowledge"] = asdict(found) | {"above": above, "similar": _most_similar(subject)}
        made.say(
            "Beyond its answer",
            f"wrong logits vary by {found.total:.3g}, or {found.relative:.4f} relative to the squared gap: more "
            f"than {above['hard']:.0%} of recorded hard and {above['smoothed']:.0%} of recorded smoothed networks",
            f"inter-class logit variance; {len(recorded['hard'])} hard and {len(recorded['smoothed'])} smoothed "
            "networks, on other images where the classes differ",
        )
        first, second, value = made.numbers["knowledge"]["similar"][0]
        made.say(
            "Beyond its answer",
            f"of what it gives wrong classes, images of {first} give most to {second}: {value:.0%}",
            f"class similarity at T = 1; even would be {1 / (logits.shape[1] - 1):.1%}",
        )
    told = ", ".join(f"{value:.3f} at T = {t:g}" for t, value in gammas.items() if t in (1, 2, 4, 8))
    made.say("Beyond its answer", f"equivalent smoothing γ {told}", "Müller et al. 2019, section 4")


def _most_similar(subject: Subject) -> list[tuple[str, str, float]]:
    """List the pairs of a class and the wrong class that it resembles most, the most alike first."""
    alike = class_similarity(subject.logits, subject.labels).nan_to_num(0)
    values, others = alike.max(dim=1)
    order = values.argsort(descending=True)[:10].tolist()
    return [(subject.classes[row], subject.classes[int(others[row])], values[row].item()) for row in order]


def _temperature(made: Checkup, subject: Subject, estimate: SmoothingEstimate, store: ArtifactStore) -> None:
    """Say at which temperature to start: by students of it in the store, else by recorded students."""
    recorded, chosen = facts()["temperatures"], None
    if by_temperature := _students(subject, store):
        best = max(by_temperature, key=lambda t: mean(by_temperature[t]))
        chosen, count = best, sum(map(len, by_temperature.values()))
        values = ", ".join(
            f"{mean(each):.4f} at T = {t:g} ({len(each)})" for t, each in sorted(by_temperature.items())
        )
        made.say(
            "Temperature",
            f"of its students in the store, T = {best:g} is best",
            f"held-out accuracy {values}; {count} in all",
        )
    if estimate.verdict == "not smoothed":
        rows = [row for row in recorded if row["gamma"] is not None]
        best = max(rows, key=lambda row: row["accuracy"])
        alike = [row["gamma"] for row in rows if row["accuracy"] + row["half"] >= best["accuracy"] - best["half"]]
        start = _temperature_of(best["gamma"], subject.logits, subject.labels)
        chosen = chosen or start
        made.say(
            "Temperature",
            f"for students of all images T = {start:.2g}: there γ is {best['gamma']:.2f}, as for the best recorded "
            f"students of a hard teacher; γ from {min(alike):.2f} to {max(alike):.2f} is within their intervals",
            f"{best['source']}, T on the teacher only, accuracy {best['accuracy']:.4f}, {best['seeds']} seeds",
        )
    for share, whose in ((0.01, "1 % of the images"), (1.0, "all images")):
        rows = [row for row in recorded if row["gamma"] is None and row["share"] == share]
        if estimate.smoothing is None or estimate.verdict == "smoothed or mixed" or not rows:
            continue
        nearest = min({row["smoothing"] for row in rows}, key=lambda each: abs(each - (estimate.smoothing or 0)))
        mine = [row for row in rows if row["smoothing"] == nearest]
        best = max(mine, key=lambda row: row["accuracy"])
        values = ", ".join(f"{row['accuracy']:.4f} at T = {row['temperature']:g}" for row in mine)
        alike = [row for row in mine if row["accuracy"] + row["half"] >= best["accuracy"] - best["half"]]
        beside = ", ".join(f"{row['temperature']:g}" for row in alike if row is not best)
        if share == 1 and estimate.verdict == "smoothed":  # of temperatures that are alike the lowest is safest
            chosen = chosen or min(row["temperature"] for row in alike)
        made.say(
            "Temperature",
            f"with a teacher of ε = {nearest:g}, students of {whose} were best at T = {best['temperature']:g}"
            + (f", and T = {beside} lie within its interval" if beside else ""),
            f"{best['source']}, {best['seeds']} seeds: accuracy {values}; another task than yours may differ",
        )
    if estimate.verdict == "smoothed":
        made.say(
            "Temperature",
            "a high temperature is a risk with a smoothed teacher (timm distils at T = 4 unless told otherwise)",
            "Chandrasegaran et al. 2022, ResNet-50 of ε = 0.1 to ResNet-18: 71.67 % at T = 1, 67.75 % at T = 3",
        )
    made.numbers["start_temperature"] = chosen


def _students(subject: Subject, store: ArtifactStore) -> dict[float, list[float]]:
    """Collect the held-out accuracies of students of this teacher in the store, by temperature."""
    found: dict[float, list[float]] = defaultdict(list)
    if subject.artifact is None:
        return found
    own = key(subject.artifact.config)
    for each in store.all("student"):
        config = each.config
        if isinstance(config, StudentConfig) and config.cache and config.loss.alpha > 0:
            value = each.record.metrics.get("held_out/accuracy")
            if isinstance(value, float) and own in map(key, config.cache.teachers):
                found[config.loss.temperature].append(value)
    return found


def _temperature_of(gamma: float, logits: Float[Tensor, "n k"], labels: Tensor) -> float:
    """Return the temperature at which the teacher has this γ, by bisection of its logarithm."""
    low, high = math.log(0.05), math.log(100.0)
    for _ in range(30):
        middle = (low + high) / 2
        if equivalent_smoothing(logits, labels, math.exp(middle)) < gamma:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def _cost(made: Checkup, subject: Subject, store: ArtifactStore, runtime: Runtime) -> None:
    """Say what a cache takes, dense and truncated, what truncation loses, and when a cache is cheaper."""
    classes, count = subject.logits.shape[1], subject.training_images
    logits, rows = subject.logits.float(), []
    for top_k in (None, *(k for k in (5, 10, 50, 100) if 2 * k <= classes)):
        encoding = Encoding(classes, top_k=top_k)
        stored = encoding.decode(encoding.encode(logits)[0])
        errors = distribution_errors(logits, stored, (1.0, 2.0, 4.0, 8.0))
        lost = {name.removeprefix("tv_"): value for name, value in errors.items() if "max" not in name}
        rows.append({"top_k": top_k, "bytes_per_image": encoding.bytes_per_row, "lost": lost})
    made.numbers["cache"] = {"rows": rows, "images": count}
    for row in rows:
        size = f"{row['bytes_per_image']} bytes an image"
        size += f", {format_bytes(count * row['bytes_per_image'])} for {count:,} training images" if count else ""
        lost = ", ".join(f"{value:.2g} at {name}" for name, value in row["lost"].items())
        kind = f"its top {row['top_k']}" if row["top_k"] else "all logits (float16)"
        made.say("Cache", f"{kind}: {size}", f"probability mass moved: {lost}; {len(logits):,} images")
    config = subject.artifact.config if subject.artifact else None
    if isinstance(config, TeacherConfig | AdoptedConfig):
        cost = Estimate(store, runtime).cost(CacheConfig(teacher=config, transfer_set=config.data))
        if cost.seconds is not None:
            made.numbers["cache"] |= {"seconds": cost.seconds}
            made.say(
                "Cache",
                f"one pass takes about {format_seconds(cost.seconds)}; an online teacher takes this per epoch, so "
                f"the cache of one view is cheaper from the second epoch on: {_EPOCHS} epochs of one student save "
                f"{format_seconds((_EPOCHS - 1) * cost.seconds)}",
                "the estimate of `distill plan`; V views are paid back after V epochs of all students together",
            )


def _commands(made: Checkup, subject: Subject, estimate: SmoothingEstimate) -> None:
    """List the commands to run next."""
    if subject.artifact is None:
        made.commands.append(f"distill import {shlex.quote(subject.given)} --help")
        return
    path = shlex.quote(str(subject.artifact.path))
    if estimate.smoothing is None and "training" not in subject.images:
        made.commands.append(f"distill checkup {path} --split train")
    if made.numbers["confidence"]["low"] > 0 or made.numbers["confidence"]["high"] < 0:
        made.commands.append(f"distill calibrate {path}")
    made.commands.append(f"distill cache --teacher {path}")
    if start := made.numbers["start_temperature"]:
        teacher_only = " --loss.temperature-on teacher" if estimate.verdict == "not smoothed" else ""
        made.commands.append(f"distill student --cache CACHE --temperature {start:.2g}{teacher_only}")
