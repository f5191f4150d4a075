"""Server stages: a plugin's stage changes lists, and one that fails, is late or cheats changes nothing."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest
from recloom.errors import RecloomError
from recloom.runs import ListItem, ListRequest
from recloom_onnx.artifact.session import Session
from recloom_onnx.server import stages as module
from recloom_onnx.server.stages import Stages, checked, find_stages

PLUGIN = """
import time
from recloom.errors import RecloomError
from recloom.plugins import hookimpl

class Stage:
    depth = 0
    def rerank(self, request, items, deadline):
        return items, {}
    def routes(self):
        return {}

class Reverse(Stage):
    name, depth = "reverse", 5
    def rerank(self, request, items, deadline):
        report = {"history": request.history, "k": request.k, "given": len(items), "left": deadline - time.monotonic()}
        report["title"] = request.titles[request.history[0]]
        return [item._replace(score=float(n)) for n, item in enumerate(reversed(items))], report
    def routes(self):
        def greet(body, deadline):
            "Say hello."
            if body == "wrong":
                raise RecloomError("expected a name, found 'wrong'")
            return {"hello": body["name"]}
        return {"greet": greet, "sleep": lambda body, deadline: time.sleep(30)}

class Broken(Stage):
    name = "broken"
    def rerank(self, request, items, deadline):
        return 1 / 0

class Inventive(Stage):
    name = "inventive"
    def rerank(self, request, items, deadline):
        return [items[0]._replace(id="invented")], {}

class Slow(Stage):
    name = "slow"
    def rerank(self, request, items, deadline):
        time.sleep(30)
        return [], {}

@hookimpl
def register_server_stages():
    return [Reverse, Broken, Inventive, Slow]
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """A folder with an installed plugin of stages."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "recloom_toy-1.0.dist-info"
    info.mkdir()
    (folder / "recloom_toy.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: recloom-toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[recloom]\ntoy = recloom_toy\n")
    return folder


def test_stages_of_a_plugin_change_lists_and_those_that_fail_change_nothing(serve_at, titled, plugin):
    names = ["reverse", "broken", "inventive", "slow"]
    server = serve_at(
        titled["first"], "--stages", *names, "--timeout", "2", "--max_delay_ms", "0", PYTHONPATH=str(plugin)
    )
    assert "every list of /recommend goes through reverse, broken, inventive, slow" in "\n".join(server.said)
    expected = [one.item_id for one in Session(titled["first"], threads=1).recommend([["m03"]], k=5)[0]]
    begun = time.monotonic()
    answer = server.recommend(history=["m03"], k=3).json()
    assert time.monotonic() - begun < 2.5, "a stage that sleeps for 30 s does not hold the answer"
    assert [item["id"] for item in answer["items"]] == expected[::-1][:3], "reversed, and nothing after that"
    assert [item["score"] for item in answer["items"]] == [0.0, 1.0, 2.0]
    assert answer["items"][0]["title"].startswith("Film")
    outcomes = {one["name"]: one["outcome"] for one in answer["stages"]}
    assert outcomes == {"reverse": "ok", "broken": "failed", "inventive": "failed", "slow": "late"}
    report = answer["stages"][0]["report"]
    assert 0 < report.pop("left") <= 1.8
    assert report == {"history": ["m03"], "k": 3, "given": 5, "title": "Film 3 of the Series"}
    assert "Zero" not in json.dumps(answer), "the cause is in the log alone"

    metrics = server.get("/metrics").text
    for name, outcome in outcomes.items():
        assert f'recloom_stage_calls_total{{outcome="{outcome}",stage="{name}"}} 1.0' in metrics
    lines = [json.loads(line) for line in server.log().splitlines()]
    faults = [line for line in lines if line["event"] == "stage"]
    assert [line["stage"] for line in faults] == ["broken", "inventive", "slow"]
    assert "ZeroDivisionError" in faults[0]["trace"]
    assert "found 'invented'" in faults[1]["trace"]
    assert "trace" not in faults[2]

    greet = "/stages/reverse/greet"
    assert server.post(greet, json={"name": "Ada"}).json() == {"hello": "Ada"}
    assert server.get("/openapi.json").json()["paths"][greet]["post"]["summary"] == "Say hello."
    wrong = server.post(greet, json="wrong")
    assert (wrong.status_code, wrong.json()["error"]) == (400, "expected a name, found 'wrong'")
    assert server.post(greet, content=b"{").json()["error"].startswith("the body is not JSON in UTF-8")
    assert server.post(greet, json={}).status_code == 500
    late = server.post("/stages/reverse/sleep", json={})
    assert (late.status_code, late.headers["retry-after"]) == (503, "1")
    assert late.json()["error"] == "stage reverse is late; try again later"
    model = {"inputs": [{"name": "history", "shape": [1, 1], "datatype": "BYTES", "data": ["m03"]}]}
    infer = server.post("/v2/models/first/infer", json=model).json()
    assert infer["outputs"][0]["data"][:5] == expected, (
        "the Open Inference Protocol answers as the model does"
    )
    begun = time.monotonic()
    assert server.end() == 0
    assert time.monotonic() - begun < 10, "threads that still sleep do not hold the end"


def test_without_stages_nothing_is_said_of_them(server):
    assert "stages" not in server.recommend(history=["m03"]).json()
    assert "goes through" not in "\n".join(server.said)


class Toy:
    """A stage whose `rerank` is given."""

    name, depth = "toy", 0

    def __init__(self, rerank=lambda request, items, deadline: (items, {}), name="toy"):
        self.rerank, self.name = rerank, name

    def routes(self):
        return {}


ITEMS = [ListItem("a", 2.0, "A"), ListItem("b", 1.0, None)]
REQUEST = ListRequest(("h",), None, 1, "model", {})


def applied(stages, seconds=5.0):
    return asyncio.run(stages.apply(REQUEST, ITEMS, time.monotonic() + seconds, "id"))


def test_stages_run_in_order_and_the_first_k_are_left():
    turn = Toy(lambda request, items, deadline: (items[::-1], {"n": len(items)}), "turn")
    drop = Toy(lambda request, items, deadline: (items[:1], {}), "drop")
    items, outcomes = applied(Stages([turn, drop, turn]))
    assert items == [ITEMS[1]]
    assert [one.report for one in outcomes] == [{"n": 2}, {}, {"n": 1}]


def test_beyond_the_allowed_calls_a_stage_is_busy_and_after_its_end_it_is_called_again():
    go = threading.Event()
    stages = Stages([Toy(lambda request, items, deadline: (go.wait(), (items[::-1], {}))[1])], most=1)

    async def both():
        deadline = time.monotonic() + 5
        first = asyncio.create_task(stages.apply(REQUEST, ITEMS, deadline, "1"))
        await asyncio.sleep(0.05)
        second = await stages.apply(REQUEST, ITEMS, deadline, "2")
        go.set()
        return await first, second, await stages.apply(REQUEST, ITEMS, deadline, "3")

    found = asyncio.run(both())
    assert [(items[0].id, outcomes[0].kind) for items, outcomes in found] == [
        ("b", "ok"),
        ("a", "busy"),
        ("b", "ok"),
    ]


def test_a_stage_is_not_called_after_the_deadline():
    called = []
    stage = Toy(lambda request, items, deadline: called.append(1))
    items, outcomes = applied(Stages([stage]), seconds=-1)
    assert (items, outcomes[0].kind, called) == (ITEMS[:1], "late", [])


@pytest.mark.parametrize("error", [TimeoutError("mine"), SystemExit(3)])
def test_what_a_stage_raises_is_a_failure_whatever_it_is(error):
    def rerank(request, items, deadline):
        raise error

    items, outcomes = applied(Stages([Toy(rerank)]))
    assert (items, outcomes[0].kind) == (ITEMS[:1], "failed")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (ITEMS, r"expected a stage to return \(items, report\), found a list of 2"),
        ((ITEMS, None), r"return \(items, report\)"),
        (([ITEMS[0], ITEMS[0]], {}), "each once and with a finite score, found 'a' with 2"),
        (([ITEMS[0]._replace(score=float("nan"))], {}), "found 'a' with nan"),
        ((ITEMS, {"text": "x" * 20_000}), "expected a report of 16,384 characters at most"),
    ],
)
def test_what_a_stage_returns_is_checked(returned, message):
    with pytest.raises(RecloomError, match=message):
        checked(returned, ITEMS)
    with pytest.raises(ValueError, match="not JSON compliant"):
        checked((ITEMS, {"loss": float("inf")}), ITEMS)
    assert checked(([ITEMS[1]._replace(title="invented")], {}), ITEMS) == ([ITEMS[1]], {})


def test_stages_are_found_by_name(monkeypatch):
    class Deep(Toy):
        depth = "all"

    class Unmade(Toy):
        def __init__(self):
            raise OSError("no file")

    known = {"toy": Toy, "deep": Deep, "unmade": Unmade}
    monkeypatch.setattr(module, "collect", lambda hook: known)
    assert [stage.name for stage in find_stages(["toy"])] == ["toy"]
    for names, message in {
        (
            "other",
        ): "--stages names 'other', which no installed plugin registers; there are: toy, deep, unmade",
        ("toy", "toy"): "--stages names 'toy' twice",
        ("unmade",): "stage 'unmade' cannot be made: OSError: no file",
        ("deep",): "stage 'deep' has depth 'all'; expected a whole number from 0",
    }.items():
        with pytest.raises(RecloomError, match=message):
            find_stages(names)
