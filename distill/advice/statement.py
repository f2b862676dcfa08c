"""What advice is made of: sentences that each name what they rest on, and commands that would measure more."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

Answer = Literal["use", "use-but", "rather-not", "no", "not-known"]
OPENING: dict[Answer, str] = {
    "use": "Use it:",
    "use-but": "Use it, but",
    "rather-not": "Rather not:",
    "no": "No:",
    "not-known": "Not known:",
}
"""How the verdict of each kind begins."""
Number = float | int | str | None


@dataclass(frozen=True)
class Statement:
    """A sentence or two, the basis that they rest on, and the figures in them."""

    text: str
    basis: str
    """What was measured: "this network, 10,000 held-out images"."""
    numbers: Mapping[str, Number] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.basis:
            raise ValueError(f"no advice without a basis: {self.text}")


@dataclass(frozen=True)
class Verdict:
    """The answer in one line."""

    answer: Answer
    statement: Statement
    """Its text follows the words of `OPENING`."""


@dataclass(frozen=True)
class Command:
    """What to run to find out more."""

    why: str
    line: str


@dataclass(frozen=True)
class Advice:
    """All that `distill advise` says of one subject."""

    subject: str
    verdict: Verdict
    sections: Mapping[str, Sequence[Statement]]
    """Heading → statements; an empty section is not shown."""
    unknown: Sequence[Statement]
    """What this cannot know."""
    commands: Sequence[Command]

    def text(self, width: int = 100) -> str:
        """Plain text, wrapped; commands are not, so that they can be copied."""
        first = f"{OPENING[self.verdict.answer]} {_with_basis(self.verdict.statement)}"
        blocks = [_wrapped(self.subject, width), _wrapped(first, width)]
        sections = {**self.sections, "What this cannot know": self.unknown}
        for heading, statements in sections.items():
            if statements:
                lines = [_wrapped(_with_basis(each), width, "- ", "  ") for each in statements]
                blocks.append("\n".join([heading, *lines]))
        if self.commands:
            lines = [f"{_wrapped(f'{each.why}:', width, '- ', '  ')}\n    {each.line}" for each in self.commands]
            blocks.append("\n".join(["To find out more", *lines]))
        return "\n\n".join(blocks)

    def json(self) -> str:
        """The same for programs."""
        fields = {
            "subject": self.subject,
            "verdict": {"answer": self.verdict.answer, **_fields(self.verdict.statement)},
            "sections": {name: [_fields(each) for each in found] for name, found in self.sections.items()},
            "unknown": [_fields(each) for each in self.unknown],
            "commands": [asdict(each) for each in self.commands],
        }
        return json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False)


def _fields(statement: Statement) -> dict[str, object]:
    # JSON has no NaN: the bounds of an interval over one seed.
    numbers = {name: None if value != value else value for name, value in statement.numbers.items()}
    return {"text": statement.text, "basis": statement.basis, "numbers": numbers}


def _with_basis(statement: Statement) -> str:
    return f"{statement.text} [{statement.basis}]"


def _wrapped(text: str, width: int, first: str = "", rest: str = "") -> str:
    # "T = 4" and "89.9 %" stay on one line.
    kept = re.sub(r"(?<=\d) (?=%)|(?<=[Tεγ]) (?==)|(?<=[Tεγ] =) (?=\d)", "\u00a0", text)
    filled = textwrap.fill(
        kept,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.replace("\u00a0", " ")


def percent(share: float, digits: int = 1) -> str:
    """A share as percent: 0.898 → "89.8 %"."""
    return f"{100 * share:.{digits}f} %"


def points(difference: float) -> str:
    """A difference of shares in percentage points: 0.0123 → "+1.23 points"."""
    return f"{100 * difference:+.2f} points"


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 seed", "10,000 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(items: Sequence[str], last: str = "and") -> str:
    """Words as a list: "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}" if items else "none"
