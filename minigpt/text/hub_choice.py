"""Which data set of huggingface.co is meant, and what to say when it cannot be had."""

from __future__ import annotations

import lzma
import re
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from minigpt.errors import UserError, printable

KIND = "huggingface"

_NAME = re.compile(r"(?P<name>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[^\s:@]+))?(:(?P<config>[^\s:/]+))?", re.ASCII)
_NETWORK_MODULES = ("httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "requests", "urllib3")


class SourceUnavailable(UserError):
    """A source that cannot be opened now: gone, refused or out of reach. Another one may do in its place."""


class CredentialsMissing(SourceUnavailable):
    """A source that wants an account: the text is a sentence, then the steps to take, one a line."""

    def __init__(self, sentence: str, steps: Iterable[str]) -> None:
        self.steps = tuple(steps)
        super().__init__("\n".join([sentence, *(f"{n}. {step}" for n, step in enumerate(self.steps, start=1))]))


class WrongChoice(UserError):
    """A config, split or column that a data set has not; the text names those that it has."""


def sentence(error: UserError) -> str:
    """Return what an error says, without the steps that may follow."""
    return str(error).splitlines()[0]


class Choice(msgspec.Struct, frozen=True):
    """Which data set, and which part of it. `any_config`: take the first config where one must be chosen."""

    name: str
    config: str | None
    split: str
    revision: str | None = None
    is_folder: bool = False
    any_config: bool = False

    @classmethod
    def parse(cls, name: str, config: str | None, split: str) -> Choice:
        """Read OWNER/NAME[@REVISION][:CONFIG] or a folder's path; raises UserError when it is neither."""
        if name.startswith((".", "/", "~")):
            return cls(str(Path(name).expanduser().absolute()), config, split, is_folder=True)
        parts = _NAME.fullmatch(name)
        if parts is None:
            raise UserError(
                f"{printable(name, single_line=True)!r} is no data set's name: write hf:OWNER/NAME as at "
                "huggingface.co/datasets, hf:OWNER/NAME:CONFIG, or hf:./FOLDER for a folder on this machine."
            )
        return cls(parts["name"], config or parts["config"], split, revision=parts["revision"])

    @property
    def origin(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        config = f":{self.config}" if self.config else ""
        split = f" ({self.split})" if self.split != "train" else ""
        return printable(f"hf:{self.name}{revision}{config}{split}", single_line=True)

    @property
    def page(self) -> str:
        return f"https://huggingface.co/datasets/{self.name}"


def reading_errors() -> tuple[type[Exception], ...]:
    """Return what opening or reading a data set may raise when the data, the network or the disk is at fault."""
    import pyarrow
    from datasets.exceptions import DatasetsError

    clients = [("httpx", "HTTPError"), ("httpx2", "HTTPError"), ("aiohttp", "ClientError")]
    of_clients = [getattr(sys.modules[module], name) for module, name in clients if module in sys.modules]
    own = (OSError, EOFError, RuntimeError, ValueError, ImportError, zlib.error, lzma.LZMAError)
    return (*own, DatasetsError, pyarrow.ArrowException, *of_clients)


def reason(choice: Choice, error: Exception) -> SourceUnavailable:
    """Return why a data set could not be opened, in a sentence with what to do."""
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    said = str(error)
    status = getattr(getattr(error, "response", None), "status_code", 0) if isinstance(error, HfHubHTTPError) else 0
    if "gated dataset" in said or type(error).__name__ == "GatedRepoError":
        return CredentialsMissing(f"{choice.origin} is given only to those who accept its conditions.", _steps(choice))
    if "Dataset scripts are no longer supported" in said:
        return SourceUnavailable(_script_sentence(choice))
    if isinstance(error, RepositoryNotFoundError) or "doesn't exist on the Hub" in said:
        return SourceUnavailable(
            f"There is no data set {choice.name} at huggingface.co, or it is private: check the name at {choice.page}; "
            "for a private one, log in first with `hf auth login`."
        )
    if status in (401, 403):
        return CredentialsMissing(f"huggingface.co refused {choice.origin} (it answered {status}).", _steps(choice))
    if status == 404:
        return SourceUnavailable(f"{choice.origin} is not at huggingface.co: check the revision and {choice.page}.")
    if status:
        return SourceUnavailable(f"huggingface.co could not give {choice.origin} (it answered {status}): try later.")
    said = _first_line(said) or type(error).__name__
    if isinstance(error, FileNotFoundError):
        return SourceUnavailable(f"{choice.origin} holds no files that can be read as a data set ({said}).")
    if isinstance(error, (ConnectionError, TimeoutError)) or type(error).__module__.split(".")[0] in _NETWORK_MODULES:
        return SourceUnavailable(
            f"huggingface.co cannot be reached for {choice.origin} ({said}): check the network, or add text of this "
            "machine."
        )
    return SourceUnavailable(f"{choice.origin} cannot be read ({said}).")


def _script_sentence(choice: Choice) -> str:
    from minigpt.text.catalogue import catalogue

    listed = [entry.name for entry in catalogue() if choice.name in entry.stands_for]
    way = (
        f"the catalogue reads the same text from the list of its files, as {listed[0]}"
        if listed
        else "name another data set with --fallback hf:OWNER/NAME, or the list of its files with list:URL"
    )
    return f"{choice.origin} comes only as a script, which is not run here: {way}."


def _steps(choice: Choice) -> list[str]:
    return [
        "Make a token of the kind Read at https://huggingface.co/settings/tokens (the account is free).",
        "On the machine where this runs: `hf auth login`, or set HF_TOKEN to that token.",
        f"Open {choice.page} in a browser, logged in, and accept the conditions if it shows any.",
        "Start again.",
    ]


def _first_line(text: str) -> str:
    return printable(next(iter(text.strip().splitlines()), "")[:200])
