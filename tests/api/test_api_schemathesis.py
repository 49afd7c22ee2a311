"""The server keeps the promises of its own OpenAPI document, whatever it is sent."""

from __future__ import annotations

import json
import os
import socket
import urllib.request

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from scripted_node import ScriptedNode, run_server

from ckptd.api.openapi import document
from ckptd.domain.access import Identity

schema = schemathesis.openapi.from_dict(document())
# Streams that never end would hold a test for ever; they have tests of their own.
finite = schema.exclude(path="/v1/events", method="GET").exclude(path="/v1/operations/{id}/events")


@pytest.fixture(scope="module")
def base_url():
    node = ScriptedNode()
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    with run_server(node, listening, lambda _request: Identity(os.geteuid(), frozenset(), administrator=True)):
        yield f"http://127.0.0.1:{port}"


@finite.parametrize()
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_answer_matches_the_document(case, base_url):
    case.call_and_validate(base_url=base_url)


def test_the_served_document_is_the_generated_one(base_url):
    with urllib.request.urlopen(f"{base_url}/v1/openapi.json") as answer:
        assert json.load(answer) == document()
