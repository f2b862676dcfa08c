"""What is printed."""

from __future__ import annotations

import pytest

from distill.cli.arguments import print_lines

pytestmark = pytest.mark.fault("characters that a terminal or a page obeys")


def test_words_of_others_do_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines("a\x1b[2J  1\nb\r  2")
    assert capsys.readouterr().out == "a\\x1b[2J  1\nb\\r  2\n"
