"""What users of OpenAI's client for Python do daily."""

import functools
import json
import sys
from pathlib import Path
from typing import Literal

import openai
import pydantic

sys.path.insert(0, str(Path(__file__).parent.parent))
from scenarios import CITY, PIXEL, forecast, run

IMAGE = f"data:image/png;base64,{PIXEL}"
BRIEF = {"role": "system", "content": "Be brief."}
HI = {"role": "user", "content": "Hi"}
WEATHER = {"role": "user", "content": "What is the weather in Oslo and in Rome?"}
THINK = {"role": "user", "content": f"Think first. {WEATHER['content']}"}


class Cat(pydantic.BaseModel):
    name: Literal["Mia", "Tom"]


@functools.cache
def connected(url, key):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def client(cell, key=None):
    return connected(cell["url"], key or cell["key"])


def last(cell, fields):
    """The fields of the turn with the results, without the limit: a small model that may call a tool again would."""
    return {} if cell.get("tokens") else {**fields, "tool_choice": "auto"}


def too_long(cell):
    return "word " * cell["words"]


# Chat completions.


def chat_fields(cell, tokens=None):
    limit = {"max_completion_tokens": tokens or cell["tokens"], "temperature": 0} if cell.get("tokens") else {}
    return {"model": cell["llm"], **limit}


def described(completion):
    choice = completion.choices[0]
    counted = completion.usage and completion.usage.prompt_tokens > 0 and completion.usage.completion_tokens > 0
    return {
        "model": completion.model,
        "reason": choice.finish_reason,
        "text": choice.message.content or "",
        "counted": bool(counted),
    }


def calls(message):
    return [[call.function.name, json.loads(call.function.arguments)] for call in message.tool_calls]


def chat_plain(cell):
    return described(client(cell).chat.completions.create(messages=[BRIEF, HI], **chat_fields(cell)))


def chat_stream(cell, **request):
    if cell.get("tokens") and "tools" not in request:
        # The helper raises where an answer is cut by its limit.
        request |= {"max_completion_tokens": 100, "stop": " "}
    with client(cell).chat.completions.stream(stream_options={"include_usage": True}, **request) as stream:
        pieces = [event.delta for event in stream if event.type == "content.delta"]
        completion = stream.get_final_completion()
    assert "".join(pieces) == (completion.choices[0].message.content or ""), pieces
    return completion


def chat_streamed(cell):
    return described(chat_stream(cell, messages=[BRIEF, HI], **chat_fields(cell)))


def chat_tools(cell, ask=None, **more):
    ask = ask or (lambda **request: client(cell).chat.completions.create(**request))
    tool = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": CITY}}
    fields = {"tools": [tool], **more}
    choice, question = ({}, THINK) if more else ({"tool_choice": "required"}, WEATHER)
    called = ask(messages=[question], **choice, **fields, **chat_fields(cell, 200))
    message = called.choices[0].message
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": forecast(json.loads(call.function.arguments))}
        for call in message.tool_calls
    ]
    answer = ask(messages=[question, message, *results], **last(cell, fields), **chat_fields(cell))
    return {
        "reason": called.choices[0].finish_reason,
        "calls": calls(message),
        "thought": getattr(message, "reasoning_content", None) or "",
        "answer": answer.choices[0].message.content or "",
    }


def chat_tools_streamed(cell):
    return chat_tools(cell, lambda **request: chat_stream(cell, **request))


def chat_structured(cell):
    request = {**chat_fields(cell, 40), "messages": [HI], "response_format": Cat}
    return client(cell).chat.completions.parse(**request).choices[0].message.parsed.name


def chat_image(cell):
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
    ]
    messages = [{"role": "user", "content": content}]
    return described(client(cell).chat.completions.create(messages=messages, **chat_fields(cell)))["text"]


def chat_reasoning(cell):
    return chat_tools(cell, reasoning_effort="low")


# Responses.


def response_fields(cell, tokens=None):
    limit = {"max_output_tokens": tokens or cell["tokens"], "temperature": 0} if cell.get("tokens") else {}
    return {"model": cell["llm"], **limit}


def response_described(response):
    return {
        "model": response.model,
        "reason": response.status,
        "text": response.output_text,
        "counted": response.usage.input_tokens > 0 and response.usage.output_tokens > 0,
    }


def response_plain(cell):
    request = {**response_fields(cell), "instructions": "Be brief.", "input": "Hi"}
    return response_described(client(cell).responses.create(**request))


def response_stream(cell, **request):
    with client(cell).responses.stream(**request) as stream:
        text, ended, last = "", None, None
        for event in stream:
            assert last is None or event.sequence_number > last, event
            last = event.sequence_number
            if event.type == "response.output_text.delta":
                text += event.delta
                assert event.snapshot == text, event
            elif event.type in ("response.completed", "response.incomplete"):
                ended = event.response
    assert text == ended.output_text, text
    return ended


def response_streamed(cell):
    request = {**response_fields(cell), "instructions": "Be brief.", "input": "Hi"}
    return response_described(response_stream(cell, **request))


def response_tools(cell, ask=None, **more):
    ask = ask or (lambda **request: client(cell).responses.create(**request))
    tool = {"type": "function", "name": "weather", "description": "The weather.", "parameters": CITY, "strict": True}
    fields = {"tools": [tool], **more}
    choice, question = ({}, THINK) if more else ({"tool_choice": "required"}, WEATHER)
    called = ask(input=[question], **choice, **fields, **response_fields(cell, 200))
    made = [item for item in called.output if item.type == "function_call"]
    results = [
        {"type": "function_call_output", "call_id": call.call_id, "output": forecast(json.loads(call.arguments))}
        for call in made
    ]
    if cell.get("vision"):
        text = {"type": "input_text", "text": results[0]["output"]}
        results[0]["output"] = [text, {"type": "input_image", "image_url": IMAGE, "detail": "auto"}]
    answer = ask(input=[question, *called.output, *results], **last(cell, fields), **response_fields(cell))
    reasoning = [item for item in called.output if item.type == "reasoning"]
    return {
        "reason": called.status,
        "calls": [[call.name, json.loads(call.arguments)] for call in made],
        "thought": "".join(part.text for item in reasoning for part in item.summary or item.content),
        "answer": answer.output_text,
    }


def response_tools_streamed(cell):
    return response_tools(cell, lambda **request: response_stream(cell, **request))


def response_structured(cell):
    request = {**response_fields(cell, 40), "input": "Hi", "text_format": Cat}
    return client(cell).responses.parse(**request).output_parsed.name


def response_image(cell):
    content = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": IMAGE, "detail": "low"},
    ]
    return client(cell).responses.create(input=[{"role": "user", "content": content}], **response_fields(cell)).output_text


def response_reasoning(cell):
    return response_tools(cell, reasoning={"effort": "low", "summary": "auto"})


# The other routes.


def completions(cell):
    limit = {"max_tokens": cell["tokens"]} if cell.get("tokens") else {}
    return client(cell).completions.create(model=cell["llm"], prompt="Hi", **limit).choices[0].text


def embeddings(cell):
    answer = client(cell).embeddings.create(model=cell["llm"], input=["a cat", "a dog"])
    return [len(answer.data), [value for value in answer.data[1].embedding[:3]]]


def models(cell):
    listed = [model.id for model in client(cell).models.list()]
    return [listed, client(cell).models.retrieve(cell["llm"]).id]


# Errors.


def refused(ask):
    try:
        ask()
    except openai.APIStatusError as error:
        return {
            "class": type(error).__name__,
            "status": error.status_code,
            "param": error.param,
            "retry_after": error.response.headers.get("retry-after"),
            "message": error.message,
            "request": bool(error.request_id),
        }


def asking(cell, route, key=None, llm=None, text="Hi", **more):
    llm = llm or cell["llm"]
    if route == "chat":
        messages = [{"role": "user", "content": text}]
        return lambda: client(cell, key).chat.completions.create(model=llm, messages=messages, **more)
    return lambda: client(cell, key).responses.create(model=llm, input=text, **more)


def broken(cell, route):
    """A stream that the provider cuts."""
    text = ""
    try:
        for event in asking(cell, route, text="Break off", stream=True)():
            if route == "chat":
                text += event.choices[0].delta.content or ""
            elif event.type == "response.output_text.delta":
                text += event.delta
            elif event.type == "response.failed":
                return {"raised": bool(event.response.error.message), "text": text}
    except openai.APIError as error:
        return {"raised": bool(error.message), "text": text}
    return {"raised": False, "text": text}


def errors(route):
    return {
        f"{route} wrong key": lambda cell: refused(asking(cell, route, key="nobody's")),
        f"{route} forbidden": lambda cell: refused(asking(cell, route, key=cell["stranger"])),
        f"{route} unknown model": lambda cell: refused(asking(cell, route, llm="nothing")),
        f"{route} unknown field": lambda cell: refused(asking(cell, route, extra_body={"no_such_field": 1})),
        f"{route} rate limit": lambda cell: refused(asking(cell, route, text="Reach the rate limit")),
        f"{route} quota": lambda cell: refused(asking(cell, route, llm=cell["limited"])),
        f"{route} too long": lambda cell: refused(asking(cell, route, text=too_long(cell))),
        f"{route} broken stream": lambda cell: broken(cell, route),
    }


run(
    {
        "chat plain": chat_plain,
        "chat streamed": chat_streamed,
        "chat tools": chat_tools,
        "chat tools streamed": chat_tools_streamed,
        "chat structured": chat_structured,
        "chat image": chat_image,
        "chat reasoning": chat_reasoning,
        "responses plain": response_plain,
        "responses streamed": response_streamed,
        "responses tools": response_tools,
        "responses tools streamed": response_tools_streamed,
        "responses structured": response_structured,
        "responses image": response_image,
        "responses reasoning": response_reasoning,
        "completions": completions,
        "embeddings": embeddings,
        "models": models,
        **errors("chat"),
        **errors("responses"),
    }
)
