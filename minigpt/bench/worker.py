"""The child process of one measurement: `python -m minigpt.bench.worker train.ours '{...}'` prints a line of JSON."""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    """Call the function named by the first argument with the keywords in the second."""
    module, function = sys.argv[1].split(".")
    result = getattr(importlib.import_module(f"minigpt.bench.{module}"), function)(**json.loads(sys.argv[2]))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
