"""LangChain, which knows nothing of ours but base URLs and keys in its environment."""

import os

import pydantic
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from scenarios import PIXEL, QUESTION, serve, weather

LLM = os.environ["LLM"]
MODELS = {
    "chat": ChatOpenAI(model=LLM, max_retries=0, max_tokens=64, stream_usage=True),
    "responses": ChatOpenAI(model=LLM, max_retries=0, max_tokens=64, use_responses_api=True),
    "messages": ChatAnthropic(model=LLM, max_retries=0, max_tokens=64),
}


class Cat(pydantic.BaseModel):
    """A cat."""

    name: str
    age: int


def described(message):
    return {"text": message.text, "counted": message.usage_metadata["input_tokens"] > 0}


def whole(model, turns):
    return model.invoke(turns)


def streamed(model, turns):
    chunks = list(model.stream(turns))
    answer = chunks[0]
    for chunk in chunks[1:]:
        answer += chunk
    return answer


def plain(model, ask):
    return described(ask(model, [SystemMessage("Be brief."), HumanMessage(QUESTION)]))


def tools(model, ask):
    look = tool(weather)
    model, turns = model.bind_tools([look]), [HumanMessage(QUESTION)]
    called = ask(model, turns)
    turns += [called, *(look.invoke(call) for call in called.tool_calls)]
    answer = ask(model, turns)
    return {"calls": [[call["name"], call["args"]] for call in called.tool_calls], "text": answer.text}


def structured(model, method=None):
    return model.with_structured_output(Cat, **({"method": method} if method else {})).invoke(QUESTION).model_dump()


def image(model):
    part = {"type": "image", "base64": PIXEL, "mime_type": "image/png"}
    return described(model.invoke([HumanMessage([{"type": "text", "text": "What is this?"}, part])]))


def reasoning(model, ask):
    blocks = ask(model, [HumanMessage(QUESTION)]).content_blocks
    return {
        "reasoning": "".join(block.get("reasoning", "") for block in blocks if block["type"] == "reasoning"),
        "text": "".join(block["text"] for block in blocks if block["type"] == "text"),
    }


def embeddings():
    # Without a list of tokens, which takes OpenAI's own tokenizer.
    embedder = OpenAIEmbeddings(model=LLM, check_embedding_ctx_length=False, max_retries=0)
    return embedder.embed_documents(["one", "two"])


def unknown(api):
    model = {"chat": ChatOpenAI, "responses": ChatOpenAI, "messages": ChatAnthropic}[api]
    extra = {"use_responses_api": True} if api == "responses" else {}
    return model(model="nothing", max_retries=0, max_tokens=9, **extra).invoke(QUESTION).text


scenarios = {"embeddings": embeddings}
for api, model in MODELS.items():
    scenarios |= {
        f"{api} plain": lambda model=model: plain(model, whole),
        f"{api} streamed": lambda model=model: plain(model, streamed),
        f"{api} tools": lambda model=model: tools(model, whole),
        f"{api} tools, streamed": lambda model=model: tools(model, streamed),
        f"{api} structured": lambda model=model: structured(model),
        f"{api} structured by a tool": lambda model=model: structured(model, "function_calling"),
        f"{api} image": lambda model=model: image(model),
        f"{api} unknown model": lambda api=api: unknown(api),
    }
claude = MODELS["messages"]
thinking = ChatAnthropic(
    model=LLM, max_retries=0, max_tokens=2048, thinking={"type": "enabled", "budget_tokens": 1024}
)
scenarios |= {
    "messages reasoning": lambda: reasoning(thinking, whole),
    "messages reasoning, streamed": lambda: reasoning(thinking, streamed),
    "messages count": lambda: claude.get_num_tokens_from_messages([HumanMessage(QUESTION)]),
}
serve(scenarios)
