// The same as client.py, with OpenAI's client for Node.
"use strict";

const OpenAI = require("openai");
const { zodResponseFormat, zodTextFormat } = require("openai/helpers/zod");
const { z } = require("zod");
const { PIXEL, CITY, forecast, run } = require("../scenarios.cjs");

const IMAGE = `data:image/png;base64,${PIXEL}`;
const BRIEF = { role: "system", content: "Be brief." };
const HI = { role: "user", content: "Hi" };
const WEATHER = { role: "user", content: "What is the weather in Oslo and in Rome?" };
const THINK = { role: "user", content: `Think first. ${WEATHER.content}` };
const Cat = z.object({ name: z.enum(["Mia", "Tom"]) });

const client = (cell, key) =>
  new OpenAI({ baseURL: `${cell.url}/v1`, apiKey: key ?? cell.key, maxRetries: 0 });

function check(holds, shown) {
  if (!holds) throw new Error(`unexpected: ${JSON.stringify(shown)}`);
}

// The fields of the turn with the results, without the limit: a small model that may call a tool again would.
const last = (cell, fields) => (cell.tokens ? {} : { ...fields, tool_choice: "auto" });

// Chat completions.

const chatFields = (cell, tokens) => ({
  model: cell.llm,
  ...(cell.tokens && { max_completion_tokens: tokens ?? cell.tokens, temperature: 0 }),
});

const described = (completion) => ({
  model: completion.model,
  reason: completion.choices[0].finish_reason,
  text: completion.choices[0].message.content ?? "",
  counted: completion.usage?.prompt_tokens > 0 && completion.usage?.completion_tokens > 0,
});

const chatAsk = (cell, request) => client(cell).chat.completions.create(request);

async function chatStream(cell, request) {
  const stream = client(cell).chat.completions.stream({ stream_options: { include_usage: true }, ...request });
  let text = "";
  stream.on("content", (piece) => (text += piece));
  const completion = await stream.finalChatCompletion();
  check(text === (completion.choices[0].message.content ?? ""), text);
  return completion;
}

const chatPlain = async (cell, ask = chatAsk) =>
  described(await ask(cell, { messages: [BRIEF, HI], ...chatFields(cell) }));

async function chatTools(cell, ask = chatAsk, more) {
  const tool = { type: "function", function: { name: "weather", description: "The weather.", parameters: CITY } };
  const fields = { tools: [tool], ...more };
  const question = more ? THINK : WEATHER;
  const called = await ask(cell, { messages: [question], ...(!more && { tool_choice: "required" }), ...fields, ...chatFields(cell, 200) });
  const { message, finish_reason } = called.choices[0];
  const calls = message.tool_calls.map((call) => ({ id: call.id, ...call.function, input: JSON.parse(call.function.arguments) }));
  const results = calls.map(({ id, input }) => ({ role: "tool", tool_call_id: id, content: forecast(input) }));
  const answer = await ask(cell, { messages: [question, message, ...results], ...last(cell, fields), ...chatFields(cell) });
  return {
    reason: finish_reason,
    calls: calls.map(({ name, input }) => [name, input]),
    thought: message.reasoning_content ?? "",
    answer: answer.choices[0].message.content ?? "",
  };
}

async function chatStructured(cell) {
  const request = { ...chatFields(cell, 40), messages: [HI], response_format: zodResponseFormat(Cat, "cat") };
  return (await client(cell).chat.completions.parse(request)).choices[0].message.parsed.name;
}

async function chatImage(cell) {
  const content = [
    { type: "text", text: "What is this?" },
    { type: "image_url", image_url: { url: IMAGE, detail: "low" } },
  ];
  return described(await chatAsk(cell, { messages: [{ role: "user", content }], ...chatFields(cell) })).text;
}

// Responses.

const responseFields = (cell, tokens) => ({
  model: cell.llm,
  ...(cell.tokens && { max_output_tokens: tokens ?? cell.tokens, temperature: 0 }),
});

const responseDescribed = (response) => ({
  model: response.model,
  reason: response.status,
  text: response.output_text,
  counted: response.usage.input_tokens > 0 && response.usage.output_tokens > 0,
});

const responseAsk = (cell, request) => client(cell).responses.create(request);

async function responseStream(cell, request) {
  const stream = client(cell).responses.stream(request);
  let text = "";
  for await (const event of stream) {
    if (event.type === "response.output_text.delta") text += event.delta;
  }
  const response = await stream.finalResponse();
  check(response.output_text === text, response);
  return response;
}

const responsePlain = async (cell, ask = responseAsk) =>
  responseDescribed(await ask(cell, { ...responseFields(cell), instructions: "Be brief.", input: "Hi" }));

async function responseTools(cell, ask = responseAsk, more) {
  const tool = { type: "function", name: "weather", description: "The weather.", parameters: CITY, strict: true };
  const fields = { tools: [tool], ...more };
  const question = more ? THINK : WEATHER;
  const called = await ask(cell, { input: [question], ...(!more && { tool_choice: "required" }), ...fields, ...responseFields(cell, 200) });
  const calls = called.output.filter((item) => item.type === "function_call");
  const results = calls.map((call) => ({
    type: "function_call_output",
    call_id: call.call_id,
    output: forecast(JSON.parse(call.arguments)),
  }));
  if (cell.vision) {
    const text = { type: "input_text", text: results[0].output };
    results[0].output = [text, { type: "input_image", image_url: IMAGE, detail: "auto" }];
  }
  // The helper for streams adds what the API does not take back.
  const made = called.output.map(({ parsed_arguments, ...item }) => item);
  const answer = await ask(cell, { input: [question, ...made, ...results], ...last(cell, fields), ...responseFields(cell) });
  const reasoning = called.output.filter((item) => item.type === "reasoning");
  return {
    reason: called.status,
    calls: calls.map((call) => [call.name, JSON.parse(call.arguments)]),
    thought: reasoning.flatMap((item) => (item.summary.length ? item.summary : item.content)).map((part) => part.text).join(""),
    answer: answer.output_text,
  };
}

async function responseStructured(cell) {
  const request = { ...responseFields(cell, 40), input: "Hi", text: { format: zodTextFormat(Cat, "cat") } };
  return (await client(cell).responses.parse(request)).output_parsed.name;
}

async function responseImage(cell) {
  const content = [
    { type: "input_text", text: "What is this?" },
    { type: "input_image", image_url: IMAGE, detail: "low" },
  ];
  return (await responseAsk(cell, { input: [{ role: "user", content }], ...responseFields(cell) })).output_text;
}

// The other routes.

async function completions(cell) {
  const request = { model: cell.llm, prompt: "Hi", ...(cell.tokens && { max_tokens: cell.tokens }) };
  return (await client(cell).completions.create(request)).choices[0].text;
}

async function embeddings(cell) {
  const { data } = await client(cell).embeddings.create({ model: cell.llm, input: ["a cat", "a dog"] });
  return [data.length, data[1].embedding.slice(0, 3)];
}

async function models(cell) {
  const listed = [];
  for await (const model of client(cell).models.list()) listed.push(model.id);
  return [listed, (await client(cell).models.retrieve(cell.llm)).id];
}

// Errors.

async function refused(asked) {
  try {
    await asked;
    return null;
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    const { status, param, message } = error;
    return {
      class: error.constructor.name,
      status,
      param: param ?? null,
      retry_after: error.headers.get("retry-after"),
      message,
      request: Boolean(error.requestID),
    };
  }
}

function asking(cell, route, { key, llm, text = "Hi", more }) {
  const model = llm ?? cell.llm;
  if (route === "chat") {
    const messages = [{ role: "user", content: text }];
    return client(cell, key).chat.completions.create({ model, messages, ...more });
  }
  return client(cell, key).responses.create({ model, input: text, ...more });
}

async function broken(cell, route) {
  let text = "";
  try {
    for await (const event of await asking(cell, route, { text: "Break off", more: { stream: true } })) {
      if (route === "chat") text += event.choices[0].delta.content ?? "";
      else if (event.type === "response.output_text.delta") text += event.delta;
      else if (event.type === "response.failed") return { raised: event.response.error.message !== "", text };
    }
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    return { raised: error.message !== "", text };
  }
  return { raised: false, text };
}

const errors = (route) => ({
  [`${route} wrong key`]: (cell) => refused(asking(cell, route, { key: "nobody's" })),
  [`${route} forbidden`]: (cell) => refused(asking(cell, route, { key: cell.stranger })),
  [`${route} unknown model`]: (cell) => refused(asking(cell, route, { llm: "nothing" })),
  [`${route} unknown field`]: (cell) => refused(asking(cell, route, { more: { no_such_field: 1 } })),
  [`${route} rate limit`]: (cell) => refused(asking(cell, route, { text: "Reach the rate limit" })),
  [`${route} quota`]: (cell) => refused(asking(cell, route, { llm: cell.limited })),
  [`${route} too long`]: (cell) => refused(asking(cell, route, { text: "word ".repeat(cell.words) })),
  [`${route} broken stream`]: (cell) => broken(cell, route),
});

run({
  "chat plain": chatPlain,
  "chat streamed": (cell) => chatPlain(cell, chatStream),
  "chat tools": chatTools,
  "chat tools streamed": (cell) => chatTools(cell, chatStream),
  "chat structured": chatStructured,
  "chat image": chatImage,
  "chat reasoning": (cell) => chatTools(cell, chatAsk, { reasoning_effort: "low" }),
  "responses plain": responsePlain,
  "responses streamed": (cell) => responsePlain(cell, responseStream),
  "responses tools": responseTools,
  "responses tools streamed": (cell) => responseTools(cell, responseStream),
  "responses structured": responseStructured,
  "responses image": responseImage,
  "responses reasoning": (cell) => responseTools(cell, responseAsk, { reasoning: { effort: "low", summary: "auto" } }),
  completions,
  embeddings,
  models,
  ...errors("chat"),
  ...errors("responses"),
});
