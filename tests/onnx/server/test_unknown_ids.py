"""Users and items that a model does not know: an answer that is made without them says so, in both protocols."""

from __future__ import annotations

import asyncio
import shutil

import httpx
import pytest
from recloom_onnx.server.app import application
from recloom_onnx.server.models import Models, find_sources
from recloom_onnx.server.observation import Metrics
from recloom_onnx.server.settings import Settings


def asked(sources, *requests):
    """The JSON of the answers of a server in this process."""
    settings = Settings(max_batch=2)
    models = Models(find_sources(sources), settings)
    app = application(models, settings, Metrics())

    async def go():
        await models.load_all()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return [await client.post(path, json=body) for path, body in requests]

    answers = asyncio.run(go())
    assert [answer.status_code for answer in answers] == [200] * len(requests)
    return [answer.json() for answer in answers]


def infer(**inputs):
    tensors = [
        {"name": name, "shape": shape, "datatype": "BYTES", "data": data}
        for name, (shape, data) in inputs.items()
    ]
    return {"inputs": tensors}


@pytest.fixture(scope="module")
def sources(passed):
    return [f"readers={passed('users')}", f"histories={passed('positions')}"]


def test_an_unknown_user_is_told_from_one_that_is_known(sources):
    users = ["u1", "nobody", None, "", 3]
    found, histories = asked(
        sources,
        ("/recommend", [{"history": [], "user": user, "k": 3} for user in users]),
        ("/recommend", {"history": ["7"], "user": "u1", "model": "histories"}),
    )
    assert [one["unknown_user"] for one in found] == [None, "nobody", None, None, None]
    assert found[1]["items"] == found[2]["items"] != found[0]["items"]
    assert histories["unknown_user"] == "u1", "a model that reads no users knows none"


def test_the_other_protocol_counts_both_beside_its_outputs(sources):
    history = ([3, 2], [["7", "x"], ["", "07"], ["y", "7"]])
    both, none, histories = asked(
        sources,
        ("/v2/models/readers/infer", infer(history=history, user=([3], ["u1", "nobody", ""]))),
        ("/v2/models/readers/infer", infer(history=([1, 0], []))),
        ("/v2/models/histories/infer", infer(history=history)),
    )
    assert both["parameters"] == {"unknown_items": 2, "unknown_users": 1}
    assert none["parameters"] == {"unknown_items": 0}
    assert histories["parameters"] == {"unknown_items": 2}
    assert [one["name"] for one in both["outputs"]] == ["item_id", "score"]


def test_a_file_of_before_which_does_not_list_its_users_says_nothing_of_them(artefact, tmp_path):
    made = artefact("users").copy(tmp_path)
    session = made.session()
    assert session.user_ids == {"u1", "ü 2", "3"}
    path = tmp_path / "before" / "model.onnx"
    path.parent.mkdir()
    shutil.copy(made.path, path)
    manifest = session.manifest.model_copy(
        update={"files": {"model.onnx": session.manifest.files["model.onnx"]}}
    )
    manifest.write(path)
    assert type(session)(path, allow_unverified=True).user_ids is None
