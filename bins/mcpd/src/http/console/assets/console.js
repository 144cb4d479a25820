// Enhances the console's pages, which work without it: live tables, and times in the browser's zone.
"use strict";

(() => {
  const LIVE_INTERVAL = 4000;

  // Shows times in the browser's zone; the title keeps UTC.
  const localTimes = (root) => {
    for (const element of root.querySelectorAll("time[datetime]:not([title])")) {
      const at = new Date(element.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      element.title = element.textContent;
      element.textContent = at.toLocaleString("sv-SE");
    }
    const zone = document.getElementById("zone");
    if (!document.querySelector("time[title]") || !zone.hidden) return;
    const filter = document.querySelector("[type=datetime-local]") ? "; the filter takes UTC" : "";
    zone.textContent = `Times are those of ${Intl.DateTimeFormat().resolvedOptions().timeZone}${filter}.`;
    zone.hidden = false;
  };

  // Makes `old` what `fresh` is and touches only what differs, so that focus, selection and scrolling stay.
  const patch = (old, fresh) => {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(fresh.cloneNode(true));
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const before = [...old.childNodes];
    const after = [...fresh.childNodes];
    after.forEach((node, at) => (before[at] ? patch(before[at], node) : old.append(node.cloneNode(true))));
    before.slice(after.length).forEach((node) => node.remove());
  };

  // Reads the page again every few seconds, from the address that the control names, and shows what has changed in its live parts.
  const live = () => {
    const parts = document.querySelectorAll("[data-live]");
    const control = document.querySelector("[data-live-control]");
    if (!parts.length || !control) return;
    const address = control.dataset.liveControl || location.href;
    let paused = false;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    const state = document.createElement("span");
    state.className = "none";
    const show = (text) => {
      state.textContent = text;
      button.textContent = paused ? "Resume updates" : "Pause updates";
    };
    button.addEventListener("click", () => {
      paused = !paused;
      show(paused ? "Paused " : "Live ");
    });
    control.append(state, button);
    show("Live ");
    const refresh = async () => {
      if (paused || document.hidden) return;
      try {
        const response = await fetch(address, { redirect: "error" });
        if (response.status === 401) return location.reload();
        if (!response.ok) throw new Error(response.statusText);
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        localTimes(page);
        for (const part of parts) {
          const fresh = page.getElementById(part.id);
          if (fresh) patch(part, fresh);
        }
        show("Live ");
      } catch {
        show("mcpd does not answer; the figures are old ");
      }
    };
    const again = () => setTimeout(async () => { await refresh(); again(); }, LIVE_INTERVAL);
    again();
  };

  // Reads the events of an answer and gives each of them to `take`.
  const readEvents = async (body, take) => {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return false;
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data === "[DONE]") return true;
        take(JSON.parse(data));
      }
    }
  };

  // What went wrong, from an answer of mcpd or of a provider.
  const messageOf = async (response) => {
    const text = await response.text();
    if ((response.headers.get("content-type") || "").startsWith("text/html")) {
      const alert = new DOMParser().parseFromString(text, "text/html").querySelector(".alert");
      return alert ? alert.textContent.trim().replace(/\s*\n\s*/g, "; ") : `status ${response.status}`;
    }
    try {
      const { error } = JSON.parse(text);
      return error.hint ? `${error.message} (${error.hint})` : error.message || `status ${response.status}`;
    } catch {
      return `status ${response.status}`;
    }
  };

  // Shows the answer of the playground as it is written.
  const playground = () => {
    const form = document.getElementById("playground");
    if (!form) return;
    const part = (id) => document.getElementById(id);
    const [send, stop, answer, failure, thinking, facts] =
      ["send", "stop", "answer", "failure", "thinking", "facts"].map(part);
    const reasoning = thinking.querySelector("div");
    let running = null;
    const fact = (name, value) => {
      const [term, text] = [document.createElement("dt"), document.createElement("dd")];
      [term.textContent, text.textContent] = [name, value];
      facts.append(term, text);
    };
    const fail = (message) => {
      const text = document.createElement("p");
      text.textContent = message;
      failure.replaceChildren(text);
      failure.hidden = false;
    };
    const ask = async () => {
      const begun = performance.now();
      const seconds = () => `${((performance.now() - begun) / 1000).toFixed(2)} s`;
      let first = null;
      let usage = null;
      let model = "";
      const response = await fetch(form.action, {
        method: "POST",
        headers: { accept: "text/event-stream" },
        body: new URLSearchParams(new FormData(form)),
        signal: running.signal,
        redirect: "error",
      });
      const header = (name) => response.headers.get(`mcpctl-${name}`);
      const show = () => {
        if (header("served-by")) fact("Served by", model ? `${header("served-by")}, model ${model}` : header("served-by"));
        if (header("failover")) fact("Fallback", `${form.elements.llm.value} failed: ${header("failover")}`);
        if (header("attempts")) fact("Attempts", header("attempts"));
        if (first) fact("First token", first);
        fact("Time", seconds());
        if (usage) fact("Tokens", `${usage.prompt_tokens} in, ${usage.completion_tokens} out`);
      };
      if (!response.ok) {
        answer.hidden = true;
        fail(await messageOf(response));
        show();
        return;
      }
      let broken = null;
      try {
        const whole = await readEvents(response.body, (event) => {
          if (event.error) broken = event.error.message;
          const delta = event.choices?.[0]?.delta ?? {};
          const thought = delta.reasoning_content || delta.reasoning;
          if (thought) {
            thinking.hidden = false;
            reasoning.append(thought);
          }
          if (delta.content) {
            first ??= seconds();
            answer.append(delta.content);
          }
          model = event.model || model;
          usage = event.usage || usage;
        });
        if (broken || !whole) fail(broken || "the answer broke off before its end");
      } finally {
        show();
      }
    };
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (running) return;
      running = new AbortController();
      part("result").hidden = answer.hidden = stop.hidden = false;
      failure.hidden = thinking.hidden = send.disabled = true;
      for (const element of [answer, reasoning, facts]) element.replaceChildren();
      answer.setAttribute("aria-busy", "true");
      part("announce").textContent = "The model is answering.";
      try {
        await ask();
      } catch (error) {
        fail(error.name === "AbortError" ? "you stopped the answer" : "mcpd does not answer");
      }
      answer.setAttribute("aria-busy", "false");
      part("announce").textContent = "The answer is complete.";
      if (!failure.hidden) part("announce").textContent = "";
      send.disabled = false;
      stop.hidden = true;
      running = null;
    });
    stop.addEventListener("click", () => running?.abort());
    form.elements.prompt.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
  };

  localTimes(document);
  live();
  playground();
})();
