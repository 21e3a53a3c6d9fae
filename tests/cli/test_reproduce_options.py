"""``attnbn reproduce``: its words become settings for every row, and what is wrong is said in one line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from attnbn.cli.main import main
from attnbn.cli.reproduce import parse, table
from attnbn.experiments.studies import BENCH, STUDIES
from attnbn.io.errors import InputError


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """The places that ``--bench`` names, empty."""
    for _, place in BENCH.values():
        (tmp_path / place).mkdir(parents=True)
    return tmp_path


def test_all_rows_get_the_bench_and_the_settings(bench: Path) -> None:
    words = f"--loss.attention 5 animals --bench {bench} --seeds 2 0 2 --training.epochs=3 --output OUT --device cpu"
    command = parse(words.split())
    assert [row.name for row in command.rows] == list(command.configs) == [row.name for row in STUDIES["animals"].rows]
    assert command.options.seeds == [2, 0]
    for config in command.configs.values():
        assert config.data.source == f"folders:{bench}/animals/source"
        assert config.data.target == f"voc:{bench}/animals/VOC2012"
        assert config.data.saliency == f"{bench}/animals/source_saliency"
        assert config.model.weights == f"{bench}/weights/squeezenet1_1.pth"
        assert (config.training.epochs, config.device) == (3, "cpu")
        assert config.data.cache == "OUT/cache"  # frozen layers and fixed views: shared by all rows
    assert [config.loss.attention for config in command.configs.values()] == [0, 0, 5, 5, 5, 5]


def test_no_cache_is_a_choice(tmp_path: Path) -> None:
    words = ["animals", "--rows", "attnbn", "--output", "OUT"]
    (tmp_path / "mine.yaml").write_text("data: {cache: null}")
    for given, cache in (
        ([], "OUT/cache"),
        (["--data.cache", "null"], None),
        (["--data.cache=null"], None),
        (["--config", str(tmp_path / "mine.yaml")], None),
        (["--data.cache", "mine"], "mine"),
    ):
        assert parse([*words, *given]).configs["attnbn"].data.cache == cache


def test_a_setting_wins_over_the_bench(bench: Path) -> None:
    (bench / "weights/squeezenet1_1.pth").rmdir()
    command = parse(
        ["animals-table2", "--bench", str(bench), "--model.weights", "null", "--rows", "10", "--output", "OUT"]
    )
    assert list(command.configs) == ["10"]
    assert command.configs["10"].model.weights is None
    assert command.configs["10"].data.source_fraction == 0.1
    with pytest.raises(InputError, match=r"found no .*squeezenet1_1.pth \(or give --model.weights\): --bench"):
        parse(["animals", "--bench", str(bench), "--output", "OUT"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("animals", "the following arguments are required: --output"),
        ("animal --output O", "invalid choice: 'animal'"),
        ("animals --output O --rows gradcam", "unknown row 'gradcam' of animals, expected some of grad-cam"),
        ("animals --output O --seed 3", "unexpected --seed: give --seeds"),
        ("animals --output O --resume X", "the same command goes on"),
        ("animals --output O --seeds -1", "at least 0"),
        ("animals --output O --processes 0", "at least 1"),
        ("animals --output O --loss.atention 1", "did you mean --loss.attention.*see attnbn reproduce --help"),
        ("animals --output O --training.steps many", "whole number or null, got many"),
        ("animals --output O --data.size", "expected a value after --data.size"),
        ("animals --output O --data.size --overwrite", "expected a value after --data.size"),
        ("animals --output O --devices 2", "expected --devices 1"),
        ("animals --output O --bench nowhere", "found no nowhere/animals/source .or give --data.source., no nowhere"),
        ("table1 --output O --bench nowhere", "for table1 give --data.source, --data.saliency, --data.target"),
        ("table2 --output O --data.source_fraction 0.3", "rows of table2 differ in data.source_fraction"),
        ("animals --output O extra", "unrecognized arguments: extra"),
    ],
)
def test_bad_options_are_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", *words.split()]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    with pytest.raises(InputError, match=message):
        parse(words.split())


def test_the_table() -> None:
    rows = STUDIES["animals"].choose(["grad-cam", "attnbn"])
    entry = {"threshold": 0.1, "seconds": 10.0}
    results = {
        "rows": [
            {"row": "grad-cam"} | entry,
            {"row": "attnbn"} | entry,
            {"row": "attnbn", "threshold": 0.25, "seconds": 21.0, "seconds_since_resume_at_step": 3},
        ],
        "summary": [
            {"row": "grad-cam", "label": "Grad-CAM (L_t-cl)", "n": 1, "miou": {"mean": 0.286, "sd": None},
             "given_labels": {"mean": 0.36, "sd": None}, "mean_ap": {"mean": 0.715, "sd": None},
             "gain": None, "iou": {"background": 0.641, "cat": 0.318}},
            {"row": "attnbn", "label": "AttnBN", "n": 2, "miou": {"mean": 0.397, "sd": 0.004},
             "given_labels": {"mean": 0.5, "sd": 0.01}, "mean_ap": {"mean": None, "sd": None},
             "gain": 0.111, "iou": {"background": 0.746, "cat": None}},
        ],
    }  # fmt: skip
    lines = table(rows, results)
    assert [" ".join(line.split()) for line in lines] == [
        "paper mIoU gain labels given mean AP threshold seconds",
        "Grad-CAM (L_t-cl) 30.2 28.6 – 36.0 71.5 0.10 10",
        "AttnBN 50.9 39.7 ± 0.4 +11.1 50.0 ± 1.0 – 0.10, 0.25 > 16",
        "",
        "IoU backgr cat",
        "Grad-CAM (L_t-cl) 64.1 31.8",
        "AttnBN 74.6 –",
    ]


def test_from_the_command_line_to_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(
        "animals --rows grad-cam --data.target scenes:target?count=24 --data.classes null --model.backbone small "
        "--model.freeze 0 --data.size 48 --training.steps 2 --training.batch_size 2 --device cpu --workers 0"
    )
    assert main(["reproduce", *words, "--output", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert "Grad-CAM (L_t-cl)" in told.out and "mIoU in per cent on dev (cross-fitted)" in told.out
    assert "1 of 1 runs are finished" in told.err
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["command"].startswith("attnbn reproduce animals --rows grad-cam ")
    assert "Failures" in (tmp_path / "out/report.html").read_text()


def test_classifiers_on_the_way_to_masks_are_trained_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(
        "animals-table3 --rows grad-cam --data.target scenes:target?count=24 --data.classes null --model.backbone small "
        "--model.freeze 0 --data.size 48 --training.steps 2 --training.batch_size 2 --device cpu --workers 0 "
        "--segment.model.network small --segment.data.size 48 --segment.training.steps 2 --segment.training.batch_size 2 "
        "--segment.inference.crf.iterations 1 --segment.inference.scales [1.0] --segment.model.freeze 0"
    )
    for further in ([], ["--overwrite"], []):
        assert main(["reproduce", *words, *further, "--output", str(tmp_path / "out")]) == 0
        told = capsys.readouterr()
        assert "before CRF" in told.out and "masks.html" in told.out
        counts = [line for line in told.err.splitlines() if "1 runs are finished" in line]
        assert len(counts) == 1 and "1 of 1 runs" in counts[0]


def test_the_animals_without_their_bench(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "animals", "--output", "O"]) == 2
    assert (
        "expected the animals' folder (benchmarks/animals builds it) for animals: give --bench DIR"
        in capsys.readouterr().err
    )
