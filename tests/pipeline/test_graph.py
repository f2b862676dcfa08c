"""Check that missing artifacts are made once, and that a failure costs only what needs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from distill.config import AnalysisConfig
from distill.errors import Diverged
from distill.pipeline import graph
from distill.pipeline.graph import ensure, missing
from distill.store.key import key
from distill.store.store import ArtifactStore
from tests.made import assert_same_bits, make


def test_a_student_brings_its_upstream_with_it(student, store, runtime) -> None:
    made = make(student, store, runtime)
    folders = sorted(path.parent.parent.name for path in store.root.glob("*/*/record.json"))
    assert folders == ["caches", "students", "teachers"]
    assert {"model.safetensors", "predictions.safetensors", "metrics.jsonl"} < set(made.record.files)
    assert any(name.startswith("tb/") for name in made.record.files)
    assert made.record.provenance["packages"]["torch"] == torch.__version__.split("+")[0]
    assert list(made.record.inputs) == [key(student.cache)]
    assert 0 < made.record.metrics["test/accuracy"] <= 1
    assert all(artifact.problems() == [] for artifact in store.all())


def test_a_hit_never_touches_upstream(student, store, runtime) -> None:
    made = make(student, store, runtime)
    for folder in ("teachers", "caches"):
        for path in (store.root / folder).iterdir():
            path.rename(tmp := path.with_name("gone"))
            assert tmp.exists()
    assert missing([student], store) == []
    assert make(student, store, runtime).path == made.path


def test_a_sweep_shares_its_teacher_and_cache(student, store) -> None:
    sweep = [student.replace(loss=student.loss.replace(temperature=t)) for t in (1, 2, 4)]
    assert [config.stage for config in missing(sweep, store)] == ["teacher", "cache"] + ["student"] * 3


def test_a_diverging_run_is_an_error_alone_and_a_report_in_an_experiment(
    student, store, runtime, monkeypatch
) -> None:
    runtime = runtime.model_copy(update={"jobs": 1})
    hot = student.replace(optim=student.optim.replace(lr=1e30, clip=None))
    with pytest.raises(Diverged, match=r"optim\.lr"):
        make(hot, store, runtime)
    assert store.find(hot) is None
    analysis = AnalysisConfig(runs=(student.cache.teacher, hot, student))
    made = ensure([analysis], store, runtime, tolerate_divergence=True)[key(analysis)]
    measures = json.loads((made.path / "measures.json").read_text())
    assert "finite" in measures[key(hot)]["diverged"]
    assert measures[key(hot)]["values"] == {}
    assert measures[key(student)]["diverged"] is None
    monkeypatch.setattr(graph, "run_stage", lambda *_: pytest.fail("nothing is to be done"))
    ensure([analysis], store, runtime, tolerate_divergence=True)


def test_the_numbers_do_not_depend_on_the_executor_and_a_failure_costs_only_what_needs_it(
    student, store, runtime, tmp_path
) -> None:
    teacher = student.cache.teacher
    hot = teacher.replace(optim=teacher.optim.replace(lr=1e30, clip=None))
    pupil = student.replace(cache=student.cache.replace(teacher=hot))
    inline = runtime.model_copy(update={"executor": "inline", "threads": 1, "store": tmp_path / "inline"})
    for where in (inline, runtime.model_copy(update={"executor": "pool", "jobs": 2, "threads": 1})):
        with pytest.raises(Diverged) as caught:
            ensure([pupil, student], ArtifactStore(where.store), where)
        where_it_was, not_run = caught.value.__notes__[0].splitlines()
        assert where_it_was == f"  stage    {store.path(hot).relative_to(store.root)}"
        blocked = [store.path(each).relative_to(store.root) for each in (pupil.cache, pupil)]
        assert not_run == f"  not run  {blocked[0]}, {blocked[1]}"
    made, again = store.find(student), ArtifactStore(inline.store).find(student)
    assert_same_bits(made, again)
    assert made.record.metrics == again.record.metrics
    assert not list((store.root / "logs").iterdir())


def test_students_of_a_teacher_at_chance_are_no_result(student, store, runtime) -> None:
    still = student.cache.teacher.replace(optim={"lr": 1e-9})
    pupil = student.replace(cache=student.cache.replace(teacher=still))
    analysis = AnalysisConfig(runs=(still, pupil))
    made = ensure([analysis], store, runtime)[key(analysis)]
    measures = json.loads((made.path / "measures.json").read_text())
    assert "chance" in measures[key(still)]["diverged"]
    assert "its teacher diverged" in measures[key(pupil)]["diverged"]


def test_a_process_imports_no_torch_for_a_hit(student, store, runtime, tmp_path) -> None:
    make(student, store, runtime)
    code = (
        "import sys; from distill.pipeline.graph import missing; from distill.store.store import ArtifactStore;"
        "from distill.config import parse_stage; from pathlib import Path; import json;"
        f"config = parse_stage(json.loads(Path({str(tmp_path / 'c.json')!r}).read_text()));"
        f"assert missing([config], ArtifactStore(Path({str(store.root)!r}))) == [];"
        "assert 'torch' not in sys.modules"
    )
    (tmp_path / "c.json").write_text(json.dumps(student.model_dump(mode="json")))
    subprocess.run([sys.executable, "-c", code], check=True)
