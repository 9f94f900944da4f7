import { commandLine, element, icon } from "./dom.js";
import { filling, since, until } from "./time.js";
import { endLabel, kindLabel, phaseIcon, shortRevision, stateLabel, versionText } from "./words.js";

/** @typedef {import("../src/domain/why/view.ts").StageSetPage} StageSetPage */
/** @typedef {import("../src/domain/why/view.ts").StagePage} StagePage */
/** @typedef {import("../src/domain/why/view.ts").FleetPage} FleetPage */
/** @typedef {import("../src/domain/why/cause.ts").Cause} Cause */

/** @param {HTMLElement} main @param {StageSetPage} page */
export function drawStageSet(main, page) {
  redraw(main, [
    element("nav", { "aria-label": "Breadcrumb" }, element("a", { href: "#/" }, "All StageSets")),
    element(
      "div",
      { class: "title" },
      element("h1", {}, page.name),
      element("span", { class: "namespace" }, page.namespace),
      element("span", { class: `badge ${page.state}` }, icon(page.state), stateLabel[page.state]),
      (page.version ?? page.pendingVersion) !== undefined && element("span", { class: "version" }, versionText(page)),
    ),
    why(page),
    element(
      "section",
      { "aria-labelledby": "stages" },
      element("h2", { id: "stages" }, "Stages"),
      element("ol", { class: "tree" }, ...page.stages.map(stage)),
    ),
    element("div", { class: "columns" }, revisions(page), facts(page), history(page)),
  ]);
}

/** @param {StageSetPage} page */
function why({ why: { state, cause, others }, ready }) {
  if (cause === undefined)
    return element(
      "section",
      { class: "card ok", "aria-label": "Why" },
      element("h2", {}, "All is deployed"),
      element("p", {}, "Nothing waits, nothing fails. ", since(ready.since, "So it has been for ")),
    );
  return element(
    "section",
    { class: `card ${state}`, "aria-label": "Why" },
    element(
      "p",
      { class: "kind" },
      icon(state),
      kindLabel[cause.kind],
      cause.stage !== undefined && ` · ${cause.stage}`,
    ),
    element("h2", {}, cause.message),
    details(cause),
    cause.command !== undefined && commandLine(cause.command),
    others.length > 0 &&
      element(
        "details",
        { class: "others", open: others.length < 4 ? "" : undefined },
        element("summary", {}, `Queued behind: ${others.length}`),
        element(
          "ul",
          {},
          ...others.map((other) =>
            element(
              "li",
              {},
              element("strong", {}, kindLabel[other.kind], other.stage !== undefined && ` · ${other.stage}`),
              element("span", {}, ` ${other.message} `),
              element("span", { class: "muted" }, until(other.until, `${endLabel(other.kind).toLowerCase()} `)),
            ),
          ),
        ),
      ),
  );
}

/** @param {Cause} cause */
function details(cause) {
  /** @type {[string, import("./dom.js").Child][]} */
  const rows = [
    ["Reason", cause.reason],
    ["Since", since(cause.since)],
    [endLabel(cause.kind), until(cause.until)],
    ["Cleared by", cause.clearedBy],
    ["Object", cause.object],
  ];
  const known = rows.filter(([, value]) => value !== undefined);
  return element(
    "dl",
    { class: "details" },
    ...known.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
  );
}

/** @param {StagePage} of */
function stage(of) {
  const kind = phaseIcon(of.phase, of.gate?.phase);
  const { gate } = of;
  const isHeld = gate !== undefined && gate.phase !== "Promoted";
  return element(
    "li",
    { class: `stage ${kind}` },
    element("span", { class: "dot" }, icon(kind)),
    element(
      "div",
      { class: "head" },
      element("h3", {}, of.name),
      element("span", { class: "phase" }, isHeld && of.phase === "Ready" ? gate.phase : of.phase),
      of.entries !== undefined && element("span", { class: "muted" }, `${of.entries} objects`),
      of.revision !== undefined &&
        element("code", { class: "revision", title: of.revision }, shortRevision(of.revision)),
      of.entering !== undefined &&
        element("span", { class: "muted" }, "→ ", element("code", { title: of.entering }, shortRevision(of.entering))),
      of.waitingSince !== undefined && of.phase !== "Ready" && since(of.waitingSince, "for "),
    ),
    of.message !== undefined && element("p", { class: "said" }, of.message),
    isHeld &&
      gate.since !== undefined &&
      gate.until !== undefined &&
      element(
        "div",
        { class: "soak" },
        filling(gate.since, gate.until, `Soak of ${of.name}`),
        until(gate.until, "ends in "),
      ),
    of.objects.length > 0 &&
      element(
        "ul",
        { class: "objects" },
        ...of.objects.map(({ kind: objectKind, namespace, name, status, message }) =>
          element(
            "li",
            {},
            element("code", { title: namespace }, `${objectKind}/${name}`),
            element("span", { class: `status ${status === "Failed" ? "failing" : ""}` }, status),
            message !== "" && element("span", { class: "muted" }, message),
          ),
        ),
      ),
  );
}

/** @param {StageSetPage} page */
function revisions({ revisions: all }) {
  if (all.length === 0) return undefined;
  return element(
    "section",
    {},
    element("h2", {}, "Revisions"),
    element(
      "dl",
      { class: "pairs" },
      ...all.map(({ source, applied, attempted }) =>
        element(
          "div",
          {},
          element("dt", {}, source),
          element(
            "dd",
            {},
            element("code", { title: applied }, applied === undefined ? "–" : shortRevision(applied)),
            attempted !== undefined &&
              attempted !== applied &&
              element("span", {}, " → ", element("code", { title: attempted }, shortRevision(attempted))),
          ),
        ),
      ),
    ),
  );
}

/** @param {StageSetPage} page */
function facts({ ready, generation, observedGeneration, dependsOn, message }) {
  return element(
    "section",
    {},
    element("h2", {}, "Status"),
    element(
      "dl",
      { class: "pairs" },
      element(
        "div",
        {},
        element("dt", {}, "Ready"),
        element(
          "dd",
          {},
          `${ready.status}${ready.reason === "" ? "" : ` (${ready.reason})`}`,
          since(ready.since, " for "),
        ),
      ),
      message !== "" && element("div", {}, element("dt", {}, "Message"), element("dd", {}, message)),
      generation !== undefined &&
        element(
          "div",
          {},
          element("dt", {}, "Generation"),
          element(
            "dd",
            {},
            `${generation}${observedGeneration === generation ? "" : `, observed ${observedGeneration ?? "none"}`}`,
          ),
        ),
      dependsOn.length > 0 &&
        element(
          "div",
          {},
          element("dt", {}, "Depends on"),
          element(
            "dd",
            {},
            ...dependsOn.flatMap((other, index) => [
              index > 0 && ", ",
              element("a", { href: `#/stagesets/${other.split("/").map(encodeURIComponent).join("/")}` }, other),
            ]),
          ),
        ),
    ),
  );
}

/** @param {StageSetPage} page */
function history({ history: all }) {
  if (all.length === 0) return undefined;
  return element(
    "section",
    {},
    element("h2", {}, "History"),
    element(
      "ul",
      { class: "links" },
      ...all.map(({ version, appliedAt }) =>
        element(
          "li",
          {},
          element("code", {}, version ?? "–"),
          " ",
          element("span", { class: "muted" }, since(appliedAt), " ago"),
        ),
      ),
    ),
  );
}

/** @param {HTMLElement} main @param {FleetPage} fleet */
export function drawFleet(main, fleet) {
  const { ready } = fleet;
  redraw(main, [
    element("nav", { "aria-label": "Breadcrumb" }, element("a", { href: "#/" }, "All StageSets")),
    element(
      "div",
      { class: "title" },
      element("h1", {}, fleet.name),
      element(
        "span",
        { class: `badge ${fleet.phase === "Halted" ? "failing" : fleet.phase === "Completed" ? "ok" : "waiting"}` },
        fleet.phase,
      ),
      fleet.targetVersion !== undefined && element("span", { class: "version" }, `→ ${fleet.targetVersion}`),
    ),
    ready !== undefined && element("p", {}, `${ready.reason}: ${ready.message}`),
    fleet.rejectedVersions.length > 0 &&
      element("p", { class: "muted" }, `Rejected versions: ${fleet.rejectedVersions.join(", ")}`),
    element("ol", { class: "board" }, ...fleet.waves.map((wave) => waveCard(wave, fleet.currentWave))),
  ]);
}

/** @param {FleetPage["waves"][number]} wave @param {string | undefined} current */
function waveCard(wave, current) {
  const { name, total = 0, atTarget = 0, ready = 0 } = wave;
  return element(
    "li",
    {
      class: `card ${wave.settled ? "ok" : name === current ? "waiting" : ""}`,
      "aria-current": name === current ? "step" : undefined,
    },
    element("h2", {}, name),
    element("p", { class: "muted" }, wave.settled ? "settled" : name === current ? "open" : "not open yet"),
    element("progress", {
      max: String(Math.max(1, total)),
      value: String(atTarget),
      "aria-label": `${name} at the version`,
    }),
    element("p", {}, `${atTarget} of ${total} at the version, ${ready} ready`),
    wave.health !== undefined && element("p", { class: "muted" }, `gate ${wave.health}`),
    wave.soakUntil !== undefined && element("p", {}, until(wave.soakUntil, "soaks for another ")),
  );
}

/**
 * Draws anew, and gives the focus back to what had it, by its place among what can have it.
 *
 * @param {HTMLElement} main
 * @param {readonly import("./dom.js").Child[]} children
 */
function redraw(main, children) {
  const focusable = "a[href], button, summary";
  const index = [...main.querySelectorAll(focusable)].indexOf(document.activeElement ?? main);
  const open = [...main.querySelectorAll("details")].map((each) => each.open);
  main.replaceChildren();
  for (const child of children) if (child instanceof Node) main.append(child);
  for (const [place, each] of [...main.querySelectorAll("details")].entries()) each.open = open[place] ?? each.open;
  const focused = index < 0 ? undefined : [...main.querySelectorAll(focusable)][index];
  if (focused instanceof HTMLElement) focused.focus({ preventScroll: true });
}
