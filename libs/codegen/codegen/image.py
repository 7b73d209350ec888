"""The parts of buf's JSON image that the generators read."""

import subprocess
import sys
from pathlib import Path

import msgspec
from msgspec import Struct


class FieldDescriptor(Struct, frozen=True, rename="camel"):
    """One field of a message, as the compiler describes it."""

    name: str
    number: int
    label: str
    type: str
    type_name: str = ""
    proto3_optional: bool = msgspec.field(default=False, name="proto3Optional")


class MessageOptions(Struct, frozen=True, rename="camel"):
    """What marks the hidden message behind a map field."""

    map_entry: bool = False


class MessageDescriptor(Struct, frozen=True, rename="camel"):
    """One message, as the compiler describes it."""

    name: str
    field: tuple[FieldDescriptor, ...] = ()
    nested_type: tuple["MessageDescriptor", ...] = ()
    options: MessageOptions = MessageOptions()


class EnumValueDescriptor(Struct, frozen=True):
    """One value of an enum."""

    name: str
    number: int = 0


class EnumDescriptor(Struct, frozen=True):
    """One enum, as the compiler describes it."""

    name: str
    value: tuple[EnumValueDescriptor, ...]


class Location(Struct, frozen=True, rename="camel"):
    """Where something stands in its file, and the comment above it."""

    path: tuple[int, ...] = ()
    leading_comments: str = ""


class SourceCodeInfo(Struct, frozen=True):
    """The comments of one file."""

    location: tuple[Location, ...] = ()


class FileDescriptor(Struct, frozen=True, rename="camel"):
    """One .proto file."""

    name: str
    package: str = ""
    message_type: tuple[MessageDescriptor, ...] = ()
    enum_type: tuple[EnumDescriptor, ...] = ()
    source_code_info: SourceCodeInfo = SourceCodeInfo()


class Image(Struct, frozen=True):
    """All files of a module, imports first."""

    file: tuple[FileDescriptor, ...]


class BufError(Exception):
    """buf refused the .proto files; its own words are the message."""


def buf(*arguments: str, cwd: Path) -> bytes:
    """Run buf from this environment in `cwd` and give its standard output.

    Raises BufError with buf's messages when it exits with anything but 0.
    """
    program = Path(sys.executable).parent / "buf"
    outcome = subprocess.run([str(program), *arguments], cwd=cwd, capture_output=True, check=False)
    if outcome.returncode != 0:
        raise BufError((outcome.stdout + outcome.stderr).decode())
    return outcome.stdout


def load(proto: Path) -> Image:
    """Compile the folder of .proto files.

    Raises BufError when they do not compile.
    """
    return msgspec.json.decode(buf("build", "-o", "-#format=json", cwd=proto), type=Image)
