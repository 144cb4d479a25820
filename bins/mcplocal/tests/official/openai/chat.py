"""Sends one chat with the official OpenAI client, which has a base URL, a key and nothing else of ours.

Prints one JSON object: the text and the model, or the status and the error.
"""

import json
import sys

import openai

mode, llm = sys.argv[1:3]
# The longest pause between two chunks, seconds.
timeout = float(sys.argv[3]) if len(sys.argv) > 3 else None
client = openai.OpenAI(max_retries=0, timeout=timeout or openai.NOT_GIVEN)
messages = [{"role": "user", "content": "Hi"}]
try:
    if mode == "stream":
        text, model, finished = "", None, False
        for chunk in client.chat.completions.create(model=llm, messages=messages, stream=True):
            model = chunk.model
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finished = finished or choice.finish_reason is not None
        answer = {"text": text, "model": model, "finished": finished}
    else:
        completion = client.chat.completions.create(model=llm, messages=messages)
        answer = {
            "text": completion.choices[0].message.content,
            "model": completion.model,
            "finished": completion.choices[0].finish_reason is not None,
        }
    answer["models"] = [model.id for model in client.models.list()]
except openai.APIStatusError as error:
    answer = {"status": error.status_code, "error": error.body}
print(json.dumps(answer))
