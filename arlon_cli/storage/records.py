"""Records: flat dataclasses that are kept as JSON."""

from dataclasses import fields
from typing import Any, TypeVar, get_origin, get_type_hints

_Record = TypeVar("_Record")


def build_record(cls: type[_Record], data: dict[str, Any]) -> _Record:
    """A record of these fields. Raises TypeError where one is missing, unknown, or of another type than stated.

    A whole number stands for a float too; what a tuple holds is not looked at.
    """
    record = cls(**data)
    hints = get_type_hints(cls)
    for field in fields(cls):  # type: ignore[arg-type]
        value, hint = getattr(record, field.name), hints[field.name]
        kind = tuple if get_origin(hint) is tuple else hint
        if not isinstance(value, kind) and not (isinstance(value, int) and isinstance(float(value), kind)):
            raise TypeError(f"{field.name} is {value!r}, which is no {hint}.")
    return record
