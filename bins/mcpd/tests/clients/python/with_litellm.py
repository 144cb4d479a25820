"""LiteLLM's SDK, which knows nothing of ours but base URLs and keys in its environment."""

import json
import os

import litellm
import pydantic
from scenarios import PIXEL, QUESTION, serve, weather

LLM = os.environ["LLM"]
litellm.suppress_debug_info = True
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": weather.__doc__,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Cat(pydantic.BaseModel):
    name: str
    age: int


def asked(provider, turns, stream, **fields):
    request = {"model": f"{provider}/{LLM}", "messages": turns, "max_tokens": 64, "num_retries": 0, "max_retries": 0}
    request |= fields
    if not stream:
        return litellm.completion(**request)
    chunks = list(litellm.completion(**request, stream=True, stream_options={"include_usage": True}))
    return litellm.stream_chunk_builder(chunks, messages=turns)


def described(answer):
    return {"text": answer.choices[0].message.content, "counted": answer.usage.prompt_tokens > 0}


def user(content=QUESTION):
    return {"role": "user", "content": content}


def plain(provider, stream):
    return described(asked(provider, [{"role": "system", "content": "Be brief."}, user()], stream))


def tools(provider, stream):
    turns = [user()]
    called = asked(provider, turns, stream, tools=[TOOL]).choices[0].message
    calls = [[call.function.name, json.loads(call.function.arguments)] for call in called.tool_calls]
    turns.append(called)
    for call, (_, arguments) in zip(called.tool_calls, calls):
        turns.append({"role": "tool", "tool_call_id": call.id, "content": weather(**arguments)})
    answer = asked(provider, turns, stream, tools=[TOOL])
    return {"calls": calls, "text": answer.choices[0].message.content}


def structured(provider):
    return json.loads(asked(provider, [user()], False, response_format=Cat).choices[0].message.content)


def image(provider):
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    return described(asked(provider, [user([{"type": "text", "text": "What is this?"}, part])], False))


def reasoning(provider, stream):
    message = asked(provider, [user()], stream).choices[0].message
    return {"reasoning": message.reasoning_content, "text": message.content}


def unknown(provider):
    return litellm.completion(model=f"{provider}/nothing", messages=[user()], num_retries=0, max_retries=0)


def text_of(response):
    return "".join(part.text for item in response.output if item.type == "message" for part in item.content)


def response(stream, turns, **fields):
    request = {"model": f"openai/{LLM}", "input": turns, "max_retries": 0, **fields}
    if not stream:
        return litellm.responses(**request)
    # Of a model that its table does not know it takes the whole answer, and streams that itself.
    return [event for event in litellm.responses(**request, stream=True)][-1].response


def response_plain(stream):
    answer = response(stream, QUESTION, instructions="Be brief.")
    return {"text": text_of(answer), "counted": answer.usage.input_tokens > 0}


def response_tools(stream):
    flat = {"type": "function", **TOOL["function"]}
    turns = [user()]
    called = [item for item in response(stream, turns, tools=[flat]).output if item.type == "function_call"]
    calls = [[call.name, json.loads(call.arguments)] for call in called]
    for call, (_, arguments) in zip(called, calls):
        turns.append(call.model_dump(exclude_none=True))
        turns.append({"type": "function_call_output", "call_id": call.call_id, "output": weather(**arguments)})
    return {"calls": calls, "text": text_of(response(stream, turns, tools=[flat]))}


def embeddings():
    answer = litellm.embedding(model=f"openai/{LLM}", input=["one", "two"], max_retries=0)
    return [item["embedding"] for item in answer.data]


def models():
    # This call alone has OpenAI's own address where none is given, and appends the version itself.
    address = os.environ["OPENAI_BASE_URL"].removesuffix("/v1")
    return litellm.get_valid_models(check_provider_endpoint=True, custom_llm_provider="openai", api_base=address)


scenarios = {
    "embeddings": embeddings,
    "models": models,
    "responses plain": lambda: response_plain(False),
    "responses streamed": lambda: response_plain(True),
    "responses tools": lambda: response_tools(False),
    "responses tools, streamed": lambda: response_tools(True),
}
for api, provider in {"chat": "openai", "messages": "anthropic"}.items():
    scenarios |= {
        f"{api} plain": lambda provider=provider: plain(provider, False),
        f"{api} streamed": lambda provider=provider: plain(provider, True),
        f"{api} tools": lambda provider=provider: tools(provider, False),
        f"{api} tools, streamed": lambda provider=provider: tools(provider, True),
        f"{api} structured": lambda provider=provider: structured(provider),
        f"{api} image": lambda provider=provider: image(provider),
        f"{api} reasoning": lambda provider=provider: reasoning(provider, False),
        f"{api} reasoning, streamed": lambda provider=provider: reasoning(provider, True),
        f"{api} unknown model": lambda provider=provider: unknown(provider),
    }
serve(scenarios)
