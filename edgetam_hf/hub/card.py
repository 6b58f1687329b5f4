"""The model card: a template, filled with facts about a folder and with what its code blocks print."""

import re
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Any

TEMPLATE = Path(__file__).with_name("card.md")
SECTION = re.compile(r"^<!-- for: ([a-z ]+) -->\n(.*?)^<!-- end -->\n", re.MULTILINE | re.DOTALL)
EXAMPLE = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def make_card(kinds: set[str], facts: dict[str, Any]) -> str:
    """Text of a card; the results of its code blocks are empty yet.

    Args:
        kinds: "video", "image" or "nano", "onnx" of a folder with graphs for browsers, "endpoint" with a handler.
        facts: values of what stands behind a $ in the template.

    Raises:
        KeyError: if the template asks for a fact that is missing.
    """
    text = SECTION.sub(lambda match: match[2] if kinds & set(match[1].split()) else "", TEMPLATE.read_text())
    return Template(text).substitute(facts)


def examples(card: str) -> list[tuple[str, str]]:
    """(code, printed result) of every example."""
    return EXAMPLE.findall(card)


def with_results(card: str, printed: Iterable[str]) -> str:
    """The card with what each of its code blocks printed below the block."""
    results = iter(printed)
    return EXAMPLE.sub(lambda match: f"```python\n{match[1]}```\n\n```text\n{next(results)}```", card)


def local_blocks(card: str, repo_id: str, folder: str | Path) -> list[str]:
    """Code of the examples, with a folder in place of the repository on the Hub."""
    return [code.replace(f'"{repo_id}"', repr(str(folder))) for code, _ in examples(card)]
