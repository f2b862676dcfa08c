from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from distill.config import CacheConfig, LossConfig, StudentConfig, TeacherConfig
from distill.errors import UserError
from distill.store.key import key
from distill.store.record import RECORD, RESUME
from distill.store.stages import title
from distill.store.store import ArtifactStore
from distill.system import files
from tests.store.records import publish_draft, sealed


def test_a_published_artefact_is_found_whole_and_without_its_resume_point(store: ArtifactStore) -> None:
    made = publish_draft(store, TeacherConfig())
    found = store.find(TeacherConfig())
    assert found is not None
    assert found.path == made.path
    assert found.config == TeacherConfig()
    assert found.problems() == []
    assert sorted(path.name for path in found.path.iterdir()) == ["model.safetensors", RECORD]
    assert found.path.name.startswith("digits-mlp-ls0.00-s0-")


def test_nothing_is_found_before_it_is_published(store: ArtifactStore) -> None:
    with store.draft(TeacherConfig()) as draft:
        (draft / "model.safetensors").write_text("half")
        assert store.find(TeacherConfig()) is None
    with store.draft(TeacherConfig()) as again:
        assert (again / "model.safetensors").read_text() == "half", "an interrupted draft is kept"


@pytest.mark.parametrize("damage", ["change", "truncate", "delete"])
def test_damage_is_found_and_never_read(store: ArtifactStore, damage: str) -> None:
    made = publish_draft(store, TeacherConfig())
    assert made.file("model.safetensors").read_text() == "weights"
    path = made.path / "model.safetensors"
    if damage == "change":
        path.write_text("wEights")
    elif damage == "truncate":
        path.write_text("wei")
    else:
        path.unlink()
    found = store.find(TeacherConfig())
    assert found is not None
    assert len(found.problems()) == 1
    with pytest.raises(UserError, match="Delete the folder"):
        found.file("model.safetensors")


def test_a_record_that_was_edited_is_refused_and_one_sealed_again_is_a_problem(store: ArtifactStore) -> None:
    made = publish_draft(store, TeacherConfig())
    record = json.loads((made.path / RECORD).read_text())
    record["config"]["loss"]["smoothing"] = 0.3
    without = {name: value for name, value in record.items() if name != "seal"}
    for edited in (record, without, record | {"seal": ""}):
        (made.path / RECORD).write_text(json.dumps(edited))
        with pytest.raises(UserError, match=r"it was changed\. Delete this folder"):
            store.read(made.path)
    (made.path / RECORD).write_bytes(sealed(record))
    assert any("key" in problem for problem in store.read(made.path).problems())


def test_an_artefact_is_named_by_path_key_or_its_beginning(store: ArtifactStore) -> None:
    made = publish_draft(store, TeacherConfig())
    publish_draft(store, TeacherConfig(seed=1))
    for name in (str(made.path), made.record.key, made.record.key[:6]):
        assert store.resolve(name).path == made.path
    for name in ("", "nothing-like-it"):
        with pytest.raises(UserError, match="distill ls"):
            store.resolve(name)


def test_what_is_not_ours_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=RECORD):
        store.read(tmp_path)
    for text in ("{", '{"key": 1}', '{"__reduce__": "os.system"}'):
        (tmp_path / RECORD).write_text(text)
        with pytest.raises(UserError, match="a record that this version can read"):
            store.read(tmp_path)


def test_a_draft_whose_record_was_written_is_published_as_it_is(store: ArtifactStore) -> None:
    made = publish_draft(store, TeacherConfig())
    with store.draft(TeacherConfig()) as draft:
        draft.rmdir()
        made.path.rename(draft)  # as if killed between the record and the rename
        (draft / RESUME).write_text("not removed yet")
        again = store.publish_recorded(TeacherConfig(), draft)
    assert again.problems() == []
    assert not (again.path / RESUME).exists()


def test_threads_that_write_the_same_json_do_not_meet(tmp_path: Path) -> None:
    values = [[number] * 1000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for written in [pool.submit(files.write_json, tmp_path / "value.json", value) for value in values * 4]:
            written.result()
    assert json.loads((tmp_path / "value.json").read_text()) in values
    assert [path.name for path in tmp_path.iterdir()] == ["value.json"]


def test_a_draft_is_not_followed_through_a_link(store: ArtifactStore, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / RESUME).write_text("not of this store")
    draft = store.root / "drafts" / key(TeacherConfig())
    draft.parent.mkdir(parents=True)
    for link, inside in [(draft, draft), (draft / "events", draft / "events")]:
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(home)
        with pytest.raises(UserError, match="no link in a draft") as refused, store.draft(TeacherConfig()):
            pass
        assert repr(str(inside)) in str(refused.value)
        with pytest.raises(UserError, match="no link in a draft"):
            store.publish_recorded(TeacherConfig(), draft)
        link.unlink()
    assert [path.name for path in home.iterdir()] == [RESUME]


def test_a_link_where_an_artifact_belongs_is_replaced(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    store.path(TeacherConfig()).parent.mkdir(parents=True)
    store.path(TeacherConfig()).symlink_to(tmp_path / "home")
    assert publish_draft(store, TeacherConfig()).problems() == []
    assert not list((tmp_path / "home").iterdir())


def test_what_is_aside_comes_back_unless_all_went_well(store: ArtifactStore) -> None:
    made = publish_draft(store, TeacherConfig())
    for error in (UserError("a", 1, "b", "c"), KeyboardInterrupt()):
        with pytest.raises(type(error)), store.aside(made.path):
            raise error
        assert made.problems() == []
    with store.aside(made.path):
        assert not made.path.exists()
    assert not made.path.exists()
    assert [path.suffix for path in (store.root / "drafts").iterdir()] == [".lock"]


def test_a_held_draft_is_not_deleted(store: ArtifactStore) -> None:
    with store.draft(TeacherConfig()) as draft:
        store.delete(draft)
        assert draft.exists()


def test_titles_tell_networks_apart() -> None:
    teacher = TeacherConfig(snapshots=2).with_loss(smoothing=0.1)
    cache = CacheConfig(teacher=teacher)
    dkd = LossConfig(soft="dkd", kwargs={"nontarget": 2})
    different = [
        teacher,
        teacher.with_loss(smoothing_convention="others"),
        teacher.with_loss(smoothing_convention="maxsup"),
        StudentConfig(cache=cache),
        StudentConfig(cache=cache.replace(snapshot=1)),
        StudentConfig(cache=cache, loss=LossConfig(soft="dkd")),
        StudentConfig(cache=cache, loss=LossConfig(soft="dkd", temperature=1)),
        StudentConfig(cache=cache, loss=dkd),
    ]
    titles = [title(config) for config in different]
    assert len(set(titles)) == len(titles)
    assert titles[0] == "digits-mlp-ls0.10-s0"
    assert titles[3] == "digits-mlp-of-ls0.10-T4-a1-s0"
    assert titles[-1] == "digits-mlp-of-ls0.10-dkd-T4-nontarget2-a1-s0"
