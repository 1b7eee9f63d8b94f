"""Event and entity types as data (`ontology.json`) and as the Python classes of a prompt (Code4Struct's layout).

The names of types and roles are ACE 2005's; their definitions are our own. A prompt defines the classes that one event
needs: the entity types its parent's roles may hold, the parent with the roles of all its children, and the event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_BASES = """\
from typing import List


class Entity:
    def __init__(self, name: str):
        self.name = name


class Event:
    def __init__(self, name: str):
        self.name = name
"""


class EventType(BaseModel):
    """A kind of event: the roles it gives its arguments, and a sentence that says what it means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    roles: tuple[str, ...]
    template: str


class Ontology(BaseModel):
    """Every type the prompts may speak of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entities: Mapping[str, str]
    """Entity type to definition."""
    roles: Mapping[str, tuple[str, ...]]
    """Role to the entity types that may fill it."""
    events: Mapping[str, EventType]
    """`Parent:Child` to event type."""

    def attributes(self, event_type: str) -> tuple[str, ...]:
        """Return the attributes of an instance: the roles of all children of its parent, in lower case and order."""
        return tuple(role.lower() for role in self._family_roles(event_type))

    def classes(self, event_type: str) -> str:
        """Return the source of the classes that an instance of the event needs, each block ended by a newline."""
        parent, child = class_names(event_type)
        family, own = self._family_roles(event_type), sorted(self.events[event_type].roles)
        used = sorted({entity for role in family for entity in self.roles[role]})
        return "\n\n".join(
            [
                _BASES,
                *(_entity_class(entity, self.entities[entity]) for entity in used),
                f"class {parent}(Event):\n" + self._constructor(family, _assignments(family)),
                f'class {child}({parent}):\n    """{self.events[event_type].template}"""\n\n'
                + self._constructor(own, _forwarding(own)),
            ]
        )

    def _family_roles(self, event_type: str) -> list[str]:
        parent = event_type.partition(":")[0]
        return sorted(
            {role for name, event in self.events.items() if name.startswith(f"{parent}:") for role in event.roles}
        )

    def _constructor(self, roles: Sequence[str], body: str) -> str:
        parameters = (f"        {role.lower()}: List[{' | '.join(self.roles[role])}] = [],\n" for role in roles)
        return f"    def __init__(\n        self,\n{''.join(parameters)}    ):\n{body}"


@cache
def load() -> Ontology:
    """Return the ontology that comes with leti."""
    return Ontology.model_validate_json((Path(__file__).parent / "ontology.json").read_bytes())


def class_names(event_type: str) -> tuple[str, str]:
    """Return the class names of an event's parent and of itself: `Justice:Arrest-Jail` is Justice, Arrest_Jail."""
    parent, _, child = event_type.replace("-", "_").partition(":")
    return parent, child


def instantiation(event_type: str) -> str:
    """Return the line that a prompt ends with, which begins the event's instance."""
    child = class_names(event_type)[1]
    return f"{variable(event_type)} = {child}(\n"


def variable(event_type: str) -> str:
    """Return the name of the instance."""
    return f"{class_names(event_type)[1].lower()}_event"


def _entity_class(name: str, definition: str) -> str:
    return (
        f'class {name}(Entity):\n    """{definition}"""\n\n'
        "    def __init__(self, name: str):\n        super().__init__(name=name)\n"
    )


def _assignments(roles: Iterable[str]) -> str:
    return "".join(f"        self.{role.lower()} = {role.lower()}\n" for role in roles)


def _forwarding(roles: Iterable[str]) -> str:
    passed = "".join(f"            {role.lower()}={role.lower()},\n" for role in roles)
    return f"        super().__init__(\n{passed}        )\n"
