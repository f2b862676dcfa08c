import gzip
from pathlib import Path

import pytest
import torch

from distill.data.sets.idx import read_idx
from distill.errors import UserError
from tests.data.sets.mnist_files import idx_bytes


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)])
def test_reads_raw_and_gzip(tmp_path: Path, pack, shape):
    array = torch.randint(0, 256, shape, dtype=torch.uint8)
    (tmp_path / "file").write_bytes(pack(idx_bytes(array)))
    assert torch.equal(read_idx(tmp_path / "file"), array)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_truncated_file_is_named_with_its_size(tmp_path: Path, pack):
    data = pack(idx_bytes(torch.randint(0, 256, (100, 28, 28), dtype=torch.uint8)))
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data[:50_000])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte \(50,000 bytes\).*78,416 bytes"):
        read_idx(path)


@pytest.mark.parametrize(
    "data", [b"", b"<html>not found</html>", b"\x00\x00\x0d\x01\x00\x00\x00\x00", b"\x00\x00\x08\x09"]
)
def test_what_is_not_idx_is_refused(tmp_path: Path, data):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(UserError, match="an idx file of unsigned bytes"):
        read_idx(tmp_path / "file")


def test_a_damaged_gzip_is_refused(tmp_path: Path):
    data = bytearray(gzip.compress(idx_bytes(torch.arange(200, dtype=torch.uint8))))
    data[-8:] = bytes(8)
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(UserError, match="an intact gzip file"):
        read_idx(tmp_path / "file")
