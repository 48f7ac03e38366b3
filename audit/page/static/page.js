// Keeps the living part of a page up to date: follows /v1/events, and asks for that part again when
// something has changed, at most once a second. Settles a message that is unknown. Without scripts the page is as true, only still.
"use strict";

const live = document.querySelector("[data-live]");
const link = document.getElementById("link");
const units = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [Infinity, 86400, "d"]];

function relative(seconds) {
  const size = Math.abs(seconds);
  if (size < 1) return "just now";
  const [, divisor, unit] = units.find(([bound]) => size < bound);
  const amount = `${Math.floor(size / divisor)} ${unit}`;
  return seconds > 0 ? `${amount} ago` : `in ${amount}`;
}

function tick() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const text = relative((Date.now() - Date.parse(time.dateTime)) / 1000);
    if (time.textContent !== text) time.textContent = text;
  }
}

function say(word) {
  if (!link) return;
  link.textContent = word;
  link.dataset.state = word;
}

let due = false;
let busy = false;
let last = 0;

async function refresh() {
  if (busy || document.hidden) { due = true; return; }
  const wait = last + 1000 - Date.now();
  if (wait > 0) {
    if (!due) setTimeout(() => { due = false; refresh(); }, wait);
    due = true;
    return;
  }
  busy = true;
  due = false;
  last = Date.now();
  try {
    const answer = await fetch(location.href, { headers: { "X-Fragment": "live" } });
    if (answer.ok) replace(await answer.text());
  } catch {
    say("offline");
  } finally {
    busy = false;
    if (due) { due = false; refresh(); }
  }
}

function replace(html) {
  const open = [...live.querySelectorAll("details[open]")].map((item) => item.id);
  const focused = document.activeElement?.getAttribute("href");
  live.innerHTML = html;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused) live.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  live.dispatchEvent(new CustomEvent("refreshed", { bubbles: true }));
}

function follow() {
  const events = new EventSource("/v1/events");
  events.onopen = () => { say("live"); refresh(); };
  events.onerror = () => say("reconnecting");
  events.addEventListener("status", (event) => {
    const only = live.dataset.message;
    if (!only || JSON.parse(event.data).message_id === only) refresh();
  });
  addEventListener("pagehide", () => events.close());
}

// The cookie is not for scripts to read; the browser sends it along, to our own address alone.
async function settle(button) {
  if (button.dataset.sure && !confirm(button.dataset.sure)) return;
  const box = button.closest(".settle");
  const problem = box.querySelector(".problem");
  for (const one of box.querySelectorAll("button")) one.disabled = true;
  problem.textContent = "";
  try {
    const answer = await fetch(`/v1/messages/${live.dataset.message}/resolve`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ as: button.dataset.resolve }),
    });
    if (answer.ok) { refresh(); return; }
    problem.textContent = (await answer.json()).detail;
  } catch {
    problem.textContent = "There was no answer. Asking again is safe.";
  }
  for (const one of box.querySelectorAll("button")) one.disabled = false;
}

setInterval(tick, 1000);
if (live) {
  follow();
  live.addEventListener("click", (event) => {
    const button = event.target.closest("[data-resolve]");
    if (button) settle(button);
  });
  // Backlog and readiness change without an event.
  if (!live.dataset.message) setInterval(refresh, 5000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
} else {
  say("still");
}
