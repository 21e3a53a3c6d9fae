"""``attnbn crf``: what it writes, and one clear line for each file that does not fit."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnbn.cli.main import main
from attnbn.data.images import read_mask
from attnbn.segmentation.crf import dense_crf


@pytest.fixture
def case(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A photograph of 24×32, left dark and right light, with noisy probabilities of two labels."""
    rng = np.random.default_rng(0)
    pixels = np.full((24, 32, 3), 40, np.uint8)
    pixels[:, 16:] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    light = np.clip(0.3 + 0.4 * (np.arange(32) >= 16) + rng.normal(0, 0.2, (24, 32)), 0.01, 0.99)
    return tmp_path, np.stack([1 - light, light]).astype(np.float16)


def run(folder: Path, *more: str) -> int:
    words = [
        "crf",
        str(folder / "a.png"),
        "--probabilities",
        str(folder / "p.npz"),
        "--output",
        str(folder / "mask.png"),
    ]
    return main([*words, *more])


def test_the_mask_is_the_crfs(case: tuple[Path, np.ndarray], capsys: pytest.CaptureFixture[str]) -> None:
    folder, probabilities = case
    np.savez(folder / "p.npz", probabilities=probabilities)
    assert run(folder, "--marginals", str(folder / "m.npz"), "--bilateral-xy", "20", "--iterations", "4") == 0
    image = torch.from_numpy(np.asarray(Image.open(folder / "a.png")).copy()).permute(2, 0, 1)[None]
    given = torch.from_numpy(probabilities.astype(np.float32))[None]
    wanted = dense_crf(image.contiguous(), given, bilateral_xy=20, iterations=4)[0]
    mask = read_mask(folder / "mask.png", 1)
    assert torch.equal(mask.as_subclass(torch.Tensor), wanted.argmax(0).to(torch.uint8))
    assert (mask[:, :16] == 0).float().mean() > 0.99 and (mask[:, 16:] == 1).float().mean() > 0.99
    with np.load(folder / "m.npz") as archive:
        assert np.allclose(archive["probabilities"], wanted.numpy())
    changed = float((wanted.argmax(0) != given[0].argmax(0)).double().mean())
    assert changed > 0
    assert f"changed {100 * changed:.1f} % of the pixels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"probabilities": np.full((2, 24, 31), 0.5)},
            "got 2×24×31 (C×H×W, C first)",
        ),
        ({"probabilities": np.full((2, 24, 32), 0.4)}, "sum to one"),
        ({"probabilities": np.full((2, 24, 32), np.nan)}, "expected finite probabilities"),
        (
            {"probabilities": np.ones((24, 32))},
            "expected probabilities as floats C×H×W with C of 1 to 255, got float64 24×32",
        ),
        ({"probabilities": np.ones((1, 24, 32), int)}, "got int64 1×24×32"),
        ({"p": np.ones(3)}, "expected an array probabilities, got p"),
        ({"probabilities": np.array([{}], object)}, "got pickled objects, which are never read"),
    ],
)
def test_probabilities_that_do_not_fit(
    case: tuple[Path, np.ndarray], arrays: dict, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = case
    np.savez(folder / "p.npz", **arrays)
    assert run(folder) == 2
    line = capsys.readouterr().err.strip()
    assert message in line and "p.npz" in line and "\n" not in line
    assert not (folder / "mask.png").exists()


def test_other_files_and_settings_that_do_not_fit(
    case: tuple[Path, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, probabilities = case
    for prepare, more, message in [
        (lambda: None, [], "expected a file of probabilities, found no file"),
        (lambda: (folder / "p.npz").write_bytes(b"PK\x03\x04half"), [], "got a damaged file"),
        (lambda: np.save((folder / "p.npz").open("wb"), np.ones(3)), [], "got a single array"),
        (
            lambda: Image.new("RGB", (8, 8)).save(folder / "p.npz", "JPEG"),
            [],
            "expected an .npz file with an array probabilities, got a JPEG picture; save with np.savez(",
        ),
        (lambda: (folder / "p.npz").write_bytes(pickle.dumps({})), [], "got another kind of file"),
        (lambda: (folder / "p.npz").write_bytes(b""), [], "got an empty file"),
        (
            lambda: np.savez(folder / "p.npz", probabilities=probabilities),
            ["--gaussian-xy", "0"],
            "gaussian_xy above 0",
        ),
        (lambda: None, ["--output", str(folder / "mask.jpg")], "expected a file that ends in .png"),
        (lambda: None, ["--output", str(folder / "a.png")], "expected another file to write to"),
        (lambda: None, ["--marginals", str(folder / "p.npz")], "expected another file to write to"),
        (lambda: (folder / "a.png").unlink(), [], "a.png"),
    ]:
        prepare()
        assert run(folder, *more) == 2
        assert message in capsys.readouterr().err
