"""Opening a data set at huggingface.co through the `datasets` library."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from minigpt.errors import UserError, printable
from minigpt.text.hub_choice import Choice, SourceUnavailable, WrongChoice, reading_errors, reason

EXTRA = 'pip install "minigpt-tui[hub]"'

_CONVERTED = "refs/convert/parquet"  # where the Hub keeps its own conversion of data sets that come as a script
_ANSWER_SECONDS = 10.0
_NAMED = 20

# Set before the library is first imported: nothing is told to anybody, no bars are drawn over the screen.
_ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_ETAG_TIMEOUT": "10",
    "HF_HUB_DOWNLOAD_TIMEOUT": "10",
}


class Opened(msgspec.Struct):
    """A data set ready to be streamed (a `datasets.IterableDataset`) and what is known of it; `size` in bytes, or 0."""

    dataset: Any
    choice: Choice
    commit: str = ""
    licence: str = ""
    size: int = 0
    notes: list[str] = []


def open_data_set(choice: Choice) -> Opened:
    """Open the split that was chosen; no row is read yet.

    Raises SourceUnavailable when there is nothing to open, WrongChoice when the config or split is not there.
    """
    datasets = _library()
    errors = reading_errors()
    commit = licence = ""
    try:
        if choice.is_folder:
            _require_folder(choice)
        else:
            commit, licence = _card(choice)
        splits, choice, notes = _load(datasets, choice)
    except errors as error:
        raise reason(choice, error) from error
    if choice.split not in splits:
        whole = msgspec.structs.replace(choice, split="train").origin
        raise WrongChoice(
            f"{whole} has no split {printable(choice.split)!r}: choose one of {_named(splits)} with --hf-split."
        )
    dataset = splits[choice.split]
    if dataset.features is not None:
        # Pictures and sounds would be decoded, numbers carried along; text is all that is wanted.
        columns = [name for name, kind in dataset.features.items() if _may_be_text(kind)]
        if not columns:
            raise UserError(f"{choice.origin} holds no text: its columns are {_named(dataset.features)}.")
        dataset = dataset.select_columns(columns)
    declared = (dataset.info.splits or {}).get(choice.split)
    return Opened(dataset, choice, commit, licence, getattr(declared, "num_bytes", None) or 0, notes)


def _library() -> Any:
    """Import `datasets` quietly and without torch, which it would pull in for nothing; raises UserError without it."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    before = os.environ.get("USE_TORCH")
    os.environ["USE_TORCH"] = "0"
    try:
        import datasets
        import huggingface_hub
    except ImportError as error:
        raise UserError(f"Data sets of huggingface.co need the library `datasets`: {EXTRA}") from error
    finally:
        if before is None:
            del os.environ["USE_TORCH"]
        else:
            os.environ["USE_TORCH"] = before
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    huggingface_hub.logging.set_verbosity_error()
    # A link that drops is waited for, but not for a quarter of an hour.
    datasets.config.STREAMING_OPEN_MAX_RETRIES = 2
    datasets.config.STREAMING_READ_MAX_RETRIES = 5
    return datasets


def _require_folder(choice: Choice) -> None:
    if not Path(choice.name).is_dir():
        raise SourceUnavailable(
            f"There is no folder {printable(choice.name, single_line=True)}: check the path; a single file is added "
            "by its path without hf:."
        )


def _card(choice: Choice) -> tuple[str, str]:
    """Return the data set's commit and licence. One request without retries: no network is known at once."""
    import huggingface_hub

    info = huggingface_hub.HfApi().dataset_info(choice.name, revision=choice.revision, timeout=_ANSWER_SECONDS)
    licence = (info.card_data.get("license") if info.card_data else None) or ""
    return info.sha or "", printable(", ".join(licence) if isinstance(licence, list) else str(licence), True)


def _load(datasets: Any, choice: Choice) -> tuple[dict[str, Any], Choice, list[str]]:
    """Return the splits by name, the choice as it was made in the end, and what is to be told of it."""
    try:
        return _splits(datasets, choice), choice, []
    except RuntimeError as error:
        if choice.is_folder or choice.revision or "Dataset scripts" not in str(error):
            raise
        choice, folder = _converted(choice, error)
        note = (
            f"{choice.name} comes as a script, which is not run: the Hub's own copy in Parquet was read, which may be "
            "only the beginning of a large one."
        )
        data_dir = {"data_dir": folder} if folder else {}
        return _streamed(datasets, choice.name, revision=_CONVERTED, **data_dir), choice, [note]
    except ValueError as error:
        if "Config name is missing" not in str(error) and "BuilderConfig" not in str(error):
            raise
        names = datasets.get_dataset_config_names(choice.name, revision=choice.revision)
        chosen = _with_config(choice, names)
        return _splits(datasets, chosen), chosen, [f"Of its configs, {printable(str(chosen.config))} was taken."]


def _splits(datasets: Any, choice: Choice) -> dict[str, Any]:
    return _streamed(datasets, choice.name, name=choice.config, revision=choice.revision)


def _streamed(datasets: Any, path: str, **options: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="minigpt-") as cache:  # all it would keep are empty lock files
        return datasets.load_dataset(path, streaming=True, cache_dir=cache, **options)


def _converted(choice: Choice, error: Exception) -> tuple[Choice, str]:
    """Return the config and its folder in the Hub's own Parquet copy; raises `error` when there is no such copy."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        tree = list(huggingface_hub.HfApi().list_repo_tree(choice.name, revision=_CONVERTED, repo_type="dataset"))
    except HfHubHTTPError:
        raise error from None
    folders = [item.path for item in tree if isinstance(item, huggingface_hub.hf_api.RepoFolder)]
    if choice.config is None and len(folders) <= 1:
        return choice, folders[0] if folders else ""
    if choice.config not in folders:
        choice = _with_config(choice, folders)
    return choice, str(choice.config)


def _with_config(choice: Choice, names: list[str]) -> Choice:
    """Return the choice with the first config if any will do; raises WrongChoice naming the configs otherwise."""
    if choice.config is not None:
        whole = msgspec.structs.replace(choice, config=None).origin
        raise WrongChoice(
            f"{whole} has no config {printable(choice.config)!r}: choose one of {_named(names, choice.config)} with "
            "--config."
        )
    if choice.any_config and names:
        return msgspec.structs.replace(choice, config=names[0])
    raise WrongChoice(f"{choice.origin} has several configs: choose one of {_named(names)} with --config.")


def _may_be_text(kind: Any) -> bool:
    """Whether a column of this feature may hold strings, alone or in turns of a chat."""
    shown = str(kind).lower()
    return "string" in shown or "json" in shown


def _named(names: Iterable[str], wanted: str = "") -> str:
    """Return names for a sentence: those like the wanted one first, and not hundreds."""
    known = list(names)
    near = difflib.get_close_matches(wanted, known, n=3)
    ordered = [*near, *(name for name in known if name not in near)]
    rest = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    return printable(", ".join(ordered[:_NAMED]), single_line=True) + rest
