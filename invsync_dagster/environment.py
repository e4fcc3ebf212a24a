"""Where variables come from: the environment, files of a secret store, and `.env` at the root, which is read and written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

from dotenv import dotenv_values

FILE_NAME = ".env"

# `X_FILE` names a file that holds the value of X: as Docker's secrets and systemd's credentials are handed out.
IN_A_FILE = "_FILE"


class SecretFileError(Exception):
    """A file that is to hold a variable's value, and doesn't give it; the message names both, and never a value."""


class EmptySecretFileError(SecretFileError):
    """A file that is to hold a variable's value, and is empty."""


class Environment(Mapping[str, str]):
    """Environment variables, where `X_FILE` may name a file that holds the value of X.

    The file is read at each look, so that a new secret is there for the next run, without a restart. The iteration is over
    the variables themselves.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables: Mapping[str, str] = variables._variables if isinstance(variables, Environment) else variables

    def __getitem__(self, name: str) -> str:
        """Return the value, without the line breaks at the end of a file. Raises KeyError, and `SecretFileError` for a file
        that can't be read or is empty, and where there are both a value and a file."""
        path = self._variables.get(name + IN_A_FILE)
        if not path:
            return self._variables[name]
        if self._variables.get(name):
            raise SecretFileError(
                f"{name} and {name}{IN_A_FILE} are both set, and only one can be meant: unset the other"
            )
        return _value_in(path, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def __repr__(self) -> str:
        return f"Environment({len(self)} variables)"


def _value_in(path: str, name: str) -> str:
    said = f"{name}{IN_A_FILE} names {path}, which"
    try:
        value = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise SecretFileError(
            f"{said} can't be read: {error.strerror} — put the secret there, readable for us"
        ) from None
    except UnicodeDecodeError:
        raise SecretFileError(f"{said} is no text in UTF-8 — put the secret there as text") from None
    if not value:
        raise EmptySecretFileError(f"{said} is empty — put the secret there")
    return value


def readable(environ: Mapping[str, str], name: str) -> str:
    """Return the value of a variable; "" for one that is not set, or whose file doesn't give it."""
    try:
        return environ.get(name) or ""
    except SecretFileError:
        return ""


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
