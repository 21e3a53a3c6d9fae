"""The command line: parsing, exit statuses, and one clear line for everything that is wrong."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from attnbn.adapt_config import check_comparison
from attnbn.cli import adapt
from attnbn.cli.main import COMMANDS, main
from attnbn.cli.segment_train import parse as parse_segment
from attnbn.cli.train import parse
from attnbn.io.errors import InputError
from attnbn.recipes import describe, names

ROWS = ("grad-cam", "source-target", "source-attention", "finetune", "joint", "attnbn")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two classes of two photographs each, with saliency beside them."""
    rng = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        for folder in ("source", "maps"):
            (tmp_path / folder / kind).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(tmp_path / f"source/{kind}/{i}.jpg")
            saliency = np.zeros((20, 24), np.uint8)
            saliency[5:15, 5:20] = 255
            Image.fromarray(saliency).save(tmp_path / f"maps/{kind}/{i}.png")
    return tmp_path


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def fails(capsys: pytest.CaptureFixture[str], status: int, *arguments: object) -> str:
    """The single line on stderr of a command that fails."""
    assert run(*arguments) == status
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("attnbn: ")
    return lines[0]


def small(source: Path, *extra: object) -> list[object]:
    return [
        "train", "--config", "attnbn", "--data.source", f"folders:{source}/source", "--data.saliency", source / "maps",
        "--data.target", f"folders:{source}/source", "--model.backbone", "small", "--model.weights", "null",
        "--data.size", 64, "--training.steps", 2, "--training.batch_size", 2, "--workers", 0, "--device", "cpu",
        "--output", source / "run", *extra,
    ]  # fmt: skip


def test_every_recipe_of_the_contract_is_there_and_resolves() -> None:
    wanted = {f"{kind}-{row}" for kind in ("table1", "animals", "demo") for row in ROWS}
    wanted |= {
        "table6",
        "table7",
        "five",
        "animals-adapt",
        "demo-adapt",
        "table2-10",
        "table2-50",
        "table2-100",
        "attnbn",
        "grad-cam",
    }
    assert wanted <= set(names())
    for name in names():
        recipe = describe(name)
        assert recipe.title
        assert {"command", "hardware", "cost", "paper", "ours"} <= set(recipe.details), name
        _, command, *words = shlex.split(recipe.details["command"])
        if command == "adapt":
            check_comparison(adapt.parse(words).config)
        else:
            (parse_segment if command == "segment" else parse)(["--config", name])


@pytest.mark.parametrize(
    ("parser", "recipe", "right"),
    [(parse, "dsrg-vgg16", "attnbn segment train"), (parse_segment, "animals-attnbn", "attnbn train")],
)
def test_a_recipe_of_the_other_kind_is_named_with_its_command(parser: Any, recipe: str, right: str) -> None:
    with pytest.raises(InputError, match=f"got those for {right}"):
        parser(["--config", recipe])


def test_dsrg_is_the_originals() -> None:
    config = parse_segment(["--config", "table3-30k"]).config
    training, crf = config.training, config.dsrg.crf
    assert (training.steps, training.lr, training.drop, training.batch_size) == (8000, 5e-4, 0.33, 20)
    assert [round(8000 * point) for point in training.drop_at] == list(range(1000, 8000, 1000))
    assert (training.momentum, training.weight_decay, training.head_lr) == (0.9, 5e-4, 10)
    assert (config.dsrg.foreground, config.dsrg.background) == (0.85, 0.99)
    assert (crf.iterations, crf.bilateral_weight, crf.bilateral_rgb, crf.gaussian_weight) == (10, 10, 13, 3)
    assert (crf.bilateral_xy / crf.shrink, crf.gaussian_xy / crf.shrink, crf.unary) == (80 / 12, 3 / 12, "linear")
    assert [round(config.data.size * scale) for scale in config.inference.scales] == [241, 321, 401]


@pytest.mark.parametrize("kind", ["table1", "animals", "demo"])
def test_rows_are_choices_of_weights(kind: str) -> None:
    on = {row: {k for k, v in vars(parse(["--config", f"{kind}-{row}"]).config.loss).items() if isinstance(v, float) and v}
          for row in ROWS}  # fmt: skip
    assert on["grad-cam"] == {"target_cl"}
    assert on["source-target"] == {"source_cl", "target_cl"}
    assert on["source-attention"] == {"source_cl", "attention"}
    assert on["joint"] == on["finetune"] == {"source_cl", "attention", "target_cl"}
    assert on["attnbn"] == {"source_cl", "attention", "target_cl", "adversarial"}
    phases = parse(["--config", f"{kind}-finetune"]).config.training.phases
    assert [phase.terms for phase in phases] == [["source_cl", "attention"], ["target_cl"]]
    training = [parse(["--config", f"{kind}-{row}"]).config.training for row in ROWS]
    assert len({(t.epochs, t.steps, t.epoch_steps, t.batch_size) for t in training}) == 1  # equal steps


def test_table1_is_the_papers() -> None:
    config = parse(["--config", "table1-attnbn"]).config
    assert (config.loss.attention, config.loss.adversarial, config.training.lr) == (2, 1e-3, 1e-4)
    assert (config.training.epochs, config.training.drop_at, config.data.size) == (30, [0.6666667], 224)
    assert config.model.backbone == "vgg16"


def test_options_win_wherever_they_stand() -> None:
    for arguments in (
        ["--loss.attention", "5", "--config", "table1-attnbn", "--data.classes", "cat,dog"],
        ["--data.classes", "cat,dog", "--config=table1-attnbn", "--loss.attention=5"],
    ):
        config = parse(arguments).config
        assert (config.loss.attention, config.data.classes, config.loss.adversarial) == (5, "cat,dog", 1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "animals-attbn"], "did you mean animals-attnbn"),
        (["--config"], "after --config"),
        (["--loss.attention", "much"], "expected --loss.attention to be a number, got much"),
        (["--training.steps", "abc"], "expected --training.steps to be a whole number or null, got abc"),
        (["--loss.atention", "1"], "unknown option --loss.atention, did you mean --loss.attention?"),
        (["--steps", "1"], "unknown option --steps, did you mean --training.steps?"),
        (["--resume", "x", "--loss.attention", "1"], "leave out --loss.attention"),
        (["--model.head", "old"], "expected --model.head to be one of .keep., .new., got old"),
    ],
)
def test_bad_options_are_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=f"(?i){message}") as error:
        parse(arguments)
    assert "\n" not in str(error.value)


def test_help_is_fast_and_without_torch() -> None:
    code = "import sys; from attnbn.cli.main import main; main(['--help']); sys.exit('torch' in sys.modules)"
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, "torch was imported"
    assert all(name in done.stdout for name in COMMANDS)
    assert time.perf_counter() - began < 10  # a hang, not a speed: that stands in docs/results.md


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(command, "--help")
    assert stop.value.code == 0
    assert f"attnbn {command}" in capsys.readouterr().out


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, attnbn; assert 'torch' not in sys.modules; dir(attnbn); from attnbn import class_attention"
    subprocess.run([sys.executable, "-c", code], check=True)
    import attnbn

    assert all(getattr(attnbn, name) is not None for name in attnbn.__all__)


def test_from_training_to_pictures(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*small(source)) == 0
    assert "0.2, the default" in capsys.readouterr().out
    stored = yaml.safe_load((source / "run/config.yaml").read_text())
    assert stored["data"]["classes"] == ["cat", "dog"]
    assert "torch" in stored["versions"]
    assert fails(capsys, 2, *small(source)).endswith("run")  # finished: refused
    assert run(*small(source, "--overwrite")) == 0
    assert run("train", "--resume", source / "run") == 0
    capsys.readouterr()
    assert run("evaluate", source / "run", "--target", f"folders:{source}/source", "--json", source / "out.json") == 0
    assert "the data set has no masks" in capsys.readouterr().out
    assert run("attend", source / "run", source / "source", "--output", source / "seen", "--masks") == 0
    assert len(list((source / "seen/masks").rglob("*.png"))) == 4
    with np.load(source / "seen/maps/cat/0.npz", allow_pickle=False) as data:
        assert data["maps"].shape[1:] == (40, 48)
        assert data["maps"].dtype == np.float16


def test_attend_writes_only_where_it_may(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*small(source)) == 0
    capsys.readouterr()
    line = fails(capsys, 2, "attend", source / "run", source / "source/cat", "--output", source / "maps")
    assert "expected a new or empty folder" in line
    (source / "bad.jpg").write_bytes(b"")
    assert str(source / "bad.jpg") in fails(
        capsys, 2, "attend", source / "run", source / "bad.jpg", "--output", source / "z"
    )
    assert not (source / "z").exists()


def test_a_recipe_file_that_is_no_yaml(tmp_path: Path) -> None:
    for text, message in (
        ("a: [1", "expected YAML"),
        ("- 1", "expected settings by name"),
        ("training: {stpes: 1}", "steps"),
    ):
        (tmp_path / "mine.yaml").write_text(text)
        with pytest.raises(InputError, match=message):
            parse(["--config", str(tmp_path / "mine.yaml")])


def test_bad_input_is_one_line_and_leaves_nothing(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def failing(*extra: object) -> str:
        line = fails(capsys, 2, *small(source, *extra))
        assert not (source / "run").exists()
        return line

    assert "give --data.target" in failing("--data.target", "null")
    assert "give --data.saliency" in failing("--data.saliency", "null")
    assert "did you mean" in failing("--data.classes", "cat,dgo") or "dgo" in failing("--data.classes", "cat,dgo")
    assert "training.batch_size of at least 1" in failing("--training.batch_size", 0)
    assert "--device to be one of" in failing("--device", "tpu")
    assert "--precision to be one of" in failing("--precision", "8")
    assert "in (0, 1]" in failing("--data.source_fraction", 2)
    (source / "maps/cat/0.png").rename(source / "maps/cat/9.png")
    line = failing()
    assert "cat/0" in line
    assert "maps" in line
    (source / "maps/cat/9.png").rename(source / "maps/cat/0.png")
    (source / "source/horse").mkdir()
    Image.new("RGB", (32, 32)).save(source / "source/horse/0.jpg")
    (source / "maps/horse").mkdir()
    Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save(source / "maps/horse/0.png")
    other = source / "target"
    for kind in ("cat", "dog"):
        (other / kind).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(other / kind / "0.jpg")
    assert "horse" in failing("--data.target", f"folders:{other}")


def test_broken_photographs_stop_the_run_or_are_left_out(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = source / "source/cat/0.jpg"
    broken.write_bytes(broken.read_bytes()[:100])
    assert run(*small(source)) == 2
    assert "source/cat/0.jpg" in capsys.readouterr().err
    assert not (source / "run").exists()
    assert run(*small(source, "--data.skip_broken", "true")) == 0
    assert "left out 1 of 4 images that cannot be read" in capsys.readouterr().err


def test_a_refused_overwrite_keeps_the_old_run(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*small(source)) == 0
    before = (source / "run/results.json").read_bytes()
    for extra in (
        ("--training.steps", 0),
        ("--training.warmup", -1),
        ("--training.momentum", 1),
        ("--training.batch_size", 3, "--devices", 2),
        ("--model.weights", "nowhere.pth"),
        ("--config", "demo-finetune", "--loss.target_cl", 0),
    ):
        assert run(*small(source, "--overwrite", *extra)) == 2, extra
        assert (source / "run/results.json").read_bytes() == before
    capsys.readouterr()


def test_a_runs_own_files_serve_the_next(source: Path) -> None:
    assert run(*small(source)) == 0
    again = ["train", "--config", source / "run/config.yaml", "--output", source / "again"]
    weights = next((source / "run/checkpoints").glob("step-*")) / "tensors.safetensors"
    assert run(*again, "--model.weights", weights) == 0


def test_nan_names_the_step_and_every_term(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    often = ["--training.checkpoint_every", 1, "--training.checkpoint_share", 1]
    assert run(*small(source, "--training.lr", 1e30, "--training.steps", 20, *often)) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "is not finite at step" in line
    assert all(term in line for term in ("source_cl", "attention", "target_cl", "adversarial"))
    assert list((source / "run/checkpoints").iterdir())


def test_unknown_command_and_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean train?" in fails(capsys, 2, "trian")
    assert run() == 2
    assert run("--version") == 0


def test_evaluate_without_a_run(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected the folder of a run" in fails(capsys, 2, "evaluate", source, "--target", "scenes:target")
    assert "the following arguments are required: --target" in fails(capsys, 2, "evaluate", source)
