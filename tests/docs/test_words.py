"""What the documents name exists: commands and their options, variables, links. Blocks that no test runs are at least
shell."""

from __future__ import annotations

import re
import subprocess

import pytest

from compose.variables import known_variables
from tests.docs.command_lines import complaint, our_commands
from tests.docs.markdown import DOCUMENTS, ROOT, Block, Interrupt, anchors, blocks, prose, steps

VARIABLE = re.compile(r"\bTRIVET_[A-Z_0-9]*")
BEGINNING = {"TRIVET_"}
"""Of all variables, where a document speaks of them together."""


def complaints(document: str, shell: str, line: int) -> list[str]:
    found = [(arguments, complaint(arguments)) for arguments in our_commands(shell)]
    return [f"{document}:{line}: trivet {' '.join(words)}: {said}" for words, said in found if said]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_blocks_are_shell_and_their_commands_exist(document: str) -> None:
    """Red when a command is renamed, loses an option, or takes another number of arguments than a document says."""
    found = []
    for block in blocks((ROOT / document).read_text()):
        if block.language == "sh":
            parsed = subprocess.run(
                ["bash", "-n"], input=block.text, text=True, capture_output=True, check=False
            )
            assert parsed.returncode == 0, f"{document}:{block.line}: {parsed.stderr}"
            found += complaints(document, block.text, block.line)
    assert not found


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_a_sentence_exist(document: str) -> None:
    """`trivet …` between backticks, where it is more than the beginning of something."""
    text = prose((ROOT / document).read_text())
    found = []
    for match in re.finditer(r"`(trivet [^`]+)`", text):
        command = " ".join(match[1].split())
        if not re.search("…|[*]|/ |<", command):
            arguments = next(our_commands(command.replace("[", " ").replace("]", " ")))
            said = complaint(arguments)
            if said and "arguments, not" not in said:  # a sentence may leave arguments out
                found.append(f"{document}: {command}: {said}")
    assert not found


@pytest.mark.parametrize("document", DOCUMENTS)
def test_variables_exist(document: str) -> None:
    named = set(VARIABLE.findall((ROOT / document).read_text()))
    of_the_stack = set(VARIABLE.findall((ROOT / "compose/docker-compose.yml").read_text()))
    assert named - known_variables() - of_the_stack <= BEGINNING


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text())):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        other = (path.parent / file).resolve() if file else path
        if not other.exists() or (anchor and anchor not in anchors(other.read_text())):
            lost.append(target)
    assert not lost


def test_what_is_wrong_with_a_command_is_seen() -> None:
    """The looking up itself: a name, an option and a number that are wrong, behind a pipe and in a substitution too."""
    shell = 'A=1 trivet node list --jsonx\necho "$(trivet nodes)" | trivet node drain # trivet not\n'
    assert [complaint(words) for words in our_commands(shell)] == [
        "no command nodes",
        "no option --jsonx",
        "0 arguments, not 1 to 1",
    ]
    assert [
        complaint(words) for words in our_commands("trivet node --dir /x --listens 1:2; trivet status")
    ] == [
        "no option --listens",
        None,
    ]


def test_steps_of_a_document_are_read() -> None:
    text = "a\n\n<!-- runs on: up -->\n```sh\nx\n```\n<!-- ctrl-c -->\n- b\n\n  ```toml\n  y = 1\n  ```\n"
    assert list(steps(text)) == [
        Block(5, "sh", "x\n", "runs on", "up"),
        Interrupt(7),
        Block(11, "toml", "y = 1\n", "", ""),
    ]
    with pytest.raises(ValueError, match="line 2"):
        list(steps("<!-- not run: it can't -->\nwords\n"))
