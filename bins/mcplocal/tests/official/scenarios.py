"""Runs the scenarios that a test names on stdin, and prints one JSON line for each. The clients have a base URL and a key of ours."""

import json
import sys

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"Oslo": "rain", "Rome": "sun"}


def forecast(arguments):
    """What the tool returns."""
    return f"{arguments['city']}: {WEATHER[arguments['city']]}"


def run(scenarios):
    """Each cell has `url`, `key`, `llm` and `scenarios`, among others that single scenarios need."""
    for number, cell in enumerate(json.load(sys.stdin)):
        for name in cell["scenarios"]:
            try:
                outcome = {"result": scenarios[name](cell)}
            except Exception as error:
                outcome = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps({"cell": number, "scenario": name, **outcome}), flush=True)
