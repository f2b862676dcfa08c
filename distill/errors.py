"""Define the errors that a user can cause; each is one line that says what to do about it."""

from __future__ import annotations

_LONGEST = 2000
"""Number of characters that are shown of each part of an error; the rest is cut off."""
_NO_BREAK_SPACES = "\u00a0\u202f"


def printable(text: str) -> str:
    """Return the text with escapes for characters that a terminal would not show, or would obey."""
    # Names in messages may come from files of other people.
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _NO_BREAK_SPACES else repr(c)[1:-1] for c in text)


def is_utf8(text: str) -> bool:
    """Tell whether a text can be written as UTF-8; the name of a file may hold bytes that cannot."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


class UserError(Exception):
    """Report a mistake in what the user gave; the command prints it as one line, without a traceback, and exits 2.

    Texts name settings as fields in backticks, with or without a value: "Lower `optim.lr`, or set `optim.clip=1`."
    The command line shows these fields as its flags.

    Args:
        field: what is wrong: the dotted path of a config field, such as `optim.lr`, or the name of an argument.
        value: the value that was given.
        expected: what was expected instead.
        way_out: what to do, in one or more sentences.
    """

    def __init__(self, field: str, value: object, expected: str, way_out: str):
        super().__init__(field, value, expected, way_out)
        self.field, self.value, self.expected, self.way_out = field, value, expected, way_out

    def __str__(self) -> str:
        field, value, expected, way_out = map(_short, (self.field, repr(self.value), self.expected, self.way_out))
        return printable(" ".join(f"{field} = {value}: expected {expected}. {way_out}".split()))


class ContentChanged(UserError):
    """Report that files or code are no longer those whose digest a config holds."""

    def __init__(self, field: str, name: str):
        expected = "what it was when the artifact, or the one that it is made from, was begun; it has changed since"
        super().__init__(field, name, expected, "Bring it back, or make these artifacts again, the teacher first.")
        self.name = name

    def __reduce__(self) -> tuple[type[ContentChanged], tuple[str, str]]:
        return ContentChanged, (self.field, self.name)  # workers pickle it for their parent


class UnfitTeacher(UserError):
    """Report a teacher that must not teach: it is wrong too often, not finite, or not in evaluation mode; or that
    cannot teach at the equivalent smoothing that a student asks for.
    """


class Diverged(UserError):
    """Report a training whose loss or weights are not finite; nothing is published, the last resume point is kept.

    Args:
        step: first step whose loss was not finite, or whose update made weights that are not finite.
        lr: learning rate.
        loss: loss of that step; nan where only the weights were not finite.
        cause: what is known of the cause, and the way out.
    """

    def __init__(self, step: int, lr: float, loss: float, cause: str = ""):
        usual = "Lower `optim.lr` or set `optim.clip=1`; with a temperature, the soft term grows as T² × alpha."
        super().__init__("loss", loss, f"a finite number (step {step}, learning rate {lr:g})", cause or usual)
        self.step, self.lr, self.loss, self.cause = step, lr, loss, cause

    def __reduce__(self) -> tuple[type[Diverged], tuple[int, float, float, str]]:
        return Diverged, (self.step, self.lr, self.loss, self.cause)  # workers pickle it for their parent
