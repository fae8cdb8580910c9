"""A client as a new user writes it: from the five documents, knowing nothing else of this server.

One class for each document, which says what that document says: its paths, its header, its fields, the statuses it
names. Nothing of this project is imported, on purpose. What the documents leave open is marked "open:".
"""

from types import TracebackType
from typing import Any, Self

import httpx

Json = dict[str, Any]


class ApiError(Exception):
    """An answer that is none of those that the document promises for success; `code` is the error's."""

    def __init__(self, answer: httpx.Response) -> None:
        self.status = answer.status_code
        # open: only one of the documents shows the body of an error.
        self.code: str = answer.json()["error"]["code"]
        self.message: str = answer.json()["error"]["message"]
        super().__init__(f"{self.status} {self.code}: {self.message}")


class Api:
    """A host and a key, as a user has them."""

    def __init__(self, host: str, headers: dict[str, str]) -> None:
        self._http = httpx.AsyncClient(base_url=host, headers=headers, timeout=30)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def call(
        self, method: str, path: str, *, success: int = 200, body: Json | None = None, query: Json | None = None
    ) -> Any:
        answer = await self._http.request(method, path, json=body, params=query)
        if answer.status_code != success:
            raise ApiError(answer)
        return answer.json() if answer.content else None


class AudienceLab(Api):
    """ "Official POST /audiences format"."""

    def __init__(self, host: str, key: str) -> None:
        super().__init__(host, {"X-Api-Key": key})

    async def create_audience(
        self, name: str, filters: Json, segment: list[str] | None = None, days_back: int | None = None
    ) -> str:
        body: Json = {"name": name, "filters": filters}
        if segment is not None:
            body["segment"] = segment
        if days_back is not None:
            body["days_back"] = days_back
        audience_id: str = (await self.call("POST", "/audiences", body=body))["audienceId"]
        return audience_id


class Audiences(Api):
    """ "Audiences API"; "all endpoints require workspace authentication"."""

    def __init__(self, host: str, key: str) -> None:
        super().__init__(host, {"Authorization": f"Bearer {key}"})

    async def all(self) -> list[Json]:
        found: list[Json] = await self.call("GET", "/api/audiences")
        return found

    async def create(self, name: str, predicate: Json, **more: Any) -> Json:
        body = {"name": name, "predicate": predicate, **more}
        # open: the document names no status; whatever says "done" will do.
        made: Json = await self.call("POST", "/api/audiences", body=body)
        return made

    async def update(self, audience_id: str, **changes: Any) -> Json:
        changed: Json = await self.call("PATCH", f"/api/audiences/{audience_id}", body=changes)
        return changed

    async def delete(self, audience_id: str) -> None:
        await self.call("DELETE", f"/api/audiences/{audience_id}")


class Segments(Api):
    """ "Segments": CRUD for rule-based user segments, and evaluation on demand."""

    def __init__(self, host: str, key: str, project_id: str) -> None:
        super().__init__(host, {"Authorization": f"Bearer {key}"})
        self._path = f"/admin/projects/{project_id}/segments"

    async def create(self, name: str, rules: Json, description: str | None = None) -> Json:
        body: Json = {"name": name, "rules": rules}
        if description is not None:
            body["description"] = description
        made: Json = await self.call("POST", self._path, success=201, body=body)
        return made

    async def all(self) -> Any:
        return await self.call("GET", self._path)

    async def get(self, segment_id: str) -> Json:
        found: Json = await self.call("GET", f"{self._path}/{segment_id}")
        return found

    async def update(self, segment_id: str, **changes: Any) -> Json:
        changed: Json = await self.call("PATCH", f"{self._path}/{segment_id}", body=changes)
        return changed

    async def delete(self, segment_id: str) -> None:
        await self.call("DELETE", f"{self._path}/{segment_id}")

    async def evaluate(self, segment_id: str) -> None:
        await self.call("POST", f"{self._path}/{segment_id}/evaluate")


class Journeys(Api):
    """ "Journeys API": CRUD and lifecycle."""

    def __init__(self, host: str, key: str) -> None:
        super().__init__(host, {"Authorization": f"Bearer {key}"})

    async def all(self) -> list[Json]:
        found: list[Json] = await self.call("GET", "/api/journeys")
        return found

    async def create(self, name: str, **more: Any) -> Json:
        made: Json = await self.call("POST", "/api/journeys", body={"name": name, **more})
        return made

    async def update(self, journey_id: str, **changes: Any) -> Json:
        changed: Json = await self.call("PATCH", f"/api/journeys/{journey_id}", body=changes)
        return changed

    async def publish(self, journey_id: str) -> Json:
        return await self._act(journey_id, "publish")

    async def pause(self, journey_id: str) -> Json:
        return await self._act(journey_id, "pause")

    async def resume(self, journey_id: str) -> Json:
        return await self._act(journey_id, "resume")

    async def archive(self, journey_id: str) -> Json:
        return await self._act(journey_id, "archive")

    async def simulate(self, journey_id: str, **who: Any) -> Json:
        trace: Json = await self.call("POST", f"/api/journeys/{journey_id}/simulate", body=who)
        return trace

    async def audit(self, journey_id: str) -> list[Json]:
        entries: list[Json] = await self._read(journey_id, "audit")
        return entries

    async def executions(self, journey_id: str) -> list[Json]:
        newest: list[Json] = await self._read(journey_id, "executions")
        return newest

    async def branch_performance(self, journey_id: str) -> list[Json]:
        branches: list[Json] = await self._read(journey_id, "branch-performance")
        return branches

    async def calibrated_impact(self, journey_id: str) -> Json:
        impact: Json = await self._read(journey_id, "calibrated-impact")
        return impact

    async def step_stats(self, journey_id: str) -> Any:
        return await self._read(journey_id, "step-stats")

    async def _act(self, journey_id: str, action: str) -> Json:
        done: Json = await self.call("POST", f"/api/journeys/{journey_id}/{action}")
        return done

    async def _read(self, journey_id: str, what: str) -> Any:
        return await self.call("GET", f"/api/journeys/{journey_id}/{what}")


class JourneysV1(Api):
    """ "GET /api/v1/journeys" and what follows in that document."""

    def __init__(self, host: str, key: str) -> None:
        super().__init__(host, {"Authorization": f"Bearer {key}"})

    async def page(self, status: str | None = None, limit: int | None = None, offset: int | None = None) -> Any:
        wanted = {"status": status, "limit": limit, "offset": offset}
        query = {name: value for name, value in wanted.items() if value is not None}
        return await self.call("GET", "/api/v1/journeys", query=query)

    async def create(self, name: str, **more: Any) -> Json:
        made: Json = await self.call("POST", "/api/v1/journeys", success=201, body={"name": name, **more})
        return made

    async def get(self, journey_id: str) -> Json:
        found: Json = await self.call("GET", f"/api/v1/journeys/{journey_id}")
        return found

    async def update(self, journey_id: str, **changes: Any) -> Json:
        changed: Json = await self.call("PUT", f"/api/v1/journeys/{journey_id}", body=changes)
        return changed

    async def delete(self, journey_id: str) -> None:
        await self.call("DELETE", f"/api/v1/journeys/{journey_id}", success=204)

    async def enroll(self, journey_id: str, **who: Any) -> Json:
        counts: Json = await self.call("POST", f"/api/v1/journeys/{journey_id}/enroll", success=201, body=who)
        return counts

    async def test(self, journey_id: str, **what: Any) -> Json:
        trace: Json = await self.call("POST", f"/api/v1/journeys/{journey_id}/test", body=what)
        return trace

    async def analytics(self, journey_id: str) -> Json:
        funnel: Json = await self.call("GET", f"/api/v1/journeys/{journey_id}/analytics")
        return funnel
