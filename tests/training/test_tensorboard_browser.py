"""Opens TensorBoard in Debian's Chromium, and looks for what a user looks for; skipped where either is missing."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest

from distill.config import CacheConfig, LossConfig, StudentConfig, TeacherConfig
from distill.pipeline.graph import ensure
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from tests.small import SHORT, TINY

playwright = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
COLUMNS = ["role", "data", "network", "smoothing", "teacher's smoothing"]
RESULTS = ["accuracy", "NLL", "ECE", "inter-class variance", "relative variance"]


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> Iterator[str]:
    """The address of TensorBoard, which shows a hard teacher, a smoothed one, a student of it and a running one."""
    root = tmp_path_factory.mktemp("store")
    runtime = Runtime(
        store=root, data_root=root / "data", device="cpu", progress=False, min_teacher_accuracy=0, jobs=1
    )
    store, hard = ArtifactStore(root), TeacherConfig(model=TINY, schedule=SHORT)
    smoothed = hard.with_loss(smoothing=0.1)
    student = StudentConfig(
        cache=CacheConfig(teacher=smoothed), model=TINY, schedule=SHORT, loss=LossConfig(temperature=2)
    )
    ensure([hard, student], store, runtime)
    draft = store.draft_path(hard.replace(seed=7))
    draft.parent.mkdir(exist_ok=True)
    shutil.copytree(store.path(hard) / "tb", draft / "tb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(root), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_runs(address := f"http://127.0.0.1:{port}", 4)
            yield address
        finally:
            process.terminate()


def wait_for_runs(address: str, count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urlopen(f"{address}/data/runs") as answer:
                if len(json.load(answer)) == count:
                    return
        except OSError:
            pass
        time.sleep(0.1)
    pytest.fail("TensorBoard lists no runs")


@pytest.fixture(scope="module")
def page(board: str) -> Iterator[Any]:
    """A page of a browser; the path of its program is given, so that none is ever downloaded."""
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with (
        playwright.sync_playwright() as opened,
        opened.chromium.launch(executable_path=CHROMIUM, args=flags) as browser,
    ):
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(30_000)
        yield page


def show(page: Any, board: str, tab: str) -> None:
    page.goto("about:blank")
    page.goto(f"{board}/#{tab}")


def test_the_table_begins_with_what_tells_runs_apart(page, board) -> None:
    show(page, board, "hparams")
    cells = page.locator("tf-hparams-table-view vaadin-grid-cell-content")
    cells.get_by_text("student", exact=True).wait_for()
    texts = [text.strip() for text in cells.all_inner_texts()]
    assert texts[texts.index("role") :][:10] == COLUMNS + RESULTS
    assert "no teacher" in texts
    assert "0.1" in texts
    for name in ("T", "alpha", "views", "unseen class", "seed", "agreement"):
        assert page.locator("tf-hparams-query-pane").get_by_text(name, exact=True).count() > 0


def test_hard_labels_are_beside_smoothed_ones(page, board) -> None:
    show(page, board, "custom_scalars")
    page.get_by_text("Inter-class variance of the logits", exact=True).wait_for()
    matches = page.locator("tf-custom-scalar-multi-line-chart-card").filter(has_text="Matches (")
    for title, lines in {"hard labels": 2, "smoothed labels": 1}.items():
        card = matches.filter(has_text=title).first
        card.get_by_text(f"Matches ({lines})").wait_for()


def test_a_running_training_has_a_title_and_curves(page, board) -> None:
    show(page, board, "timeseries")
    page.get_by_text("held_out/accuracy", exact=True).first.wait_for()
    running = page.get_by_text("drafts/digits-mlp16-ls0.00-s7", exact=False).first
    running.wait_for()
    shown = running.inner_text()
    assert "/" in shown
    assert len(shown) < 50


def test_images_and_their_runs_are_found(page, board) -> None:
    show(page, board, "images")
    page.get_by_text("test/reliability").first.wait_for()
    page.locator("tf-image-loader img").first.wait_for()
