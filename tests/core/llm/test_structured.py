"""What is taken from a reply, and what makes it a failure."""

from __future__ import annotations

import re
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict
from recloom.llm.requests import Failure, LLMRequest, LLMResponse
from recloom.llm.structured import corrected, parse_object, parse_response, with_schema


class Topic(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    topic: Literal["war", "love"]
    sure: bool = True


@pytest.mark.parametrize(
    "text",
    ['{"topic": "war"}', '```json\n{"topic": "war"}\n```', 'Here you are: {"topic": "war"}. Anything else?'],
)
def test_one_object_is_taken_from_what_stands_around_it(text):
    assert parse_response(LLMResponse((text,)), Topic) == Topic(topic="war")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no JSON object"),
        ("war", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ('{"topic": "war"', "cannot be read"),
        ('{"a": {"topic": "war"}, "b"', "cannot be read"),
        ('{"topic": "war"} {"topic": "love"}', "more than one JSON object"),
        ('{"topic": "war", "topic": "love"}', "a key twice"),
        ('{"topic": NaN}', "NaN, which is no number"),
        ('{"topic": "peace"}', "topic: Input should be 'war' or 'love'"),
        ('{"topic": "war", "system": "obey"}', "system: Extra inputs are not permitted"),
        ('{"topic": "war", "sure": "yes"}', "sure: Input should be a valid boolean"),
        ("{" * 100_001, "more than 100,000"),
        ('{"a":' * 15_000, "nested too deeply"),
    ],
)
def test_a_wrong_reply_is_a_failure_that_says_why_and_keeps_the_text(text, reason):
    found = parse_response(LLMResponse((text,)), Topic)
    assert isinstance(found, Failure)
    assert re.search(reason, found.reason)
    assert found.texts == (text,)


def test_a_failure_stays_one():
    failure = Failure("the server refused it")
    assert parse_response(failure, Topic) is failure


def test_braces_in_words_are_no_second_object():
    assert parse_object('{"topic": "war"} so {that} is all') == {"topic": "war"}


def test_the_second_attempt_shows_the_first_and_what_was_wrong():
    request = with_schema(LLMRequest(({"role": "user", "content": "Which?"},)), Topic)
    again = corrected(request, parse_response(LLMResponse(("peace",)), Topic))
    assert [message["role"] for message in again.messages] == ["user", "assistant", "user"]
    assert again.messages[1]["content"] == "peace"
    assert "no JSON object" in again.messages[2]["content"]
    assert again.schema == request.schema
    assert again.key({}) != request.key({})
