"""Check the titles of artifacts."""

from __future__ import annotations

import os

from distill.config import (
    CacheConfig,
    DataConfig,
    LossConfig,
    StudentConfig,
    TeacherConfig,
)
from distill.store.stages import title


def test_titles_tell_networks_apart() -> None:
    teacher = TeacherConfig(snapshots=2).with_loss(smoothing=0.1)
    cache = CacheConfig(teacher=teacher)
    dkd = LossConfig(soft="dkd", kwargs={"nontarget": 2})
    different = [
        teacher,
        teacher.with_loss(smoothing_convention="others"),
        teacher.with_loss(smoothing_convention="maxsup"),
        teacher.with_loss(class_weights="balanced"),
        teacher.replace(data=DataConfig(balanced=True)),
        StudentConfig(cache=cache),
        StudentConfig(cache=cache.replace(snapshot=1)),
        StudentConfig(cache=cache, loss=LossConfig(soft="dkd")),
        StudentConfig(cache=cache, loss=LossConfig(soft="dkd", temperature=1)),
        StudentConfig(cache=cache, loss=dkd),
    ]
    titles = [title(config) for config in different]
    assert len(set(titles)) == len(titles)
    assert titles[0] == "digits-mlp-ls0.10-s0"
    assert titles[5] == "digits-mlp-of-ls0.10-T4-a1-s0"
    assert titles[-1] == "digits-mlp-of-ls0.10-dkd-T4-nontarget2-a1-s0"


def test_titles_of_long_or_odd_names_fit_a_file_system(store):
    for name in ("imagefolder:/" + "\U00020000" * 200, "imagefolder:/../../\x1b[2J", "imagefolder:" + "x" * 5000):
        path = store.path(TeacherConfig(data=DataConfig(name=name)))
        assert len(os.fsencode(path.name)) <= 255
        assert path.name.isprintable()
        assert path.parent == store.root / "teachers"
        path.mkdir(parents=True)
        store.delete(path)  # for a moment its name is longer
        assert not path.parent.exists() or not list(path.parent.iterdir())


def test_an_image_folder_is_called_by_its_own_name() -> None:
    for path in ("/home/me/cats", "cats", "../photos/cats.tar.xz", "/data/cats.tgz", "cats/"):
        assert title(TeacherConfig(data=DataConfig(name=f"imagefolder:{path}"))) == "cats-mlp-ls0.00-s0"
    for path in ("..", "/"):
        assert title(TeacherConfig(data=DataConfig(name=f"imagefolder:{path}"))).startswith("imagefolder-mlp")
