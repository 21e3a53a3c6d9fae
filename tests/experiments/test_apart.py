"""Results do not lie among the data."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from attnbn.cli.main import main
from attnbn.experiments.apart import check_apart
from attnbn.io.errors import InputError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for domain in ("A", "A_saliency", "B"):
        for name in ("cat", "dog"):
            folder = tmp_path / domain / name
            folder.mkdir(parents=True)
            for number in range(8):
                Image.new("RGB", (40, 40), (number * 20, 90, 30)).save(folder / f"{number}.png")
    return tmp_path


def test_in_a_data_set_or_beside_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [f"folders:{data / 'A'}", "scenes:studio", None]
    for name in ("out", "A-out", ""):  # beside it, or around it
        check_apart(data / name, specs, [str(data / "A_saliency"), "unsupervised", None])
    for name in ("A", "A/out", "A/cat/out", "A_saliency/out", "B/../A/out"):
        with pytest.raises(
            InputError, match="expected an --output apart from the data, got one in .*/A(_saliency)?, where"
        ):
            check_apart(data / name, specs, [str(data / "A_saliency")])
    monkeypatch.chdir(data / "A")
    with pytest.raises(InputError, match="apart from the data"):
        check_apart(Path("out"), specs)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--config", "attnbn", "--data.source", "folders:A", "--data.saliency", "A_saliency", "--data.target",
         "folders:B", "--data.selection_split", "null", "--model.backbone", "small", "--model.weights", "null"],
        ["adapt", "--config", "five", "--domains", "A=folders:A", "B=folders:B", "--rows", "source", "--model.freeze", "0",
         "--model.backbone", "small", "--no-trials", "--device", "cpu"],
    ],
    ids=["train", "adapt"],
)  # fmt: skip
def test_commands_refuse_it_and_leave_nothing(
    words: list[str], data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(data)
    assert main([*words, "--output", "B/out"]) == 2
    assert "apart from the data" in capsys.readouterr().err
    assert sorted(path.name for path in (data / "B").iterdir()) == ["cat", "dog"]
