"""Which measure stands in which column, in which unit, with how many digits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """How one measure is shown."""

    measure: str
    heading: str
    decimals: int
    percent: bool = False
    """Shown times 100: the measure is a share."""


TEACHERS_AND_STUDENTS = (
    Column("accuracy", "accuracy %", 2, percent=True),
    Column("nll", "NLL", 3),
    Column("ece", "ECE %", 2, percent=True),
    Column("confidence", "confid. %", 2, percent=True),
    Column("interclass_variance", "variance", 2),
    Column("interclass_variance_relative", "/gap² %", 2, percent=True),
    Column("gap", "gap", 2),
    Column("optimal_gap", "optimum", 2),
    Column("agreement", "agree %", 1, percent=True),
    Column("kl", "KL", 3),
    Column("equivalent_smoothing", "γ", 3),
)


CLASS_NEVER_SEEN = (
    Column("unseen_recall", "recall %", 1, percent=True),
    Column("unseen_recall_corrected", "corrected recall %", 1, percent=True),
    Column("unseen_auc", "AUC", 3),
)


ABOVE_LABELS = (
    Column("unseen_recall_over_labels", "corrected recall, points", 1, percent=True),
    Column("unseen_auc_over_labels", "AUC", 3),
)
"""Of a class never seen: what a student has above one of labels that never saw it either."""


SOME_CLASSES_SEEN = (
    Column("pair_accuracy_corrected", "corrected accuracy %", 1, percent=True),
    Column("unseen_accuracy", "of unseen %", 1, percent=True),
    Column("unseen_among_unseen", "among unseen %", 1, percent=True),
)
"""Of a student that saw a few classes: accuracy with their bias corrected; accuracy on images of the others, as
trained, and when only the others may be answered."""


OF_CACHES = (
    Column("cache_bytes_per_view", "bytes/view", 0),
    Column("cache_tv_T1", "TV T=1 %", 3, percent=True),
    Column("cache_tv_T4", "TV T=4 %", 3, percent=True),
)
"""What students learned from: size of a view, and total variation distance of its distribution to the exact one."""


TEMPERATURE_SCALING = (
    Column("scaled_temperature", "temperature", 2),
    Column("scaled_ece", "scaled ECE %", 2, percent=True),
    Column("scaled_nll", "scaled NLL", 3),
    Column("lowest_nll", "lowest NLL", 3),
)
"""At the temperature that held-out images choose; the lowest NLL is that of all temperatures on the test set."""


CALIBRATION = (
    Column("ece_equal_mass", "ECE, equal mass %", 2, percent=True),
    Column("ece_classwise", "classwise ECE %", 3, percent=True),
    Column("ece_adaptive", "adaptive ECE %", 3, percent=True),
    Column("brier", "Brier", 3),
)
"""Other errors of calibration than the ECE of the largest probability with bins of equal width."""


def _scaling_columns(method: str) -> tuple[Column, ...]:
    return (
        Column(f"{method}_ece", f"ECE, {method} %", 2, percent=True),
        Column(f"{method}_ece_classwise", f"classwise ECE, {method} %", 3, percent=True),
        Column(f"{method}_nll", f"NLL, {method}", 3),
        Column(f"{method}_brier", f"Brier, {method}", 3),
        Column(f"{method}_accuracy", f"accuracy, {method} %", 2, percent=True),
    )


SCALING = (
    Column("temperature_fitted", "fitted temperature", 2),
    *(column for method in ("temperature", "vector", "platt") for column in _scaling_columns(method)),
)
"""Of the test set after a map of logits that was fitted on held-out images."""


PENULTIMATE = (
    Column("compactness_train", "compactness, train", 3),
    Column("compactness_held_out", "compactness, held out", 3),
    Column("scatter_train", "scatter, train", 3),
    Column("scatter_held_out", "scatter, held out", 3),
    Column("imbalance_train", "imbalance, train", 3),
    Column("imbalance_held_out", "imbalance, held out", 3),
)


INFORMATION = (
    Column("information_first", "start", 3),
    Column("information_early", "early", 3),
    Column("information_late", "late", 3),
    Column("information_peak", "peak", 3),
    Column("information_final", "end", 3),
    Column("information_drop", "drop", 3),
    Column("information_floor", "collapsed", 3),
    Column("information_log_n", "log N", 3),
)
"""In nats, along training; collapsed is what two clusters without any spread would give."""


DARK_KNOWLEDGE = (
    Column("bits_beyond_top1", "bits beyond top-1", 3),
    Column("conditional_mutual_information", "CMI", 3),
    Column("nontarget_entropy", "non-target entropy", 3),
    Column("aggregated_variance", "variance in class", 4),
    Column("similarity_independent", "similarity, other seed", 3),
)
"""Of the distribution at T=1, in bits and nats; the last is rank correlation with another run of the recipe."""


FIDELITY = (
    Column("agreement_independent", "agree, other seed %", 1, percent=True),
    Column("kl_independent", "KL, other seed", 3),
    Column("target_divergence", "TCKD", 3),
    Column("nontarget_divergence", "NCKD", 3),
    Column("deviation_ratio", "deviation ratio", 2),
    Column("similarity_correlation", "similarity", 3),
)
"""To the teacher, at T=1, and to a run of the teacher's recipe with another seed, which nobody learned from."""


KNOWLEDGE = (
    Column("bits_beyond_top1_held_out", "bits beyond top-1, held out", 3),
    Column("conditional_mutual_information_train", "CMI, train", 3),
    Column("nontarget_entropy_train", "non-target entropy, train", 3),
    Column("aggregated_variance_train", "variance in class, train", 4),
    Column("class_separation_train", "R², train", 3),
    Column("within_class_collapse_train", "NC1, train", 3),
    Column("equiangular_distance_train", "NC2", 3),
    Column("duality_distance_train", "NC3, train", 3),
    Column("nearest_centre_agreement_train", "NC4, train %", 1, percent=True),
)
"""Of images as they are: what the probe of all measures found, in part."""


PREDICTION = (
    Column("concordance_T1", "concordance, T=1 %", 1, percent=True),
    Column("concordance_T4", "concordance, T=4 %", 1, percent=True),
    Column("rank_correlation_T1", "rank correlation, T=1", 2),
    Column("rank_correlation_T4", "rank correlation, T=4", 2),
)
"""Of a measure of teachers with what their students gain over labels."""


MEMORISATION = (
    Column("held_out_accuracy_clean", "held-out, right labels %", 2, percent=True),
    Column("fitted_right", "fitted, right labels %", 2, percent=True),
    Column("memorised", "memorised %", 2, percent=True),
    Column("recovered", "recovered %", 2, percent=True),
    Column("wrong_labels", "wrong labels %", 2, percent=True),
)
"""Of a training set with wrong labels: of the images that have one, which share is answered by it, and which by the
right class."""


CHOSEN_SMOOTHING = (Column("chosen_smoothing", "chosen ε", 3),)
"""What is taken of several strengths of smoothing, for one use."""


AT_THE_OPTIMUM = (
    Column("reached_gap", "gap", 3),
    Column("reached_optimum", "optimum", 3),
    Column("reached_share", "share %", 2, percent=True),
    Column("reached_probability", "label's prob. %", 2, percent=True),
    Column("reached_ceiling", "target %", 2, percent=True),
)
"""Of training images: the gap that a network of smoothed labels reached, beside the one that minimises its loss."""


TRANSLATION = (
    Column("bleu", "BLEU", 1, percent=True),
    Column("bleu_highest", "highest BLEU", 1, percent=True),
    Column("exact_match", "exact %", 1, percent=True),
    Column("possible_translation", "possible %", 1, percent=True),
    Column("oracle_nll", "oracle NLL", 3),
)
"""Of sentences found by beam search at T=1, BLEU as usual times 100; the highest is that of all temperatures. The
oracle's NLL, per token, is that of the true distribution."""


WITHOUT_COLUMN = (
    Column("held_out_accuracy", "held-out accuracy %", 2, percent=True),
    Column("held_out_ece", "held-out ECE %", 2, percent=True),
    Column("held_out_interclass_variance_relative", "held-out /gap² %", 2, percent=True),
    Column("accuracy_lost", "accuracy lost, points", 2, percent=True),
    *(
        Column(f"cost_T{temperature}", f"cost at T={temperature}, points", 2, percent=True)
        for temperature in (1, 2, 4, 16)
    ),
    Column("gain", "gain, points", 2, percent=True),
    Column("gain_over_labels", "gain over labels, points", 2, percent=True),
    Column("accuracy_gap", "gap, points", 2, percent=True),
    Column("accuracy_gap_best", "gap to the best T, points", 2, percent=True),
    Column("accuracy_gap_same_remedy", "gap, same remedy, points", 2, percent=True),
    Column("chosen_temperature", "chosen temperature", 2),
    Column("confidence_gap", "accuracy − confid., points", 2, percent=True),
    Column("interclass_variance_within", "variance within a class", 2),
    Column("interclass_variance_between", "variance between classes", 2),
)


COLUMNS = {
    column.measure: column
    for columns in (
        TEACHERS_AND_STUDENTS,
        CLASS_NEVER_SEEN,
        ABOVE_LABELS,
        SOME_CLASSES_SEEN,
        OF_CACHES,
        TEMPERATURE_SCALING,
        CALIBRATION,
        SCALING,
        PENULTIMATE,
        INFORMATION,
        TRANSLATION,
        DARK_KNOWLEDGE,
        FIDELITY,
        KNOWLEDGE,
        PREDICTION,
        MEMORISATION,
        CHOSEN_SMOOTHING,
        AT_THE_OPTIMUM,
        WITHOUT_COLUMN,
    )
    for column in columns
}


NAMED = ("accuracy", "nll", "ece", "kl", "scaled_ece", "scaled_nll", "lowest_nll", "bleu", "bleu_highest")
"""Measures whose heading says what they are without the table around it."""


ANY = Column("", "", 3)
"""How a measure without a column is shown."""


MEASURES = tuple(COLUMNS)
"""Measures in the order in which reports list them; others follow by name."""


def columns_of(*measures: str) -> tuple[Column, ...]:
    """How these measures are shown, in this order."""
    return tuple(COLUMNS[measure] for measure in measures)
