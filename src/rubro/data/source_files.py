"""Find the files of a source, which is a file or folder of raw titles, by their names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rubro.base.errors import DataError
from rubro.base.text import first_names
from rubro.data.splits import UNLABELLED
from rubro.tables.detection import kind_of, unreadable_by_name

# Split by its usual names, in file names and in the split column.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_FILE_NAME = re.compile(
    rf"(?:(?P<language>[^.]+)\.)?(?P<split>{'|'.join(sorted(SPLIT_NAMES, reverse=True))})"
    r"(?P<part>[-_. ]?(?:part)?[-_. ]?(?P<number>\d+)(?:-of-(?P<parts>\d+))?(?:-[0-9a-f]{8,})?)?\.",
    re.IGNORECASE,
)
_PREFIXED_FILE_NAME = re.compile(r"(?:.*[-_ ])?" + _FILE_NAME.pattern, re.IGNORECASE)
_UNLABELLED_FILE_NAME = re.compile(
    r"(?:(?P<language>[^.]+)\.)?(?:.*[-_ ])?unlabell?ed(?![a-z])", re.IGNORECASE
)
SUPPORTED_LAYOUTS = (
    "files named train, validation and test, or {language}.train ..., or one single file, in the "
    "formats .csv, .tsv, .json, .jsonl (each also .gz) and .parquet"
)


@dataclass(frozen=True)
class SourceFile:
    """A raw file of titles, and the information in its name.

    Attributes:
        path: Path of the file.
        language: Language in the name of the file; None if the name contains none.
        split: Split in the name of the file; UNLABELLED if the file is read without its categories;
            raw_titles.CORRECTIONS for a file of corrections; None if the name contains no split.
        part: Part number in the name of the file if a split has several parts, such as "_2"; None
            if the name contains none.
    """

    path: Path
    language: str | None = None
    split: str | None = None
    part: str | None = None


def find_sources(path: Path, language: str | None) -> tuple[list[SourceFile], list[str]]:
    """List the files of a source in a fixed order.

    Args:
        path: Path of a file, or of a folder in a supported layout.
        language: Language of the files to list, if file names contain languages; None means all.

    Returns:
        Files, with the splits and languages in their names, first the ones with categories; and
        notices about skipped files that contain titles.

    Raises:
        DataError: The path does not exist, no file has a supported name, a file for training in
            the language is missing, or two files have the same split.
    """
    if path.is_file():
        return [SourceFile(path)], []
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; set data.path in params.yaml")
    # macOS keeps metadata of a file in a hidden file with the same suffix.
    files = sorted(
        file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")
    )
    unlabelled = [source for file in files if (source := _unlabelled_file(file))]
    files = [file for file in files if file not in {source.path for source in unlabelled}]
    named: list[SourceFile] = []
    for pattern in (_FILE_NAME, _PREFIXED_FILE_NAME):  # the latter matches shop_train.csv
        named = named or [source for file in files if (source := _source_file(file, pattern))]
    if not named:
        single = SourceFile(_single_file(path, files, unlabelled))
        chosen, notices = _in_language(unlabelled, language)
        return [single, *chosen], notices
    chosen, notices = _in_language([*named, *unlabelled], language)
    if not any(source.split == "train" for source in chosen):
        languages = ", ".join(sorted({source.language for source in named if source.language}))
        wanted = f" for language {language.lower()!r}" if language else ""
        raise DataError(
            f"{path}: no training file{wanted}; languages found: {languages or 'none'}; "
            "set subset.language, or add a file named train"
        )
    first: dict[tuple[str | None, str | None, str | None], Path] = {}
    for source in chosen:
        if source.split == UNLABELLED:
            continue
        other = first.setdefault((source.language, source.split, source.part), source.path)
        if other != source.path:
            raise DataError(f"{other} and {source.path} are the same split; remove one of them")
    return chosen, [*notices, *_skipped_notices(files, named, chosen)]


def find_unlabelled(path: Path, language: str | None) -> tuple[list[SourceFile], list[str]]:
    """List the files with further titles without categories in a fixed order.

    Hidden files and files named README are skipped. The name of a file need not say that its titles
    are unlabelled.

    Args:
        path: Path of a file or folder.
        language: Language of the files to list, if file names contain languages; None means all.

    Returns:
        Files, and notices about skipped files that contain titles.

    Raises:
        DataError: The path does not exist.
    """
    if path.is_file():
        return [SourceFile(path, split=UNLABELLED)], []
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; set data.unlabelled_path in params.yaml")
    files = sorted(
        file
        for file in path.iterdir()
        if file.is_file() and not file.name.lower().startswith((".", "readme"))
    )
    found = []
    for file in files:
        source = _unlabelled_file(file) or _source_file(file, _FILE_NAME)
        if source or kind_of(file):
            found.append(SourceFile(file, source.language if source else None, UNLABELLED))
    chosen, notices = _in_language(found, language)
    if others := [file.name for file in files if unreadable_by_name(file)]:
        notices.append(f"not read, in a format that is not supported: {', '.join(others)}")
    return chosen, notices


def _in_language(
    sources: Sequence[SourceFile], language: str | None
) -> tuple[list[SourceFile], list[str]]:
    """Return the files whose names contain the language or none, and a notice about other files."""
    wanted = (None, language and language.lower())
    chosen = [source for source in sources if language is None or source.language in wanted]
    others = [source.path.name for source in sources if source not in chosen]
    if not others:
        return chosen, []
    return chosen, [f"not read, another language than subset.language: {', '.join(others)}"]


def _unlabelled_file(file: Path) -> SourceFile | None:
    match = _UNLABELLED_FILE_NAME.match(file.name)
    if match is None or kind_of(file) is None:
        return None
    return SourceFile(file, match["language"] and match["language"].lower(), UNLABELLED)


def _source_file(file: Path, pattern: re.Pattern[str]) -> SourceFile | None:
    match = pattern.match(file.name)
    if match is None:
        return None
    suffix = Path(file.name[match.end() - 1 :])
    if kind_of(suffix) is None or suffix.name.lower().removesuffix(".gz").count(".") > 1:
        return None
    language = match["language"] and match["language"].lower()
    return SourceFile(file, language, SPLIT_NAMES[match["split"].lower()], match["part"])


def _single_file(path: Path, files: Sequence[Path], unlabelled: Sequence[SourceFile]) -> Path:
    """Return the only title file in a folder; raise DataError if there are none or several."""
    kinds = {file: kind_of(file) for file in files}
    tables = [file for file in files if kinds[file] not in (None, "txt", "json")]
    tables = tables or [file for file in files if kinds[file] is not None]
    if len(tables) == 1:
        return tables[0]
    if tables:
        names = first_names([file.name for file in tables])
        raise DataError(
            f"{path}: {len(tables)} files, and none is named train ({names}); set "
            "data.path to one of them, or name them train_1, train_2 ... if they are parts of one "
            "table"
        )
    for file in files:
        if description := unreadable_by_name(file):
            raise DataError(f"{file} is {description}")
    if unlabelled:
        names = first_names([source.path.name for source in unlabelled])
        raise DataError(
            f"{path}: only files for unlabelled titles ({names}), but a classifier learns from titles "
            "with categories; add a file with categories, or rename the file that contains them"
        )
    names = first_names([file.name for file in files]) or "nothing"
    raise DataError(f"{path}: no title files (found {names}); supported: {SUPPORTED_LAYOUTS}")


def _skipped_notices(
    files: Sequence[Path], named: Sequence[SourceFile], chosen: Sequence[SourceFile]
) -> list[str]:
    """Return notices about files without a split in their name, and about missing split parts."""
    known = {source.path for source in named}
    unnamed = [
        file.name
        for file in files
        if file not in known and (kind_of(file) or unreadable_by_name(file))
    ]
    notices = []
    if unnamed:
        notices.append(f"not read, named neither train, validation nor test: {', '.join(unnamed)}")
    parts = defaultdict(set)
    for source in chosen:
        match = _PREFIXED_FILE_NAME.match(source.path.name)
        if match and match["parts"]:
            parts[source.split, int(match["parts"])].add(int(match["number"]))
    notices += [
        f"{split}: only {len(numbers)} of {count} parts were found"
        for (split, count), numbers in parts.items()
        if len(numbers) < count
    ]
    return notices
