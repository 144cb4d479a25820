"""The protocol between a client's script and the test: a scenario's name per line in, one JSON object per line out.

What each scenario prints is the same for every client, so that one table in the test judges all of them.
"""

import json
import sys

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
QUESTION = "What is it like?"


def weather(city: str) -> str:
    """Tells the weather in a city."""
    return {"Oslo": "4 degrees in Oslo", "Rome": "21 degrees in Rome"}[city]


CAT_SCHEMA = {
    "type": "object",
    "title": "Cat",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def serve(scenarios):
    # Clients write progress and advice to standard output, which belongs to the results here.
    results, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            scenario = scenarios.get(line.strip())
            result = {"got": scenario()} if scenario else {"skipped": True}
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(result), file=results, flush=True)
