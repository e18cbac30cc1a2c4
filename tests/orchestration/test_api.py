from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from orchestration import problems
from orchestration.api_units import MAX_BODY_BYTES, MAX_UNITS
from orchestration.records import UnitState
from tests.orchestration.live_api import LiveApi, live_api, small_infrastructure

VM = "eu/a/rack-1/vm-1"
UNIT = {"resource": VM, "commands": [{"verb": "create", "params": {"memory": "1GiB"}}]}


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.raw = response.read()

    @property
    def json(self):
        return json.loads(self.raw)


class RawClient:
    """Speaks plain HTTP, so that the API is tested without our own client."""

    def __init__(self, live: LiveApi) -> None:
        self.live = live

    def connection(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("localhost", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(20)
        connection.sock.connect(str(self.live.socket_path))
        return connection

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = self.connection()
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, raw, named)
            return Answer(connection.getresponse())
        finally:
            connection.close()


@pytest.fixture
def live() -> Iterator[LiveApi]:
    with live_api(heartbeat_s=0.2) as server:
        server.run(server.orchestrator.apply(small_infrastructure(), None, False))
        yield server


@pytest.fixture
def raw(live: LiveApi) -> RawClient:
    return RawClient(live)


def test_submit_answers_202_with_one_answer_per_unit(raw):
    answer = raw.ask("POST", "/v1/work", [UNIT, UNIT])

    assert answer.status == 202
    assert [item["id"] for item in answer.json] == ["u-000001", "u-000002"]
    assert answer.json[0]["state"] == "pending"


def test_submit_reads_json_lines(raw, live):
    lines = b"\n".join(json.dumps(UNIT).encode() for _ in range(3))
    answer = raw.ask("POST", "/v1/work", lines, content_type="application/x-ndjson")

    assert answer.status == 202
    assert live.orchestrator.batches == [3]


def test_submit_with_bad_units_names_each_by_index(raw, live):
    wrong = [UNIT, {"resource": VM}, UNIT, {**UNIT, "bogus": 1}]
    answer = raw.ask("POST", "/v1/work", wrong)

    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [item["index"] for item in answer.json["errors"]] == [1, 3]
    assert "bogus" in answer.json["errors"][1]["message"]
    assert live.orchestrator.records == {}


def test_bad_json_line_is_named_by_its_index(raw):
    lines = json.dumps(UNIT).encode() + b"\n{oops\n"
    answer = raw.ask("POST", "/v1/work", lines, content_type="application/x-ndjson")

    assert answer.status == 422
    assert [item["index"] for item in answer.json["errors"]] == [1]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"commands": []}, problems.NO_COMMANDS),
        ({"on_failure": {"strategy": "retry"}}, problems.BAD_ON_FAILURE),
        ({"on_failure": {"strategy": "wait", "attempts": -1}}, problems.BAD_ON_FAILURE),
        ({"on_failure": {"deadline_s": 0}}, problems.BAD_ON_FAILURE),
        ({"idempotency_key": ""}, problems.BAD_KEY),
        ({"idempotency_key": "k" * 256}, problems.BAD_KEY),
        ({"command_deadline_s": 0}, problems.BAD_UNIT),
        ({"resource": "eu/a/rack-1/nothing"}, problems.UNKNOWN_RESOURCE),
    ],
)
def test_unit_that_makes_no_sense_is_refused(raw, change, code):
    answer = raw.ask("POST", "/v1/work", [UNIT | change])

    assert answer.status == 422
    assert [item["code"] for item in answer.json["errors"]] == [code.code]


def test_body_that_is_no_json_is_a_bad_request(raw):
    answer = raw.ask("POST", "/v1/work", b"resource = 1")

    assert answer.status == 400
    assert answer.json["code"] == problems.MALFORMED_BODY.code


def test_body_over_the_limit_is_refused_before_it_is_read(raw):
    answer = raw.ask("POST", "/v1/work", b" " * (MAX_BODY_BYTES + 1))

    assert answer.status == 413
    assert str(MAX_BODY_BYTES) in answer.json["detail"]


def test_chunked_body_over_the_limit_is_refused(raw):
    connection = raw.connection()
    chunks = (b" " * 1024 * 1024 for _ in range(33))
    connection.request(
        "POST", "/v1/work", chunks, {"Transfer-Encoding": "chunked"}, encode_chunked=True
    )
    answer = Answer(connection.getresponse())
    connection.close()

    assert answer.status == 413


def test_too_many_units_are_refused_with_the_limit(raw):
    answer = raw.ask("POST", "/v1/work", [UNIT] * (MAX_UNITS + 1))

    assert answer.status == 413
    assert answer.json["code"] == problems.TOO_MANY_UNITS.code


def test_other_content_type_is_refused(raw):
    answer = raw.ask("POST", "/v1/work", b"x", content_type="text/csv")

    assert answer.status == 415
    assert answer.json["code"] == problems.UNSUPPORTED_MEDIA.code


def test_same_idempotency_key_gives_the_same_unit(raw):
    first = raw.ask("POST", "/v1/work", [UNIT], idempotency_key="once")
    again = raw.ask("POST", "/v1/work", [UNIT], idempotency_key="once")

    assert first.json[0]["id"] == again.json[0]["id"]
    assert again.json[0]["replayed"] is True


def test_idempotency_key_for_another_unit_is_refused(raw):
    raw.ask("POST", "/v1/work", [UNIT], idempotency_key="once")
    answer = raw.ask(
        "POST", "/v1/work", [UNIT | {"resource": "eu/a/rack-1/vm-2"}], idempotency_key="once"
    )

    assert answer.status == 422
    assert answer.json["code"] == problems.KEY_REUSED.code


def test_idempotency_header_with_a_batch_is_refused(raw):
    answer = raw.ask("POST", "/v1/work", [UNIT, UNIT], idempotency_key="once")

    assert answer.status == 400
    assert answer.json["code"] == problems.BAD_HEADER.code


def test_full_disk_is_507_and_says_when_to_come_again(raw, live):
    live.orchestrator.full = True
    answer = raw.ask("POST", "/v1/work", [UNIT])

    assert answer.status == 507
    assert answer.headers["retry-after"] == "1"


def test_units_come_in_pages_that_join_up(raw):
    raw.ask("POST", "/v1/work", [UNIT] * 5)
    first = raw.ask("GET", "/v1/work?limit=3").json
    rest = raw.ask("GET", f"/v1/work?limit=3&cursor={first['next']}").json

    assert [item["seq"] for item in first["items"] + rest["items"]] == [1, 2, 3, 4, 5]
    assert rest["next"] is None


def test_unknown_or_wrong_query_parameter_is_named(raw):
    unknown = raw.ask("GET", "/v1/work?colour=red")
    wrong = raw.ask("GET", "/v1/work?state=sleeping")

    assert (unknown.status, wrong.status) == (400, 400)
    assert "colour" in unknown.json["detail"]
    assert "state" in unknown.json["hint"]


def test_unit_with_wait_answers_when_it_has_ended(raw, live):
    raw.ask("POST", "/v1/work", [UNIT])
    threading.Timer(0.1, lambda: live.run(live.orchestrator.finish("u-000001"))).start()
    answer = raw.ask("GET", "/v1/work/u-000001?wait=10")

    assert answer.json["state"] == "succeeded"


def test_wait_for_units_that_do_not_end_says_so(raw):
    raw.ask("POST", "/v1/work", [UNIT])
    answer = raw.ask("POST", "/v1/work/wait", {"ids": ["u-000001"], "timeout_s": 0.01})

    assert answer.json["done"] is False
    assert answer.json["items"][0]["state"] == "pending"


def test_cancel_of_a_finished_unit_is_a_conflict(raw, live):
    raw.ask("POST", "/v1/work", [UNIT])
    cancelled = raw.ask("POST", "/v1/work/u-000001/cancel")
    again = raw.ask("POST", "/v1/work/u-000001/cancel")

    assert cancelled.json["state"] == "cancelled"
    assert (again.status, again.json["code"]) == (409, problems.ALREADY_FINISHED.code)


def test_peer_credentials_reach_the_orchestrator(raw, live):
    raw.ask("POST", "/v1/work", [UNIT])

    actor = live.orchestrator.actors[-1]
    assert actor is not None
    assert (actor.uid, actor.pid) == (os.getuid(), os.getpid())


def test_change_is_logged_with_who_asked_for_it(raw, live):
    raw.ask("POST", "/v1/work", [UNIT])
    raw.ask("POST", "/v1/work/u-000001/cancel")

    (entry,) = live.logs
    assert (entry["event"], entry["unit"]) == ("unit cancelled", "u-000001")
    assert f"uid {os.getuid()}" in str(entry["actor"])


def test_plan_carries_its_revision_as_etag(raw):
    answer = raw.ask("POST", "/v1/plan", msgspec.to_builtins(small_infrastructure(5)))

    assert answer.headers["etag"] == '"1"'
    assert answer.json["add"] == 2


def test_apply_of_a_stale_plan_is_refused(raw):
    body = {"infrastructure": msgspec.to_builtins(small_infrastructure(5))}
    fresh = raw.ask("POST", "/v1/apply", body, if_match='"1"')
    stale = raw.ask("POST", "/v1/apply", body, if_match='"1"')

    assert (fresh.status, fresh.headers["etag"]) == (200, '"2"')
    assert (stale.status, stale.json["code"]) == (412, problems.STALE_REVISION.code)


def test_if_match_that_is_no_revision_is_refused(raw):
    body = {"infrastructure": msgspec.to_builtins(small_infrastructure(5))}
    answer = raw.ask("POST", "/v1/apply", body, if_match='"x"')

    assert (answer.status, answer.json["code"]) == (400, problems.BAD_HEADER.code)


def test_apply_that_removes_busy_resources_needs_cancel_work(raw):
    raw.ask("POST", "/v1/work", [UNIT])
    body = {"infrastructure": {"name": "empty"}}
    refused = raw.ask("POST", "/v1/apply", body)
    done = raw.ask("POST", "/v1/apply", body | {"cancel_work": True})

    assert (refused.status, refused.json["code"]) == (409, problems.WORK_WOULD_GO.code)
    assert done.status == 200


def test_infrastructure_that_has_unknown_fields_is_malformed(raw):
    answer = raw.ask("POST", "/v1/plan", {"name": "x", "zones": []})

    assert answer.status == 400
    assert "zones" in answer.json["detail"]


def test_resources_are_found_by_prefix_and_path(raw):
    assert len(raw.ask("GET", "/v1/resources?prefix=eu/a").json["items"]) == 3
    assert raw.ask("GET", "/v1/resources?prefix=us").json["items"] == []
    assert raw.ask("GET", f"/v1/resources/{VM}").json["path"] == VM
    assert raw.ask("GET", "/v1/resources/eu/none").status == 404


@pytest.mark.parametrize("kind", ["regions", "zones", "pods", "nodes"])
def test_partition_lists_filter_by_prefix(raw, kind):
    every = raw.ask("GET", f"/v1/{kind}").json["items"]
    some = raw.ask("GET", f"/v1/{kind}?prefix=eu").json["items"]

    assert every
    assert [item for item in every if item.get("path", item.get("name")).startswith("eu")] == some


def test_unknown_address_and_method_are_problems(raw):
    address = raw.ask("GET", "/v2/work")
    method = raw.ask("DELETE", "/v1/verify")

    assert (address.status, address.json["code"]) == (404, problems.NO_SUCH_ROUTE.code)
    assert (method.status, method.json["code"]) == (405, problems.METHOD_NOT_ALLOWED.code)


def test_health_metrics_status_and_verify_answer(raw):
    assert raw.ask("GET", "/healthz").json == {"status": "alive"}
    assert raw.ask("GET", "/readyz").json == {"status": "ready"}
    assert raw.ask("GET", "/metrics").raw.startswith(b"# TYPE")
    assert raw.ask("GET", "/v1/status").json["revision"] == 1
    assert raw.ask("GET", "/v1/verify").json["holds"] is True
    assert raw.ask("GET", "/v1/infrastructure").json["infrastructure"]["name"] == "small"


def test_failure_of_the_orchestrator_is_a_problem_without_traceback(raw, live):
    live.orchestrator.declared = None  # any use of it raises
    answer = raw.ask("GET", "/v1/regions")

    assert (answer.status, answer.json["code"]) == (500, problems.INTERNAL.code)
    assert "Traceback" not in answer.raw.decode()


def test_openapi_describes_every_route(raw):
    document = raw.ask("GET", "/openapi.json").json

    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]["/v1/work"]) == {"get", "post"}
    assert "/v1/resources/{path}" in document["paths"]
    names = {parameter["name"] for parameter in document["paths"]["/v1/work"]["get"]["parameters"]}
    assert names == {"state", "resource", "limit", "cursor"}


def test_openapi_references_resolve(raw):
    text = raw.ask("GET", "/openapi.json").raw.decode()
    components = json.loads(text)["components"]["schemas"]
    wanted = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}

    assert wanted
    assert wanted <= set(components)


class Stream:
    """One open event stream."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._response = connection.getresponse()
        assert self._response.headers["content-type"].startswith("text/event-stream")

    def line(self) -> str:
        return self._response.readline().decode()

    def events(self, count: int) -> list[dict[str, str]]:
        events: list[dict[str, str]] = []
        fields: dict[str, str] = {}
        while len(events) < count:
            line = self.line()
            assert line, "the stream ended"
            name, _, value = line.rstrip("\n").partition(": ")
            if name in {"id", "event", "data"}:
                fields[name] = value
            elif not name and fields:
                events.append(fields)
                fields = {}
        return events

    def close(self) -> None:
        self._response.close()
        self._connection.close()


@pytest.fixture
def follow(raw: RawClient) -> Iterator[Callable[..., Stream]]:
    streams: list[Stream] = []

    def start(path: str, **headers: str) -> Stream:
        connection = raw.connection()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", path, headers={"Accept": "text/event-stream", **named})
        streams.append(Stream(connection))
        return streams[-1]

    yield start
    for stream in streams:
        stream.close()


def test_stream_gives_old_events_then_new_ones(follow, raw):
    raw.ask("POST", "/v1/work", [UNIT])
    stream = follow("/v1/events")
    old = stream.events(2)
    raw.ask("POST", "/v1/work", [UNIT])
    new = stream.events(1)

    assert [event["event"] for event in old + new] == [
        "infrastructure.applied",
        "unit.pending",
        "unit.pending",
    ]
    assert [event["id"] for event in old + new] == ["1", "2", "3"]
    assert json.loads(new[0]["data"])["subject"] == "u-000002"


def test_stream_resumes_after_the_last_event_id(follow, raw):
    raw.ask("POST", "/v1/work", [UNIT] * 3)
    stream = follow("/v1/events?after=1", last_event_id="3")
    (event,) = stream.events(1)

    assert event["id"] == "4"


def test_stream_filters_by_kind(follow, raw):
    raw.ask("POST", "/v1/work", [UNIT] * 2)
    raw.ask("POST", "/v1/work/u-000002/cancel")
    stream = follow("/v1/events?kind=unit.cancelled")
    (event,) = stream.events(1)

    assert json.loads(event["data"])["subject"] == "u-000002"


def test_idle_stream_sends_heartbeats(follow, raw):
    stream = follow("/v1/events?after=1")
    lines = [stream.line() for _ in range(4)]

    assert ": heartbeat\n" in lines


def test_stream_of_a_client_that_left_lets_go_of_the_log(follow, raw, live):
    stream = follow("/v1/events")
    stream.events(1)
    assert live.orchestrator.subscribers == 1
    stream.close()

    deadline = time.monotonic() + 5
    while live.orchestrator.subscribers and time.monotonic() < deadline:
        time.sleep(0.01)
    assert live.orchestrator.subscribers == 0


def test_server_stops_at_once_although_streams_are_open(follow, raw, live):
    streams = [follow("/v1/events") for _ in range(3)]
    began = time.monotonic()
    live.stop()

    assert time.monotonic() - began < 3
    assert all("" in iter(stream.line, None) for stream in streams)
    assert live.orchestrator.subscribers == 0


def test_burst_of_events_larger_than_the_window_arrives_whole(follow, raw):
    stream = follow("/v1/events?after=1")
    raw.ask("POST", "/v1/work", [UNIT] * 5000)
    events = stream.events(5000)

    assert [int(event["id"]) for event in events] == list(range(2, 5002))


def test_submit_on_a_socket_bound_for_the_owner_alone(live):
    assert live.socket_path.stat().st_mode & 0o777 == 0o600


def test_finished_unit_is_seen_in_lists_by_state(raw, live):
    raw.ask("POST", "/v1/work", [UNIT] * 2)
    live.run(live.orchestrator.finish("u-000001", UnitState.FAILED))

    assert [item["id"] for item in raw.ask("GET", "/v1/work?state=failed").json["items"]] == [
        "u-000001"
    ]
