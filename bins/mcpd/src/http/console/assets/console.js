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

  // Reads the page again every few seconds and shows what has changed in its live parts.
  const live = () => {
    const parts = document.querySelectorAll("[data-live]");
    const control = document.querySelector("[data-live-control]");
    if (!parts.length || !control) return;
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
        const response = await fetch(location.href, { redirect: "error" });
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

  localTimes(document);
  live();
})();
