// What the page gains with a script: its parts renew themselves, and a chart tells the values under the pointer.
// It is complete without one. Markup comes from this page's own server, which escapes every text where it goes in.

const EVERY_MS = 3000;
const known = new Map();
let lost = false;

// --- charts ----------------------------------------------------------------------------------------------------------

function nearest(points, x) {
  let best = null;
  for (const point of points) if (!best || Math.abs(point[0] - x) < Math.abs(best[0] - x)) best = point;
  return best;
}

function inShort(value) {
  return value.toLocaleString("en", { maximumSignificantDigits: 5 });
}

function show(chart, x) {
  const series = JSON.parse(chart.dataset.series);
  const all = series.flatMap((each) => each.points.map((point) => point[0]));
  if (!all.length) return;
  const at = all.reduce((best, each) => (Math.abs(each - x) < Math.abs(best - x) ? each : best));
  chart.dataset.at = at;
  const cursor = chart.querySelector(".cursor");
  const percent = `${(100 * at) / Number(chart.dataset.high)}%`;
  cursor.setAttribute("x1", percent);
  cursor.setAttribute("x2", percent);
  cursor.classList.add("on");
  const said = series.map((each) => {
    const point = nearest(each.points, at);
    const [value, ...limits] = point.slice(1).map(inShort);
    return `${each.name} ${value}` + (limits.length ? ` (95 % ${limits.join(" to ")})` : "") +
      (point[0] === at ? "" : ` (at ${point[0].toLocaleString("en")})`);
  });
  const readout = chart.closest(".part, figure").querySelector(".readout");
  const text = `${at.toLocaleString("en")} steps: ${said.join(" · ")}`;
  if (readout && readout.textContent !== text) readout.textContent = text;
}

// From the values along the axis and where the reader is, where a key leads.
const MOVES = {
  ArrowLeft: (xs, at = Infinity) => xs.findLast((x) => x < at),
  ArrowRight: (xs, at = -1) => xs.find((x) => x > at),
  Home: (xs) => xs[0],
  End: (xs) => xs.at(-1),
};

function step(chart, move) {
  const xs = [...new Set(JSON.parse(chart.dataset.series).flatMap((each) => each.points.map((point) => point[0])))];
  xs.sort((a, b) => a - b);
  const next = move(xs, chart.dataset.at === undefined ? undefined : Number(chart.dataset.at));
  if (next !== undefined) show(chart, next);
}

document.addEventListener("pointermove", (event) => {
  const chart = event.target.closest?.(".area");
  if (!chart) return;
  const box = chart.getBoundingClientRect();
  show(chart, (Number(chart.dataset.high) * (event.clientX - box.left)) / box.width);
});

document.addEventListener("keydown", (event) => {
  const chart = event.target.closest?.(".area");
  const move = MOVES[event.key];
  if (!chart || !move) return;
  step(chart, move);
  event.preventDefault();
});

// --- renewal ---------------------------------------------------------------------------------------------------------

function isAtEnd(log) {
  return log.scrollHeight - log.scrollTop - log.clientHeight < 24;
}

// Where in a part the focus is, in words that still hold when the part is new.
function placeOf(element, part) {
  const places = [...part.querySelectorAll("a, button, input, summary, [tabindex]")];
  return places.indexOf(element);
}

function renew(part, markup) {
  const opened = new Set([...part.querySelectorAll("details[open]")].map((each) => each.id));
  const focus = part.contains(document.activeElement) ? placeOf(document.activeElement, part) : -1;
  const cursors = [...part.querySelectorAll(".area")].map((chart) => chart.dataset.at);
  const checked = new Set([...part.querySelectorAll("input:checked")].map((each) => each.value));
  const log = part.querySelector("pre.log");
  const scrolled = log && !isAtEnd(log) ? log.scrollTop : null;
  part.innerHTML = markup;
  for (const each of part.querySelectorAll("details")) each.open = opened.has(each.id);
  for (const each of part.querySelectorAll("input[type=checkbox]")) each.checked = checked.has(each.value);
  part.querySelectorAll(".area").forEach((chart, index) => {
    if (cursors[index] !== undefined) show(chart, Number(cursors[index]));
  });
  if (focus >= 0) part.querySelectorAll("a, button, input, summary, [tabindex]")[focus]?.focus({ preventScroll: true });
  toEnd(part, scrolled);
}

function toEnd(place, scrolled = null) {
  for (const log of place.querySelectorAll("pre.log")) log.scrollTop = scrolled ?? log.scrollHeight;
}

// What needs the user is heard, and read in the title of the tab, without looking for it.
function tellAttention(part) {
  const title = part.querySelector("h2").textContent;
  const before = document.title;
  document.title = `${title} – ${document.querySelector("h1").textContent}`;
  if (document.title !== before) announce(title);
}

function announce(text) {
  document.getElementById("announcer").textContent = text;
}

async function look() {
  try {
    const asked = new URLSearchParams(location.search);
    asked.set("have", [...known.values()].join(","));
    const answer = await fetch(`/api/parts?${asked}`);
    if (lost) announce("The dashboard answers again.");
    lost = false;
    if (!answer.ok) throw new Error(String(answer.status));
    const { hashes, parts } = await answer.json();
    const here = [...document.querySelectorAll("[data-part]")].map((each) => each.id);
    if (Object.keys(hashes).some((name) => !here.includes(name))) return location.reload();
    for (const [name, markup] of Object.entries(parts)) {
      renew(document.getElementById(name), markup);
      if (name === "attention") tellAttention(document.getElementById(name));
      known.set(name, hashes[name]);
    }
    document.getElementById("as-of").textContent = `as of ${new Date().toLocaleTimeString()}`;
  } catch {
    if (!lost) {
      document.getElementById("as-of").textContent = "the dashboard does not answer; start it again to go on";
      announce("The dashboard does not answer.");
    }
    lost = true;
  }
}

// A folder of very many runs takes long to read: never more than a tenth of the time goes into it.
async function goOn() {
  const began = performance.now();
  if (!document.hidden) await look();
  setTimeout(goOn, Math.max(EVERY_MS, 9 * (performance.now() - began)));
}

toEnd(document);
if (document.body.hasAttribute("data-live")) {
  document.addEventListener("visibilitychange", () => document.hidden || look());
  goOn();
}
