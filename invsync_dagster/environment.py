"""The `.env` file at the root: reading it into a process, and writing it without losing what people put there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from dotenv import dotenv_values

FILE_NAME = ".env"


def read_env_file(root: Path) -> dict[str, str]:
    """Return the variables of `<root>/.env`, none if there is no such file."""
    file = root / FILE_NAME
    return _variables_of(file) if file.is_file() else {}


def read_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` with the variables of the file that INVSYNC_ENV_FILE names, else of `.env` in the root, where it has
    none itself. Raises OSError if the named file can't be read."""
    if named := environ.get("INVSYNC_ENV_FILE"):
        return {**_variables_of(Path(named)), **environ}
    return {**read_env_file(Path(environ.get("INVSYNC_ROOT") or ".").absolute()), **environ}


def load_env_file(root: Path, environ: MutableMapping[str, str] = os.environ) -> None:
    """Add the variables of `<root>/.env` to `environ`; what is set there already wins."""
    for name, value in read_env_file(root).items():
        environ.setdefault(name, value)


def write_env_file(root: Path, variables: Mapping[str, str]) -> bool:
    """Set `variables` in `<root>/.env`, keep its other lines, and return whether anything changed.

    The file is replaced in one step and readable by its owner only, since it holds secrets.
    """
    present = read_env_file(root)
    changed = {name: value for name, value in variables.items() if present.get(name) != value}
    if not changed:
        return False
    file = root / FILE_NAME
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    kept = [line for line in lines if _name_of(line) not in changed]
    kept += [f"{name}={_quoted(value)}" for name, value in changed.items()]
    descriptor, temporary = tempfile.mkstemp(dir=root, prefix=f"{FILE_NAME}.")  # mkstemp: mode 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write("\n".join(kept) + "\n")
    Path(temporary).replace(file)
    return True


def _variables_of(file: Path) -> dict[str, str]:
    with file.open(encoding="utf-8") as stream:
        values = dotenv_values(stream=stream, interpolate=False)
    return {name: value for name, value in values.items() if value is not None}


def _name_of(line: str) -> str:
    return line.removeprefix("export ").partition("=")[0].strip()


def _quoted(value: str) -> str:
    """Quote for the shell and for dotenv alike; they agree on single quotes around anything but these characters."""
    if any(character in value for character in "'\\\r\n"):
        raise ValueError("a value for .env can hold no single quote, no backslash and no line break")
    return f"'{value}'"
