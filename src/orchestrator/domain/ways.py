"""Ways between numbered steps: where they lead, and which come back. No recursion, however long they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edge:
    """A way from one step to another. `path` leads to the name of its target, from the step."""

    path: str
    target: int


def reached_from(edges: Sequence[Sequence[Edge]], start: int, within: AbstractSet[int] | None = None) -> set[int]:
    """The steps some way leads to from `start`, and `start` itself; `within` bounds where ways may lead."""
    seen = {start}
    ends = [start]
    while ends:
        for edge in edges[ends.pop()]:
            if edge.target not in seen and (within is None or edge.target in within):
                seen.add(edge.target)
                ends.append(edge.target)
    return seen


def by_finish(edges: Sequence[Sequence[Edge]]) -> list[int]:
    """All steps, each after every step it leads to (as far as there are no cycles)."""
    finished: list[int] = []
    seen: set[int] = set()
    for start in range(len(edges)):
        if start in seen:
            continue
        seen.add(start)
        way = [(start, iter(edges[start]))]
        while way:
            number, rest = way[-1]
            edge = next((edge for edge in rest if edge.target not in seen), None)
            if edge is None:
                finished.append(number)
                way.pop()
            else:
                seen.add(edge.target)
                way.append((edge.target, iter(edges[edge.target])))
    return finished


def _knots(edges: Sequence[Sequence[Edge]]) -> list[set[int]]:
    """The sets of steps that lead to each other, in the order of their first steps; steps on no cycle are left out."""
    # Kosaraju: against the ways, in the order of last finish, no walk leaves its knot.
    backwards: list[list[Edge]] = [[] for _ in edges]
    for number, ways in enumerate(edges):
        for edge in ways:
            backwards[edge.target].append(Edge(path=edge.path, target=number))
    left = set(range(len(edges)))
    knots = []
    for number in reversed(by_finish(edges)):
        if number in left:
            knot = reached_from(backwards, number, within=left)
            left -= knot
            if len(knot) > 1 or any(edge.target == number for edge in edges[number]):
                knots.append(knot)
    return sorted(knots, key=min)


def cycles_in(edges: Sequence[Sequence[Edge]]) -> list[list[tuple[int, Edge]]]:
    """For each knot the shortest cycle through its first step, as (step, way taken)."""
    cycles = []
    for knot in _knots(edges):
        start = min(knot)
        came: dict[int, tuple[int, Edge]] = {}
        ends = deque([start])
        while start not in came:
            number = ends.popleft()
            for edge in edges[number]:
                if edge.target in knot and edge.target not in came:
                    came[edge.target] = (number, edge)
                    ends.append(edge.target)
        way = [came[start]]
        while way[-1][0] != start:
            way.append(came[way[-1][0]])
        cycles.append(way[::-1])
    return cycles
