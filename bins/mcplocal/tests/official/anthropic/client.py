"""What users of Anthropic's client for Python do daily."""

import functools
import sys
from pathlib import Path
from typing import Literal

import anthropic
import pydantic

sys.path.insert(0, str(Path(__file__).parent.parent))
from scenarios import CITY, PIXEL, forecast, run

HI = {"role": "user", "content": "Hi"}
WEATHER = {"role": "user", "content": "What is the weather in Oslo and in Rome?"}
THINK = {"role": "user", "content": f"Think first. {WEATHER['content']}"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
TOOL = {"name": "weather", "description": "The weather.", "input_schema": CITY}


class Cat(pydantic.BaseModel):
    name: Literal["Mia", "Tom"]


@functools.cache
def connected(url, key):
    return anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)


def client(cell, key=None):
    return connected(cell["url"], key or cell["key"])


def fields(cell, tokens=None):
    """With a limit of `tokens`. A cell that has one of its own is a real model, which answers the same each time at temperature 0."""
    if cell.get("tokens"):
        return {"model": cell["llm"], "max_tokens": tokens or cell["tokens"], "extra_body": {"temperature": 0}}
    return {"model": cell["llm"], "max_tokens": tokens or 100}


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def described(message):
    return {
        "model": message.model,
        "reason": message.stop_reason,
        "text": text_of(message),
        "counted": message.usage.input_tokens > 0 and message.usage.output_tokens > 0,
    }


def ask(cell, **request):
    return client(cell).messages.create(**request)


def stream(cell, **request):
    with client(cell).messages.stream(**request) as events:
        pieces = list(events.text_stream)
        message = events.get_final_message()
    assert "".join(pieces) == text_of(message), pieces
    return message


def plain(cell, ask=ask):
    return described(ask(cell, messages=[HI], system="Be brief.", **fields(cell)))


def tools(cell, ask=ask, tokens=200, **more):
    request = {**fields(cell, tokens), "tools": [TOOL], **more}
    choice, question = ({}, THINK) if more else ({"tool_choice": {"type": "any"}}, WEATHER)
    called = ask(cell, messages=[question], **choice, **request)
    made = [block for block in called.content if block.type == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": forecast(call.input)} for call in made]
    if cell.get("vision"):
        results[0]["content"] = [{"type": "text", "text": results[0]["content"]}, IMAGE]
    turns = [question, {"role": "assistant", "content": called.content}, {"role": "user", "content": results}]
    if cell.get("tokens"):
        # A small model that may call a tool again would.
        request = fields(cell)
    answer = ask(cell, messages=turns, **request)
    return {
        "reason": called.stop_reason,
        "calls": [[call.name, call.input] for call in made],
        "thought": "".join(block.thinking for block in called.content if block.type == "thinking"),
        "answer": text_of(answer),
    }


def reasoning(cell, ask=ask):
    return tools(cell, ask, tokens=2048, thinking={"type": "enabled", "budget_tokens": 1024})


def structured(cell):
    return client(cell).messages.parse(output_format=Cat, messages=[HI], **fields(cell, 40)).parsed_output.name


def image(cell):
    content = [IMAGE, {"type": "text", "text": "What is this?"}]
    return text_of(ask(cell, messages=[{"role": "user", "content": content}], **fields(cell)))


def count(cell):
    return client(cell).messages.count_tokens(model=cell["llm"], messages=[HI], tools=[TOOL], system="Be brief.").input_tokens


def models(cell):
    listed = [model.id for model in client(cell).models.list(limit=2)]
    return [listed, client(cell).models.retrieve(cell["llm"]).id]


def refused(cell, key=None, text="Hi", **more):
    request = {**fields(cell), "messages": [{"role": "user", "content": text}], **more}
    try:
        client(cell, key).messages.create(**request)
    except anthropic.APIStatusError as error:
        return {
            "class": type(error).__name__,
            "status": error.status_code,
            "type": error.body["error"]["type"],
            "retry_after": error.response.headers.get("retry-after"),
            "message": error.body["error"]["message"],
            "request": bool(error.request_id),
        }


def broken(cell):
    text = ""
    try:
        with client(cell).messages.stream(**fields(cell), messages=[{"role": "user", "content": "Break off"}]) as events:
            for piece in events.text_stream:
                text += piece
    except anthropic.APIError as error:
        return {"raised": bool(error.message), "text": text}
    return {"raised": False, "text": text}


run(
    {
        "messages plain": plain,
        "messages streamed": lambda cell: plain(cell, stream),
        "messages tools": tools,
        "messages tools streamed": lambda cell: tools(cell, stream),
        "messages structured": structured,
        "messages image": image,
        "messages reasoning": reasoning,
        "messages reasoning streamed": lambda cell: reasoning(cell, stream),
        "messages count": count,
        "models": models,
        "messages wrong key": lambda cell: refused(cell, key="nobody's"),
        "messages forbidden": lambda cell: refused(cell, key=cell["stranger"]),
        "messages unknown model": lambda cell: refused(cell, model="nothing"),
        "messages unknown field": lambda cell: refused(cell, extra_body={"no_such_field": 1}),
        "messages rate limit": lambda cell: refused(cell, text="Reach the rate limit"),
        "messages quota": lambda cell: refused(cell, model=cell["limited"]),
        "messages too long": lambda cell: refused(cell, text="word " * cell["words"]),
        "messages broken stream": broken,
    }
)
