"""What is there for one version of Transformers carries a tag, by which it is found when that version is given up."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [*ROOT.glob("*.py"), *ROOT.glob("edgetam_hf/**/*.py"), *ROOT.glob("edgetam_cli/*.py")]
TAG = "# transformers<5: "
ANY_TAG = re.compile(r"# transformers<\d+: ")  # also of names that have moved in a later version


def comments(text):
    """Comments; those of lines that follow each other are one."""
    found, last_line = [], None
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        if token.start[0] - 1 == last_line and token.line.lstrip().startswith("#"):
            found[-1] += f" {token.string}"
        else:
            found.append(token.string)
        last_line = token.start[0]
    return found


def lines_of_second_names(text):
    """Lines `except ImportError` of what is imported from Transformers under one of two names."""
    tries = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Try)]
    modules = [[part.module or "" for part in node.body if isinstance(part, ast.ImportFrom)] for node in tries]
    lines = text.splitlines()
    return [
        lines[node.handlers[0].lineno - 1]
        for node, names in zip(tries, modules)
        if any(name.startswith("transformers") for name in names)
    ]


def untagged(text):
    about_4 = [comment for comment in comments(text) if re.search(r"\btransformers (4\b|5\.0)", comment, re.IGNORECASE)]
    names = [line for line in lines_of_second_names(text) if not ANY_TAG.search(line)]
    return [*(comment for comment in about_4 if TAG not in comment), *names]


def test_branches_for_transformers_4_carry_the_tag():
    found = {path.name: untagged(path.read_text(encoding="utf-8")) for path in FILES}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "text",
    [
        "value = 1  # read by Transformers 4 only\n",
        "# a reason\n# of Transformers 4\n",
        "try:\n    from transformers import A\nexcept ImportError:\n    from transformers import B as A\n",
    ],
    ids=["comment", "two lines", "import"],
)
def test_branches_without_the_tag_are_found(text):
    assert len(untagged(text)) == 1
    assert untagged(text.replace("# ", TAG, 1).replace("ImportError:", f"ImportError:  {TAG}another name")) == []


def test_branches_for_later_versions_carry_their_own_tag():
    text = "try:\n    from transformers import A\nexcept ImportError:  # transformers<6: moved\n    from b import A\n"
    assert untagged(text) == []
