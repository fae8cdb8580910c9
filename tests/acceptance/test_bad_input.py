"""Every field of every RPC × every way in which it can be wrong, over both transports, against a server.

A refusal has a name, says which field is at fault, and leaves no trace. `CASES` lists the ways; `BY_DESIGN` what is
taken although it looks wrong, and why. Many ways have several forms (a text, a list or a number where none belongs),
and many fields several places: here each field is wrong in every way at each of its places, in one of the forms, and
over both transports at one of them; in `make soak` in all forms, at all places, over both.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from functools import cache
from zlib import crc32

import pytest
from google.protobuf.descriptor import MethodDescriptor

from orchestrator.devstack.postgres import EmbeddedPostgres
from orchestrator.v1.error_reason_pb2 import ErrorReason
from tests.acceptance.good_calls import INTERNALS_OWN, OPERATORS_OWN, Json, documents
from tests.acceptance.ground import NOUNS, Ground, Project, served_ground
from tests.acceptance.hostile_calls import probes
from tests.acceptance.hostile_meaning import if_match
from tests.acceptance.http_requests import good_http
from tests.acceptance.probes import CASES, GRPC, HTTP, TRUNCATED, Known, Probe
from tests.acceptance.raw_calls import OK, HttpRequest, Outcome, call_grpc
from tests.acceptance.request_fields import Place, declared_fields, message_of, places
from tests.integration.api.callers import RPCS
from tests.integration.api.conftest import INTERNAL_TOKEN, OPERATOR_KEY
from tests.soak import SOAK

REASONS = frozenset(name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys())  # noqa: SIM118
AT_ONCE = 8
#: Fewer would mean that something is no longer generated.
LEAST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ByDesign:
    """What is taken, or refused for something else than the bad value; and why."""

    why: str
    covers: Callable[[Probe], bool]


def _is_overwritten(probe: Probe) -> bool:
    """What is read without fault and then thrown away, because only the server writes it."""
    if probe.place is None or not probe.place.is_output_only:
        return False
    if probe.transport == HTTP:
        in_list = probe.place.kind == "list" and bool(probe.reasons & {"TOO_LONG", "REQUIRED"})
        return in_list or (probe.case == "too long" and probe.place.kind == "string")
    return probe.at is not None and "UNKNOWN_FIELD" not in probe.reasons


def _is_list(probe: Probe) -> bool:
    return probe.place is not None and probe.place.kind == "list"


def _makes_what_it_names(probe: Probe) -> bool:
    """Ids belong to projects: the same id may be given in each of them; subjects come to be by being named."""
    assert probe.place is not None
    creates = probe.rpc.name.startswith("Create") and probe.place.field.name == "id"
    return creates or probe.rpc.name in (
        "AddSegmentMembers",
        "BatchUpsertSubjects",
        "CreateSuppression",
        "ForgetSubject",
        "EnrollSubjects",
        "StartExecution",
        "GetPreferences",
        "IngestEvents",
        "ListSuppressions",
        "RemoveSegmentMembers",
        "ReportDeliveries",
        "UpdatePreferences",
        "UpsertSubject",
    )


BY_DESIGN: tuple[ByDesign, ...] = (
    ByDesign(why="what only the server writes is ignored in requests (AIP-203)", covers=_is_overwritten),
    ByDesign(
        why="protobuf: of a field that comes twice, and of a oneof's members, the last one counts",
        covers=lambda p: p.transport == GRPC and p.case in ("twice", "both of a oneof"),
    ),
    ByDesign(
        why="the elements of a list in a query are parameters of one name",
        covers=lambda p: p.transport == HTTP and p.case == "twice" and p.rpc.name == "ExportBundle" and _is_list(p),
    ),
    ByDesign(
        why="protobuf: readers keep the low 32 bits of a varint for a 32-bit field",
        covers=lambda p: p.label == TRUNCATED,
    ),
    ByDesign(
        why="an update changes what its message has: what is absent stays",
        covers=lambda p: (
            p.transport == GRPC
            and p.case == "empty"
            and p.place is not None
            and p.place.is_update
            and not p.place.is_named
            and not p.place.is_body
            and len(p.place.hops) == 2
        ),
    ),
    ByDesign(
        why="what is made has no earlier state that could be stale",
        covers=lambda p: p.case == "stale etag" and p.place is not None and p.rpc.name.startswith("Create"),
    ),
    ByDesign(
        why="a page token holds a place in a list and grants nothing: it fits the same list of another project",
        covers=lambda p: p.token_of == p.rpc.name and p.rpc.name in ("ListAudiences", "ListSubjects"),
    ),
    ByDesign(
        why="ids are those of a project: the same may be given in each; subjects come to be by being named",
        covers=lambda p: p.case == "other project" and _makes_what_it_names(p),
    ),
    ByDesign(
        why="a filter by what does not exist finds nothing",
        covers=lambda p: (
            p.case == "other project"
            and p.place is not None
            and p.rpc.name.startswith(("List", "Dispatch"))
            and not p.place.is_named
        ),
    ),
    ByDesign(
        why="drafts may name what does not exist yet: publishing them is refused",
        covers=lambda p: (
            p.case == "other project" and p.place is not None and p.place.dotted.startswith("journey.definition.")
        ),
    ),
)


def is_by_design(probe: Probe) -> bool:
    return any(design.covers(probe) for design in BY_DESIGN)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    ground: Ground
    foreign: Project
    tokens: dict[str, str]
    tally: Counter[tuple[str, str, str]]
    fields: dict[str, int]

    async def send(self, probe: Probe, request: HttpRequest | bytes, key: str) -> Outcome:
        if isinstance(request, bytes):
            return await call_grpc(self.ground.grpc, probe.rpc, request, key)
        return await self.ground.http.call(probe.rpc.name, request, key)

    async def send_all(self, batch: list[Probe], key: str) -> list[tuple[Probe, Outcome, Outcome | None]]:
        """Each probe with its outcome and its twin's."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def send(probe: Probe) -> tuple[Probe, Outcome, Outcome | None]:
            async with gate:
                outcome = await self.send(probe, probe.request, key)
                twin = None if probe.twin is None else await self.send(probe, probe.twin, key)
            self.tally[probe.rpc.name, probe.case, probe.transport] += 1
            return probe, outcome, twin

        return await asyncio.gather(*map(send, batch))


@pytest.fixture(scope="module")
async def world(request: pytest.FixtureRequest, postgres: EmbeddedPostgres, template: str) -> AsyncIterator[World]:
    async with served_ground(postgres, template) as ground:
        nouns = dict.fromkeys(noun for nouns in NOUNS.values() for noun in nouns)
        foreign = await ground.project("elsewhere", nouns, prefix="their-")
        tokens = {}
        for name, path in _LISTS.items():
            document = await ground.http.document(foreign.owner_key, "GET", f"{path}?pageSize=1")
            tokens[name] = document["nextPageToken"]
        world = World(ground=ground, foreign=foreign, tokens=tokens, tally=Counter(), fields={})
        yield world
    _print(request.config, world)


#: Lists that have a second page.
_LISTS = {
    "ListAudiences": "/v1/audiences",
    "ListSubjects": "/v1/subjects",
    "ListJourneyVersions": "/v1/journeys/their-journey-0/versions",
    "ListSegmentMembers": "/v1/segments/their-segment-0/members",
    "ListExecutions": "/v1/journeys/their-journey-0/executions",
}


@pytest.mark.parametrize("name", RPCS)
@pytest.mark.timeout(900)  # the largest makes three thousand calls
async def test_bad_input_is_refused_by_name_and_place_and_leaves_no_trace(world: World, name: str) -> None:
    await _try(world, name, some_of_each)


@pytest.mark.faults
@pytest.mark.skipif(not SOAK, reason="43,000 calls: `make soak`")
@pytest.mark.parametrize("name", RPCS if SOAK else ["every RPC"])
@pytest.mark.timeout(3600)
async def test_bad_input_in_every_form_is_refused_by_name_and_place_and_leaves_no_trace(
    world: World, name: str
) -> None:
    await _try(world, name, list)


def some_of_each(probes: Iterable[Probe]) -> list[Probe]:
    """Of each way in which a field can be wrong at a place one form, over one transport; over both at one of the
    places of each field. Forms and transports differ from place to place.
    """
    forms: dict[tuple[Place | Probe, str, str], list[Probe]] = {}
    for probe in probes:
        # What is wrong with a request as a whole is of many kinds.
        forms.setdefault((probe.place or probe, probe.case, probe.transport), []).append(probe)
    chosen: list[Probe] = []
    covered: set[tuple[object, ...]] = set()
    for (place, case, transport), of_one in sorted(forms.items(), key=lambda item: crc32(str(item[1][0]).encode())):
        field = place.field.full_name if isinstance(place, Place) else place
        if {(place, case), (field, case, transport)} <= covered:
            continue
        covered |= {(place, case), (field, case, transport)}
        chosen.append(of_one[crc32(str(of_one[0]).encode()) % len(of_one)])
    return chosen


async def _try(world: World, name: str, chosen: Callable[[Iterable[Probe]], list[Probe]]) -> None:
    rpc, ground = RPCS[name], world.ground
    project = await ground.project(f"p-{name.lower()}", NOUNS[rpc.containing_service.name])
    key = OPERATOR_KEY if name in OPERATORS_OWN else INTERNAL_TOKEN if name in INTERNALS_OWN else project.owner_key
    good = [documents(name, project, number) for number in (0, 1)]
    found = places(rpc, good[0])
    world.fields[name] = len(found)
    planned = chosen(_planned(world, project, rpc, found, good[0][0]))
    refused = [probe for probe in planned if not is_by_design(probe)]
    taken = [probe for probe in planned if is_by_design(probe)]

    before = await ground.checksums()
    answers = await world.send_all(refused, key)
    after = await ground.checksums()

    assert [f"{probe}: {wrong}" for probe, told, twin in answers if (wrong := _wrong(probe, told, twin))] == []
    assert after == before

    # The requests themselves are good: each refusal was for the one value that was not.
    by_grpc = await call_grpc(ground.grpc, rpc, message_of(rpc, good[0][0]).SerializeToString(), key)
    by_http = await ground.http.call(name, good_http(rpc, good[1][0]), key)
    assert (by_grpc.code, by_http.code) == (OK, OK), (by_grpc, by_http)

    theirs = await ground.checksums(world.foreign.project_no)
    answers = await world.send_all(taken, key)

    assert [f"{probe}: {told}" for probe, told, _ in answers if told.code != OK and told.reason not in NAMED] == []
    assert await ground.checksums(world.foreign.project_no) == theirs


_NOUNS = (
    *("audience", "segment", "communication", "trigger_contract", "journey", "subject"),
    *("execution", "api_key", "project"),
)

#: All but the reasons for which nobody is to blame but the server.
NAMED = REASONS - {"UNSPECIFIED", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"}


def _planned(world: World, project: Project, rpc: MethodDescriptor, found: list[Place], document: Json) -> list[Probe]:
    foreign = world.foreign
    ids = {noun: f"their-{noun}-0" for noun in _NOUNS}
    ids |= {"execution": foreign.executions[0], "api_key": foreign.api_keys[0], "project": foreign.project_id}
    known = Known(foreign=ids, stale=project.etags, stale_times=project.updated_at, tokens=world.tokens)
    return [*probes(rpc, found, document, known), *if_match(rpc, found, known)]


def _wrong(probe: Probe, outcome: Outcome, twin: Outcome | None) -> str | None:
    """What is wrong with the answer to a bad call."""
    wanted = f"wanted {sorted(probe.codes)} {sorted(probe.reasons)} at {probe.at!r}"
    told = f"{outcome.code} {outcome.reason} {outcome.faults[:4]}; {wanted}"
    if outcome.code not in probe.codes or {outcome.reason, *(reason for _, reason in outcome.faults)} - NAMED:
        return told
    if twin is not None:
        foreign, absent = probe.label, "absent".ljust(len(probe.label), "-")
        same = (outcome.code, outcome.reason, outcome.faults, outcome.told.replace(foreign, absent))
        return None if same == (twin.code, twin.reason, twin.faults, twin.told) else f"{told}; else {twin}"
    if "INVALID_ARGUMENT" not in probe.codes:
        return None if not probe.reasons or outcome.reason in probe.reasons else told
    for path, reason in outcome.faults:
        if _is_at(path, probe.at) and (not probe.reasons or reason in probe.reasons):
            return None
        # A leaf that must not stand there is refused as such, and its members are not looked at.
        if reason == "LEAF_NOT_ALLOWED" and probe.at is not None and _is_at(probe.at, path.removesuffix(".kind")):
            return None
    return None if not probe.at and outcome.reason in probe.reasons else told


def _is_at(path: str, at: str | None) -> bool:
    return at is None or path == at or path.startswith((f"{at}.", f"{at}["))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What is tried of an RPC: so many calls by case, and the places that nearly nothing is tried at. `lost`: ways that
    are not among some of each.
    """

    fields: set[str]
    cases: Counter[str]
    bare: list[str]
    lost: set[tuple[object, ...]]


@cache
def tried(name: str) -> Tried:
    project = Project(project_id="acme", project_no=1, owner_key="", api_keys=["k0", "k1"], executions=["e0", "e1"])
    known = Known(foreign=dict.fromkeys(_NOUNS, "theirs"), stale={}, stale_times={}, tokens={})
    rpc, good = RPCS[name], documents(name, project, 0)
    found = places(rpc, good)
    planned = list(probes(rpc, found, good[0], known))
    ways = Counter((probe.place, probe.transport) for probe in planned)
    return Tried(
        fields={place.field.full_name for place in found},
        cases=Counter(probe.case for probe in planned),
        bare=[
            place.name
            for place in found
            if ways[place, GRPC] < 4 or (ways[place, HTTP] < 4 and not (place.is_inline or place.is_body))
        ],
        lost=_ways(planned) - _ways(some_of_each(planned)),
    )


def _ways(planned: Iterable[Probe]) -> set[tuple[object, ...]]:
    """Each case at each place, and of each field over each transport."""
    ways: set[tuple[object, ...]] = set()
    for probe in planned:
        place, field = (probe.place.name, probe.place.field.full_name) if probe.place else (str(probe), str(probe))
        ways |= {(place, probe.case), (field, probe.case, probe.transport)}
    return ways


@pytest.mark.parametrize("name", RPCS)
def test_every_field_that_an_rpc_declares_is_tried(name: str) -> None:
    assert tried(name).fields == declared_fields(RPCS[name].input_type)
    assert tried(name).bare == []


@pytest.mark.parametrize("name", RPCS)
def test_every_way_at_every_place_is_among_some_of_each(name: str) -> None:
    assert tried(name).lost == set()


def test_there_are_as_many_calls_as_there_should_be() -> None:
    cases = sum((tried(name).cases for name in RPCS), Counter[str]())

    assert set(cases) == set(CASES)
    assert cases.total() >= LEAST


def _print(config: pytest.Config, world: World) -> None:
    """The table RPC × case, and how many calls there were: past pytest's capture, since it is part of the answer."""
    reporter, capture = (config.pluginmanager.get_plugin(name) for name in ("terminalreporter", "capturemanager"))
    assert reporter is not None
    assert capture is not None
    with capture.global_and_fixture_disabled():
        reporter.ensure_newline()
        reporter.write_line("bad input: calls by RPC and case, over both transports")
        reporter.write_line(_row("RPC", "fields", [case.replace(" ", "-")[:9] for case in CASES], "all"))
        for name, fields in world.fields.items():
            counts = [sum(world.tally[name, case, way] for way in (HTTP, GRPC)) for case in CASES]
            reporter.write_line(_row(name, str(fields), [str(count or "·") for count in counts], str(sum(counts))))
        by_case = [sum(world.tally[name, case, way] for name in world.fields for way in (HTTP, GRPC)) for case in CASES]
        fields = sum(world.fields.values())
        reporter.write_line(_row("all", str(fields), [str(count) for count in by_case], str(sum(by_case))))
        over = {way: sum(n for (_, _, tally_way), n in world.tally.items() if tally_way == way) for way in (HTTP, GRPC)}
        reporter.write_line(
            f"{len(world.fields)} RPCs, {fields} fields, {len(CASES)} cases, {sum(by_case)} calls "
            f"({over[HTTP]} HTTP, {over[GRPC]} gRPC), no field and no case skipped"
        )


def _row(name: str, fields: str, counts: list[str], total: str) -> str:
    return f"{name:27}{fields:>7}" + "".join(f"{count:>10}" for count in counts) + f"{total:>7}"
