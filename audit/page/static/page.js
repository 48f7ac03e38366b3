// Updates the live block of a page: follows /v1/events and requests the block again when something
// has changed, at most once a second. Also settles an unknown message. Without JavaScript the page
// shows the same data, but does not update itself.
"use strict";

const liveBlock = document.querySelector("[data-live]");
const connection = document.getElementById("link");
const units = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [Infinity, 86400, "d"]];

function formatAge(seconds) {
  const size = Math.abs(seconds);
  if (size < 1) return "just now";
  const [, divisor, unit] = units.find(([limit]) => size < limit);
  const duration = `${Math.floor(size / divisor)} ${unit}`;
  return seconds > 0 ? `${duration} ago` : `in ${duration}`;
}

function updateAges() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const text = formatAge((Date.now() - Date.parse(time.dateTime)) / 1000);
    if (time.textContent !== text) time.textContent = text;
  }
}

function showState(state) {
  if (!connection) return;
  connection.textContent = state;
  connection.dataset.state = state;
}

let refreshIsDue = false;
let isRefreshing = false;
let refreshedAt = 0;

async function refresh() {
  if (isRefreshing || document.hidden) { refreshIsDue = true; return; }
  const wait = refreshedAt + 1000 - Date.now();
  if (wait > 0) {
    if (!refreshIsDue) setTimeout(() => { refreshIsDue = false; refresh(); }, wait);
    refreshIsDue = true;
    return;
  }
  isRefreshing = true;
  refreshIsDue = false;
  refreshedAt = Date.now();
  try {
    const response = await fetch(location.href, { headers: { "X-Fragment": "live" } });
    if (response.ok) replaceBlock(await response.text());
  } catch {
    showState("offline");
  } finally {
    isRefreshing = false;
    if (refreshIsDue) { refreshIsDue = false; refresh(); }
  }
}

function replaceBlock(html) {
  const openIds = [...liveBlock.querySelectorAll("details[open]")].map((item) => item.id);
  const focusedLink = document.activeElement?.getAttribute("href");
  liveBlock.innerHTML = html;
  for (const id of openIds) document.getElementById(id)?.setAttribute("open", "");
  if (focusedLink) liveBlock.querySelector(`[href="${CSS.escape(focusedLink)}"]`)?.focus({ preventScroll: true });
  liveBlock.dispatchEvent(new CustomEvent("refreshed", { bubbles: true }));
}

function followEvents() {
  const events = new EventSource("/v1/events");
  events.onopen = () => { showState("live"); refresh(); };
  events.onerror = () => showState("reconnecting");
  events.addEventListener("status", (event) => {
    const shownId = liveBlock.dataset.message;
    if (!shownId || JSON.parse(event.data).message_id === shownId) refresh();
  });
  addEventListener("pagehide", () => events.close());
}

// Scripts cannot read the cookie. The browser adds it to requests to our own address.
async function settle(button) {
  if (button.dataset.confirm && !confirm(button.dataset.confirm)) return;
  const section = button.closest(".settle");
  const problem = section.querySelector(".problem");
  for (const item of section.querySelectorAll("button")) item.disabled = true;
  problem.textContent = "";
  try {
    const response = await fetch(`/v1/messages/${liveBlock.dataset.message}/resolve`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ as: button.dataset.resolve }),
    });
    if (response.ok) { refresh(); return; }
    problem.textContent = (await response.json()).detail;
  } catch {
    problem.textContent = "The server did not answer. You can try again safely.";
  }
  for (const item of section.querySelectorAll("button")) item.disabled = false;
}

setInterval(updateAges, 1000);
if (liveBlock) {
  followEvents();
  liveBlock.addEventListener("click", (event) => {
    const button = event.target.closest("[data-resolve]");
    if (button) settle(button);
  });
  // The backlog and the readiness change without an event.
  if (!liveBlock.dataset.message) setInterval(refresh, 5000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
} else {
  showState("still");
}
