"""The service as an outside system sees it: its REST API."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from app.demo.trouble import DemoFailed

BULK = 1000
TIMEOUT_SECONDS = 60


class Service:
    """A client of the REST API with one key."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._http = httpx.Client(
            base_url=f"{url}/api/v1",
            headers={"Authorization": f"Bearer {key}"},
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
        )

    def close(self) -> None:
        """Ends the connections."""
        self._http.close()

    def call(self, method: str, path: str, body: Any = None, also: Sequence[int] = ()) -> Any:
        """The JSON answer to a call, None when it has no body.

        Raises DemoFailed with the problem's own words unless the status is below 400 or one of `also`.
        """
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise DemoFailed(f"{method} {path}: the service does not answer ({error}).") from error
        if answer.status_code >= 400 and answer.status_code not in also:
            raise DemoFailed(f"{method} {path}: {_told(answer)}")
        return answer.json() if answer.content else None

    def items(self, path: str, **parameters: str) -> Iterator[Mapping[str, Any]]:
        """All items of a list, page by page."""
        query: dict[str, str] = {"limit": "1000", **parameters}
        while True:
            page = self.call("GET", f"{path}?{httpx.QueryParams(query)}")
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            query["cursor"] = page["next_cursor"]


class Company:
    """One company of the service."""

    def __init__(self, service: Service, name: str) -> None:
        self.service = service
        self.name = name
        self.path = f"/companies/{name}"

    def get(self, path: str, **parameters: str) -> Any:
        """GET below the company."""
        query = f"?{httpx.QueryParams(parameters)}" if parameters else ""
        return self.service.call("GET", f"{self.path}/{path}{query}")

    def post(self, path: str, body: Any = None) -> Any:
        """POST below the company."""
        return self.service.call("POST", f"{self.path}/{path}", body)

    def put(self, path: str, body: Any) -> Any:
        """PUT below the company."""
        return self.service.call("PUT", f"{self.path}/{path}", body)

    def patch(self, path: str, body: Any) -> Any:
        """PATCH below the company."""
        return self.service.call("PATCH", f"{self.path}/{path}", body)

    def items(self, path: str, **parameters: str) -> list[Mapping[str, Any]]:
        """All items of a list."""
        return list(self.service.items(f"{self.path}/{path}", **parameters))

    def load(self, table: str, records: Sequence[Mapping[str, Any]]) -> int:
        """Creates or changes NAV records in sets; returns how many. Raises DemoFailed naming the first refused."""
        for start in range(0, len(records), BULK):
            part = records[start : start + BULK]
            outcomes = self.post(f"nav/{table}/bulk", {"records": part})["outcomes"]
            refused = next((outcome for outcome in outcomes if outcome["error"]), None)
            if refused is not None:
                raise DemoFailed(f"NAV took no {table} {refused['no']}: {refused['error']['message']}")
        return len(records)


def nav_path(table: str, no: str) -> str:
    """The address of a NAV record below its company."""
    return f"nav/{table}/{quote(no, safe='')}"


def _told(answer: httpx.Response) -> str:
    try:
        problem = answer.json()
    except ValueError:
        return f"{answer.status_code} {answer.text[:300]}"
    parts = [str(problem.get(name)) for name in ("detail", "fix") if problem.get(name)]
    told = " ".join(parts) or str(problem.get("title", ""))
    errors = "; ".join(
        f"{error.get('pointer', '')} {error.get('message', '')}" for error in problem.get("errors") or []
    )
    return f"{answer.status_code} {problem.get('code', '')}: {told} {errors}".strip()
