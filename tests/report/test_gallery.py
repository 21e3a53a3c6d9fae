"""The gallery's rule."""

import pytest

from attnbn.report.gallery import choose

GAINS = {"a": 0.1, "b": 0.5, "c": -0.2, "d": 0.2, "e": 0.0, "nan": float("nan")}


def test_three_are_the_best_the_median_and_the_worst() -> None:
    chosen = choose(GAINS, 3)
    assert [(c.name, c.gain, c.why) for c in chosen] == [
        ("b", 0.5, "largest gain"),
        ("a", 0.1, "median"),
        ("c", -0.2, "largest loss"),
    ]


def test_even_steps_in_between() -> None:
    many = {f"{i:03d}": i / 100 for i in range(101)}
    assert [c.name for c in choose(many, 5)] == ["100", "075", "050", "025", "000"]
    assert [c.why for c in choose(many, 5)] == [
        "largest gain",
        "larger gain than 75 % of the images",
        "median",
        "larger gain than 25 % of the images",
        "smallest gain",
    ]


def test_few_images_ties_and_none() -> None:
    assert [c.name for c in choose(GAINS, 99)] == ["b", "d", "a", "e", "c"]
    assert [c.name for c in choose({"y": 0.1, "x": 0.1}, 2)] == ["x", "y"]
    assert [c.name for c in choose({"b": 0.3, "a": 0.2, "c": 0.1}, 1)] == ["a"]
    assert choose({}, 3) == choose(GAINS, 0) == []
    with pytest.raises(ValueError, match="at least 0, got -1"):
        choose(GAINS, -1)
