from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.cache import CachedDataset, LogitCache
from distill.config import (
    AugmentConfig,
    CacheConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
    TeacherConfig,
)
from distill.data.sets.load import load
from distill.integrations import frame, pytorch_loop, timm_loop
from distill.pipeline.graph import ensure
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime

L: Any = pytest.importorskip("lightning")
from distill.integrations import lightning_module  # noqa: E402

pytestmark = [
    # Python 3.12 warns of any fork beside threads, which is how torch starts its workers on Linux.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
of_lightning = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]
VIEWS = 3
CLEARLY_BETTER_THAN_CHANCE = 0.5  # of ten classes


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("integrations")
    teacher = TeacherConfig(
        data=DataConfig(held_out=0.15),
        model=ModelConfig(name="mlp", kwargs={"widths": [64]}),
        augment=AugmentConfig(pad=1),
        optim=OptimConfig(name="adamw", lr=0.01),
        schedule=ScheduleConfig(epochs=4, batch_size=32),
    )
    config = CacheConfig(teacher=teacher, transfer_set=teacher.data, augment=teacher.augment, views=VIEWS)
    runtime = Runtime(store=folder / "store", data_root=folder / "data", device="cpu", progress=False)
    artifact = ensure([config], ArtifactStore(runtime.store), runtime)[key(config)]
    assert isinstance(artifact, Artifact)
    return artifact.path


def words(cache: Path, workers: int) -> list[str]:
    options = {"data-root": cache.parent, "epochs": 4, "batch-size": 32, "lr": 0.01, "workers": workers}
    return [str(cache), *(word for name, value in options.items() for word in (f"--{name}", str(value)))]


def decent(found: frame.Evaluation, printed: str) -> bool:
    assert str(found) in printed
    return min(found) > CLEARLY_BETTER_THAN_CHANCE


def test_a_plain_loop(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert decent(pytorch_loop.main(words(cache, workers=2)), capsys.readouterr().out)


def test_a_loop_in_the_style_of_timm(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = timm_loop.main([*words(cache, workers=0), "--model", "test_resnet", "--task-loss-weight", "0.1"])
    assert decent(found, capsys.readouterr().out)


@pytest.mark.parametrize(("task", "distill"), [(None, None), (0.3, None), (None, 5.0), (2.0, 5.0)])
def test_weights_mean_what_they_mean_in_timm(task: float | None, distill: float | None) -> None:
    tasks = pytest.importorskip("timm.task")
    from timm import create_model

    model = create_model("test_resnet", num_classes=10)  # pyright: ignore[reportPrivateImportUsage]
    theirs = tasks.LogitDistillationTask(
        model, model, task_loss_weight=task, distill_loss_weight=distill, verbose=False
    )
    assert timm_loop.weights(task, distill) == (theirs.task_loss_weight, theirs.distill_loss_weight)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers without a progress bar."""
    trainer = L.Trainer
    monkeypatch.setattr(L, "Trainer", lambda **options: trainer(**options, enable_progress_bar=False))


@pytest.mark.usefixtures("quiet")
class TestLightning:
    pytestmark = of_lightning

    def test_a_module(self, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert decent(lightning_module.main(words(cache, workers=2)), capsys.readouterr().out)

    @pytest.mark.parametrize("workers", [0, 1])
    def test_epoch_e_shows_view_e_also_after_a_checkpoint(self, cache: Path, tmp_path: Path, workers: int) -> None:
        saved = tmp_path / "half.ckpt"
        first, second = Watch(saved), Watch()
        fit(cache, workers, first)
        fit(cache, workers, second, ckpt_path=saved, weights_only=True)
        assert shown(cache, first) == [(0, 0), (1, 1)]
        assert shown(cache, second) == [(2, 2), (3, 0), (4, 1)]


class Watch(L.Callback):
    """Remembers batches; or stops after two epochs and saves, at the point where Lightning saves by itself."""

    def __init__(self, save_to: Path | None = None):
        self.batches: list[tuple[int, Any]] = []
        self.save_to = save_to

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        time.sleep(0.3)  # the workers have begun, and fetch ahead by the epoch that they know

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append((trainer.current_epoch, batch))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.save_to and trainer.current_epoch == 1:
            trainer.save_checkpoint(self.save_to)
            trainer.should_stop = True


def fit(cache: Path, workers: int, callback: Watch, **options: object) -> None:
    dataset = CachedDataset(LogitCache.open(cache), cache.parent)
    module = lightning_module.Distilled(dataset, temperature=4, lr=0.01, batch_size=200, workers=workers)
    plain = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    L.Trainer(max_epochs=5, accelerator="cpu", callbacks=[callback], **plain).fit(module, **options)


def shown(path: Path, watch: Watch) -> list[tuple[int, int]]:
    """(epoch, view) pairs that a run showed, in order, by the pixels and by the logits of each batch."""
    cache = LogitCache.open(path)
    views = cache.views_of(load(cache.config.transfer_set, path.parent))
    found = []
    for epoch, batch in watch.batches:
        by_pixels = [v for v in range(VIEWS) if torch.equal(views.images_of(batch.index, v), batch.image)]
        by_logits = [v for v in range(VIEWS) if torch.equal(cache.logits(batch.index, v).float(), batch.teacher)]
        assert by_pixels == by_logits
        found += [(epoch, view) for view in by_pixels]
    return list(dict.fromkeys(found))


def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        frame.run(lambda: pytorch_loop.main([str(tmp_path / "nothing")]))
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert told.count("\n") == 1
    assert "nothing" in told
