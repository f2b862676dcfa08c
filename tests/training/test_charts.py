from __future__ import annotations

from distill.config import CacheConfig, ImportConfig, StudentConfig, TeacherConfig
from distill.training.charts import beside, explained, layout

VALUES = {"train/interclass_variance": 2.0, "held_out/ece": 0.1, "targets/equivalent_smoothing": 0.3, "lr": 1.0}


def test_hard_and_smoothed_are_lines_of_charts_side_by_side() -> None:
    hard = TeacherConfig()
    of_smoothed = StudentConfig(cache=CacheConfig(teacher=hard.with_loss(smoothing=0.1)))
    assert beside(hard, VALUES)["smoothing/hard_labels/variance"] == 2
    assert beside(hard.with_loss(smoothing=0.1), VALUES)["smoothing/smoothed_labels/ece"] == 0.1
    taught = beside(of_smoothed, VALUES)
    assert taught["smoothing/smoothed_teacher/gamma_of_targets"] == 0.3
    assert len(taught) == 3
    drawn = {tag for charts in layout().values() for _, tags in charts.values() for tag in tags}
    assert {f"{name}$" for name in taught} <= drawn


def test_nobody_knows_how_an_imported_teacher_was_taught() -> None:
    imported = CacheConfig(teacher=ImportConfig(sha256=("0" * 64,), classes=("a", "b")))
    assert beside(StudentConfig(cache=imported), VALUES) == {}


def test_every_chart_says_what_it_shows() -> None:
    for name in (
        "loss/hard", "train/nll", "test/interclass_variance_relative", "speed/images_per_second",
        "smoothing/hard_labels/gamma_of_targets", "train/confidence_ceiling",
    ):  # fmt: skip
        assert len(explained(name)) > 20, name
    assert explained("of_a_plug_in") == ""
