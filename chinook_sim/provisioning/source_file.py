"""The file that a Chinook is loaded from: download, recognise, copy."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlsplit

from chinook_sim.errors import DatabaseUnavailable, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["fetch", "kind", "load_sqlite", "publish", "script_lines"]

TIMEOUT = 30
"""Seconds without a byte after which a download is given up."""

LARGEST = 2**30
"""Bytes that a download may have; the real files have one million."""


def fetch(source: str, directory: Path) -> Path:
    """Return a source as a local file: the path itself, or the download of a URL.

    Args:
        source: a path, or a URL with http, https or file.
        directory: where a download is stored.

    Raises:
        InvalidInput: there is no such file, or the URL has another scheme.
        DatabaseUnavailable: it could not be downloaded.
    """
    # A drive letter is no scheme.
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", source)
    if scheme is None:
        path = Path(source)
        # Unlike Path.is_file this keeps a slash at the end, which no file has.
        if not os.path.isfile(source):  # noqa: PTH113
            raise InvalidInput(f"there is no file {source}; a source is a file or a URL")
        return path
    if scheme[1].lower() not in ("http", "https", "file"):
        raise InvalidInput(f"a source cannot be a {scheme[1]}:// URL; use http, https or a file")
    # In a malformed URL it is unknown where a password begins and ends. So such a URL is refused,
    # and nothing of it is shown.
    if "@" in source or not source.isprintable() or " " in source:
        raise InvalidInput(
            "the URL of a source must be without user and password; write an @ as %40 and a "
            "space as %20"
        )
    try:
        name = Path(urlsplit(source).path).name
        target = directory / (name or "chinook")
        _download(source, target)
    except urllib.error.HTTPError as error:
        error.close()
        raise DatabaseUnavailable(f"{source}: HTTP status {error.code}") from None
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or _reason(error)
        raise DatabaseUnavailable(f"{source} could not be downloaded: {reason}") from None
    return target


def _reason(error: Exception) -> str:
    # What other libraries say may quote the URL, or whatever a server sent.
    return str(error) if type(error) is OSError else type(error).__name__


def _download(url: str, target: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, target.open("wb") as file:  # noqa: S310
        while block := answer.read(2**20):
            file.write(block)
            if file.tell() > LARGEST:
                raise OSError("larger than any Chinook")
        # A connection that ends too soon looks like the end of the file.
        promised = answer.headers.get("Content-Length")
        if promised is not None and int(promised) != file.tell():
            raise OSError("it broke off")


def kind(path: Path) -> Literal["file", "script"]:
    """Return what a file is, by its content: a SQLite file, or an SQL script.

    Raises:
        InvalidInput: it is neither, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(65_536)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
    if head.startswith(b"SQLite format 3\0"):
        return "file"
    if head.startswith(b"PGDMP"):
        raise InvalidInput(
            f"{path} is a pg_dump archive; make a plain one with pg_dump --format=plain"
        )
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InvalidInput(_not_utf8(path, "UTF-16"))
    sql = re.search(rb"\b(CREATE\s+TABLE|INSERT\s+INTO|COPY\s)", head, re.IGNORECASE)
    if b"\0" in head or sql is None:
        raise InvalidInput(f"{path} is neither a SQLite file nor a SQL dump of a Chinook")
    return "script"


def script_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a script, and their numbers from 1.

    Raises:
        InvalidInput: it is not in UTF-8.
    """
    try:
        # Only \n ends a line: a carriage return may be part of a string.
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            yield from enumerate(file, 1)
    except UnicodeDecodeError:
        # What Windows has between 0x80 and 0x9F, ISO 8859-1 has not.
        windows = re.search(rb"[\x80-\x9f]", path.read_bytes())
        encoding = "WINDOWS-1252" if windows else "ISO-8859-1"
        raise InvalidInput(_not_utf8(path, encoding)) from None


def _not_utf8(path: Path, encoding: str) -> str:
    return (
        f"{path.name} is not in UTF-8, but probably in {encoding}. Convert it: "
        f"iconv -f {encoding} -t UTF-8 {shlex.quote(str(path))} > utf-8.sql"
    )


def load_sqlite(path: Path, target: Path) -> None:
    """Copy a SQLite file into a new one.

    Args:
        path: the file.
        target: the new file; what is there is overwritten.

    Raises:
        InvalidInput: it is damaged, or no SQLite file.
    """
    source = f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        with (
            closing(sqlite3.connect(source, uri=True)) as chinook,
            closing(sqlite3.connect(target)) as copy,
        ):
            (result,) = chinook.execute("PRAGMA quick_check(1)").fetchone()
            if result != "ok":
                raise InvalidInput(f"{path} is damaged: {result.splitlines()[-1]}")
            chinook.backup(copy)
    except sqlite3.Error as error:
        raise InvalidInput(f"{path} cannot be read as a SQLite file: {error}") from None


def publish(draft: Path, path: Path) -> bool:
    """Give a finished file its name, unless there is such a file; return whether it was done."""
    try:
        # A link is made or not, in one step, and never replaces anything.
        os.link(draft, path)
    except FileExistsError:
        return False
    except OSError:
        # A file system without links: the next best is to create the name, which fails if it is
        # taken, and then to fill it.
        try:
            with path.open("xb") as file, draft.open("rb") as source:
                shutil.copyfileobj(source, file)
        except FileExistsError:
            return False
    return True
