"""Odd and broken photographs: each is read right or refused in one line; none hangs, crashes or fills the memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbn.data.images import read_image
from attnbn.io.errors import InputError
from attnbn.io.pictures import decoders
from fuzz.corpus import Case, bombs, kinds, photographs
from fuzz.guards import read_or_refused, refused, small_and_fast

settings.load_profile("fuzz")
CASES = photographs()
WHOLE = kinds()


def shown(path: Path) -> np.ndarray:
    return read_image(path).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_each_is_read_right_or_refused(tmp_path: Path, case: Case) -> None:
    path = case.write(tmp_path)
    if case.refusal:
        refused(lambda: read_image(path), path, case.refusal)
        return
    image = shown(path)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    if callable(case.shown):
        assert case.shown(image), image[:2, :2]
    elif case.shown is not None:
        np.testing.assert_array_equal(image, case.shown)


@pytest.mark.parametrize("case", bombs(), ids=lambda case: case.name)
def test_bombs_are_refused_fast_and_small(tmp_path: Path, case: Case) -> None:
    path = case.write(tmp_path)
    small_and_fast(lambda: read_image(path), path, case.refusal)


@pytest.mark.parametrize("name", WHOLE)
def test_cut_at_every_twentieth(tmp_path: Path, name: str) -> None:
    """What is read of a cut file is all of it: half a photograph in grey would be trained on."""
    data = WHOLE[name]
    path = tmp_path / name
    path.write_bytes(data)
    whole = shown(path)
    cuts = sorted({len(data) * part // 20 for part in range(20)} | {1, 4, 12, len(data) - 1})
    read = 0
    for cut in cuts:
        path.write_bytes(data[:cut])
        try:
            np.testing.assert_array_equal(shown(path), whole)
            read += 1
        except InputError:
            refused(lambda: read_image(path), path, "damaged|empty file|something else")
    # of a film the first frame may be whole; of other files at most a trailer is missing
    assert read <= (12 if name == "film.gif" else 1)


SPOTS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6)


@settings(max_examples=100)
@given(name=st.sampled_from(sorted(WHOLE)), spots=SPOTS, kept=st.floats(0, 1) | st.just(1.0))
def test_spoilt_bytes(tmp_path: Path, name: str, spots: list[tuple[float, int]], kept: float) -> None:
    content = bytearray(WHOLE[name])
    for place, value in spots:
        content[int(place * len(content))] = value
    path = tmp_path / name
    path.write_bytes(content[: round(kept * len(content))])
    image = read_or_refused(lambda: shown(path), path)
    assert image is None or (image.dtype == np.uint8 and image.shape[2] == 3 and image.size > 0)


def test_nothing_that_runs_a_program_is_opened() -> None:
    assert set(decoders()) <= {"JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF"}


def test_a_postscript_file_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "ran"
    for name in ("gs", "gswin64c"):
        script = tmp_path / name
        script.write_text(f"#!/bin/sh\ntouch {marker}\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    refused(lambda: read_image(path), path, "PostScript")
    assert not marker.exists()
