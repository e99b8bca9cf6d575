"""What the README promises of safety is kept by tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent.parent
README = TESTS.parent / "README.md"


def test_each_promise_names_tests_that_are_there() -> None:
    section = README.read_text(encoding="utf-8").partition("## What is promised")[2].partition("\n## ")[0]
    rows = [line.split("|")[2] for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)?::(\w+)`", row)
        assert named and named[0][0], row
        file = ""
        for told, test in named:
            file = told or file
            assert re.search(rf"^(async )?def {test}\(", (TESTS / file).read_text(encoding="utf-8"), re.M), (file, test)
