// The same as client.py, with the official Anthropic client for Node.
"use strict";

const Anthropic = require("@anthropic-ai/sdk");

const llm = process.argv[2];
const client = new Anthropic({ maxRetries: 0 });
const question = [{ role: "user", content: "Hi" }];
const tool = {
  name: "look",
  description: "Looks at a thing.",
  input_schema: { type: "object", properties: { thing: { type: "string" } } },
};
const forced = { type: "tool", name: "look" };
const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

function described(message) {
  const of = (type) => message.content.filter((block) => block.type === type);
  return {
    model: message.model,
    stop_reason: message.stop_reason,
    text: of("text").map((block) => block.text).join(""),
    thinking: of("thinking").map((block) => block.thinking).join(""),
    calls: of("tool_use").map((block) => [block.name, block.input]),
    counted: message.usage.input_tokens > 0 && message.usage.output_tokens > 0,
  };
}

function create(fields) {
  return client.messages.create({ model: llm, max_tokens: 100, messages: question, ...fields });
}

async function streamed(fields) {
  const stream = client.messages.stream({ model: llm, max_tokens: 100, messages: question, ...fields });
  let text = "";
  stream.on("text", (piece) => (text += piece));
  const message = await stream.finalMessage();
  if (text !== described(message).text) throw new Error(`pieces: ${text}`);
  return message;
}

async function tools(ask) {
  const called = await ask({ tools: [tool], tool_choice: forced });
  const call = called.content.find((block) => block.type === "tool_use");
  const result = { type: "tool_result", tool_use_id: call.id, content: "a cat" };
  const turns = [{ role: "assistant", content: called.content }, { role: "user", content: [result] }];
  return [described(called), described(await create({ tools: [tool], messages: [...question, ...turns] }))];
}

async function structured() {
  const schema = {
    type: "object",
    properties: { name: { type: "string" } },
    required: ["name"],
    additionalProperties: false,
  };
  const message = await create({ output_config: { format: { type: "json_schema", schema } } });
  return JSON.parse(described(message).text).name;
}

async function image() {
  const source = { type: "base64", media_type: "image/png", data: PIXEL };
  const content = [{ type: "image", source }, { type: "text", text: "What is this?" }];
  return described(await create({ messages: [{ role: "user", content }] }));
}

async function counted() {
  return (await client.messages.countTokens({ model: llm, messages: question, tools: [tool] })).input_tokens;
}

async function models() {
  const listed = [];
  for await (const model of client.models.list()) {
    listed.push([model.id, model.type, (await client.models.retrieve(model.id)).id]);
  }
  return listed;
}

async function refused(fields) {
  try {
    await create(fields);
    return null;
  } catch (error) {
    if (!(error instanceof Anthropic.APIError)) throw error;
    return [error.constructor.name, error.error.error.type, error.error.error.message];
  }
}

async function main() {
  console.log(
    JSON.stringify({
      plain: described(await create({ system: "Be brief." })),
      streamed: described(await streamed({})),
      tools: await tools(create),
      tools_streamed: await tools(streamed),
      structured: await structured(),
      image: await image(),
      counted: await counted(),
      models: await models(),
      unknown_model: await refused({ model: "nothing" }),
    }),
  );
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
