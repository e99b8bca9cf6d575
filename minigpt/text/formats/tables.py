"""Rows of tables: CSV and TSV with a line of names, and Parquet, of which only the wanted columns are read."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from minigpt.errors import UserError, printable
from minigpt.text.formats import PACKED_SUFFIXES, suffix_of
from minigpt.text.formats.opening import Opening
from minigpt.text.formats.splitting import Broken, numbered_lines

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

TableRows = Iterator[tuple[int, dict[str, Any]]]

_DELIMITERS = ",;\t|"
_SHOWN_COLUMNS = 20
# Of a column of Parquet so much is unpacked at a time, and so much of the file is read for it.
_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 4096
_BUFFER_BYTES = 1 << 20


def csv_rows(blocks: Iterable[str], columns: Sequence[str] | None, opening: Opening, broken: Broken) -> TableRows:
    """Yield (line, row) with the wanted columns (None: all); `broken` hears of the rows that are none.

    Raises UserError when there is no such column.
    """
    csv.field_size_limit(opening.limits.field)
    lines = _Lines(numbered_lines(blocks, opening.limits, broken))
    first = next((line for line in lines if not line.isspace()), None)
    if first is None:
        return
    delimiter = "\t" if suffix_of(opening.path) == ".tsv" else max(_DELIMITERS, key=first.count)
    reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter)
    header = [name.strip() for name in _header(reader, opening.name)]
    wanted = list(dict.fromkeys(header)) if columns is None else list(columns)
    require_columns(wanted, header, opening.name)
    places = [(name, header.index(name)) for name in wanted]
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            broken(lines.number, str(error))
            continue
        if lines.ended:  # a row that is whole ends with its line
            broken(lines.number, "a quotation mark is opened and never closed")
        elif len(row) == len(header):
            yield lines.number, {name: row[place] for name, place in places}
        elif row:
            broken(lines.number, f"{len(row)} fields where the first line names {len(header)}")


class _Lines:
    """Lines with their ends for the csv module, which asks for more of them inside quotation marks."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self.number = 0
        self.ended = False
        self._lines = lines

    def __iter__(self) -> Iterator[str]:
        for number, line in self._lines:
            self.number = number
            yield line + "\n"
        self.ended = True


def _header(reader: Iterator[list[str]], name: str) -> list[str]:
    try:
        return next(reader, [])
    except csv.Error as error:
        raise UserError(f"The first line of {name}, which should name its columns, is broken ({error}).") from error


def parquet_rows(columns: Sequence[str] | None, opening: Opening, broken: Broken) -> TableRows:
    """Yield (number, row) with the wanted columns (None: those that may hold text).

    Raises UserError when there is no such column, the file is damaged, or the library is missing.
    """
    source = _parquet_source(opening)
    file = _open_parquet(source, opening)
    names = file.schema_arrow.names
    wanted = [name for name in names if _may_hold_text(file, name)] if columns is None else list(columns)
    if not wanted:
        raise UserError(f"{opening.name} has no column with text in it (only {shown_columns(names)}): leave it out.")
    require_columns(wanted, names, opening.name)
    longest = max(_longest_row(file, wanted), _longest_shared(source, file, wanted, opening))
    rows = int(max(1, min(_BATCH_ROWS, _BATCH_BYTES / longest)))
    number, done, packed = 0, 0, opening.path.stat().st_size
    for batch in _batches(file, wanted, rows, opening):
        done += batch.nbytes
        opening.refuse_trap(done, packed)
        values = [_values(batch.column(name), number, broken) for name in wanted]
        for row in zip(*values, strict=True):
            number += 1
            yield number, dict(zip(wanted, row, strict=True))
        opening.task.report("reading", number, file.metadata.num_rows, "rows")


def require_columns(wanted: Sequence[str], columns: Sequence[str], name: str) -> None:
    """Raise UserError naming the columns there are when one is wanted that is not among them."""
    missing = next((column for column in wanted if column not in columns), None)
    if missing is not None:
        raise UserError(
            f'{name} has no column "{printable(missing, single_line=True)}": '
            f"choose one of {shown_columns(columns)} with --field."
        )


def shown_columns(columns: Sequence[str]) -> str:
    """Return columns' names as a list for people."""
    names = ", ".join(printable(column, single_line=True) for column in columns[:_SHOWN_COLUMNS])
    return names + (f" and {len(columns) - _SHOWN_COLUMNS:,} more" if len(columns) > _SHOWN_COLUMNS else "")


def _parquet_source(opening: Opening) -> Any:
    """Return what the library opens; raises UserError when it is missing."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise UserError(
            f'{opening.name} is a Parquet file: to read it, run pip install "minigpt-tui[hub]" first.'
        ) from error
    if opening.path.suffix.lower() in PACKED_SUFFIXES:  # its parts are found from its end, so it cannot be streamed
        return pa.py_buffer(opening.whole(opening.limits.whole, "unpack it and add the file in it"))
    return opening.path


def _open_parquet(source: Any, opening: Opening, shared: Sequence[str] = ()) -> pq.ParquetFile:
    """Open the file, with the values of the columns `shared` once each, as they stand in it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = source if source is opening.path else pa.BufferReader(source)
    try:
        return pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False, read_dictionary=list(shared))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(opening, error) from error


def _batches(
    file: pq.ParquetFile, columns: list[str], rows: int, opening: Opening, **more: Any
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    batches = file.iter_batches(batch_size=rows, columns=columns, use_threads=False, **more)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(opening, error) from error
        if batch is None:
            return
        yield batch


def _longest_row(file: pq.ParquetFile, columns: list[str]) -> float:
    """Return the bytes of a row of the longest kind, by what the file says of itself."""
    longest = 1.0
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        chunks = (group.column(i) for i in range(group.num_columns))
        size = sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] in columns)
        longest = max(longest, size / max(1, group.num_rows))
    return longest


def _longest_shared(source: Any, file: pq.ParquetFile, columns: list[str], opening: Opening) -> int:
    """Return the bytes of the longest value that rows share: it is in the file once, in a batch for each of them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    simple = [name for name in columns if _is_text(file.schema_arrow.field(name).type)]
    once = _open_parquet(source, opening, simple)
    longest = 1
    for number in range(once.metadata.num_row_groups if simple else 0):
        batch = next(_batches(once, simple, 1, opening, row_groups=[number]), None)
        for column in batch.columns if batch is not None else ():
            if pa.types.is_dictionary(column.type):
                longest = max(longest, pc.max(pc.binary_length(column.dictionary)).as_py() or 0)
    return longest


def _values(column: pa.Array, before: int, broken: Broken) -> list[Any]:
    try:
        return [_text(value) for value in column.to_pylist()]
    except UnicodeDecodeError:
        return [_damaged_value(value, number, broken) for number, value in enumerate(column, start=before + 1)]


def _damaged_value(value: pa.Scalar, number: int, broken: Broken) -> Any:
    """Return a value of which some may be no valid UTF-8, though Parquet says that all is."""
    try:
        return _text(value.as_py())
    except UnicodeDecodeError:
        if hasattr(value, "as_buffer"):
            return value.as_buffer().to_pybytes().decode("utf-8", "replace")
        broken(number, "not valid UTF-8")
        return None


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _may_hold_text(file: pq.ParquetFile, column: str) -> bool:
    import pyarrow as pa

    kind = file.schema_arrow.field(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.types.is_struct(kind.value_type)
    return pa.types.is_struct(kind) or _is_text(kind)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    simple = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in simple)


def _damaged(opening: Opening, error: Exception) -> UserError:
    why = printable(str(error).splitlines()[0] if str(error) else type(error).__name__, single_line=True)
    return UserError(f"{opening.name} cannot be read as Parquet ({why}): it is damaged; fetch it again.")
