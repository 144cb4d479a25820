"""The command `llm`, whose own file of models names our base URL."""

import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from scenarios import PIXEL, QUESTION, serve

LLM = os.environ["LLM"]
HOME = pathlib.Path(tempfile.mkdtemp())
(HOME / "extra-openai-models.yaml").write_text(
    json.dumps(
        [
            {
                "model_id": f"{api}-model",
                "model_name": LLM,
                "api_base": os.environ["OPENAI_BASE_URL"],
                "api_key_name": "openai",
                "supports_schema": True,
                "supports_tools": True,
                "vision": True,
                "responses": api == "responses",
            }
            for api in ("chat", "responses")
        ]
    )
)
(HOME / "pixel.png").write_bytes(base64.b64decode(PIXEL))
TOOL = '''
def weather(city: str) -> str:
    "Tells the weather in a city."
    with open("CALLS", "a") as calls:
        calls.write(city + "\\n")
    return {"Oslo": "4 degrees in Oslo", "Rome": "21 degrees in Rome"}[city]
'''


def run(*words):
    environment = os.environ | {"LLM_USER_PATH": str(HOME)}
    output = subprocess.run(
        [sys.executable, "-m", "llm", *words], cwd=HOME, env=environment, capture_output=True, text=True,
        stdin=subprocess.DEVNULL,
    )
    if output.returncode:
        raise RuntimeError(output.stdout + output.stderr)
    return output.stdout.strip(), output.stderr


def ask(api, stream, *words):
    return run("prompt", "-m", f"{api}-model", QUESTION, *words, *([] if stream else ["--no-stream"]))


def plain(api, stream):
    text, notes = ask(api, stream, "-s", "Be brief.", "--usage")
    return {"text": text, "counted": "Token usage" in notes}


def tools(api, stream):
    (HOME / "CALLS").unlink(missing_ok=True)
    text, _ = ask(api, stream, "--functions", TOOL)
    cities = (HOME / "CALLS").read_text().split()
    return {"calls": [["weather", {"city": city}] for city in cities], "text": text}


def structured(api):
    return json.loads(ask(api, False, "--schema", "name, age int")[0])


def image(api):
    text, notes = ask(api, False, "-a", "pixel.png", "--usage")
    return {"text": text, "counted": "Token usage" in notes}


def models():
    # Its list of models has OpenAI's own address; this lists those of any other.
    return run("openai", "endpoint", os.environ["OPENAI_BASE_URL"], "--models", "--key", os.environ["OPENAI_API_KEY"])[0].split()


scenarios = {"models": models}
for api in ("chat", "responses"):
    scenarios |= {
        f"{api} plain": lambda api=api: plain(api, False),
        f"{api} streamed": lambda api=api: plain(api, True),
        f"{api} tools": lambda api=api: tools(api, False),
        f"{api} tools, streamed": lambda api=api: tools(api, True),
        f"{api} structured": lambda api=api: structured(api),
        f"{api} image": lambda api=api: image(api),
    }
serve(scenarios)
