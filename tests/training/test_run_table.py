from __future__ import annotations

from typing import Any

from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from distill.config import (
    AugmentConfig,
    CacheConfig,
    DataConfig,
    EnsembleConfig,
    ImportConfig,
    LossConfig,
    StudentConfig,
    TeacherConfig,
)
from distill.training import run_table
from distill.training.run_table import columns, row

FIRST = [
    "role", "data", "network", "smoothing", "teacher's smoothing", "T", "alpha", "views", "unseen class", "seed",
]  # fmt: skip
MEASURED = ["accuracy", "NLL", "ECE", "inter-class variance", "relative variance", "agreement"]


def content(summary: Any) -> HParamsPluginData:
    return HParamsPluginData.FromString(summary.value[0].metadata.plugin_data.content)


def cells(config: TeacherConfig | StudentConfig) -> dict[str, float | str]:
    """Heading → what the row of a run shows under it."""
    headings = {info.name: info.display_name for info in content(columns()).experiment.hparam_infos}
    start = content(row(config)).session_start_info
    return {
        headings[name]: value.string_value or value.number_value for name, value in sorted(start.hparams.items())
    }


def test_few_columns_and_first_what_tells_runs_apart() -> None:
    experiment = content(columns()).experiment
    infos = sorted(experiment.hparam_infos, key=lambda info: info.name)  # as TensorBoard sorts them
    assert [info.display_name for info in infos][: len(FIRST)] == FIRST
    assert [info.display_name for info in experiment.metric_infos][: len(MEASURED)] == MEASURED
    assert len(experiment.hparam_infos) + len(experiment.metric_infos) <= 40


def test_a_row_says_what_a_student_learned_from() -> None:
    teacher = TeacherConfig(seed=4).with_loss(smoothing=0.1)
    cache = CacheConfig(teacher=teacher, views=3, augment=AugmentConfig(pad=1))
    shown = cells(StudentConfig(cache=cache, seed=2, loss=LossConfig(temperature=2), exclude_classes=(3, 5)))
    expected = ["student", "digits", "mlp", "0", "0.1", 2, 1, "3", "3, 5", "2"]
    assert [shown[name] for name in FIRST] == expected
    assert shown["augmentation"] == "pad 1"
    assert shown["teacher"] == "mlp-ls0.10-s4"


def test_a_row_says_what_a_network_began_with() -> None:
    assert cells(TeacherConfig(init=TeacherConfig()))["begun with"] == "mlp"
    assert "begun with" not in cells(TeacherConfig())


def test_a_row_of_a_network_without_a_teacher() -> None:
    shown = cells(TeacherConfig(data=DataConfig(name="imagefolder:/home/me/cats")).with_loss(smoothing=0.2))
    assert shown["data"] == "cats"
    assert (shown["smoothing"], shown["teacher's smoothing"]) == ("0.2", "no teacher")
    assert not {"T", "alpha", "views", "unseen class"} & set(shown)


def test_smoothing_of_several_teachers_and_of_one_that_nobody_knows() -> None:
    members = (TeacherConfig(), TeacherConfig(seed=1).with_loss(smoothing=0.3))
    ensemble = StudentConfig(cache=CacheConfig(teacher=EnsembleConfig(members=members)))
    assert cells(ensemble)["teacher's smoothing"] == "0.3"
    unknown = StudentConfig(cache=CacheConfig(teacher=ImportConfig(sha256=("0" * 64,), classes=("a", "b"))))
    assert run_table.teachers_smoothing(unknown) is None
    assert cells(unknown)["teacher's smoothing"] == "unknown"


def test_rows_are_sorted_by_targets_and_seed() -> None:
    config = TeacherConfig(seed=1).with_loss(smoothing=0.1)
    trial = content(row(config)).session_start_info.group_name
    assert trial.startswith("ls0.10-s1-")
