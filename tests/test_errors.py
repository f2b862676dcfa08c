from __future__ import annotations

import pickle

from distill.errors import Diverged, UserError


def test_a_user_error_is_one_line_with_field_value_expected_and_way_out() -> None:
    error = UserError("optim.lr", -1, "more than 0", "Raise\nit.")
    assert str(error) == "optim.lr = -1: expected more than 0. Raise it."


def test_errors_cross_from_a_worker_to_its_parent() -> None:
    for error in (UserError("a", 1, "b", "c"), Diverged(3, 0.1, float("nan"))):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.field == error.field


def test_a_value_of_megabytes_does_not_fill_the_screen():
    assert len(str(UserError("field", "x" * 10**7, "less", "Shorten it."))) < 3000
    assert "way \\x1b[31m out" in str(UserError("field", 1, "2", "way \x1b[31m out"))
