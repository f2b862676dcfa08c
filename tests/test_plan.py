from __future__ import annotations

from distill.artifact import ArtifactStore
from distill.config import CacheConfig, DataConfig, ModelConfig, TeacherConfig
from distill.pipeline import ensure
from distill.plan import Estimate, describe
from distill.runtime import Runtime


def test_bytes_of_a_cache_are_exact(cache: CacheConfig, store: ArtifactStore, runtime: Runtime) -> None:
    expected = Estimate(store).cost(cache).bytes
    ensure([cache], store, runtime)
    found = store.find(cache)
    assert found is not None
    assert expected is not None
    header = 128
    assert abs(found.record.files["logits.npy"].bytes - header - expected) <= 20 * 10, "up to rounding of the split"


def test_a_larger_net_takes_longer_and_what_is_unknown_is_said(store: ArtifactStore, runtime: Runtime) -> None:
    data = DataConfig(name="cifar10")
    small = Estimate(store).cost(TeacherConfig(data=data, model=ModelConfig(name="cnn")))
    large = Estimate(store).cost(TeacherConfig(data=data, model=ModelConfig(name="resnet56")))
    assert small.seconds is not None
    assert large.seconds is not None
    assert large.seconds > 5 * small.seconds
    assert "?" in describe([TeacherConfig(data=DataConfig(name="mine:data"))], store, runtime)


def test_what_is_like_something_made_here_is_estimated_from_it(teacher, store, runtime) -> None:
    ensure([teacher], store, runtime)
    made = store.find(teacher)
    assert made is not None
    assert Estimate(store).cost(teacher.replace(seed=5)).seconds == made.record.provenance["seconds"]
