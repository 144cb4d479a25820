// The same as scenarios.py, for clients for Node.
"use strict";

const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const CITY = {
  type: "object",
  properties: { city: { type: "string", enum: ["Oslo", "Rome"] } },
  required: ["city"],
  additionalProperties: false,
};
const WEATHER = { Oslo: "rain", Rome: "sun" };

const forecast = ({ city }) => `${city}: ${WEATHER[city]}`;

async function run(scenarios) {
  const input = [];
  for await (const chunk of process.stdin) input.push(chunk);
  for (const [number, cell] of JSON.parse(Buffer.concat(input).toString()).entries()) {
    for (const name of cell.scenarios) {
      let outcome;
      try {
        outcome = { result: (await scenarios[name](cell)) ?? null };
      } catch (error) {
        outcome = { error: `${error.constructor.name}: ${error.message}\n${error.stack}` };
      }
      console.log(JSON.stringify({ cell: number, scenario: name, ...outcome }));
    }
  }
}

module.exports = { PIXEL, CITY, forecast, run };
