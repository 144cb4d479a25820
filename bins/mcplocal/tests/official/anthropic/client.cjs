// The same as client.py, with Anthropic's client for Node.
"use strict";

const Anthropic = require("@anthropic-ai/sdk");
const { jsonSchemaOutputFormat } = require("@anthropic-ai/sdk/helpers/json-schema");
const { PIXEL, CITY, forecast, run } = require("../scenarios.cjs");

const HI = { role: "user", content: "Hi" };
const WEATHER = { role: "user", content: "What is the weather in Oslo and in Rome?" };
const THINK = { role: "user", content: `Think first. ${WEATHER.content}` };
const IMAGE = { type: "image", source: { type: "base64", media_type: "image/png", data: PIXEL } };
const TOOL = { name: "weather", description: "The weather.", input_schema: CITY };
const CAT = {
  type: "object",
  properties: { name: { type: "string", enum: ["Mia", "Tom"] } },
  required: ["name"],
  additionalProperties: false,
};

const client = (cell, key) => new Anthropic({ baseURL: cell.url, apiKey: key ?? cell.key, maxRetries: 0 });

// With a limit of `tokens`. A cell that has one of its own is a real model, which answers the same each time at temperature 0.
const fields = (cell, tokens) => ({
  model: cell.llm,
  max_tokens: tokens ?? cell.tokens ?? 100,
  ...(cell.tokens && { temperature: 0 }),
});
const textOf = (message) =>
  message.content.filter((block) => block.type === "text").map((block) => block.text).join("");

const described = (message) => ({
  model: message.model,
  reason: message.stop_reason,
  text: textOf(message),
  counted: message.usage.input_tokens > 0 && message.usage.output_tokens > 0,
});

const ask = (cell, request) => client(cell).messages.create(request);

async function stream(cell, request) {
  const events = client(cell).messages.stream(request);
  let text = "";
  events.on("text", (piece) => (text += piece));
  const message = await events.finalMessage();
  if (text !== textOf(message)) throw new Error(`pieces: ${text}`);
  return message;
}

const plain = async (cell, how = ask) =>
  described(await how(cell, { messages: [HI], system: "Be brief.", ...fields(cell) }));

async function tools(cell, how = ask, more) {
  const request = { ...fields(cell, 200), tools: [TOOL], ...more };
  const question = more ? THINK : WEATHER;
  const called = await how(cell, { messages: [question], ...(!more && { tool_choice: { type: "any" } }), ...request });
  const calls = called.content.filter((block) => block.type === "tool_use");
  const results = calls.map(({ id, input }) => ({ type: "tool_result", tool_use_id: id, content: forecast(input) }));
  if (cell.vision) results[0].content = [{ type: "text", text: results[0].content }, IMAGE];
  const turns = [question, { role: "assistant", content: called.content }, { role: "user", content: results }];
  // A small model that may call a tool again would.
  const answer = await how(cell, { messages: turns, ...(cell.tokens ? fields(cell) : request) });
  return {
    reason: called.stop_reason,
    calls: calls.map(({ name, input }) => [name, input]),
    thought: called.content.filter((block) => block.type === "thinking").map((block) => block.thinking).join(""),
    answer: textOf(answer),
  };
}

const reasoning = (cell, how = ask) =>
  tools(cell, how, { max_tokens: 2048, thinking: { type: "enabled", budget_tokens: 1024 } });

async function structured(cell) {
  const output_config = { format: jsonSchemaOutputFormat(CAT) };
  const request = { ...fields(cell, 40), messages: [HI], output_config };
  return (await client(cell).messages.parse(request)).parsed_output.name;
}

const image = async (cell) =>
  textOf(await ask(cell, { messages: [{ role: "user", content: [IMAGE, { type: "text", text: "What is this?" }] }], ...fields(cell) }));

const count = async (cell) =>
  (await client(cell).messages.countTokens({ model: cell.llm, messages: [HI], tools: [TOOL], system: "Be brief." })).input_tokens;

async function models(cell) {
  const listed = [];
  for await (const model of client(cell).models.list({ limit: 2 })) listed.push(model.id);
  return [listed, (await client(cell).models.retrieve(cell.llm)).id];
}

async function refused(cell, { key, text = "Hi", ...more }) {
  try {
    await client(cell, key).messages.create({ ...fields(cell), messages: [{ role: "user", content: text }], ...more });
    return null;
  } catch (error) {
    if (!(error instanceof Anthropic.APIError)) throw error;
    return {
      class: error.constructor.name,
      status: error.status,
      type: error.error.error.type,
      retry_after: error.headers.get("retry-after"),
      message: error.error.error.message,
      request: Boolean(error.requestID),
    };
  }
}

async function broken(cell) {
  let text = "";
  try {
    const events = client(cell).messages.stream({ ...fields(cell), messages: [{ role: "user", content: "Break off" }] });
    events.on("text", (piece) => (text += piece));
    await events.finalMessage();
  } catch (error) {
    if (!(error instanceof Anthropic.AnthropicError)) throw error;
    return { raised: error.message !== "", text };
  }
  return { raised: false, text };
}

run({
  "messages plain": plain,
  "messages streamed": (cell) => plain(cell, stream),
  "messages tools": tools,
  "messages tools streamed": (cell) => tools(cell, stream),
  "messages structured": structured,
  "messages image": image,
  "messages reasoning": reasoning,
  "messages reasoning streamed": (cell) => reasoning(cell, stream),
  "messages count": count,
  models,
  "messages wrong key": (cell) => refused(cell, { key: "nobody's" }),
  "messages forbidden": (cell) => refused(cell, { key: cell.stranger }),
  "messages unknown model": (cell) => refused(cell, { model: "nothing" }),
  "messages unknown field": (cell) => refused(cell, { no_such_field: 1 }),
  "messages rate limit": (cell) => refused(cell, { text: "Reach the rate limit" }),
  "messages quota": (cell) => refused(cell, { model: cell.limited }),
  "messages too long": (cell) => refused(cell, { text: "word ".repeat(cell.words) }),
  "messages broken stream": broken,
});
