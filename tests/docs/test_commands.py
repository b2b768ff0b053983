"""What documents tell people to type: each command, flag, target and file that a line names exists; what can run does.

A block that begins with ```sh runs here, in an empty folder beside the checkout's own `eastgate`, without a network.
What needs more says what: ```sh kind, ```sh lab, or a line that ends in `# lab: ...`. In a block that begins with
```console each line after a $ runs, and what it prints is what stands below it; a line of `...` stands for any lines.
`console STAGE/NODE FILE` puts a config_dump of what a real istiod sent this node in that recorded stage beside it,
`console envoy/NODE` the files that a real Envoy there wrote.
"""

import doctest
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from eastgate.commands.cli import eastgate

from ..support import dumps

ROOT = Path(__file__).parents[2]
FIRST = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md")
PAGES = [*(ROOT / name for name in FIRST), *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(.*)$")
TARGETS = set(re.findall(r"^([a-z][\w-]*(?: [a-z][\w-]*)*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def blocks(page: Path) -> Iterator[tuple[str, int, list[str]]]:
    """Language, first line's number, lines: fenced ones, and those indented by a tab as ``indented``."""
    language, begin, lines = "", 0, list[str]()
    inside = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if match := FENCE.match(line):
            if inside:
                yield language, begin, lines
            inside, language, begin, lines = not inside, match[1].strip(), number + 1, []
        elif inside:
            lines.append(line)
        elif line.startswith("\t"):
            yield "indented", number, [line[1:]]


def typed(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Offset and text of each line that somebody types, continued ones joined."""
    joined, at = "", 0
    for offset, line in enumerate(lines):
        if not joined:
            at = offset
        joined += line
        if joined.endswith("\\"):
            joined = joined[:-1]
            continue
        yield at, joined.removeprefix("$ ").strip()
        joined = ""


def programs_of(line: str) -> Iterator[list[str]]:
    """Words of each program of a line, before a comment; none of what is no line of a shell."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    try:
        found = list(words)
    except ValueError:
        return
    program: list[str] = []
    for word in [*found, ";"]:
        if set(word) <= set(";|&()"):
            if program:
                yield program
            program = []
        else:
            program.append(word)


def eastgate_words(words: list[str]) -> list[str]:
    """What follows `eastgate` where it is the program, after variables, `kubectl exec ... --` or a folder."""
    if "--" in words and words[0] == "kubectl":
        words = words[words.index("--") + 1 :]
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return words[1:] if words and words[0] in {"eastgate", ".venv/bin/eastgate", "venv/bin/eastgate"} else []


def complaint(words: list[str]) -> str:
    """What no command of ours takes; empty for a line that is right."""
    command: click.Command = eastgate
    context = click.Context(command, info_name="eastgate")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            return f"no command {words[0]}"
        command, words = found, words[1:]
        context = click.Context(command, parent=context, info_name=command.name)
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h"}
    flags = [word.partition("=")[0] for word in words if word.startswith("--") and word != "--"]
    return ", ".join(f"no flag {flag}" for flag in flags if flag not in known)


def mistakes(page: Path) -> Iterator[str]:
    for _, begin, lines in blocks(page):
        for offset, line in typed(lines):
            for words in programs_of(line):
                # Elisions of prose: `eastgate record ...`.
                ours = [word for word in eastgate_words(words) if word != "..."]
                if ours and (said := complaint(ours)):
                    yield f"{page.name}:{begin + offset}: {said}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_flags_exist(page: Path) -> None:
    assert list(mistakes(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_of_make_exist(page: Path) -> None:
    known = {name for line in TARGETS for name in line.split()}
    named = set(re.findall(r"(?:^|`|\t)make ([a-z][a-z-]+)", page.read_text(), re.MULTILINE))
    assert named <= known | {"it"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_pages_that_are_linked_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, as GitHub calls them."""
    titles = [line.lstrip("#").strip() for line in page.read_text().splitlines() if re.match(r"#+ ", line)]
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_headings_that_are_linked_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text())
    targets = [(page.parent / name if name else page, anchor) for name, anchor in links if "://" not in name]
    assert [(file.name, anchor) for file, anchor in targets if anchor not in anchors(file)] == []


def test_every_page_is_linked_from_the_first() -> None:
    first = (ROOT / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"(docs/{page.name}" not in first] == []


def test_mistakes_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```\neastgate endpoint\n$ .venv/bin/eastgate explain X --what-iff a=b  # a comment\n```\n\n"
        "\tkubectl -n g exec deploy/x -- eastgate doctor --admon 1\n\n"
        "```\neastgate gateway --drain-time \\\n  3 --none\n```\n"
    )
    assert [line.split(": ")[0:2] for line in mistakes(page)] == [
        ["page.md:2", "no command endpoint"],
        ["page.md:3", "no flag --what-iff"],
        ["page.md:6", "no flag --admon"],
        ["page.md:9", "no flag --none"],
    ]


RUN = [
    pytest.param(page, begin, lines, id=f"{page.name}:{begin}")
    for page in PAGES
    for language, begin, lines in blocks(page)
    if language == "sh" and not any(re.search(r"# lab: ", line) for line in lines)
]


def run(script: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run lines of a shell in a folder that has the checkout's documents and mesh files."""
    for name in ("docs", "mesh"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(("page", "begin", "lines"), RUN)
def test_blocks_of_shell_run(page: Path, begin: int, lines: list[str], tmp_path: Path) -> None:
    done = run("\n".join(lines), tmp_path)
    assert done.returncode == 0, f"{page.name}:{begin}: {done.stderr}"
    assert "Traceback" not in done.stderr


def transcript(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Each line after a $, and what stands below it."""
    command, said = "", list[str]()
    for line in lines:
        if line.startswith("$ "):
            if command:
                yield command, "\n".join(said)
            command, said = line[2:], []
        else:
            said.append(line)
    if command:
        yield command, "\n".join(said)


TOLD = [
    pytest.param(language.split()[1:], lines, id=f"{page.name}:{begin}")
    for page in PAGES
    for language, begin, lines in blocks(page)
    if language.split()[:1] == ["console"] and language.split()[1:] != ["lab"]
]


def is_told(told: str, said: str) -> bool:
    """Whether a program said what a page shows. A line of ... stands for any lines; not blanks at ends."""
    tidy = ["\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n" for text in (told, said)]
    return doctest.OutputChecker().check_output(*tidy, doctest.ELLIPSIS)


@pytest.mark.parametrize(("given", "lines"), TOLD)
def test_transcripts_are_what_is_printed(given: list[str], lines: list[str], tmp_path: Path) -> None:
    match given:
        case [recording, name]:
            (tmp_path / name).write_text(json.dumps(dumps.recorded_dump(*recording.split("/"))))
        case [folder]:
            shutil.copytree(dumps.ENVOY.parent / folder, tmp_path, dirs_exist_ok=True)
    for command, told in transcript(lines):
        done = run(command, tmp_path)
        assert "Traceback" not in done.stderr
        # How far it is, is said where it takes long, and so on a machine with other work.
        far = r"^eastgate: (reading|predicting) .* \d+ %.*\n"
        said = done.stdout + re.sub(far, "", done.stderr, flags=re.MULTILINE)
        assert is_told(told, said), f"{command}\n{said}"


def test_something_runs() -> None:
    assert RUN
    assert len(TOLD) > 3


def test_a_transcript_that_is_not_true_is_seen() -> None:
    assert list(transcript(["$ a", "1", "...", "3", "$ b"])) == [("a", "1\n...\n3"), ("b", "")]
    assert is_told("1\n...\n3", "1  \n2\n2\n3\n")
    assert not is_told("1\n...\n3", "1\n2\n")
    assert not is_told("", "1")
