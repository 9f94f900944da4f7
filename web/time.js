import { element } from "./dom.js";

/** @param {number} ms */
export function spoken(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  const parts = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor((seconds % 86_400) / 3_600), "h"],
    [Math.floor((seconds % 3_600) / 60), "m"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([amount]) => amount !== 0);
  return first < 0
    ? "0s"
    : parts
        .slice(first, first + 2)
        .map(([amount, unit]) => `${amount}${unit}`)
        .join(" ");
}

/**
 * How long ago, kept up to date.
 *
 * @param {string | undefined} instant
 * @param {string} prefix
 */
export function since(instant, prefix = "") {
  return instant === undefined ? undefined : ticking(instant, "since", prefix);
}

/**
 * How long until, kept up to date.
 *
 * @param {string | undefined} instant
 * @param {string} prefix
 */
export function until(instant, prefix = "") {
  return instant === undefined ? undefined : ticking(instant, "until", prefix);
}

/**
 * @param {string} instant
 * @param {"since" | "until"} kind
 * @param {string} prefix
 */
function ticking(instant, kind, prefix) {
  const made = element("time", { datetime: instant, title: instant, "data-tick": kind, "data-prefix": prefix });
  tick(made);
  return made;
}

/** @param {HTMLElement} of */
function tick(of) {
  const at = Date.parse(of.getAttribute("datetime") ?? "");
  const prefix = of.dataset["prefix"] ?? "";
  if (Number.isNaN(at)) {
    of.textContent = `${prefix}${of.getAttribute("datetime") ?? ""}`;
    return;
  }
  const ms = of.dataset["tick"] === "since" ? Date.now() - at : at - Date.now();
  const text = of.dataset["tick"] === "until" && ms <= 0 ? "any moment now" : `${prefix}${spoken(ms)}`;
  if (of.textContent !== text) of.textContent = text;
}

/**
 * A bar that fills between two instants.
 *
 * @param {string} from
 * @param {string} to
 * @param {string} label
 */
export function filling(from, to, label) {
  const [begin, end] = [Date.parse(from), Date.parse(to)];
  const made = element("progress", {
    "data-from": String(begin),
    "data-to": String(end),
    max: "1",
    "aria-label": label,
  });
  fill(made);
  return made;
}

/** @param {HTMLElement} of */
function fill(of) {
  const [begin, end] = [Number(of.dataset["from"]), Number(of.dataset["to"])];
  const share = end > begin ? (Date.now() - begin) / (end - begin) : 1;
  of.setAttribute("value", Math.min(1, Math.max(0, share)).toFixed(4));
}

/** One clock for all that is shown. */
export function startTicking() {
  setInterval(() => {
    for (const each of document.querySelectorAll("[data-tick]")) if (each instanceof HTMLElement) tick(each);
    for (const each of document.querySelectorAll("[data-from]")) if (each instanceof HTMLElement) fill(each);
  }, 1_000);
}
