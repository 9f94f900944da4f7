import { element } from "./dom.js";
import { Overview } from "./overview.js";
import { drawFleet, drawStageSet } from "./page.js";
import { events, NotShown, read, SignInNeeded, storedToken, storeToken } from "./server.js";
import { startTicking } from "./time.js";

/**
 * The page: a route of the fragment, a stream of what it shows, and the pieces that draw it.
 *
 * @typedef {{ readonly kind: "overview" } | { readonly kind: "stageset", readonly namespace: string, readonly name: string }
 *   | { readonly kind: "fleet", readonly name: string }} Route
 */

const main = must("main");
const connection = must("connection");
const signOut = must("sign-out");
const said = must("said");
const firstRetryMs = 1_000;
const longestRetryMs = 15_000;

/** @type {AbortController | undefined} */
let current;

/** @param {string} id */
function must(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`no element "${id}"`);
  return found;
}

/** @returns {Route} */
function route() {
  const [kind, first, second] = location.hash.replace(/^#\//, "").split("/").map(decoded);
  if (kind === "stagesets" && first && second) return { kind: "stageset", namespace: first, name: second };
  if (kind === "fleets" && first) return { kind: "fleet", name: first };
  return { kind: "overview" };
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

/** @param {Route} of */
function watchPath(of) {
  const query =
    of.kind === "stageset"
      ? `?${new URLSearchParams({ namespace: of.namespace, name: of.name })}`
      : of.kind === "fleet"
        ? `?${new URLSearchParams({ fleetrollout: of.name })}`
        : "";
  return `api/v1/watch${query}`;
}

async function show() {
  current?.abort();
  const mine = new AbortController();
  current = mine;
  const { signal } = mine;
  const at = route();
  document.title = at.kind === "overview" ? "StageSets" : `${at.name} · StageSets`;
  const overview = at.kind === "overview" ? new Overview(main) : undefined;
  if (overview === undefined) main.replaceChildren(element("p", { class: "empty", role: "status" }, "Loading …"));
  main.focus({ preventScroll: true });
  signOut.hidden = storedToken() === undefined;
  for (let waitMs = firstRetryMs; !signal.aborted; waitMs = Math.min(longestRetryMs, waitMs * 2)) {
    try {
      if (overview !== undefined) readFleets(overview, signal);
      for await (const event of events(watchPath(at), signal)) {
        if (isOver(signal)) return;
        say("live", "Live");
        waitMs = firstRetryMs;
        if (event.name === "unauthenticated") throw new SignInNeeded();
        draw(event, overview);
      }
    } catch (error) {
      if (isOver(signal)) return;
      if (error instanceof SignInNeeded) {
        signIn();
        return;
      }
      if (error instanceof NotShown) {
        notShown(error.message);
        return;
      }
    }
    say("lost", "Reconnecting …");
    await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
}

/** Read anew after each wait. @param {AbortSignal} signal */
function isOver(signal) {
  return signal.aborted;
}

/** @param {Overview} overview @param {AbortSignal} signal */
function readFleets(overview, signal) {
  read("api/v1/fleetrollouts", signal).then(
    (body) => {
      // The server's own type.
      const { items } = /** @type {{ items: import("../src/domain/why/view.ts").FleetPage[] }} */ (body);
      overview.putFleets(items);
    },
    () => undefined,
  );
}

/**
 * What the server tells is of the types it is written from.
 *
 * @param {import("./server.js").ServerEvent} event
 * @param {Overview | undefined} overview
 */
function draw({ name, data }, overview) {
  switch (name) {
    case "stageset":
      overview?.put(/** @type {import("../src/domain/why/view.ts").StageSetRow} */ (data));
      return;
    case "synced":
      overview?.complete();
      return;
    case "gone":
      if (overview === undefined) notShown("It does not exist, or you may not read it.");
      else overview.drop(/** @type {{ namespace: string, name: string }} */ (data));
      return;
    case "page":
      drawStageSet(main, announced(/** @type {import("../src/domain/why/view.ts").StageSetPage} */ (data)));
      return;
    case "fleetrollout":
      drawFleet(main, /** @type {import("../src/domain/why/view.ts").FleetPage} */ (data));
      return;
  }
}

/** A change of state is said, for those who do not see it. @param {import("../src/domain/why/view.ts").StageSetPage} page */
function announced(page) {
  const text = `${page.name} is ${page.state}${page.cause === undefined ? "" : `: ${page.cause.message}`}`;
  if (said.textContent !== text) said.textContent = text;
  return page;
}

/** @param {"live" | "lost" | "off"} kind @param {string} text */
function say(kind, text) {
  connection.className = `connection ${kind}`;
  if (connection.textContent !== text) connection.textContent = text;
}

/** @param {string} why */
function notShown(why) {
  say("off", "");
  main.replaceChildren(
    element("nav", { "aria-label": "Breadcrumb" }, element("a", { href: "#/" }, "All StageSets")),
    element("p", { class: "empty", role: "alert" }, why),
  );
}

function signIn() {
  const isRefused = storedToken() !== undefined;
  storeToken(undefined);
  signOut.hidden = true;
  say("off", "");
  const field = element("textarea", { id: "token", rows: "4", required: "", spellcheck: "false", autocomplete: "off" });
  const form = element(
    "form",
    { class: "card sign-in" },
    element("h1", {}, "Sign in"),
    isRefused &&
      element("p", { class: "refused", role: "alert" }, "The cluster does not take that token, or no longer."),
    element("p", {}, "What you see here is what your own rights in the cluster let you read."),
    element("label", { for: "token" }, "Bearer token"),
    field,
    element(
      "p",
      { class: "muted" },
      "One that a ServiceAccount may read with: ",
      element("code", {}, "kubectl create token NAME -n NAMESPACE"),
    ),
    element("p", { class: "muted" }, "It is kept in this tab alone, until you close it or sign out."),
    element("button", { type: "submit", class: "primary" }, "Sign in"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!(field instanceof HTMLTextAreaElement)) return;
    storeToken(field.value.replace(/\s+/g, "").replace(/^bearer/i, ""));
    start();
  });
  main.replaceChildren(form);
  field.focus();
}

/** A link may bring its token along: it is taken out of the address, which is kept and shown. */
function takeToken() {
  const match = /^#token=([^&]+)$/.exec(location.hash);
  if (match === null) return;
  storeToken(decoded(match[1] ?? ""));
  history.replaceState(null, "", "#/");
}

function start() {
  show().catch((/** @type {unknown} */ error) => {
    notShown(String(error));
  });
}

window.addEventListener("hashchange", start);
document.addEventListener("keydown", (event) => {
  const isTyping = event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement;
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const search = document.getElementById("search");
  if (search === null) return;
  event.preventDefault();
  search.focus();
});
must("skip").addEventListener("click", () => main.focus());
signOut.addEventListener("click", () => {
  storeToken(undefined);
  start();
});
takeToken();
startTicking();
start();
