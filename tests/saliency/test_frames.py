"""Plain frames are found, backdrops are not taken for frames."""

import numpy as np
import pytest

from attnbn.saliency.frames import inside_frame


def picture(height=60, width=80):
    return np.random.default_rng(0).integers(40, 200, (height, width, 3)).astype(np.uint8)


def framed(colour, top, bottom, left, right):
    inner = picture()
    whole = np.empty((60 + top + bottom, 80 + left + right, 3), np.uint8)
    whole[:] = colour
    whole[top : top + 60, left : left + 80] = inner
    return whole


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (20, 5, 230)])
@pytest.mark.parametrize("widths", [(8, 8, 10, 10), (9, 9, 0, 0), (0, 0, 12, 0), (1, 2, 3, 4)])
def test_frames_are_found_to_the_line(colour, widths):
    top, _, left, _ = widths
    rows, columns = inside_frame(framed(colour, *widths))
    assert (rows.start, rows.stop, columns.start, columns.stop) == (top, top + 60, left, left + 80)


def test_a_frame_in_a_frame_is_found():
    whole = np.full((60 + 30, 80 + 30, 3), 255, np.uint8)
    whole[10:-10, 10:-10] = 0  # a white margin around a black mount
    whole[15:-15, 15:-15] = picture()
    assert inside_frame(whole) == (slice(15, 75), slice(15, 95))


def test_jpeg_noise_in_the_frame_is_forgiven():
    whole = framed((250, 250, 250), 8, 8, 8, 8).astype(int)
    noisy = np.clip(whole + np.random.default_rng(1).integers(-5, 6, whole.shape), 0, 255).astype(np.uint8)
    rows, columns = inside_frame(noisy)
    assert (rows.start, rows.stop, columns.start, columns.stop) == (8, 68, 8, 88)


def test_a_picture_without_a_frame_is_whole():
    for whole in (picture(), np.full((20, 30, 3), 7, np.uint8), picture(1, 1), picture(1, 9), picture(9, 2)):
        assert inside_frame(whole) == (slice(0, whole.shape[0]), slice(0, whole.shape[1]))


def test_a_backdrop_is_no_frame():
    round_object = np.full((100, 120, 3), 255, np.uint8)
    y, x = np.mgrid[:100, :120]
    round_object[(y - 50) ** 2 + (x - 60) ** 2 < 42**2] = (200, 30, 30)
    assert inside_frame(round_object) == (slice(0, 100), slice(0, 120))


def test_plain_lines_beyond_a_fifth_of_the_side_are_a_backdrop():
    whole = framed((255, 255, 255), 30, 0, 0, 0)  # a third of the height
    assert inside_frame(whole)[0] == slice(0, 90)
