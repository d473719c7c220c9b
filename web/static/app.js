"use strict";
// Keeps a page current without reloading it, and serves the keyboard and the theme. Everything works without it, except that.

const SAY_EVERY_MS = 10_000; // a screen reader is told at most so often
const STALE_AFTER_FAILURES = 2;

const root = document.documentElement;
const main = document.getElementById("content");

// --- theme: auto, light or dark, kept in a cookie so that the server knows it before the first paint
const THEMES = ["auto", "light", "dark"];
const darkPreferred = matchMedia("(prefers-color-scheme: dark)");

function themeInForce() {
  const chosen = root.dataset.theme;
  return chosen === "auto" ? (darkPreferred.matches ? "dark" : "light") : chosen;
}

function showLive() {
  for (const frame of document.querySelectorAll("iframe[data-live]")) {
    const query = frame.dataset.query ? `&${frame.dataset.query}` : "";
    const source = `/live/${frame.dataset.live}?theme=${themeInForce()}${query}`;
    if (frame.getAttribute("src") !== source) frame.setAttribute("src", source);
  }
}

const themeButton = document.getElementById("theme");
themeButton.addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length];
  root.dataset.theme = next;
  themeButton.textContent = `Theme: ${next}`;
  document.cookie = `ipa_theme=${next}; path=/; max-age=31536000; samesite=lax`;
  showLive();
});
darkPreferred.addEventListener("change", showLive);
showLive();

// --- a page that nobody sees lets its live views go, and takes them up again when somebody does
const HIDDEN_MS = 30_000;
let leaving = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(leaving);
  if (!document.hidden) return showLive();
  leaving = setTimeout(() => {
    for (const frame of document.querySelectorAll("iframe[data-live]")) frame.removeAttribute("src");
  }, HIDDEN_MS);
});

// --- on a phone the navigation is a strip: show where one is
const navigation = document.querySelector("nav.main ul");
const current = navigation?.querySelector("[aria-current]");
if (current) navigation.scrollLeft = current.offsetLeft - (navigation.clientWidth - current.offsetWidth) / 2;

// --- live views tell their height, so that nothing scrolls twice
addEventListener("message", (event) => {
  if (event.origin !== location.origin || event.data?.type !== "live-height") return;
  const height = Number(event.data.height);
  for (const frame of document.querySelectorAll("iframe[data-live]")) {
    if (frame.contentWindow === event.source && height > 0) frame.style.height = `${Math.min(height, 4000)}px`;
  }
});

// --- keyboard: / goes to the search, as the hint beside it says
document.addEventListener("keydown", (event) => {
  const search = document.getElementById("search");
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "");
  if (event.key === "/" && search && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    search.focus();
    search.select();
  }
});

// --- scrubbing goes there when the slider is let go
for (const form of document.querySelectorAll("form[data-scrub]")) {
  form.addEventListener("input", (event) => { form.querySelector("output").value = event.target.value; });
  form.addEventListener("change", () => form.requestSubmit());
}

// --- the clock, in UTC like every time on the page
const clock = document.getElementById("clock");
setInterval(() => {
  const now = new Date().toISOString();
  clock.textContent = now.slice(11, 19);
  clock.dateTime = now;
}, 1000);

// --- refreshing: the page is fetched again and its parts are exchanged; focus and scroll stay where they are
let failures = 0;
let saidAt = Date.now();

function showFreshness(at) {
  const badge = document.getElementById("fresh");
  if (!badge) return;
  const stale = failures >= STALE_AFTER_FAILURES;
  badge.className = `badge ${stale ? "warn" : "good"}`;
  badge.querySelector(".shape").textContent = stale ? "▲" : "●";
  badge.querySelector("[data-word]").textContent = stale ? "no answer, trying again" : "live";
  if (at) {
    document.getElementById("fresh-at").textContent = at.textContent;
    document.getElementById("fresh-at").dateTime = at.dateTime;
  }
}

function exchange(fresh) {
  for (const part of document.querySelectorAll("[data-part]")) {
    const replacement = fresh.querySelector(`[data-part="${CSS.escape(part.dataset.part)}"]`);
    if (!replacement || replacement.innerHTML === part.innerHTML) continue;
    const focusable = (within) => [...within.querySelectorAll("a[href], button, input, summary, [tabindex]")];
    const focused = focusable(part).indexOf(document.activeElement);
    const opened = [...part.querySelectorAll("details[open][id]")].map((details) => details.id);
    const scrolled = [...part.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    part.replaceChildren(...document.adoptNode(replacement).childNodes);
    part.className = replacement.className;
    for (const id of opened) part.querySelector(`#${CSS.escape(id)}`)?.setAttribute("open", "");
    [...part.querySelectorAll(".scroll")].forEach((box, index) => { box.scrollLeft = scrolled[index] ?? 0; });
    if (focused >= 0) focusable(part)[focused]?.focus({ preventScroll: true });
  }
  const spoken = document.querySelector("[data-say]");
  const news = fresh.querySelector("[data-say]");
  if (spoken && news && spoken.textContent !== news.textContent && Date.now() - saidAt >= SAY_EVERY_MS) {
    spoken.textContent = news.textContent;
    saidAt = Date.now();
  }
}

async function refresh() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(10_000) });
  if (answer.redirected && new URL(answer.url).pathname === "/login") return location.reload();
  const wasError = document.querySelector("[data-error]");
  if (!answer.ok) throw new Error(`answered ${answer.status}`);
  if (wasError) return location.reload();
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  failures = 0;
  exchange(fresh);
  showFreshness(fresh.getElementById("fresh-at"));
}

async function keepFresh(everyMs) {
  const selecting = () => !(getSelection()?.isCollapsed ?? true);
  for (;;) {
    const pause = everyMs * Math.min(2 ** failures, 4);
    await new Promise((resolve) => setTimeout(resolve, pause));
    if (document.hidden || selecting()) continue;
    try {
      await refresh();
    } catch {
      failures += 1;
      showFreshness(null);
    }
  }
}

const refreshSeconds = Number(main?.dataset.refreshS ?? 0);
if (refreshSeconds > 0) keepFresh(refreshSeconds * 1000);
