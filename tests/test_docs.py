"""The documentation held to the program: its Python runs, its commands parse, what it quotes and names exists."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import shlex
import socket
import textwrap
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest

from attnbn import config, recipes, segment_config
from attnbn.cli import main, segment_train, train
from attnbn.cli.options import Parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TAUGHT = ("README.md", "python.md", "segmentation.md")
"""Pages whose Python is run."""


class Block(NamedTuple):
    """A fenced block: the words after the fence, its text, and where it stands."""

    words: tuple[str, ...]
    text: str
    place: str


def blocks(page: Path) -> list[Block]:
    found, words, inside, start = [], (), None, 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.startswith("```"):
            if inside is not None:
                inside.append(line)
        elif inside is None:
            words, inside, start = tuple(line[3:].split()), [], number
        else:
            found.append(Block(words, "\n".join(inside) + "\n", f"{page.name}:{start}"))
            inside = None
    assert inside is None, f"a block that begins in line {start} of {page.name} does not end"
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def inline(page: Path) -> list[str]:
    """Code in backticks within the text."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]


ALL = [block for page in PAGES for block in blocks(page)]
PYTHON = [b for b in ALL if b.words[:1] == ("python",) and b.place.split(":")[0] in TAUGHT]
RUN = [b for b in PYTHON if b.words == ("python",)]
NOT_RUN = [b for b in PYTHON if b.words == ("python", "no-run")]
QUOTED = [b for b in ALL if b.words[:1] == ("python",) and b.place.startswith("method.md")]


def places(found: list[Block]) -> dict[str, object]:
    return {"argvalues": found, "ids": [block.place for block in found]}


@pytest.mark.parametrize("block", **places(RUN))
def test_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object) -> NoReturn:
        raise AssertionError("the documentation's examples download nothing")

    monkeypatch.setattr(socket.socket, "connect", offline)
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, block.place, "exec"), {"__name__": "example"})


@pytest.mark.parametrize("block", **places(NOT_RUN))
def test_python_that_needs_files_compiles_and_its_imports_exist(block: Block) -> None:
    tree = ast.parse(block.text, block.place)
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert tree.body
    exec(compile(tree, block.place, "exec"), {})


def test_every_python_block_is_run_or_says_that_it_is_not() -> None:
    assert RUN and len(RUN) + len(NOT_RUN) == len(PYTHON)
    everywhere = [block for block in ALL if block.words[:1] == ("python",)]
    assert len(everywhere) == len(PYTHON) + len(QUOTED)


def commands() -> list[tuple[str, str]]:
    """Every ``attnbn ...`` line of the shell blocks and the text, with its place."""
    found = []
    for block in ALL:
        if block.words[:1] == ("sh",):
            lines = block.text.replace("\\\n", " ").splitlines()
            parts = [part.strip() for line in lines for part in line.split("&&")]
            found += [(part, block.place) for part in parts if part.startswith("attnbn ")]
    for page in PAGES:
        found += [(code, page.name) for code in inline(page) if code.startswith("attnbn ")]
    return list(dict.fromkeys(found))


class Parsed(Exception):
    """Raised once a command line has been parsed, so that the command does nothing."""


@pytest.fixture
def parse_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("parse_args", "parse_intermixed_args"):
        original = getattr(Parser, name)

        def parse(self: Parser, *arguments: object, original: Any = original) -> NoReturn:
            original(self, *arguments)
            raise Parsed

        monkeypatch.setattr(Parser, name, parse)
    monkeypatch.chdir(tmp_path)
    for block in ALL:
        if block.words[:1] == ("yaml",):
            Path(block.words[1]).write_text(block.text)


@pytest.mark.parametrize(("line", "place"), commands())
def test_command_lines_parse(line: str, place: str, parse_only: None, capsys: pytest.CaptureFixture[str]) -> None:
    _, command, *arguments = shlex.split(line, comments=True)
    if command.startswith("--"):
        assert main.main([command]) == 0
        return
    assert command in main.COMMANDS
    if place.endswith(".md") and not arguments:  # in the text, a command by its name alone
        return
    parsers = {("train",): train.parse, ("segment", "train"): segment_train.parse}
    for words, parse in parsers.items():
        if (command, *arguments)[: len(words)] == words:
            own = arguments[len(words) - 1 :]
            if "--print_config" in own:
                with pytest.raises(SystemExit) as printed:
                    parse(own)
                assert not printed.value.code
                assert "training:" in capsys.readouterr().out
            else:
                parse(own)
            return
    with pytest.raises((Parsed, SystemExit)) as stopped:
        importlib.import_module(f"attnbn.cli.{command.replace('-', '_')}").main(arguments)
    assert getattr(stopped.value, "code", 0) == 0
    if command == "recipes" and arguments:
        assert arguments[0] in recipes.names()


def test_the_tests_of_commands_can_fail(parse_only: None) -> None:
    for line in ("--config attnbn --loss.attentoin 1", "--config no-such-recipe", "--training.steps many"):
        with pytest.raises(ValueError, match="attentoin|neither|training.steps"):
            train.parse(line.split())
    with pytest.raises(ValueError, match="unrecognized arguments: --maks"):
        importlib.import_module("attnbn.cli.attend").main(["RUN", "PHOTO", "--output", "DIR", "--maks"])


@pytest.mark.parametrize("block", **places([b for b in ALL if b.words[:1] == ("yaml",)]))
def test_yaml_is_a_recipe(block: Block, tmp_path: Path) -> None:
    file = tmp_path / block.words[1]
    file.write_text(block.text)
    config.check_config(train.parse(["--config", str(file)]).config)


def occurs(quote: str, source: str) -> bool:
    """Whether the quoted lines stand in the source one after the other, indented as they may be."""
    wanted = textwrap.dedent(quote).strip("\n").splitlines()
    lines = source.splitlines()
    windows = (lines[i : i + len(wanted)] for i in range(len(lines) - len(wanted) + 1))
    return any(textwrap.dedent("\n".join(window)).splitlines() == wanted for window in windows)


@pytest.mark.parametrize("block", **places(QUOTED))
def test_quotes_are_verbatim(block: Block) -> None:
    source = ROOT / block.words[1]
    assert occurs(block.text, source.read_text(encoding="utf-8")), f"no longer in {block.words[1]}"


def test_a_changed_quote_is_noticed() -> None:
    source = "def f(x):\n    y = x + 1\n    return y\n"
    assert occurs("y = x + 1\nreturn y\n", source) and occurs("    y = x + 1\n", source)
    assert not occurs("y = x + 2\n", source) and not occurs("y = x + 1\n\nreturn y\n", source)


def test_method_quotes_and_names_something_for_each_equation() -> None:
    titles = re.findall(r"^## Eq\. (\d)", (ROOT / "docs/method.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert titles == list("1234567") and len(QUOTED) >= 7


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_and_named_code_exists(page: Path) -> None:
    for text, target in re.findall(r"\[(`?[^]]*`?)\]\(([^)]+)\)", prose(page)):
        if "://" in target or target.startswith("#"):
            continue
        file = (page.parent / target.partition("#")[0]).resolve()
        assert file.is_file(), f"{page.name} links to {target}, which does not exist"
        if text.startswith("`") and file.suffix == ".py":
            value: object = importlib.import_module(".".join(file.relative_to(ROOT / "src").with_suffix("").parts))
            for name in text.strip("`").split("."):
                value = getattr(value, name)


SECTIONS = {
    "data": (config.DataConfig, segment_config.SegmentData),
    "model": (config.ModelConfig, segment_config.SegmenterConfig),
    "loss": (config.LossConfig,),
    "training": (config.TrainingConfig,),
    "dsrg": (segment_config.DsrgConfig,),
    "inference": (segment_config.InferenceConfig,),
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_settings_recipes_files_and_tests_exist(page: Path) -> None:
    for code in inline(page):
        if setting := re.fullmatch(r"(?:--)?(data|model|loss|training|dsrg|inference)\.(\w+)(?: \S+)?", code):
            fields = {field.name for kind in SECTIONS[setting[1]] for field in dataclasses.fields(kind)}
            assert setting[2] in fields, f"{page.name} names the setting {code}"
        if re.fullmatch(r"(table\d|animals|demo)-[a-z0-9-]+", code):
            assert code in recipes.names(), f"{page.name} names the recipe {code}"
        if path := re.fullmatch(r"((?:src|tests|docs|benchmarks)/[\w/.-]+)(?:::(\w+))?", code):
            assert (ROOT / path[1]).exists(), f"{page.name} names {code}"
            if path[2]:
                text = (ROOT / path[1]).read_text(encoding="utf-8")
                assert f"def {path[2]}(" in text, f"{page.name} names {code}"


def test_the_readme_begins_with_the_program_and_then_its_tests() -> None:
    first, second = [block for block in blocks(ROOT / "README.md") if block.words == ("sh",)][:2]
    assert first.text == "pip install -e . && attnbn demo\n"
    assert second.text == 'pip install -e ".[dev]" && pytest\n'


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_no_figure_is_left_to_be_filled_in(page: Path) -> None:
    assert not re.findall(r"\b(?:MEASURE|FACTS|TABLE-[A-Z]+|TEXT-[A-Z]+|CI-TIME)\b", page.read_text(encoding="utf-8"))
