import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.data import checksum
from distill.data.checksum import content_digest, pixel_checksum

WORD = (1 << 64) - 1


def slow_splitmix64(counter: int) -> int:
    bits = (counter + 0x9E3779B97F4A7C15) & WORD
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & WORD
    return bits ^ (bits >> 31)


def slow_checksum(image: torch.Tensor) -> int:
    origin = 0
    for number in (1 if image.dtype == torch.uint8 else 2, *image.shape):
        origin = slow_splitmix64(origin + number)
    data = image.numpy().tobytes()
    data += b"\0" * (-len(data) % 8)
    for place in range(len(data) // 8):
        word = int.from_bytes(data[8 * place : 8 * place + 8], "little")
        origin += word * (slow_splitmix64(place) | 1)
    value = slow_splitmix64(origin & WORD)
    return value - (1 << 64) if value >> 63 else value


def draw(n: int, shape: tuple[int, ...], floats: bool = False, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=generator)
    return images.float() * 0.7 if floats else images


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 5), (3, 4, 6), (1, 8, 8), (3, 3, 3)])
def test_checksum_equals_the_slow_one(shape, floats, monkeypatch):
    monkeypatch.setattr(checksum, "BLOCK_BYTES", 300)
    images = draw(23, shape, floats)
    expected = [slow_checksum(image) for image in images]
    assert pixel_checksum(images).tolist() == expected
    # Strided, transposed and oddly aligned memory holds the same pixels.
    spread = torch.empty(46, *shape, dtype=images.dtype)
    spread[::2] = images
    assert pixel_checksum(spread[::2]).tolist() == expected
    assert pixel_checksum(images[1:]).tolist() == expected[1:]
    padded = torch.empty(images.numel() + 1, dtype=images.dtype)
    padded[1:] = images.flatten()
    assert pixel_checksum(padded[1:].view(images.shape)).tolist() == expected
    if len(set(shape)) > 1:
        assert pixel_checksum(images.contiguous(memory_format=torch.channels_last)).tolist() == expected


@pytest.mark.fault("images, labels or code that changed")
@given(st.integers(0, 74), st.integers(1, 255), st.integers(0, 2**32))
def test_any_changed_position_changes_it(place, change, seed):
    image = draw(1, (3, 5, 5), seed=seed)
    changed = image.clone()
    changed.view(-1)[place] += change  # wraps
    assert pixel_checksum(changed) != pixel_checksum(image)
    floats = image.float()
    changed = floats.clone()
    changed.view(-1)[place] = torch.nextafter(changed.view(-1)[place], torch.tensor(300.0))
    assert pixel_checksum(changed) != pixel_checksum(floats)


def test_moved_pixels_and_other_shapes_and_dtypes_change_it():
    image = draw(1, (3, 4, 6))
    variants = [image, image.flip(-1), image.flip(1), image.roll(1, -1), image.reshape(1, 3, 6, 4), image.float()]
    zeros = [torch.zeros(1, 1, size, 8, dtype=torch.uint8) for size in (1, 2, 3)]
    assert len({pixel_checksum(variant).item() for variant in variants + zeros}) == 9
    assert len(pixel_checksum(draw(0, (1, 2, 2)))) == 0
    with pytest.raises(TypeError, match=r"expected torch\.uint8 or torch\.float32"):
        pixel_checksum(image.double())


def test_digest_tells_a_reordering_from_other_content(tmp_path, monkeypatch):
    monkeypatch.setattr(checksum, "BLOCK_BYTES", 1000)
    images, labels = draw(40, (3, 4, 4)), torch.arange(40) % 7
    digest = content_digest(images, labels)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    moved = content_digest(images[order], labels[order])
    assert moved.unordered == digest.unordered
    assert moved.ordered != digest.ordered
    # Labels belong to images: neither other labels nor the same labels on other images will do.
    for other in (images.roll(1, 0), labels), (images, labels.roll(1)), (images[:-1], labels[:-1]):
        changed = content_digest(*other)
        assert changed.ordered != digest.ordered
        assert changed.unordered != digest.unordered
    np.save(tmp_path / "images.npy", images.numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "images.npy", mmap_mode="c"))
    assert content_digest(mapped, labels) == digest
    assert all(len(bytes.fromhex(value)) == hashlib.sha256().digest_size for value in digest)


@pytest.mark.gpu
@pytest.mark.parametrize("floats", [False, True])
def test_gpu_agrees_with_cpu(floats):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    for shape in (1, 5, 5), (3, 8, 8):
        images = draw(1000, shape, floats)
        assert torch.equal(pixel_checksum(images.cuda()).cpu(), pixel_checksum(images))
        assert torch.equal(pixel_checksum(images.cuda()[1:]).cpu(), pixel_checksum(images)[1:])
