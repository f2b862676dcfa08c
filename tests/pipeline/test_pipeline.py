"""The stages for a few steps on digits, and the invariants of the graph."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch

from distill.cache import LogitCache
from distill.config import AnalysisConfig, AugmentConfig, TeacherConfig
from distill.data.loader import Normaliser
from distill.data.sets.load import load
from distill.errors import Diverged, UserError
from distill.models import build_model
from distill.pipeline import graph
from distill.pipeline.executors.failures import StagesFailed
from distill.pipeline.experiments import plan_reports, reproduce
from distill.pipeline.graph import ensure, missing
from distill.pipeline.run import run_stage
from distill.reports import experiment_files
from distill.reports.experiment import Label
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.record import RESUME
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.training.network import load_network, load_predictions
from distill.training.predict import predict
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


def test_the_cache_holds_the_teachers_logits_sample_by_sample(cache, store, runtime) -> None:
    made = make(cache, store, runtime)
    opened = LogitCache.open(made.path)
    dataset = load(cache.transfer_set, runtime.data_root)
    teacher = store.find(cache.teacher)
    assert teacher is not None
    model = load_network(teacher)
    expected = predict(model, dataset.train.images, Normaliser(dataset.mean, dataset.std), "cpu")
    index = torch.tensor([5, 0, len(expected) - 1])
    assert opened.logits(index).dtype == torch.float16
    torch.testing.assert_close(opened.logits(index).float(), expected[index], rtol=2e-3, atol=2e-3)
    assert made.record.metrics["rounding_error"] < 0.01
    assert made.record.metrics["transfer/accuracy"] == pytest.approx(
        (expected.argmax(1) == dataset.train.labels).float().mean().item(), abs=1e-3
    )


def test_views_are_cached_one_by_one_and_taken_modulo(cache, store, runtime) -> None:
    views = cache.replace(views=3, augment=AugmentConfig(pad=1))
    opened = LogitCache.open(make(views, store, runtime).path)
    index = torch.arange(4)
    assert not torch.equal(opened.logits(index, 0), opened.logits(index, 1))
    assert torch.equal(opened.logits(index, 4), opened.logits(index, 1))


def test_a_cache_of_other_images_is_refused(cache, store, runtime) -> None:
    opened = LogitCache.open(make(cache, store, runtime).path)
    other = load(cache.transfer_set.replace(split_seed=1), runtime.data_root)
    with pytest.raises(UserError, match=r"data\.content = .* expected the cache's, .*distill cache --teacher"):
        opened.check_fits(other)


def test_stored_weights_give_the_stored_predictions(teacher, store, runtime) -> None:
    made = make(teacher, store, runtime)
    dataset = load(teacher.data, runtime.data_root)
    logits, labels = load_predictions(made, "test")
    assert torch.equal(labels, dataset.test.labels)
    normalise = Normaliser(dataset.mean, dataset.std)
    again = predict(load_network(made), dataset.test.images, normalise, "cpu")
    torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-4)


def test_teachers_that_differ_in_smoothing_start_alike(teacher, store, runtime, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(
        "distill.training.train.fit", lambda model, loader, *_, **__: seen.append((model, loader)) or model
    )
    for smoothing in (0.0, 0.1):
        run_stage(teacher.with_loss(smoothing=smoothing), store, runtime)
    (one, batches), (other, same_batches) = seen
    for parameter, twin in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(parameter, twin)
    for batch, twin in zip(batches.epoch(1), same_batches.epoch(1), strict=True):
        assert torch.equal(batch.images, twin.images)
        assert torch.equal(batch.index, twin.index)


def test_a_left_out_class_is_never_seen(student, store, runtime, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr("distill.training.train.fit", lambda model, loader, *_, **__: seen.append(loader) or model)
    make(student.cache, store, runtime)
    run_stage(student.replace(exclude_classes=(3, 5)), store, runtime)
    labels = torch.cat([batch.labels for batch in seen[-1].epoch(0)])
    assert sorted(set(labels.tolist())) == [0, 1, 2, 4, 6, 7, 8, 9]
    with pytest.raises(UserError, match="exclude_classes"):
        run_stage(student.replace(exclude_classes=(10,)), store, runtime)


def test_the_numbers_do_not_depend_on_what_ran_before(teacher, store, runtime, tmp_path) -> None:
    torch.manual_seed(123)
    one = make(teacher, store, runtime)
    torch.randn(7)
    elsewhere = ArtifactStore(tmp_path / "elsewhere")
    assert_same_bits(one, make(teacher, elsewhere, runtime))


HARD_TO_RESUME = {
    "model": {"name": "mlp", "kwargs": {"widths": [16], "dropout": 0.3}},
    "schedule": {"epochs": 6, "batch_size": 100, "warmup_epochs": 1},
    "augment": {"pad": 1},
    "ema": 0.9,
    "data": {"held_out": 0.15},
}


@pytest.mark.parametrize("stop_at", [1, 12, 13, 40])
def test_interrupted_is_uninterrupted_bit_for_bit(stop_at, store, runtime, tmp_path, monkeypatch) -> None:
    """Dropout, EMA, warm-up, momentum and views, interrupted at and between epochs."""
    config = TeacherConfig(**HARD_TO_RESUME)
    whole = make(config, ArtifactStore(tmp_path / "whole"), runtime)

    from distill.training.state import Run

    update, steps = Run.update, []

    def interrupting(self, *arguments):
        steps.append(self.step)
        if len(steps) == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, *arguments)

    monkeypatch.setattr(Run, "update", interrupting)
    with pytest.raises(KeyboardInterrupt):
        make(config, store, runtime)
    assert store.find(config) is None
    resumed = make(config, store, runtime)
    assert_same_bits(whole, resumed)
    assert steps == list(range(len(steps))), "no step is done twice, none is skipped"
    logged = [json.loads(line)["step"] for line in (resumed.path / "metrics.jsonl").read_text().splitlines()]
    assert logged == sorted(set(logged))


def test_a_distilled_student_resumes_too(student, store, runtime, tmp_path, monkeypatch) -> None:
    whole = make(student, ArtifactStore(tmp_path / "whole"), runtime)
    make(student.cache, store, runtime)

    from distill.training.state import Run

    monkeypatch.setattr(Run, "seconds_since_save", lambda self: float("inf"))
    update = Run.update

    def dying(self, *arguments):
        if self.step == 25:
            raise RuntimeError("the process is killed")
        return update(self, *arguments)

    monkeypatch.setattr(Run, "update", dying)
    with pytest.raises(RuntimeError):
        make(student, store, runtime)
    monkeypatch.setattr(Run, "update", update)
    assert_same_bits(whole, make(student, store, runtime))


def test_eight_who_want_the_same_artifact_get_one(teacher, store, runtime) -> None:
    made: list[Artifact] = []
    threads = [threading.Thread(target=lambda: made.append(run_stage(teacher, store, runtime))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len({artifact.record.provenance["seconds"] for artifact in made}) == 1


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


@pytest.mark.parametrize("epochs", [1, 2])
def test_divergence_at_any_step_is_noticed(teacher, store, runtime, epochs: int) -> None:
    """In the last update too, which no training loss follows."""
    schedule = {"epochs": epochs, "batch_size": 5000, "name": "constant"}
    hot = teacher.replace(schedule=schedule, optim={"lr": 1e30, "clip": None})
    with pytest.raises(Diverged):
        make(hot, store, runtime)
    with pytest.raises(Diverged):
        make(hot.replace(data={"held_out": 0}), store, runtime)


def test_students_of_a_teacher_at_chance_are_no_result(student, store, runtime) -> None:
    still = student.cache.teacher.replace(optim={"lr": 1e-9})
    pupil = student.replace(cache=student.cache.replace(teacher=still))
    analysis = AnalysisConfig(runs=(still, pupil))
    made = ensure([analysis], store, runtime)[key(analysis)]
    measures = json.loads((made.path / "measures.json").read_text())
    assert "chance" in measures[key(still)]["diverged"]
    assert "its teacher diverged" in measures[key(pupil)]["diverged"]


def test_a_resumed_run_takes_the_threads_it_began_with(teacher, store, runtime) -> None:
    from distill.training.recent_samples import RecentSamples
    from distill.training.state import Run

    before = torch.get_num_threads()
    try:
        with store.draft(teacher) as draft:
            torch.set_num_threads(2)
            model = load_model_for(teacher)
            Run(model, teacher, 19, draft / RESUME).save(RecentSamples(64, smoothed=False))
        torch.set_num_threads(1)
        run_stage(teacher, store, runtime)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def load_model_for(config: TeacherConfig) -> torch.nn.Module:
    return build_model(config.model, 10, (1, 8, 8))


@pytest.mark.parametrize("state", [{"step": os.system}, {"step": 3}])
def test_a_resume_point_that_holds_code_or_is_not_ours_is_refused(teacher, store, runtime, state) -> None:
    with store.draft(teacher) as draft:
        torch.save(state, draft / RESUME)
    with pytest.raises(UserError, match="Delete this file"):
        make(teacher, store, runtime)
    assert store.find(teacher) is None


def test_a_damaged_upstream_is_not_read(student, store, runtime) -> None:
    cached = make(student.cache, store, runtime)
    (path,) = (cached.path / "logits").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"\x00\x01"[:1])
    with pytest.raises(UserError, match="sha256 differs"):
        make(student, store, runtime)
    assert store.find(student) is None


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_trains_on_the_cpu(teacher, store, runtime, precision: str) -> None:
    made = make(teacher.replace(precision=precision), store, runtime)
    assert made.record.metrics["test/accuracy"] > 0.3


def test_every_measure_and_curve_is_logged(teacher, store, runtime) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    made = make(teacher, store, runtime)
    events = EventAccumulator(str(made.path / "tb")).Reload()
    tags = events.Tags()
    scalars = {"loss/total", "loss/hard", "train/accuracy", "train/nll", "train/ece", "train/confidence"}
    scalars |= {"train/interclass_variance", "train/equivalent_smoothing", "held_out/accuracy"}
    scalars |= {"lr", "images_per_second"}
    assert scalars <= set(tags["scalars"])
    assert {"logits/correct", "logits/incorrect"} <= set(tags["histograms"])
    assert "test/reliability" in tags["images"]
    assert "_hparams_/session_start_info" in events.summary_metadata
    lines = [json.loads(line) for line in (made.path / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == teacher.schedule.epochs
    assert scalars <= set(lines[-1])


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


@pytest.fixture
def experiments(teacher, monkeypatch) -> dict[str, SimpleNamespace]:
    """Two experiments that share one network, found in place of those that there are; more can be added."""
    found: dict[str, SimpleNamespace] = {}
    monkeypatch.setattr(experiment_files, "load_experiment", found.__getitem__)
    monkeypatch.setattr(experiment_files, "experiment_names", lambda: sorted(found))
    monkeypatch.setattr(Runtime, "jobs_for", lambda *_: 1)  # other processes would not find them
    for name in ("first", "second"):
        found[name] = experiment(name, teacher)
    return found


def experiment(name: str, teacher: TeacherConfig, draw=lambda table: {}, takes: str = "digits") -> SimpleNamespace:
    def runs(scale, data):
        if data != takes:
            raise UserError("data", data, takes, "Drop --data.")
        return {Label("teacher", 0): teacher.replace(data=teacher.data.replace(name=data))}

    return SimpleNamespace(
        __doc__=f"About {name}.",
        REPRODUCES="",
        DATA=dict.fromkeys(("smoke", "quick", "short", "paper"), takes),
        CLAIMS=[],
        PAPER=[],
        runs=runs,
        probes=lambda scale, data: (),
        draw=draw,
    )


def test_all_experiments_are_one_graph(experiments, store, runtime, monkeypatch) -> None:
    calls = []
    run = graph.run_missing
    monkeypatch.setattr("distill.pipeline.experiments.run_missing", lambda *a, **k: calls.append(a) or run(*a, **k))
    made = reproduce("all", "smoke", None, store, runtime)
    assert len(calls) == 1
    assert [report.config.experiment for report in made.reports] == ["first", "second"]
    assert len(list((store.root / "teachers").iterdir())) == 1
    assert (made.skipped, made.failed) == ({}, {})
    seconds = sum(found.record.provenance["seconds"] for found in store.all() if found.config.stage != "report")
    for report in made.reports:
        summary = json.loads(report.file("summary.json").read_text())
        assert summary["provenance"]["minutes"] == pytest.approx(seconds / 60, abs=0.006)
        assert any(name.startswith("tb/") for name in report.record.files)
        assert f'href="{report.path.name}/index.html"' in made.page.read_text()
    monkeypatch.setattr(
        "distill.pipeline.experiments.run_missing", lambda *_, **__: pytest.fail("nothing is to be done")
    )
    made.page.unlink()
    assert reproduce("all", "smoke", None, store, runtime).page.is_file()


def test_one_experiment_updates_the_page_of_all(experiments, store, runtime) -> None:
    assert "About second" not in reproduce("first", "smoke", None, store, runtime).page.read_text()
    page = reproduce("second", "smoke", None, store, runtime).page.read_text()
    assert "About first" in page
    assert "About second" in page


def test_an_experiment_that_fails_costs_no_other(experiments, teacher, store, runtime) -> None:
    experiments["a_broken_one"] = experiment("a_broken_one", teacher, draw=lambda table: 1 / 0)
    made = reproduce("all", "smoke", None, store, runtime)
    assert [report.config.experiment for report in made.reports] == ["first", "second"]
    (name,) = made.failed
    assert re.fullmatch("reports/a_broken_one-digits-smoke-[0-9a-f]{8}", name)
    assert isinstance(made.failed[name].error, ZeroDivisionError)
    assert "division by zero" in made.failed[name].log.read_text()
    assert "About second" in made.page.read_text()
    with pytest.raises(ZeroDivisionError):
        reproduce("a_broken_one", "smoke", None, store, runtime)
    for name in ("first", "second"):
        experiments[name].draw = experiments["a_broken_one"].draw
    with pytest.raises(StagesFailed, match=r"(?s)reports/a_broken_one.*reports/first.*reports/second"):
        reproduce("all", "smoke", None, ArtifactStore(store.root / "another"), runtime)


@pytest.mark.parametrize("file", ["summary.json", "record.json"])
def test_a_damaged_report_is_one_line_with_a_way_out_and_costs_no_other(experiments, store, runtime, file) -> None:
    made = reproduce("first", "smoke", None, store, runtime)
    (made.reports[0].path / file).write_text("{}")
    with pytest.raises(UserError, match=r"Delete (the|this) folder"):
        reproduce("first", "smoke", None, store, runtime)
    both = reproduce("all", "smoke", None, store, runtime)
    assert [report.config.experiment for report in both.reports] == ["second"]
    assert list(both.failed) == [str(made.reports[0].path.relative_to(store.root))]
    assert "About second" in both.page.read_text()


def test_an_interrupt_leaves_a_page_of_what_is_finished(experiments, store, runtime) -> None:
    def interrupted(table):
        raise KeyboardInterrupt

    experiments["second"].draw = interrupted
    with pytest.raises(KeyboardInterrupt):
        reproduce("all", "smoke", None, store, runtime)
    page = (store.root / "reports" / "index.html").read_text()
    assert "About first" in page
    assert "About second" not in page


def test_experiments_that_do_not_fit_the_data_are_skipped(experiments, teacher) -> None:
    experiments["sentences"] = experiment("sentences", teacher, takes="mine:sentences")
    configs, skipped = plan_reports("all", "smoke")
    assert [(config.experiment, config.data) for config in configs] == [
        ("first", "digits"),
        ("second", "digits"),
        ("sentences", "mine:sentences"),
    ]
    assert skipped == {}
    configs, skipped = plan_reports("all", "smoke", "digits")
    assert [config.experiment for config in configs] == ["first", "second"]
    assert list(skipped) == ["sentences"]
    with pytest.raises(UserError, match="expected digits"):
        plan_reports("all", "smoke", "mnist")
    with pytest.raises(UserError, match="expected mine:sentences"):
        plan_reports("sentences", "smoke", "digits")
