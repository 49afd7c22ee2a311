"""Who may see and do what, over the real socket: each route, and each method of the node behind them."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from typing import Protocol

import pytest
from scripted_node import NOON, ScriptedNode, checkpoint, listen, run_server
from test_api_answers import ask, start

from ckptd.api import routes
from ckptd.api.guard import Guarded, guarded
from ckptd.api.node import Node
from ckptd.api.routes import Caller
from ckptd.domain.access import Identity, Owned
from ckptd.domain.model import EventRecord, OperationState

ALICE, BOB, CAROL = (Identity(uid, frozenset({uid, 50})) for uid in (1001, 1002, 1003))
ADMIN = Identity(1009, frozenset({1009}), administrator=True)

SHARED, SECRET = "run-42", "cold"
"""Alice's runs: her group reads the first and not the second. `ours` the group may write."""


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "api.sock")


class Visit:
    """The scripted node, and who comes next."""

    def __init__(self) -> None:
        self.node = ScriptedNode()
        self.node.held["ours", 1] = checkpoint("ours", 1)
        self.node.owners = {
            SHARED: Owned(1001, 50, 0o750), SECRET: Owned(1001, 50, 0o700), "fresh": Owned(1001, 50, 0o700),
            "ours": Owned(1001, 50, 0o770),
        }  # fmt: skip
        self.caller = BOB


@pytest.fixture
def visit(path):
    visit = Visit()
    with run_server(visit.node, listen(path), lambda _request: visit.caller):
        yield visit


def body_of(route: routes.Route, run: str) -> bytes | None:
    bodies = {
        "start": {"kind": "prefetch", "target": run}, "pin": {"target": run, "on": True},
        "set_tag": {"target": f"{run}@1200", "name": "best"}, "shutdown": {}, "upgrade": None,
        "job_ended": {"uid": 0, "runs": []},
        "set_policy": {"pattern": run, "values": {"keep_hot": 1}},
        "preview_policy": {"pattern": run, "values": {"keep_hot": 1}},
    }  # fmt: skip
    found = bodies.get(route.name)
    return None if found is None else json.dumps(found).encode()


def asked(path: str, route: routes.Route, run: str):
    query = {
        "diff": f"?one={run}@1&other={run}@1", "effective_policy": f"?run={run}", "delete_tag": f"?run={run}&name=best",
        "unset_policy": f"?pattern={run}", "tags": f"?run={run}",
    }  # fmt: skip
    target = route.path.replace("{run}", run).replace("{id}", "77") + query.get(route.name, "")
    return ask(path, route.method, target, body_of(route, run))


OF_A_RUN = [route for route in routes.ROUTES if route.caller in (Caller.SEES, Caller.STEERS, Caller.BY_KIND)]
ids = {"ids": lambda route: route.name}


@pytest.mark.parametrize("route", [*OF_A_RUN, *(r for r in routes.ROUTES if r.name == "tags")], **ids)
def test_a_run_that_one_may_not_see_is_answered_for_as_one_that_is_not(visit, path, route):
    hidden, absent = asked(path, route, SECRET), asked(path, route, "nosuch")
    assert hidden[0] == absent[0] == 404
    assert json.dumps(hidden[1]).replace(SECRET, "nosuch") == json.dumps(absent[1])
    assert visit.node.calls == []


@pytest.mark.parametrize("route", [r for r in routes.ROUTES if r.caller in (Caller.STEERS, Caller.BY_KIND)], **ids)
def test_a_run_that_one_may_only_see_is_not_steered_and_the_owner_is_named(visit, path, route):
    status, answer = asked(path, route, SHARED)
    assert (status, answer["error"]["code"], answer["error"]["exit_code"]) == (403, "not-allowed", 7)
    assert "belongs to user 1001" in answer["error"]["message"]
    assert visit.node.calls == []
    assert visit.node.rows == {}


@pytest.mark.parametrize("route", [r for r in routes.ROUTES if r.caller is Caller.SEES], **ids)
def test_a_run_that_one_may_see_is_shown(visit, path, route):
    visit.node.held["run-42", 1] = checkpoint("run-42", 1)
    assert asked(path, route, SHARED)[0] == 200


@pytest.mark.parametrize("route", [r for r in routes.ROUTES if r.caller is Caller.ADMINISTRATOR], **ids)
def test_the_node_itself_is_the_administrators(visit, path, route):
    assert asked(path, route, SHARED)[0] == 403
    assert visit.node.calls == []
    visit.caller = ADMIN
    assert asked(path, route, SHARED)[0] == route.status


def test_whoever_may_write_a_runs_directory_steers_it(visit, path):
    for kind in ("prefetch", "flush", "verify", "checksum", "evict", "remove", "scrub"):
        assert start(path, kind, target="ours@1")[0] == 202, kind
    assert ask(path, "PUT", "/v1/pins", b'{"target": "ours@1", "on": true}')[0] == 200
    assert ask(path, "PUT", "/v1/tags", b'{"target": "ours@1", "name": "best"}')[0] == 200
    assert ask(path, "PUT", "/v1/policies", b'{"pattern": "ours", "values": {"keep_hot": 1}}')[0] == 200


def test_to_verify_it_is_enough_to_see(visit, path):
    for kind in ("verify", "checksum"):
        assert start(path, kind)[0] == 202
    assert [call[0] for call in visit.node.calls] == ["verify", "checksum"]


@pytest.mark.parametrize(("kind", "more"), [("restore", {"arguments": {"dest": "/etc"}, "target": "ours@1"}),
                                            ("flush", {"target": None}), ("scrub", {"target": None})])  # fmt: skip
def test_what_writes_anywhere_or_means_everything_is_the_administrators(visit, path, kind, more):
    assert start(path, kind, **more)[0] == 403
    assert visit.node.calls == []


def test_lists_hold_what_one_may_see(visit, path):
    assert {row["run"] for row in ask(path, "GET", "/v1/runs")[1]} == {"run-42", "ours"}
    visit.caller = ALICE
    assert {row["run"] for row in ask(path, "GET", "/v1/runs")[1]} == {"run-42", "ours", "cold", "fresh"}
    visit.caller = Identity(1004, frozenset({1004}))
    assert ask(path, "GET", "/v1/runs") == (200, [])


def test_operations_are_their_starters_and_of_those_who_see_the_run(visit, path):
    visit.node.hold = True
    visit.caller = ALICE
    shared, secret = (start(path, "verify", target=run)[1]["id"] for run in ("run-42@1200", "cold@7"))
    visit.caller = BOB
    assert [row["id"] for row in ask(path, "GET", "/v1/operations")[1]] == [shared]
    assert [row["id"] for row in ask(path, "GET", "/v1/status")[1]["operations"]] == [shared]
    assert ask(path, "GET", f"/v1/operations/{shared}")[0] == 200
    hidden, absent = (ask(path, "GET", f"/v1/operations/{number}") for number in (secret, 77))
    assert hidden[0] == absent[0] == 404
    assert json.dumps(hidden[1]).replace(str(secret), "77") == json.dumps(absent[1])
    assert ask(path, "GET", f"/v1/operations/{secret}/events")[0] == 404
    assert ask(path, "POST", f"/v1/operations/{shared}/cancel")[0] == 403
    assert ask(path, "POST", f"/v1/operations/{secret}/cancel")[0] == 404
    visit.caller = ALICE
    assert ask(path, "POST", f"/v1/operations/{secret}/cancel")[1]["state"] == "cancelled"
    visit.caller = ADMIN
    assert ask(path, "POST", f"/v1/operations/{shared}/cancel")[1]["state"] == OperationState.CANCELLED


def test_events_are_of_runs_that_one_may_see_or_of_the_node(visit, path):
    def event(number: int, name: str, **fields: str) -> EventRecord:
        return EventRecord(number, NOON, "warning", name, f"{name} {fields}", fields)

    visit.node.records = [
        event(1, "checkpoint.committed", volume="ckpt", run="run-42"), event(2, "tag.set", volume="ckpt", run="cold"),
        event(3, "open.failed", volume="ckpt", path="cold/checkpoint-1/x"), event(4, "tier.pressure", tier="ram"),
        event(5, "tier.full", tier="ram"), event(6, "copy.bad", volume="ckpt", path="ours/x"),
        event(7, "operation.done", volume="ckpt", run="cold"), event(8, "remote.bad", volume="ckpt", key="cold/x"),
    ]  # fmt: skip
    assert [row["id"] for row in ask(path, "GET", "/v1/events")[1]] == [1, 4, 6]
    assert [row["id"] for row in ask(path, "GET", "/v1/events?limit=1")[1]] == [6]
    assert [row["id"] for row in ask(path, "GET", "/v1/status")[1]["trouble"]] == [1, 4, 6]
    visit.caller = ADMIN
    assert len(ask(path, "GET", "/v1/events")[1]) == 8


def test_tags_and_policies_of_others_are_not_told(visit, path):
    visit.caller = ALICE
    for run in ("run-42@1200", "cold@7"):
        assert ask(path, "PUT", "/v1/tags", json.dumps({"target": run, "name": "best"}).encode())[0] == 200
    visit.node.rows = {"*": {"keep_hot": "1"}, "cold": {"keep_hot": "9"}, "run-42": {"keep_hot": "3"}}
    visit.caller = BOB
    assert [row["run"] for row in ask(path, "GET", "/v1/tags")[1]] == ["run-42"]
    assert [row["pattern"] for row in ask(path, "GET", "/v1/policies")[1]] == ["*", "run-42"]


@pytest.mark.parametrize("pattern", ["*", "our?", "[o]urs"])
def test_a_pattern_that_may_match_others_is_the_administrators(visit, path, pattern):
    body = json.dumps({"pattern": pattern, "values": {"keep_hot": 1}}).encode()
    assert ask(path, "PUT", "/v1/policies", body)[0] == 403
    assert ask(path, "POST", "/v1/policies/preview", body)[0] == 403
    visit.caller = ADMIN
    assert ask(path, "PUT", "/v1/policies", body)[0] == 200


def test_a_latest_by_tag_or_step_asks_for_the_run(visit, path):
    assert ask(path, "GET", "/v1/runs/cold@7/latest")[0] == 404
    hidden, absent = (ask(path, "GET", f"/v1/runs/{run}@7/latest")[1] for run in ("cold", "nosuch"))
    assert json.dumps(hidden).replace("cold", "nosuch") == json.dumps(absent)


def test_a_hidden_run_that_is_called_like_a_checkpoint_is_not_told_by_latest(visit, path):
    visit.node.held = {("run-42@9", 1): checkpoint("run-42@9", 1)}
    visit.node.owners["run-42@9"] = Owned(1001, 50, 0o700)
    assert ask(path, "GET", "/v1/runs/run-42@9/latest")[0] == 404
    visit.caller = ALICE
    assert ask(path, "GET", "/v1/runs/run-42@9/latest")[1]["run"] == "run-42@9"


def test_the_status_of_a_remote_quotes_no_message(visit, path):
    (volume,) = visit.node.volumes
    visit.node.volumes = (replace(volume, remote_ok=False, remote_error="key cold/checkpoint-7/x: time-out"),)
    assert "cold" not in json.dumps(ask(path, "GET", "/v1/status")[1])


def test_every_method_of_the_node_is_decided_about():
    """One that is added to the node, and not to the guard, is not to be reached by way of it."""
    methods = {name for name, _ in inspect.getmembers(Node, inspect.isfunction)} - set(dir(Protocol))
    methods = {name for name in methods if not name.startswith("_")}
    assert len(methods) > 20
    assert methods == {name for name in vars(Guarded) if not name.startswith("_")}


def test_calls_of_routes_get_a_guarded_node_and_administrators_the_node_itself():
    node = ScriptedNode()
    assert isinstance(guarded(node, BOB), Guarded)
    assert guarded(node, ADMIN) is node


def test_every_route_says_who_gets_an_answer():
    by = {kind: {r.name for r in routes.ROUTES if r.caller is kind} for kind in Caller}
    assert by[Caller.ADMINISTRATOR] == {"job_ended", "shutdown", "upgrade"}
    assert by[Caller.STEERS] == {"pin", "set_tag", "delete_tag", "set_policy", "unset_policy"}
    assert by[Caller.SEES] == {"checkpoints", "diff", "effective_policy", "latest", "preview_policy", "report"}
    assert by[Caller.BY_KIND] == {"start"}
    assert by[Caller.STARTED] == {"cancel"}
