from __future__ import annotations

from pathlib import Path

import pytest
from torchvision.transforms.v2 import RandomCrop

from distill.audit.plan import Estimate, Shape, count, describe
from distill.cli.main import main
from distill.config import AugmentConfig, CacheConfig, DataConfig, ModelConfig, StudentConfig, TeacherConfig
from distill.errors import UserError
from distill.pipeline.graph import ensure
from distill.store.stages import inputs
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from tests.store.records import publish


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
    large = Estimate(store).cost(TeacherConfig(data=data, model=ModelConfig(name="resnet56_preact")))
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
    assert Estimate(store).cost(cache).bytes == 45_000 * 200 * (4 + 44)


def test_a_disk_that_is_too_small_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    teacher = TeacherConfig(data=DataConfig(name="cifar100"))
    cache = CacheConfig(teacher=teacher, transfer_set=teacher.data, augment=AugmentConfig(pad=4), views=10**9)
    plan = describe([cache], store)
    with pytest.raises(UserError, match=r"store = .* free\)': expected 9\.18e\+03 TB of room.*`top_k`"):
        plan.refuse_small_disk(tmp_path)


def test_what_is_not_known_is_said(teacher, store) -> None:
    unseen = teacher.replace(data=teacher.data.replace(name="imagefolder:photos"))
    assert "and 1 on data whose size is not known yet" in describe([unseen, teacher], store).text
    assert "not known" not in describe([teacher], store).text


def test_a_limit_on_images_is_a_limit_on_bytes_and_time(cache: CacheConfig, store: ArtifactStore) -> None:
    limited = cache.transfer_set.replace(limit=100)
    few = Estimate(store).cost(cache.replace(transfer_set=limited, teacher=cache.teacher))
    assert few.bytes == 100 * (4 + 20)


IMAGENET = Shape(1_281_167, 50_000, (3, 224, 224), 1000)


@pytest.mark.parametrize(
    ("name", "parameters", "multiplications"),
    [("resnet50", 25_557_032, 4.089e9), ("resnet18", 11_689_512, 1.814e9)],
)
def test_operations_of_networks_that_papers_count(name: str, parameters: int, multiplications: float) -> None:
    """Counts equal torchvision's documented parameters and GMACs; batch norms have buffers besides."""
    stored, operations = count(ModelConfig(name=f"torchvision:{name}"), IMAGENET)
    assert parameters <= stored < 1.003 * parameters
    assert operations == pytest.approx(2 * multiplications, rel=1e-3)


def test_a_run_elsewhere_on_images_that_are_not_here(store: ArtifactStore) -> None:
    images = DataConfig(name="imagefolder:nowhere", held_out=0)
    teacher = TeacherConfig(data=images, model=ModelConfig(name="mlp", kwargs={"widths": [8]}))
    small = Shape(1000, 10, (1, 4, 4), 5)
    told = Estimate(store, shape=small, tflops=1e-6)
    operations = 2 * (16 * 8 + 8 * 5)
    seconds = (3 * 1000 * 30 + 10) * operations / 1e6 + 30 * 1000 / 128 * 6e-4
    assert told.cost(teacher).seconds == pytest.approx(seconds)
    cache = CacheConfig(teacher=teacher, transfer_set=images, augment=AugmentConfig(pad=1), views=3)
    assert told.cost(cache).bytes == 1000 * 3 * (4 + 2 * 5)
    assert told.cost(cache).seconds == pytest.approx(3000 * operations / 1e6)
    assert told.cost(cache.replace(dtype="float32")).bytes == 1000 * 3 * 4 * 5
    assert told.cost(cache.replace(top_k=2)).bytes == 1000 * 3 * (8 + 4 * 2)
    text = describe([cache], store, shape=small, tflops=1e-6).text
    assert "imagefolder:nowhere: 1,000 training and 10 test images of 1 x 4 x 4, 5 classes" in text
    assert "decoded once, 16.2 kB in data/" in text
    assert "1e-06 TFLOP/s (`tflops`)" in text


def test_what_was_made_here_says_nothing_of_another_machine(store: ArtifactStore) -> None:
    publish(store, TeacherConfig(), provenance={"seconds": 1e6})
    assert Estimate(store).cost(TeacherConfig(seed=1)).seconds == 1e6
    assert (Estimate(store, tflops=1.0).cost(TeacherConfig(seed=1)).seconds or 0) < 10


def test_views_of_a_program_are_timed_and_bound_the_network(store: ArtifactStore, runtime: Runtime) -> None:
    program = AugmentConfig(program=RandomCrop, kwargs={"size": 8})
    teacher = TeacherConfig(augment=program)
    one, two = (Estimate(store, runtime.model_copy(update={"workers": n}), tflops=1e6) for n in (1, 2))
    costs = one.cost(teacher), two.cost(teacher)
    assert all(cost.waits for cost in costs)
    views = 30 * 1438 * 0.9
    assert (costs[0].seconds or 0) > views * 1e-6
    assert "1 `workers` render beside the network" in "".join(one.assumptions())
    assert not Estimate(store, runtime, tflops=1e-9).cost(teacher).waits


def test_an_image_folder_is_counted_by_its_names(store: ArtifactStore, tmp_path: Path) -> None:
    for split, images in (("train", 6), ("val", 2)):
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(images):
                (tmp_path / split / label / f"{number}.png").write_bytes(b"not looked at")
    named = DataConfig(name=f"imagefolder:{tmp_path}", held_out=0, kwargs={"size": 8})
    cache = CacheConfig(teacher=TeacherConfig(data=named), transfer_set=named)
    assert Estimate(store).cost(cache).bytes == 12 * (4 + 2 * 2)
    without = CacheConfig(teacher=TeacherConfig(), transfer_set=named.replace(kwargs={}))
    assert Estimate(store).cost(without).bytes is None


def test_val_beside_test_is_no_part_of_the_test_set(store: ArtifactStore, tmp_path: Path) -> None:
    for split, images in (("train", 6), ("val", 2), ("test", 3)):
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(images):
                (tmp_path / split / label / f"{number}.png").write_bytes(b"not looked at")
    named = DataConfig(name=f"imagefolder:{tmp_path}", kwargs={"size": 8})
    text = describe([CacheConfig(teacher=TeacherConfig(data=named), transfer_set=named)], store).text
    assert "16 training and 6 test images of 3 x 8 x 8, 2 classes" in text


def test_a_folder_of_classes_is_counted_with_its_share_of_test_images(store: ArtifactStore, tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(10):
            (tmp_path / label / f"{number}.png").write_bytes(b"not looked at")
    named = DataConfig(name=f"imagefolder:{tmp_path}", kwargs={"size": 8, "test": 0.2})
    text = describe([CacheConfig(teacher=TeacherConfig(data=named), transfer_set=named)], store).text
    assert "16 training and 4 test images of 3 x 8 x 8, 2 classes" in text
    for kwargs in ({}, {"size": 8}):
        with pytest.raises(UserError, match=r"^data\.kwargs = .*the share of test images"):
            describe([TeacherConfig(data=named.replace(kwargs=kwargs))], store)


def test_sizes_of_data_are_taken_from_what_was_made_of_them(store: ArtifactStore) -> None:
    mine = DataConfig(name="mine:data", held_out=0)
    publish(store, TeacherConfig(data=mine))
    assert Estimate(store).cost(CacheConfig(transfer_set=mine)).bytes == 10 * (4 + 2 * 2)
    assert Estimate(store).cost(CacheConfig(transfer_set=mine.replace(kwargs={"size": 4}))).bytes is None


def test_stages_that_are_not_made_yet_are_planned_in_one_command(store, capsys) -> None:
    teacher = ["teacher", "--data.held-out", "0", "--model.kwargs", '{"widths": [4]}']
    cache = ["then", "cache", "--augment.pad", "1", "--views", "2"]
    student = ["then", "student", "--model.kwargs", '{"widths": [4]}', "--schedule.epochs", "2"]
    main(["plan", *teacher, *cache, *student, "--tflops", "1", "--store", str(store.root)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[-4:-1]] == [
        ["miss", "digits-mlp4-ls0.00-s0"],
        ["miss", "digits-of-mlp4-ls0.00-s0-v2"],
        ["miss", "digits-mlp4-of-ls0.00-T4-a1-s0"],
    ]
    assert lines[-1].startswith("0 hits, 3 to make: ")
    main(["plan", *teacher, "--recipe", "cifar240", "--epochs", "2", "--tflops", "1", "--store", str(store.root)])
    assert capsys.readouterr().out.splitlines()[-2].endswith("  recipe cifar240, 2 epochs")
    with pytest.raises(SystemExit):
        main(["plan", "teacher", "then", "report"])
    assert "then = 'report'" in capsys.readouterr().err


def test_hits_are_found_without_opening_records(student, store, monkeypatch) -> None:
    (cache,) = inputs(student)
    publish(store, cache)
    monkeypatch.setattr(ArtifactStore, "read", lambda *_: pytest.fail("opened"))
    assert describe([cache], store).text.startswith("hit ")
    assert store.has(cache)
    assert not store.has(student)


def test_numbers_that_no_run_writes_are_no_numbers(store: ArtifactStore) -> None:
    mine = TeacherConfig(data=DataConfig(name="mine:data"))
    publish(store, mine, data={}, provenance={"seconds": "long"})
    cost = Estimate(store).cost(mine.replace(seed=1))
    assert cost.bytes is not None
    assert cost.seconds is None
    assert Estimate(store).cost(mine.replace(precision="bfloat16")).bytes is None, "the images are not known"


def test_what_costs_alike_is_estimated_alike(store: ArtifactStore) -> None:
    teacher = TeacherConfig()
    publish(store, teacher, provenance={"seconds": 1e6})
    assert Estimate(store).cost(teacher.replace(seed=3).with_loss(smoothing=0.1)).seconds == 1e6
    assert Estimate(store).cost(StudentConfig(loss={"alpha": 0})).seconds != 1e6
    assert Estimate(store).cost(teacher.replace(data=DataConfig(limit=5))).seconds != 1e6
    cache = CacheConfig(teacher=teacher)
    publish(store, cache, provenance={"seconds": 2e6})
    assert Estimate(store).cost(cache.replace(teacher=teacher.replace(seed=3))).seconds == 2e6
    assert Estimate(store).cost(cache.replace(dtype="float32")).seconds != 2e6


def test_the_shape_of_a_part_is_not_the_shape_of_the_set(store: ArtifactStore) -> None:
    mine = DataConfig(name="mine:data", held_out=0)
    publish(store, TeacherConfig(data=mine.replace(limit=3)))
    assert Estimate(store).cost(CacheConfig(transfer_set=mine)).bytes is None
