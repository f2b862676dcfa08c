"""Find out which output of a network from elsewhere belongs to each class of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.errors import UserError
from distill.system.files import expanded
from distill.system.reading import read_json, read_lines

_WAY_OUT = (
    "Name the network's outputs in their order with `classes`: a file with a name on each line, or a JSON file "
    "from each class of the data set to the number or the name of an output."
)


class GivenClasses:
    """Hold what the user says about the outputs of a network: a list of all names, a mapping, or nothing.

    Args:
        given: the names, or the path of one file.

    Raises:
        UserError: the file cannot be read, or a name stands twice in a list.
    """

    def __init__(self, given: Sequence[str]):
        self.names: Sequence[str] = given
        self.mapping: Mapping[str, object] | None = None
        if len(given) == 1 and (path := expanded(Path(given[0]))).is_file():
            if path.suffix == ".json":
                self.names, self.mapping = (), _mapping(path)
            else:
                self.names = tuple(filter(None, (line.strip() for line in read_lines(path, "classes"))))
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise UserError(
                "classes", twice[0], "each name once", "Tell the outputs apart, or give numbers as JSON."
            )

    def columns(
        self, outputs: int, classes: Sequence[str], vocabularies: Sequence[Sequence[str]]
    ) -> tuple[int, ...]:
        """Return which output each class of a data set has; nothing where all are taken in their order.

        Args:
            outputs: number of outputs of the network.
            classes: classes of the data set, in its order.
            vocabularies: lists of names of the outputs that the network's library knows.

        Raises:
            UserError: a class has no output, two have one, or nothing says which output is which.
        """
        vocabularies = [names for names in vocabularies if len(names) == outputs]
        if self.mapping is not None:
            found = [_one(self.mapping, name, outputs, vocabularies) for name in classes]
        elif self.names:
            if len(self.names) != outputs:
                expected = f"one for each of the {outputs} outputs of the network"
                raise UserError("classes", f"{len(self.names)} names", expected, _WAY_OUT)
            found = [_position(self.names, name) for name in classes]
        else:
            known = (names for names in vocabularies if set(classes) <= set(names))
            names = next(known, None)
            if names is None and outputs != len(classes):
                expected = f"a network with the {len(classes)} classes of the data set ({_some(classes)})"
                raise UserError("classes", f"{outputs} outputs without names", expected, _WAY_OUT)
            found = [*range(outputs)] if names is None else [_position(names, name) for name in classes]
        twice = [name for name, count in zip(classes, map(Counter(found).get, found), strict=True) if count != 1]
        if twice:
            raise UserError("classes", _some(twice), "an output of its own for each class", _WAY_OUT)
        return () if found == [*range(outputs)] else tuple(found)


def _mapping(path: Path) -> Mapping[str, object]:
    value = read_json(path)
    if not isinstance(value, dict):
        expected = "a JSON object: class of the data set → number or name of an output"
        raise UserError("classes", str(path), expected, "Write one, or a list of names as a text file.")
    return value


def _one(mapping: Mapping[str, object], name: str, outputs: int, vocabularies: Sequence[Sequence[str]]) -> int:
    said = mapping.get(name)
    if isinstance(said, int) and not isinstance(said, bool):
        if not 0 <= said < outputs:
            raise UserError("classes", f"{name}: {said}", f"a number from 0 to {outputs - 1}", "Correct it.")
        return said
    if isinstance(said, str):
        if names := next((names for names in vocabularies if said in names), None):
            return _position(names, said)
        way_out = (
            "Give its number: the library of the network tells no names." if not vocabularies else "Correct it."
        )
        raise UserError("classes", f"{name}: {said}", "the name of an output of the network", way_out)
    raise UserError("classes", name, "the number or the name of its output", "Add it to the file.")


def _position(names: Sequence[str], name: str) -> int:
    if name not in names:
        expected = f"a name among the outputs of the network ({_some(names)})"
        raise UserError("classes", name, expected, "Correct the names, or give a JSON file that maps them.")
    if names.count(name) > 1:
        way_out = "Give the number of its output in a JSON file."
        raise UserError("classes", name, "a name that is not that of two outputs", way_out)
    return names.index(name)


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:4])}{', …' if len(names) > 4 else ''}"
