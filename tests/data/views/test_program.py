"""Programs of torchvision and timm, and programs that are wrong, which this module holds for `resolve`."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import random
import resource
import sys
import tempfile
import time
from multiprocessing import active_children

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from distill.config import AugmentConfig
from distill.data.views import workers as workers_module
from distill.data.views.program import ProgramViews
from distill.errors import UserError
from distill.system import trust
from distill.system.interrupts import SIGNALS

SHAPE = (3, 12, 14)


def make_images(n: int = 21, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def program(name: str, /, **kwargs) -> AugmentConfig:
    reference = name if "." in name else f"{__name__}:{name}"
    trust.name(reference)
    return AugmentConfig(program=reference, kwargs=kwargs)


def crop_and_augment(floats: bool = False):
    """As in a recipe for ImageNet: PIL operations, then tensor operations."""
    steps = [
        v2.RandomResizedCrop(list(SHAPE[1:]), antialias=True),
        v2.RandAugment(),
        v2.ColorJitter(0.4, 0.4, 0.4),
        v2.ToImage(),
        v2.RandomErasing(p=0.5),
    ]
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True)] if floats else steps)


TIMM = {
    "input_size": list(SHAPE),
    "is_training": True,
    "auto_augment": "rand-m9-mstd0.5",
    "interpolation": "bicubic",
}
# timm erases only what it normalises; this normalisation leaves pixels as they are.
TIMM_ERASE = {**TIMM, "re_prob": 0.7, "mean": [0, 0, 0], "std": [1, 1, 1]}
PROGRAMS = {
    "torchvision": program("crop_and_augment"),
    "torchvision, floats": program("crop_and_augment", floats=True),
    "torchvision by name": program("torchvision.transforms.v2:RandomResizedCrop", size=list(SHAPE[1:])),
    "timm": program("timm.data:create_transform", **TIMM, normalize=False),
    "timm, numpy": program("timm.data:create_transform", **TIMM, use_prefetcher=True),
    "timm, erasing": program("timm.data:create_transform", **TIMM_ERASE),
}
FLOATS = {"torchvision, floats", "timm, erasing"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_pixels_ignore_batch_order_and_generators(name):
    images, augment = make_images(), PROGRAMS[name]
    views = ProgramViews(images, augment, seed=5)
    whole = views.pixels(torch.arange(21), 3)
    assert whole.shape == images.shape
    assert whole.dtype == (torch.float32 if name in FLOATS else torch.uint8)
    assert whole.float().std() > 10
    order = torch.randperm(21, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(9), random.seed(9), np.random.seed(9)  # noqa: NPY002
    again = ProgramViews(images, augment, seed=5)
    parts = [again.pixels(part, 3) for part in order.split(4)]
    assert torch.equal(torch.cat(parts), whole[order])
    assert torch.equal(views.pixels(order[:1], 3), whole[order[:1]])
    assert not torch.equal(views.pixels(order, 4), whole[order])
    assert not torch.equal(ProgramViews(images, augment, seed=6).pixels(order, 3), whole[order])


def equalize():
    return v2.Compose([v2.Grayscale(1), v2.RandomEqualize(1.0)])


def test_pixels_are_those_of_the_seeded_transform():
    """A program without chance is the transform itself, in units 0..255."""
    images = make_images()
    for floats in (False, True):
        rendered = ProgramViews(images, program("identity", floats=floats), 0).pixels(torch.arange(21), 0)
        assert torch.equal(rendered.round().byte(), images)
        assert (rendered - images.float()).abs().max() < 1e-4
    grey = make_images(5, (1, 9, 8))
    rendered = ProgramViews(grey, program("equalize"), 0).pixels(torch.tensor([3, 0]), 0)
    expected = [np.asarray(equalize()(Image.fromarray(grey[i, 0].numpy()))) for i in (3, 0)]
    assert (rendered[:, 0].numpy() == np.stack(expected)).all()


def identity(floats: bool = False):
    steps = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
    return v2.Compose(steps if floats else steps[:1])


LAYOUTS = {
    "pil": lambda image: image,
    "hwc": np.asarray,
    "chw": lambda image: np.asarray(image).transpose(2, 0, 1),
    "flipped twice": lambda image: np.asarray(image)[:, ::-1][:, ::-1],
    "tensor": v2.functional.pil_to_tensor,
    "tv_tensor": v2.functional.to_image,
    "float hwc": lambda image: np.asarray(image) / np.float64(255),
    "half": lambda image: v2.functional.to_image(image).half() / 255,
}


def layout(name: str):
    return LAYOUTS[name]


@pytest.mark.parametrize("name", LAYOUTS)
def test_any_layout_is_understood(name):
    images = make_images()
    rendered = ProgramViews(images, program("layout", name=name), 0).pixels(torch.arange(21), 0)
    assert type(rendered) is torch.Tensor
    assert rendered.dtype == (torch.float32 if name in ("float hwc", "half") else torch.uint8)
    torch.testing.assert_close(rendered.float(), images.float(), rtol=0, atol=0.1 if name == "half" else 1e-4)


def test_a_square_of_three_pixels_is_not_turned():
    images = make_images(4, (3, 3, 3))
    assert torch.equal(ProgramViews(images, program("layout", name="pil"), 0).pixels(torch.arange(4), 0), images)


def states():
    state = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), state[1].tolist(), state[2:], torch.get_num_threads()


@pytest.mark.parametrize("workers", [0, 2])
def test_generators_of_the_process_are_left_alone(workers):
    torch.manual_seed(3), random.seed(3), np.random.seed(3)  # noqa: NPY002
    before = states()
    views = ProgramViews(make_images(), PROGRAMS["timm"], 0)
    views.pixels(torch.arange(5), 1)
    list(views.stream(torch.arange(10).split(3), 0, workers))
    assert states() == before
    with pytest.raises(UserError):
        ProgramViews(make_images(), program("fails_on", value=True), 0)
    assert states() == before
    views.close()


@pytest.mark.parametrize("name", ["torchvision", "timm, erasing"])
def test_workers_leave_pixels_alone(name):
    images = make_images()
    views = ProgramViews(images, PROGRAMS[name], seed=1)
    order = torch.randperm(21, generator=torch.Generator().manual_seed(1))
    for view, workers, size in itertools.product((0, 3), (0, 1, 2), (4, 30)):
        rendered = list(views.stream(order.split(size), view, workers))
        assert [len(part) for part in rendered] == [len(part) for part in order.split(size)]
        assert torch.equal(torch.cat(rendered), views.pixels(order, view))
    assert list(views.stream([], 0, 2)) == []
    views.close()
    assert not active_children()


def test_spawned_workers_leave_pixels_alone():
    views = ProgramViews(make_images(), PROGRAMS["torchvision by name"], seed=1, start="spawn")
    rendered = torch.cat(list(views.stream(torch.arange(21).split(8), 2, 1)))
    assert torch.equal(rendered, views.pixels(torch.arange(21), 2))
    views.close()


def worker_ids(views: ProgramViews) -> set[int | None]:
    list(views.stream(torch.arange(21).split(4), 0, 2))
    return {process.pid for process in active_children()}


def test_workers_stay_from_epoch_to_epoch_and_end_with_their_views():
    views = ProgramViews(make_images(), PROGRAMS["torchvision by name"], 0)
    first = worker_ids(views)
    assert len(first) == 2
    assert worker_ids(views) == first
    gc.collect()
    gc.disable()
    try:
        del views
        assert not active_children()
    finally:
        gc.enable()


@pytest.mark.fault("a view worker that ends or hangs, little shared memory")
def test_workers_end_when_the_iterator_is_dropped():
    views = ProgramViews(make_images(), PROGRAMS["torchvision by name"], 0)
    stream = views.stream(torch.arange(21).split(2), 0, 2)
    next(stream)
    assert len(active_children()) == 2
    # A second one beside it has its own.
    assert torch.equal(
        torch.cat(list(views.stream(torch.arange(9).split(2), 1, 1))), views.pixels(torch.arange(9), 1)
    )
    assert torch.equal(next(stream), views.pixels(torch.tensor([2, 3]), 0))
    del stream
    assert len(active_children()) == 1
    views.close()
    assert not active_children()


@pytest.mark.fault("SIGTERM, SIGHUP or Ctrl-C, once or twice")
@pytest.mark.parametrize("number", SIGNALS)
def test_signals_leave_workers_to_their_parent(number):
    views = ProgramViews(make_images(), PROGRAMS["torchvision by name"], 0)
    stream = views.stream(torch.arange(21).split(2), 0, 1)
    next(stream)
    for child in active_children():
        assert child.pid
        os.kill(child.pid, number)
    assert len(list(stream)) == 10
    views.close()


@pytest.mark.fault("a view worker that ends or hangs, little shared memory")
def test_a_killed_worker_is_one_line(count, attempts):
    draw, trials = random.Random(0), count(1, 20)
    for workers in draw.choices((1, 2, 3), k=trials):
        views = ProgramViews(make_images(), program("sleeps"), 0)
        stream = views.stream(itertools.repeat(torch.arange(2)), 0, workers)
        next(stream)
        time.sleep(draw.uniform(0, 0.1))
        draw.choice(active_children()).kill()
        with pytest.raises(UserError, match=r"worker = 'killed by SIGKILL'.*Run the same command again"):
            for _ in stream:
                pass
        assert not active_children()
    attempts(trials)


def ends(how: str, after: int):
    """Ends the process in the middle of a batch, but only a worker's."""
    parent, calls = os.getpid(), itertools.count()
    ways = {"exit": lambda: os._exit(3), "raise": lambda: sys.exit("enough"), "hang": lambda: time.sleep(60)}
    return lambda image: ways[how]() if os.getpid() != parent and next(calls) == after else image


@pytest.mark.fault("a view worker that ends or hangs, little shared memory")
@pytest.mark.parametrize(("how", "told"), [
    ("exit", "worker = 'exit code 3'.*`workers=0`"), ("raise", "worker = 'SystemExit: enough'"),
    ("hang", "no answer from process .*a batch of 2 views within 0.4 seconds.*hangs or is slow"),
])  # fmt: skip
def test_a_worker_that_ends_or_hangs_is_one_line(monkeypatch, capfd, how, told, count, attempts):
    monkeypatch.setattr(workers_module, "_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(workers_module, "_LONGEST_SECONDS", 0.4)
    places = random.Random(how).sample(range(9), count(1, 9))
    for after in places:
        views = ProgramViews(make_images(), program("ends", how=how, after=after), 0)
        with pytest.raises(UserError, match=told):
            list(views.stream(torch.arange(20).split(2), 0, 2))
        assert not active_children()
        assert capfd.readouterr().err == ""
    attempts(len(places))


@pytest.mark.fault("a view worker that ends or hangs, little shared memory")
def test_workers_that_cannot_start_are_one_line(monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(workers_module, "_start", refuse)
    views = ProgramViews(make_images(), PROGRAMS["torchvision by name"], 0)
    with pytest.raises(UserError, match=r"workers = 2.*temporarily unavailable.*`workers=0`"):
        next(views.stream(torch.arange(20).split(2), 0, 2))


@pytest.mark.fault("a view worker that ends or hangs, little shared memory")
def test_pixels_need_no_room_for_files_and_no_path_of_a_socket(monkeypatch, tmp_path):
    """Containers have 64 MiB in /dev/shm, and a long TMPDIR has no room for the name of a socket."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 40)))
    views = ProgramViews(make_images(), PROGRAMS["torchvision by name"], 0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # of files in memory too
    try:
        rendered = torch.cat(list(views.stream(torch.arange(21).split(8), 2, 2)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert torch.equal(rendered, views.pixels(torch.arange(21), 2))


def sleeps():
    def transform(image):
        time.sleep(0.01)
        return image

    return transform


def fails_on(value: bool | int):
    """Fails on every image, or on an image whose first byte has this value."""

    def transform(image):
        if value is True or np.asarray(image).flat[0] == value:
            raise RuntimeError("no such colour\nsecond line")
        return image

    return transform


@pytest.mark.fault("a view worker that ends or hangs, little shared memory")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_program_that_fails_is_one_line(workers):
    images = make_images()
    images[:, 0, 0, 0] = 1
    images[15, 0, 0, 0] = 77
    views = ProgramViews(images, program("fails_on", value=77), 0)
    with pytest.raises(UserError) as caught:
        list(views.stream(torch.arange(21).split(2), 4, workers))
    line = str(caught.value)
    assert "sample 15, view 4" in line
    assert "RuntimeError: no such colour" in line
    assert "second line" not in line
    assert not active_children()


def noise(source: str):
    """Adds noise from a generator that nobody seeds, or that counts its calls."""
    own = {"numpy": np.random.default_rng(), "python": random.Random()}
    calls = itertools.count()

    def transform(image):
        draw = {
            "numpy": lambda: own["numpy"].integers(256),
            "python": lambda: own["python"].randrange(256),
            "system": lambda: os.urandom(1)[0],
            "calls": lambda: next(calls),
        }[source]
        return np.asarray(image) ^ np.uint8(draw())

    return transform


@pytest.mark.parametrize("source", ["numpy", "python", "system", "calls"])
def test_a_program_that_is_no_pure_function_is_refused(source):
    with pytest.raises(UserError, match=r"pure function of the seeded generators.*keep no state"):
        ProgramViews(make_images(), program("noise", source=source), 0)


def drawn_when_made():
    shift = random.randrange(256)
    return lambda image: np.asarray(image) ^ np.uint8(shift)


def test_a_factory_may_draw_from_the_seeded_generators():
    images, augment = make_images(), program("drawn_when_made")
    random.seed(1)
    first = ProgramViews(images, augment, 0).pixels(torch.arange(21), 0)
    random.seed(2)
    assert torch.equal(ProgramViews(images, augment, 0).pixels(torch.arange(21), 0), first)


def gives(what: str):
    return {
        "nothing": lambda image: None,
        "ints": lambda image: np.asarray(image).astype(np.int64),
        "long": lambda image: v2.functional.pil_to_tensor(image).long(),
        "small": lambda image: image.resize((5, 4)),
        "grey": lambda image: image.convert("L"),
        "normalised": lambda image: (v2.functional.pil_to_tensor(image) / 255 - 0.5) / 0.25,
        "bytes as floats": lambda image: v2.functional.pil_to_tensor(image).float(),
        "nan": lambda image: v2.functional.pil_to_tensor(image) * torch.nan,
        "both": lambda image: image if torch.rand(()) < 0.5 else v2.functional.pil_to_tensor(image) / 255,
        "no function": 3,
    }[what]


def raises():
    raise OSError("no file of colours")


@pytest.mark.parametrize(("config", "message"), [
    (program("gives", what="nothing"), "returns a PIL image, a tensor or an array. It gave NoneType"),
    (program("gives", what="ints"), "uint8, or floats in 0..1. It gave int64"),
    (program("gives", what="long"), "uint8, or floats in 0..1. It gave torch.int64"),
    (program("gives", what="small"), "shape (3, 12, 14) (channels, height, width). It gave (3, 4, 5)"),
    (program("gives", what="grey"), "shape (3, 12, 14) (channels, height, width). It gave (1, 12, 14)"),
    (program("gives", what="normalised"), "each network normalises by its own mean and std"),
    (program("gives", what="bytes as floats"), "floats in 0..1"),
    (program("gives", what="nan"), "floats in 0..1"),
    (program("gives", what="both"), "views of one dtype"),
    (program("gives", what="no function"), "a function that returns a transform of one image. It returned int"),
    (program("raises"), "OSError: no file of colours"),
    (program("gives", who="me"), "Missing a required argument: 'what'"),
    (program("torchvision.transforms.v2:RandomResizedCrop", size=0), "failed on sample"),
    (program("torchvision.transforms.v2:Nothing"), "a function of module torchvision.transforms.v2"),
    (program("timm.data:create_transform", **TIMM), '(timm: "normalize": false)'),
])  # fmt: skip
def test_what_is_no_program_is_refused(config, message):
    with pytest.raises(UserError) as caught:
        ProgramViews(make_images(), config, 0)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_channels_are_refused():
    with pytest.raises(UserError, match="images of 1 or 3 channels, these have 2"):
        ProgramViews(make_images(4, (2, 8, 8)), program("identity"), 0)


def test_an_empty_split_has_no_views():
    views = ProgramViews(make_images(0), program("identity"), 0)
    assert views.pixels(torch.arange(0), 0).shape == (0, *SHAPE)


def test_a_program_cannot_write_into_the_data():
    images = make_images(5, (1, 9, 8))
    before = images.clone()
    ProgramViews(images, program("scribbles"), 0)
    assert torch.equal(images, before)


def scribbles():
    def transform(image):
        image.putpixel((0, 0), 255 - image.getpixel((0, 0)))
        return image

    return transform
