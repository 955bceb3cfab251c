// Keeps what is shown current. Without it, pages that change reload themselves.
"use strict";

const EVERY_MS = 4000;
const QUIET_MS = 8000; // a killed worker sends no event: after so long without any the job's page is asked for
const stale = document.getElementById("stale");
const FOCUSABLE = "a, button, input, select, summary, [tabindex]";
let asking = false;
let again = false; // something happened while the page was asked for: what comes may not have it yet
let shownAt = performance.now();
let heardAt = performance.now();

// Ask for this page again and take over its live parts; who stands on a link, or has opened something, stays there.
async function refresh() {
  if (asking) {
    again = job !== null;
    return;
  }
  asking = true;
  try {
    const answer = await fetch(location.href);
    if (!answer.ok || answer.redirected) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(part.id);
      if (other) replace(part, other);
    }
    shownAt = performance.now();
    stale.hidden = true;
  } catch {
    stale.hidden = false;
    if (job) setTimeout(refresh, EVERY_MS);
  } finally {
    asking = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

function replace(part, other) {
  const place = [...part.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
  const open = [...part.querySelectorAll("details")].map((each) => each.open);
  const scrolled = [...part.querySelectorAll(".wide, pre")].map((each) => [each.scrollLeft, each.scrollTop]);
  part.replaceWith(document.adoptNode(other));
  other.querySelectorAll("details").forEach((each, number) => (each.open = open[number] ?? each.open));
  other.querySelectorAll(".wide, pre").forEach((each, number) => {
    [each.scrollLeft, each.scrollTop] = scrolled[number] ?? [0, 0];
  });
  if (place >= 0) other.querySelectorAll(FOCUSABLE)[place]?.focus({ preventScroll: true });
}

// A job's page: its events say when something has happened, and how far it is.
function follow(job) {
  let seen = 0;
  const source = new EventSource(job.dataset.events);
  source.addEventListener("state", (event) => {
    const told = JSON.parse(event.data);
    seen += 1;
    const shown = Number(document.getElementById("job").dataset.transitions);
    if (seen > shown) refresh();
    if (told.final) source.close();
  });
  source.addEventListener("progress", (event) => {
    heardAt = performance.now();
    show(JSON.parse(event.data));
  });
  source.addEventListener("error", () => (stale.hidden = source.readyState !== EventSource.CONNECTING));
  source.addEventListener("open", () => (stale.hidden = true));
}

function show(told) {
  const bar = document.getElementById("bar");
  if (!bar) return refresh();
  const share = told.total ? told.done / told.total : 0;
  if (told.total) bar.value = share;
  const elapsed = Number(bar.dataset.elapsed) + (performance.now() - shownAt) / 1000;
  const left = told.left_s ?? (share > 0.02 && bar.dataset.elapsed ? (elapsed * (1 - share)) / share : null);
  const counted = told.total && told.left_s === undefined ? `${told.done} of ${told.total}` : "";
  const estimate = left ? `about ${span(left)} left` : "";
  document.getElementById("told").textContent = [counted, told.stage, told.message, estimate].filter(Boolean).join(" · ");
}

function span(seconds) {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= 2 * size) return `${Math.round(seconds / size)} ${unit}`;
  }
  return `${Math.max(1, Math.round(seconds))} s`;
}

const job = document.getElementById("job");
if (job?.dataset.events) {
  follow(job);
  setInterval(() => {
    const live = document.getElementById("job").dataset.events;
    if (live && !document.hidden && performance.now() - heardAt > QUIET_MS) refresh();
  }, EVERY_MS);
} else if (document.querySelector("[data-live][data-still]") === null && document.querySelector("[data-live]")) {
  setInterval(() => document.hidden || refresh(), EVERY_MS);
}
if (document.body.dataset.again && !document.querySelector("[data-live]")) {
  setTimeout(() => location.reload(), 1000 * Number(document.body.dataset.again));
}

// A box that suggests names: those that begin so are asked for once one has stopped typing.
for (const box of document.querySelectorAll("input[data-suggest]")) {
  let soon;
  box.addEventListener("input", () => {
    clearTimeout(soon);
    soon = setTimeout(() => suggest(box).catch(() => {}), 250);
  });
}

async function suggest(box) {
  const given = box.value;
  const answer = await fetch(box.dataset.suggest + encodeURIComponent(given));
  if (!answer.ok || answer.redirected || box.value !== given) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  box.list.replaceChildren(...[...fresh.getElementById(box.list.id).children].map((each) => document.adoptNode(each)));
}
