"""Say what to do where an adopted network is not in the store: no config alone can make it."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from distill.config import AdoptedConfig
from distill.errors import UserError
from distill.store.inputs import Inputs
from distill.store.stages import title
from distill.system.runtime import Runtime


def refuse_missing(config: AdoptedConfig, inputs: Inputs, folder: Path, runtime: Runtime) -> NoReturn:
    """Refuse to make a network from elsewhere out of its config, which has no weights.

    Raises:
        UserError: always; it says how to adopt the file again.
    """
    expected = f"an adopted network that is in the store; its weights have the sha256 {config.sha256[:12]}…"
    only = " --only-weights" if config.only_weights else ""
    way_out = f"Adopt them again: `distill adopt FILE --model {config.model.name}{only}`."
    raise UserError("teacher", title(config), expected, way_out)
