"""What may be said of an item or a user, and what is refused."""

from __future__ import annotations

import json

import pytest
from recloom.llm.fake import Fake
from recloom.llm.requests import Failure, LLMResponse
from recloom.llm.structured import parse_response
from recloom_feature.profile.kinds import (
    FACTORS,
    TOPICS,
    Reason,
    as_text,
    model_of,
    schema_of,
    wrong_citation,
)

KINDS = ("item", "user", "keywords", "topics", "title", "reason")
RECORD = {"title": "Heat (1995)", "genres": "Action|Crime|Thriller", "year": "1995"}


def said(kind: str, **data):
    return parse_response(LLMResponse((json.dumps(data),)), model_of(kind, "movies", ["war", "love"]))


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        ("topics", {"topics": ["peace"]}, "Input should be 'war' or 'love'"),
        ("topics", {"topics": []}, "at least 1 item"),
        ("topics", {"topics": ["war", "war"]}, "holds a value twice"),
        ("topics", {"topics": ["war"], "more": 1}, "more: Extra inputs are not permitted"),
        ("keywords", {"keywords": ["Moon", "moon"]}, "holds a value twice"),
        ("keywords", {"keywords": ["moon", "..."]}, "expected letters or digits"),
        ("keywords", {"keywords": [str(n) for n in range(11)]}, "at most 10 items"),
        ("title", {"title": "  "}, "expected letters or digits"),
        ("title", {"title": "one\ntwo"}, "pattern"),
        ("title", {"title": 7}, "valid string"),
        ("item", {"summary": "fine", "aspects": [{"factor": "taste", "note": "good"}]}, "factor: Input should be"),
        ("item", {"summary": "fine", "aspects": []}, "at least 1 item"),
        ("user", {"summary": "fine", "aspects": [{"factor": "genre", "note": "crime"}], "topics": ["sea"]}, "topics.0"),
        ("reason", {"reason": "because", "cites": []}, "at least 1 item"),
        ("reason", {"reason": "because", "cites": [{"attribute": "title", "value": "…"}]}, "letters or digits"),
        ("reason", {"cites": [{"attribute": "title", "value": "Heat"}]}, "reason: Field required"),
    ],
)  # fmt: skip
def test_what_is_not_of_the_form_or_not_on_the_list_is_a_failure(kind, data, reason):
    found = said(kind, **data)
    assert isinstance(found, Failure)
    assert reason in found.reason


def test_a_user_may_have_no_topic():
    found = said("user", summary="fine", aspects=[{"factor": "genre", "note": "crime"}], topics=[])
    assert as_text(found.model_dump()) == "fine\ngenre: crime"


def test_a_profile_as_text_by_hand():
    found = said(
        "user", summary=" Likes wars. ", aspects=[{"factor": "genre", "note": "war"}], topics=["war", "love"]
    )
    assert as_text(found.model_dump()) == "Likes wars.\ngenre: war\nwar, love"
    assert as_text({"keywords": ["a", "b"]}) == "a, b"
    assert as_text({"reason": "So.", "cites": [{"attribute": "x", "value": "y"}]}) == "So."


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scenario", list(FACTORS))
def test_the_fake_obeys_every_model_and_the_columns_are_those_of_the_model(kind, scenario):
    model = model_of(kind, scenario, TOPICS)
    text = "<item>\n- title: Heat (1995)\n- genres: Crime\n</item>"
    generation = Fake().generate(
        [{"role": "user", "content": text}], schema=model.model_json_schema(), max_tokens=999
    )
    found = parse_response(LLMResponse(tuple(generation.texts)), model)
    assert not isinstance(found, Failure), found
    assert list(found.model_dump()) == list(schema_of(kind))
    assert as_text(found.model_dump())


def cited(*pairs) -> str:
    return wrong_citation(Reason(reason="so", cites=[{"attribute": a, "value": v} for a, v in pairs]), RECORD)


@pytest.mark.parametrize(
    "pairs",
    [
        [("title", "Heat (1995)")], [("title", "heat")], [("genres", "crime"), ("year", "1995")],
        [("genres", "Action|Crime")], [("title", "Heat  ( 1995 )")], [("title", "Heat (19…")],
    ],
)  # fmt: skip
def test_what_the_record_says_may_be_cited(pairs):
    assert cited(*pairs) == ""


@pytest.mark.parametrize(
    ("pairs", "wrong"),
    [
        (
            [("director", "Michael Mann")],
            "the record has no attribute 'director'; it has title, genres, year",
        ),
        ([("genres", "Comedy")], "genres of the record does not hold 'Comedy'"),
        ([("genres", "Act")], "genres of the record does not hold 'Act'"),
        ([("genres", "Crime"), ("title", "Crime")], "title of the record does not hold 'Crime'"),
        ([("title", "H.*")], "does not hold 'H.*'"),
    ],
)
def test_what_the_record_does_not_say_may_not_be_cited(pairs, wrong):
    assert wrong in cited(*pairs)
