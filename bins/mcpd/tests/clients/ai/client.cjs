// The Vercel AI SDK, which knows nothing of ours but base URLs and keys. The protocol is that of ../python/scenarios.py.
const readline = require("node:readline");
const { createAnthropic } = require("@ai-sdk/anthropic");
const { createOpenAI } = require("@ai-sdk/openai");
const { createOpenAICompatible } = require("@ai-sdk/openai-compatible");
const { embedMany, generateObject, generateText, stepCountIs, streamObject, streamText, tool } = require("ai");
const { z } = require("zod");

// Standard output belongs to the results.
globalThis.AI_SDK_LOG_WARNINGS = false;

const { LLM, OPENAI_BASE_URL, OPENAI_API_KEY, ANTHROPIC_BASE_URL } = process.env;
const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const prompt = "What is it like?";

const openai = createOpenAI({});
// Its base URL has the version, unlike that of Anthropic's own client.
const anthropic = createAnthropic({ baseURL: `${ANTHROPIC_BASE_URL}/v1` });
const compatible = createOpenAICompatible({
  name: "mcpctl",
  baseURL: OPENAI_BASE_URL,
  apiKey: OPENAI_API_KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const apis = {
  chat: (model) => openai.chat(model),
  compatible: (model) => compatible(model),
  responses: (model) => openai(model),
  messages: (model) => anthropic(model),
};

const cat = z.object({ name: z.string(), age: z.number().int() });
const degrees = { Oslo: "4 degrees in Oslo", Rome: "21 degrees in Rome" };

/** Asks, and returns the whole result however it came. */
async function ask(model, stream, fields) {
  const request = { model, maxRetries: 0, maxOutputTokens: 64, ...fields };
  if (!stream) return generateText(request);
  let failure;
  const result = streamText({ ...request, onError: ({ error }) => (failure = error) });
  for await (const part of result.fullStream) if (part.type === "error") failure = part.error;
  if (failure) throw failure;
  const [text, reasoningText, usage, steps] = await Promise.all([
    result.text,
    result.reasoningText,
    result.usage,
    result.steps,
  ]);
  return { text, reasoningText, usage, steps };
}

async function plain(model, stream) {
  const { text, usage } = await ask(model, stream, { system: "Be brief.", prompt });
  return { text, counted: usage.inputTokens > 0 };
}

async function tools(model, stream) {
  const weather = tool({
    description: "Tells the weather in a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: ({ city }) => degrees[city],
  });
  const { text, steps } = await ask(model, stream, { prompt, tools: { weather }, stopWhen: stepCountIs(3) });
  const calls = steps.flatMap((step) => step.toolCalls.map((call) => [call.toolName, call.input]));
  return { calls, text };
}

async function structured(model, stream) {
  const request = { model, maxRetries: 0, maxOutputTokens: 64, schema: cat, prompt };
  if (!stream) return (await generateObject(request)).object;
  let failure;
  const result = streamObject({ ...request, onError: ({ error }) => (failure = error) });
  let last;
  for await (const partial of result.partialObjectStream) last = partial;
  if (failure) throw failure;
  return last;
}

async function image(model) {
  const content = [
    { type: "text", text: "What is this?" },
    { type: "image", image: PIXEL, mediaType: "image/png" },
  ];
  const { text, usage } = await ask(model, false, { messages: [{ role: "user", content }] });
  return { text, counted: usage.inputTokens > 0 };
}

async function reasoning(model, stream) {
  const { text, reasoningText } = await ask(model, stream, { prompt });
  return { reasoning: reasoningText, text };
}

async function embeddings() {
  const { embeddings } = await embedMany({ model: openai.embedding(LLM), values: ["one", "two"], maxRetries: 0 });
  return embeddings;
}

const scenarios = { embeddings };
for (const [api, model] of Object.entries(apis)) {
  Object.assign(scenarios, {
    [`${api} plain`]: () => plain(model(LLM), false),
    [`${api} streamed`]: () => plain(model(LLM), true),
    [`${api} tools`]: () => tools(model(LLM), false),
    [`${api} tools, streamed`]: () => tools(model(LLM), true),
    [`${api} structured`]: () => structured(model(LLM), false),
    [`${api} structured, streamed`]: () => structured(model(LLM), true),
    [`${api} image`]: () => image(model(LLM)),
    [`${api} reasoning`]: () => reasoning(model(LLM), false),
    [`${api} reasoning, streamed`]: () => reasoning(model(LLM), true),
    [`${api} unknown model`]: () => plain(model("nothing"), false),
  });
}
// OpenAI's chat completions have no reasoning, so this client's reader of them knows none.
delete scenarios["chat reasoning"];
delete scenarios["chat reasoning, streamed"];

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let result = { skipped: true };
    try {
      if (scenarios[line]) result = { got: await scenarios[line]() };
    } catch (error) {
      result = { error: `${error.name}: ${error.message} ${error.responseBody ?? ""}` };
    }
    process.stdout.write(`${JSON.stringify(result)}\n`);
  }
})();
