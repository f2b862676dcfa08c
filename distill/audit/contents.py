"""Compare the files and the code that an artifact was made of with those that are here now."""

from __future__ import annotations

from collections.abc import Iterator

from distill.audit.replay import Finding
from distill.config import DataConfig
from distill.config.contents import parts
from distill.data.sets.folder import stored_folder
from distill.data.sets.stored_listing import open_listing
from distill.errors import UserError
from distill.pipeline.identity import Contents
from distill.store.artifact import Artifact
from distill.system.runtime import Runtime


def check_contents(artifact: Artifact, runtime: Runtime) -> Iterator[Finding]:
    """Check the data sets and plug-ins that the config of an artifact, or of its inputs, names.

    Args:
        artifact: artifact of any stage.
        runtime: data root.

    Yields:
        A finding for each data set and plug-in (None where it is not here), and for each copy or listing of images.
    """
    contents, checked = Contents(runtime), set[str]()
    for part in parts(artifact.config):
        name = part.named
        if not part.content or name in checked:
            continue
        checked.add(name)
        now = contents.of(part)
        if now is None:
            yield Finding(name, None, f"not checked, since {contents.unknown.get(name, 'it is installed now')}")
            continue
        same = now == part.content
        yield Finding(name, same, "has the content of the record" if same else "has other content than the record")
        if isinstance(part, DataConfig) and part.folder:
            yield from _check_copy(part, now, runtime)


def _check_copy(data: DataConfig, content: str, runtime: Runtime) -> Iterator[Finding]:
    folder = stored_folder(data, content, runtime.data_root.resolve())
    if folder.is_dir():
        try:
            open_listing(folder)
        except UserError as error:
            yield Finding(f"{folder.parent.name} copy", False, str(error))
        else:
            yield Finding(f"{folder.parent.name} copy", True, f"{folder.name} is as it was {folder.parent.name}")
