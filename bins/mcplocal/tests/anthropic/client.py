"""Does with the official Anthropic client what its users do daily; it has a base URL, a key and nothing else of ours.

Prints one JSON object with what each task gave.
"""

import json
import sys

import anthropic
import pydantic

llm = sys.argv[1]
client = anthropic.Anthropic(max_retries=0)
question = [{"role": "user", "content": "Hi"}]
tool = {
    "name": "look",
    "description": "Looks at a thing.",
    "input_schema": {"type": "object", "properties": {"thing": {"type": "string"}}},
}
forced = {"type": "tool", "name": "look"}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Cat(pydantic.BaseModel):
    name: str


def described(message):
    return {
        "model": message.model,
        "stop_reason": message.stop_reason,
        "text": "".join(block.text for block in message.content if block.type == "text"),
        "thinking": "".join(block.thinking for block in message.content if block.type == "thinking"),
        "calls": [[block.name, block.input] for block in message.content if block.type == "tool_use"],
        "counted": message.usage.input_tokens > 0 and message.usage.output_tokens > 0,
    }


def plain():
    return described(client.messages.create(model=llm, max_tokens=100, messages=question, system="Be brief."))


def streamed():
    with client.messages.stream(model=llm, max_tokens=100, messages=question) as stream:
        pieces = list(stream.text_stream)
        answer = described(stream.get_final_message())
    assert "".join(pieces) == answer["text"], pieces
    return answer


def tools(stream):
    request = {"model": llm, "max_tokens": 100, "tools": [tool]}
    if stream:
        with client.messages.stream(**request, messages=question, tool_choice=forced) as events:
            called = events.get_final_message()
    else:
        called = client.messages.create(**request, messages=question, tool_choice=forced)
    call = next(block for block in called.content if block.type == "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "a cat"}
    turns = [*question, {"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
    return [described(called), described(client.messages.create(**request, messages=turns))]


def structured():
    message = client.messages.parse(model=llm, max_tokens=100, messages=question, output_format=Cat)
    return message.parsed_output.name


def image():
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
    return described(client.messages.create(model=llm, max_tokens=100, messages=[{"role": "user", "content": content}]))


def counted():
    return client.messages.count_tokens(model=llm, messages=question, tools=[tool]).input_tokens


def models():
    listed = client.models.list()
    return [[model.id, model.type, client.models.retrieve(model.id).id] for model in listed]


def refused(**fields):
    try:
        client.messages.create(**{"model": llm, "max_tokens": 100, "messages": question, **fields})
    except anthropic.APIStatusError as error:
        return [type(error).__name__, error.body["error"]["type"], error.body["error"]["message"]]


print(
    json.dumps(
        {
            "plain": plain(),
            "streamed": streamed(),
            "tools": tools(False),
            "tools_streamed": tools(True),
            "structured": structured(),
            "image": image(),
            "counted": counted(),
            "models": models(),
            "unknown_model": refused(model="nothing"),
        }
    )
)
