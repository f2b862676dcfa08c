"""Measures of one network → sentences: what it is, how sure it is, what it says beyond its answer."""

from __future__ import annotations

from distill.advice.measures import FIDELITY, Measures, Twin
from distill.advice.statement import Number, Statement, counted, listed, percent, points
from distill.advice.words import data_words, held_out, labels_words, model_words
from distill.config import StudentConfig, TeacherConfig
from distill.metrics.confidence import under_confident

DARK = {
    "interclass_variance_relative": "relative inter-class logit variance",
    "conditional_mutual_information": "conditional mutual information",
    "bits_beyond_top1": "bits beyond top-1",
}


def what_it_is(config: TeacherConfig | StudentConfig) -> Statement:
    """The recipe, from the record."""
    targets = config if isinstance(config, TeacherConfig) else config.loss
    labels = f"labels {labels_words(targets)}" if isinstance(config, TeacherConfig) or config.cache is None else ""
    taught = labels or f"soft targets at T = {targets.temperature:g}, alpha {targets.alpha:g}"  # pyright: ignore[reportAttributeAccessIssue]
    convention = f" ({targets.smoothing_convention} convention)" if targets.smoothing and labels else ""
    text = (
        f"{model_words(config.model)}, trained on {data_words(config.data)} for"
        f" {counted(config.schedule.epochs, 'epoch')}, from {taught}{convention}, seed {config.seed}."
    )
    return Statement(text, "its record", {"smoothing": targets.smoothing, "epochs": config.schedule.epochs})


def how_good(measures: Measures, smoothed: bool) -> list[Statement]:
    """Accuracy and calibration; where labels are wrong by design, only how often it gives them.

    `smoothed` says whether it was taught smoothed labels.
    """
    values, gap = measures.values, measures.gap
    assert values is not None
    assert gap is not None
    interval = f"[{100 * measures.low:.1f}, {100 * measures.high:.1f}]"
    bounds = {"low": measures.low, "high": measures.high}
    if measures.noise:
        text = (
            f"It gives {percent(values['accuracy'])} {interval} of {held_out((measures.noise,))}. How often it is"
            f" right, whether it is over- or under-confident, and which temperature has the least NLL is not known:"
            f" they take right labels."
        )
        return [Statement(text, measures.basis, {"share of given labels": values["accuracy"]} | bounds)]
    accuracy = Statement(
        f"It is right on {percent(values['accuracy'])} {interval} of them; NLL {values['nll']:.3f},"
        f" ECE {percent(values['ece'])}.",
        measures.basis,
        {name: values[name] for name in ("accuracy", "nll", "ece")} | bounds,
    )
    why = ""
    if under_confident(gap):
        word = "it is under-confident, more often right than it says"
        if measures.fitted < 1:
            reasons = (
                "smoothing is one reason, a short training another" if smoothed else "a short training is a reason"
            )
            why = f": its logits are softer than its errors warrant, of which {reasons}"
    elif gap.high < 0:
        word = "it is over-confident, less often right than it says"
        why = ": its logits are harder than its errors warrant" if measures.fitted > 1 else ""
    else:
        word = "it is about as sure as it is right"
    confidence = Statement(
        f"Its mean confidence is {percent(gap.confidence)}; accuracy less confidence is {points(gap.gap)}"
        f" [{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]: {word}.",
        measures.basis,
        {"confidence": gap.confidence, "gap": gap.gap, "low": gap.low, "high": gap.high},
    )
    fitted = Statement(
        f"The temperature of least NLL is {measures.fitted:.2f}{why}.",
        measures.basis,
        {"fitted_temperature": measures.fitted},
    )
    return [accuracy, confidence, fitted]


def how_soft(measures: Measures) -> list[Statement]:
    """What its soft targets are at the temperatures one would distil at."""
    shown = listed([f"{percent(each.gap.confidence)} at T = {each.temperature:g}" for each in measures.soft])
    confidence: dict[str, Number] = {
        f"confidence_T{each.temperature:g}": each.gap.confidence for each in measures.soft
    }
    if measures.noise:
        text = f"Mean confidence is {shown}. Whether that is too soft is not known: it takes right labels."
        return [Statement(text, measures.basis, confidence)]
    alike = ", ".join(f"T = {each.temperature:g} is like γ = {each.smoothing:.2f}" for each in measures.soft)
    like = Statement(
        f"Its soft targets put as much on other classes as labels smoothed by γ do: {alike} (Müller et al. 2019,"
        f" section 4).",
        measures.basis,
        {f"smoothing_T{each.temperature:g}": each.smoothing for each in measures.soft},
    )
    soft = [each for each in measures.soft if under_confident(each.gap)]
    if not soft:
        text = f"At none of these temperatures is it shown to be less sure than right: mean confidence is {shown}."
    else:
        already = " already" if soft[0].temperature == 1 else ""
        text = (
            f"Over-softened{already} from T = {soft[0].temperature:g} on, less sure than it is right: mean"
            f" confidence is {shown}, at an accuracy of {percent(soft[0].gap.accuracy)}."
        )
    return [like, Statement(text, measures.basis, confidence)]


def dark_knowledge(measures: Measures) -> list[Statement]:
    """What it says beyond its top-1 answer; nothing where labels are wrong by design, by which that is measured."""
    values = measures.values
    assert values is not None
    if measures.noise:
        text = f"Not known: that is measured by right labels, and there are only {held_out((measures.noise,))}."
        return [Statement(text, measures.basis)]
    said = []
    if {"interclass_variance_relative", "interclass_variance_within", "interclass_variance"} <= values.keys():
        relative, total = values["interclass_variance_relative"], values["interclass_variance"]
        within = values["interclass_variance_within"] / total if total > 0 else 0.0
        text = (
            f"Its logits of the wrong classes vary by {percent(relative, 2)} of the squared gap to the right one;"
            f" {percent(within, 0)} of that differs between {measures.unit}s of one class, the rest is the same"
            f" for all of a class."
        )
        numbers = {"interclass_variance_relative": relative, "within_share": within}
        said.append(Statement(text, measures.basis, numbers))
    if "conditional_mutual_information" in values:
        parts = [
            f"{values['conditional_mutual_information']:.3f} nats beyond the class (conditional mutual information)"
        ]
        if "bits_beyond_top1" in values:
            parts.append(f"{values['bits_beyond_top1']:.3f} bits about the label beyond the top-1 answer")
        numbers = {name: values[name] for name in list(DARK)[1:] if name in values}
        text = f"What its answer says of an {measures.unit}: {listed(parts)}."
        said.append(Statement(text.replace("an token", "a token"), measures.basis, numbers))
    return said


def beside_twin(measures: Measures, twin: Twin) -> Statement:
    """What smoothing took away of it, by the same recipe with hard labels."""
    own, other = measures.values, twin.measures.values
    assert own is not None
    assert other is not None
    parts, numbers = [], dict[str, Number]()
    for name, words in DARK.items():
        if name in own and other.get(name, 0.0) > 0:
            change = own[name] / other[name] - 1
            verb = "took away" if change < 0 else "added"
            parts.append(f"{verb} {percent(abs(change), 0)} of {words} ({other[name]:.3g} → {own[name]:.3g})")
            numbers |= {name: own[name], f"{name} without smoothing": other[name], f"{name} change": change}
    difference = own["accuracy"] - other["accuracy"]
    numbers["accuracy difference"] = difference
    seed = "of the same seed" if twin.same_seed else "of another seed"
    took = f" its smoothing {listed(parts)};" if parts else ""
    text = (
        f"Beside the same recipe with hard labels, {seed},{took} its own accuracy differs by {points(difference)}."
        f" One pair of networks, so chance is in these figures."
    )
    return Statement(text, f"{measures.basis}, beside {twin.key[:8]}", numbers)


def fidelity(measures: Measures) -> list[Statement]:
    """How closely a student follows its teacher."""
    values = measures.values or {}
    if not all(name in values for name in FIDELITY):
        return []
    text = (
        f"It gives its teacher's answer on {percent(values['agreement'])} of {measures.unit}s; KL from teacher to"
        f" student is {values['kl']:.3f} nats."
    )
    return [Statement(text, measures.basis, {name: values[name] for name in FIDELITY})]
