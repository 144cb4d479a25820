"""Asks one question with the official OpenAI client, which knows a base URL and a key and nothing else of us.

Prints one JSON object: the text and the model, or the status and the error.
"""

import json
import sys

import openai

mode, llm = sys.argv[1:3]
# Between two signs of life, seconds.
patience = float(sys.argv[3]) if len(sys.argv) > 3 else None
client = openai.OpenAI(max_retries=0, timeout=patience or openai.NOT_GIVEN)
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
