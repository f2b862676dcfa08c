from __future__ import annotations

from pathlib import Path

import pytest

from distill.config import AugmentConfig, CacheConfig, DataConfig, ModelConfig, TeacherConfig
from distill.errors import UserError
from distill.pipeline import ensure
from distill.plan import Estimate, describe
from distill.runtime import Runtime
from distill.store import ArtifactStore


def test_bytes_of_a_cache_are_exact(cache: CacheConfig, store: ArtifactStore, runtime: Runtime) -> None:
    expected = Estimate(store).cost(cache).bytes
    ensure([cache], store, runtime)
    found = store.find(cache)
    assert found is not None
    assert expected is not None
    header = 128
    (shard,) = (entry for name, entry in found.record.files.items() if name.startswith("logits/"))
    assert abs(shard.bytes - header - expected) <= 20 * 10, "up to rounding of the split"


def test_a_larger_net_takes_longer_and_what_is_unknown_is_said(store: ArtifactStore, runtime: Runtime) -> None:
    data = DataConfig(name="cifar10")
    small = Estimate(store).cost(TeacherConfig(data=data, model=ModelConfig(name="cnn")))
    large = Estimate(store).cost(TeacherConfig(data=data, model=ModelConfig(name="resnet56")))
    assert small.seconds is not None
    assert large.seconds is not None
    assert large.seconds > 5 * small.seconds
    assert "?" in describe([TeacherConfig(data=DataConfig(name="mine:data"))], store).text


def test_what_is_like_something_made_here_is_estimated_from_it(teacher, store, runtime) -> None:
    ensure([teacher], store, runtime)
    made = store.find(teacher)
    assert made is not None
    assert Estimate(store).cost(teacher.replace(seed=5)).seconds == made.record.provenance["seconds"]


def test_bytes_of_a_truncated_cache_of_many_classes(store: ArtifactStore) -> None:
    teacher = TeacherConfig(data=DataConfig(name="cifar100"))
    cache = CacheConfig(
        teacher=teacher, transfer_set=teacher.data, augment=AugmentConfig(pad=4), views=200, top_k=10
    )
    assert Estimate(store).cost(cache).bytes == 45_000 * 200 * 44


def test_a_disk_that_is_too_small_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    teacher = TeacherConfig(data=DataConfig(name="cifar100"))
    cache = CacheConfig(teacher=teacher, transfer_set=teacher.data, augment=AugmentConfig(pad=4), views=10**9)
    plan = describe([cache], store)
    with pytest.raises(UserError, match=r"store = .* free\)': expected 9e\+03 TB of room.*--top-k"):
        plan.refuse_small_disk(tmp_path)


def test_what_is_not_known_is_said(teacher, store) -> None:
    unseen = teacher.replace(data=teacher.data.replace(name="imagefolder:photos"))
    assert "and 1 on data whose size is not known yet" in describe([unseen, teacher], store).text
    assert "not known" not in describe([teacher], store).text


def test_a_limit_on_images_is_a_limit_on_bytes_and_time(cache: CacheConfig, store: ArtifactStore) -> None:
    limited = cache.transfer_set.replace(limit=100)
    few = Estimate(store).cost(cache.replace(transfer_set=limited, teacher=cache.teacher))
    assert few.bytes == 100 * 20
