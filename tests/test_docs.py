"""Every code block of the README and of `docs/` is run as written, or says why it is not.

A page's blocks run in order in one empty folder: `wgan` commands through the command line's own
entry point, Python in one namespace. A Python block that begins with ``# name.py`` becomes that
file instead. A block that is not run stands below a line ``<!-- not run: the reason -->``.
"""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from wgan.cli import main
from wgan.constraints import CONSTRAINTS
from wgan.objectives import OBJECTIVES
from wgan.plugins import isolated

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?P<skip><!-- not run: \S.* -->\n+)?^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
FILE = re.compile(r"# ([\w.-]+\.py)\n")
RUN = ("bash", "python")
SHOWN = ("text", "yaml", "toml", "toctree", "json", "make")


def blocks(page: Path) -> list[tuple[str, str, bool]]:
    text = page.read_text()
    return [(m["language"], m["code"], bool(m["skip"])) for m in BLOCK.finditer(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_as_written(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for language, code, skip in blocks(page):
        assert language in (*RUN, *SHOWN), f"a block in {language!r}"
        if skip or language in SHOWN:
            continue
        if language == "python" and (file := FILE.match(code)):
            assert code.count("\n") < 30, f"{file[1]} is long for an example"
            Path(file[1]).write_text(code)
            continue
        if language == "python":
            exec(compile(code, str(page), "exec"), namespace)
            continue
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                assert words[0] == "wgan", f"not a wgan command: {line}"
                with isolated():  # plugins too are loaded by each command anew
                    assert main(words[1:]) == 0, f"{line}\n{capsys.readouterr().err}"


def test_every_page_is_found() -> None:
    assert {"README", "index"} <= {page.stem for page in PAGES}


def rows(title: str) -> dict[str, list[str]]:
    """The table below a title of the page on objectives and constraints: cells by name."""
    text = (ROOT / "docs" / "objectives-and-constraints.md").read_text()
    section = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {name.strip("`"): rest for name, *rest in cells}


def fields_of(part: type) -> str:
    found = [
        f"`{field.name}` {field.default if field.default != '' else repr('')}"
        for field in dataclasses.fields(part)
    ]
    return ", ".join(found) or "none"


def test_the_table_of_objectives_is_that_of_the_package() -> None:
    table = rows("Objectives")
    assert set(table) == set(OBJECTIVES)
    for name, (critic, generator, fields, records, source) in table.items():
        part = OBJECTIVES[name]
        meaning = part.meaning.replace("|", r"\|")
        assert fields == fields_of(part), name
        assert records == (f"`{part.estimate}`: {meaning}" if part.estimate else meaning), name
        assert critic, name
        assert generator, name
        assert re.search(r"\d{4}", source), name


def test_the_table_of_constraints_is_that_of_the_package() -> None:
    table = rows("Constraints")
    assert set(table) == set(CONSTRAINTS)
    for name, (what, fields, records, source) in table.items():
        part = CONSTRAINTS[name]
        assert fields == fields_of(part), name
        assert what, name
        for term in ("term", "slope_term"):
            assert f"`{getattr(part, term, '')}`" in records or not hasattr(part, term), name
        assert re.search(r"\d{4}", source), name
