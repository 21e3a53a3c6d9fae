"""Settings that anybody may have written: plain values are taken, code is never run, nothing grows without measure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from attnbn.adapt_config import AdaptConfig
from attnbn.cli.main import main
from attnbn.cli.settings import parse_settings
from attnbn.cli.train import parse
from attnbn.io.run_folder import RunFolder
from attnbn.io.yaml_file import read_yaml
from fuzz.guards import refused, small_and_fast, within

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]\n" for i in range(9)
)
REFUSED = {
    "aliases of aliases": (LAUGHS, "got more .aliases of aliases"),
    "a value that holds itself": ("data: &a {classes: *a}", "holds itself"),
    "a list that holds itself": ("&a [*a]", "holds itself"),
    "brackets": ("[" * 90_000, "at most 40 levels"),
    "braces": ("a: " + "{a: " * 500 + "1" + "}" * 500, "at most 40 levels"),
    "indented": ("".join(f"{' ' * i}a:\n" for i in range(400)), "at most 40 levels"),
    "dashes": ("- " * 20_000, "at most 40 levels"),
    "large": ("# nothing\n" * 40_000, "at most 100,000 characters"),
    "python object": ("a: !!python/object/apply:os.system ['touch ran']", "could not determine a constructor"),
    "python name": ("a: !!python/name:os.system", "could not determine a constructor"),
    "date": ("seed: 2024-13-45", "month must be in 1..12"),
    "no number": ("seed: !!int abc", "invalid literal"),
    "no bool": ("seed: !!bool x", "value that cannot be read"),
    "digits": ("seed: 1" + "0" * 5000, "Exceeds the limit"),
    "unhashable": ("? {a: 1}\n: 2", "unhashable"),
    "bell": ("a: \x07", "special characters"),
    "two documents": ("a: 1\n---\nb: 2", "single document"),
    "tab": ("a:\n\tb: 1", "could not read it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_yaml_that_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(REFUSED[name][0])
    small_and_fast(lambda: read_yaml(file), file, REFUSED[name][1])


@pytest.mark.parametrize("content", [b"\xff\xfea\0:\0 \0001\0", b"a: \xff", b"\0\0\0"])
def test_yaml_of_other_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "settings.yaml").write_bytes(content)
    refused(lambda: read_yaml(tmp_path / "settings.yaml"), "settings.yaml")


def test_plain_yaml_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: &x {b: [1, 2.5, null, yes]}\r\nc: *x\r\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"b": [1, 2.5, None, True]}, "c": {"b": [1, 2.5, None, True]}}
    (tmp_path / "a.yaml").write_text("a: {b: 1}\nc: '[[[ {{{'\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"b": 1}, "c": "[[[ {{{"}


def test_a_runs_own_settings_are_read_with_the_same_care(tmp_path: Path) -> None:
    for content, message in (
        REFUSED["aliases of aliases"],
        REFUSED["brackets"],
        REFUSED["date"],
        ("[1]", "settings of a run"),
    ):
        (tmp_path / "config.yaml").write_text(content)
        refused(lambda: RunFolder(tmp_path).config(), "config.yaml", message)


# what the option parser would import


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module ``trap_of_the_tests`` that leaves a file when it is imported."""
    marker = tmp_path / "ran"
    (tmp_path / "trap_of_the_tests.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Trap: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "trap_of_the_tests", raising=False)
    return marker


CLASS = "trap_of_the_tests.Trap"
TRAPS = [
    f"data: {{class_path: {CLASS}}}", f"data: {{class_path: {CLASS}, init_args: {{}}}}", f"model: {CLASS}", f"data: [{CLASS}]",
    f"training: {{phases: [{{class_path: {CLASS}}}]}}", f"training: {{phases: [{CLASS}]}}", f"training: {{phases: {CLASS}}}",
    f"training: {{phases: {{a: {CLASS}}}}}", f"data: {{class_map: {{class_path: {CLASS}}}}}",
]  # fmt: skip


@pytest.mark.parametrize("text", TRAPS)
def test_no_settings_file_imports_anything(tmp_path: Path, trap: Path, text: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    refused(
        lambda: parse(["--config", str(tmp_path / "s.yaml")]),
        "s.yaml",
        "settings by name|class to import|list of settings",
    )
    assert not trap.exists() and "trap_of_the_tests" not in sys.modules


@pytest.mark.parametrize(
    "words",
    [
        ["--model", CLASS], [f"--model={CLASS}"], ["--data", f"{{class_path: {CLASS}}}"], ["--model.class_path", CLASS],
        ["--training.phases", f"[{CLASS}]"], [f"--training.phases+={CLASS}"], ["--training.phases+", f"{{class_path: {CLASS}}}"],
    ],
)  # fmt: skip
def test_no_option_imports_anything(trap: Path, words: list[str]) -> None:
    refused(lambda: parse(words), None)
    assert not trap.exists() and "trap_of_the_tests" not in sys.modules


@pytest.mark.parametrize(
    "trials", [f"{{attnbn: [{{x: {{class_path: {CLASS}}}}}]}}", f"{{attnbn: [{{class_path: {CLASS}}}]}}", "fast", "[1]"]
)
def test_trials_are_plain_values(tmp_path: Path, trap: Path, trials: str) -> None:
    (tmp_path / "s.yaml").write_text(f"kind: adapt\ncompare: {{trials: {trials}}}\n")
    words = ["--config", str(tmp_path / "s.yaml")]
    refused(
        lambda: parse_settings(AdaptConfig, words, command="adapt", description="", epilog=""), None,
        "class to import|expected --compare.trials to be settings by name",
    )  # fmt: skip
    assert not trap.exists()


def test_plain_settings_on_the_command_line_still_work(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "data: {size: 64, class_map: {a: b}}\ntraining: {phases: [{share: 0.5, terms: [source]}]}\n"
    )
    config = parse(
        ["--config", str(tmp_path / "s.yaml"), "--data", '{"size": 96}', "--training.phases+", "{share: 2}"]
    ).config
    assert config.data.size == 96 and [phase.share for phase in config.training.phases] == [0.5, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: [1]", "expected data to be settings by name, got "),
        ("training: 3", "expected training to be settings by name, got 3"),
        ("data: null", "got nothing"),
        ("data: nothing.yaml", "got nothing.yaml"),
        ("config: /etc/passwd", "another file of settings"),
        ("data: {1: 2}", "expected the name of a setting, got 1"),
        ("3: 4", "expected the name of a setting, got 3"),
        ("kind: [1]", "kind"),
        ("[1]", "expected settings by name"),
        ("", "expected settings by name"),
        ("seed: {a: b}", "expected --seed to be a whole number"),
        ("data: {class_map: [1]}", "expected --data.class_map"),
        ("data: {scale: fast}", "expected --data.scale to be a list, got fast"),
        (f"data: {{class_map: {'x' * 10_000}: 1}}", "could not read|class_map"),
    ],
)
def test_settings_of_another_shape(tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with within(20):
        assert main(["train", "--config", str(tmp_path / "s.yaml"), "--output", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message.split("|")[0] in error or message.split("|")[-1] in error
    assert error.count("\n") == 1 and not (tmp_path / "run").exists()
