"""Mutable containers that both sides of a conversation hold: a change on one side is seen on the other.

In one process `box.items.append(1)` changes the box. Here the list exists twice, so it has a number, both sides
remember its content as of the last message, and each message carries the content of those that have changed since.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable
from typing import Any

from stages.execute.inside import codec

UNHELD = 2
"""References to a container that nobody but the ledger holds: its own, and the one that is asked with."""


class Ledger:
    """The shared containers by number. The sides count in opposite directions, so that numbers never meet."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.fresh = itertools.count(step, step)
        self.items: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}
        self.agreed: dict[int, str] = {}

    def enter(self, item: Any, number: int | None = None) -> int:
        """Share a container from now on."""
        number = next(self.fresh) if number is None else number
        self.items[number], self.numbers[id(item)] = item, number
        return number

    def write(self, encoder: codec.Encoder, item: Any) -> codec.Tree:
        """A shared container inside of a value: its number, and its content where the other side cannot know it."""
        known = self.numbers.get(id(item))
        if known is not None:
            return ["m", known]
        return ["m", self.enter(item), encoder.content(item)]

    def read(self, decoder: codec.Decoder, number: object, content: codec.Tree = None) -> Any:
        """The container of that number, made first where it is new. Raises CodecError."""
        if type(number) is not int:
            raise codec.CodecError("a number expected")
        if content is None:
            if number not in self.items:
                raise codec.CodecError("reference to nothing")
            return self.items[number]
        if number * self.step >= 0:
            raise codec.CodecError("a number of this side's")
        item = decoder.empty(content)
        if number in self.items:
            raise codec.CodecError("a container is new twice")
        self.enter(item, number)
        decoder.fill(item, content)
        return item

    def changes(self, encoder: codec.Encoder) -> list[list[codec.Tree]]:
        """Number and content of those that have changed since both sides agreed."""
        found = []
        for number in list(self.agreed):
            content = encoder.content(self.items[number])
            if json.dumps(content) != self.agreed[number]:
                found.append([number, content])
        return found

    def apply(self, changes: object, decoder: codec.Decoder) -> None:
        """Take over what the other side has changed. Raises CodecError."""
        if type(changes) is not list:
            raise codec.CodecError("changes expected")
        for change in changes:
            if type(change) is not list or len(change) != 2 or change[0] not in self.items:
                raise codec.CodecError("a change of nothing")
            decoder.replace(self.items[change[0]], change[1])

    def agree(self, encoder: codec.Encoder) -> None:
        """A message has crossed: both sides now hold the same."""
        for number in list(self.items):
            self.agreed[number] = json.dumps(encoder.content(self.items[number]))

    def release(self) -> list[int]:
        """Forget those that nobody here can look at any more; returns their numbers for the other side."""
        unheld = [number for number in self.items if sys.getrefcount(self.items[number]) <= UNHELD]
        self.drop(unheld)
        return unheld

    def drop(self, numbers: Iterable[object]) -> None:
        """Forget these."""
        for number in numbers:
            if type(number) is int and number in self.items:
                del self.numbers[id(self.items.pop(number))]
                self.agreed.pop(number, None)
