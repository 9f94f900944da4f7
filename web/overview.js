import { element, icon, onClick } from "./dom.js";
import { since, until } from "./time.js";
import { endLabel, phaseIcon, stateLabel, versionText } from "./words.js";

/** @typedef {import("../src/domain/why/view.ts").StageSetRow} StageSetRow */
/** @typedef {import("../src/domain/why/view.ts").FleetPage} FleetPage */

const order = { failing: 0, stale: 1, waiting: 2, ok: 3 };
/** @type {readonly ("failing" | "stale" | "waiting" | "ok")[]} */
const states = ["failing", "stale", "waiting", "ok"];

/** Every StageSet the caller may list, worst first. */
export class Overview {
  /** @type {Map<string, { readonly row: StageSetRow, readonly line: HTMLElement }>} */
  rows = new Map();
  /** @type {StageSetRow["state"] | undefined} */
  shown = undefined;
  isComplete = false;
  #isDue = false;

  /** @param {HTMLElement} main */
  constructor(main) {
    this.search = element("input", {
      type: "search",
      id: "search",
      placeholder: "Filter by name, namespace or reason",
      autocomplete: "off",
      spellcheck: "false",
    });
    this.search.addEventListener("input", () => this.soon());
    this.chips = element("div", { class: "chips", role: "group", "aria-label": "Show by state" });
    this.body = element("tbody");
    this.empty = element("p", { class: "empty", role: "status" });
    this.fleets = element("section", { class: "fleets", "aria-label": "Fleet rollouts" });
    this.table = element(
      "table",
      { class: "sets" },
      element("caption", { class: "unseen" }, "StageSets and what they wait for"),
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          ...["State", "StageSet", "Stages", "Version", "What it waits for"].map((name) =>
            element("th", { scope: "col" }, name),
          ),
        ),
      ),
      this.body,
    );
    main.replaceChildren(
      element("h1", {}, "StageSets"),
      element(
        "div",
        { class: "tools" },
        this.chips,
        element("label", { class: "unseen", for: "search" }, "Filter StageSets"),
        this.search,
      ),
      this.table,
      this.empty,
      this.fleets,
    );
    this.soon();
  }

  /** @param {StageSetRow} row */
  put(row) {
    this.rows.set(`${row.namespace}/${row.name}`, { row, line: lineOf(row) });
    this.soon();
  }

  /** @param {{ readonly namespace: string, readonly name: string }} gone */
  drop({ namespace, name }) {
    this.rows.delete(`${namespace}/${name}`);
    this.soon();
  }

  complete() {
    this.isComplete = true;
    this.soon();
  }

  /** @param {readonly FleetPage[]} fleets */
  putFleets(fleets) {
    this.fleets.replaceChildren();
    if (fleets.length === 0) return;
    this.fleets.append(
      element("h2", {}, "Fleet rollouts"),
      element(
        "ul",
        { class: "links" },
        ...fleets.map(({ name, phase, targetVersion }) =>
          element(
            "li",
            {},
            element("a", { href: `#/fleets/${encodeURIComponent(name)}` }, name),
            element("span", { class: "muted" }, ` ${phase}${targetVersion === undefined ? "" : ` · ${targetVersion}`}`),
          ),
        ),
      ),
    );
  }

  /** Changes that come together are drawn together. */
  soon() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.draw();
    });
  }

  draw() {
    const wanted = this.search instanceof HTMLInputElement ? this.search.value.trim().toLowerCase() : "";
    const all = [...this.rows.values()].sort((a, b) => compare(a.row, b.row));
    const lines = all
      .filter(({ row }) => (this.shown === undefined || row.state === this.shown) && matches(row, wanted))
      .map(({ line }) => line);
    this.#drawChips(all.map(({ row }) => row));
    place(this.body, lines);
    this.table.hidden = lines.length === 0;
    this.empty.textContent = lines.length > 0 ? "" : emptyText(this.isComplete, all.length);
  }

  /** @param {readonly StageSetRow[]} rows */
  #drawChips(rows) {
    const text = (/** @type {StageSetRow["state"] | undefined} */ state) =>
      `${state === undefined ? "All" : stateLabel[state]} ${rows.filter((row) => state === undefined || row.state === state).length}`;
    const wanted = [undefined, ...states];
    if (this.chips.childElementCount === 0)
      for (const state of wanted)
        this.chips.append(
          onClick(
            element(
              "button",
              { type: "button", class: `chip ${state ?? "all"}` },
              state && icon(state),
              element("span"),
            ),
            () => {
              this.shown = state;
              this.draw();
            },
          ),
        );
    for (const [index, state] of wanted.entries()) {
      const chip = this.chips.children[index];
      chip?.setAttribute("aria-pressed", String(this.shown === state));
      const label = chip?.querySelector("span");
      if (label && label.textContent !== text(state)) label.textContent = text(state);
    }
  }
}

/**
 * Puts lines in order and leaves alone those that are where they belong, so that what has the focus keeps it.
 *
 * @param {HTMLElement} body
 * @param {readonly HTMLElement[]} lines
 */
function place(body, lines) {
  const kept = new Set(lines);
  for (const child of [...body.children]) if (child instanceof HTMLElement && !kept.has(child)) child.remove();
  for (const [index, line] of lines.entries()) {
    const there = body.children[index];
    if (there !== line) body.insertBefore(line, there ?? null);
  }
}

/** @param {boolean} isComplete @param {number} known */
function emptyText(isComplete, known) {
  if (!isComplete) return "Loading …";
  return known > 0 ? "Nothing matches." : "No StageSets that you may list.";
}

/** @param {StageSetRow} a @param {StageSetRow} b */
function compare(a, b) {
  return order[a.state] - order[b.state] || a.namespace.localeCompare(b.namespace) || a.name.localeCompare(b.name);
}

/** @param {StageSetRow} row @param {string} wanted */
function matches(row, wanted) {
  if (wanted === "") return true;
  return [row.namespace, row.name, row.ready.reason, row.cause?.reason, row.version].some(
    (text) => text !== undefined && text.toLowerCase().includes(wanted),
  );
}

/** @param {StageSetRow} row */
function lineOf(row) {
  const href = `#/stagesets/${encodeURIComponent(row.namespace)}/${encodeURIComponent(row.name)}`;
  return element(
    "tr",
    { class: row.state },
    element(
      "td",
      { class: "state" },
      element("span", { class: `badge ${row.state}` }, icon(row.state), stateLabel[row.state]),
    ),
    element(
      "th",
      { scope: "row" },
      element("a", { href }, row.name),
      element("span", { class: "namespace" }, row.namespace),
    ),
    element("td", { class: "stages" }, bar(row)),
    element(
      "td",
      { class: "version" },
      element("span", { class: "message", title: versionText(row) }, versionText(row)),
    ),
    element("td", { class: "cause" }, ...causeCell(row)),
  );
}

/** @param {StageSetRow} row */
function bar(row) {
  const ready = row.phases.filter(({ phase, gate }) => phaseIcon(phase, gate) === "ok").length;
  return element(
    "div",
    { class: "track" },
    element(
      "span",
      { class: "segments", "aria-hidden": "true" },
      ...row.phases
        .slice(0, 24)
        .map(({ stage, phase, gate }) =>
          element("i", { class: `segment ${phaseIcon(phase, gate)}`, title: `${stage}: ${gate ?? phase}` }),
        ),
    ),
    element("span", { class: "muted" }, `${ready}/${row.phases.length}`),
  );
}

/** @param {StageSetRow} row */
function causeCell({ cause, ready }) {
  if (cause === undefined)
    return [element("span", { class: "muted" }, "Nothing: deployed", since(ready.since, " for "))];
  const where = cause.stage === undefined ? "" : `${cause.stage}: `;
  return [
    element("span", { class: "message" }, `${where}${cause.message}`),
    element(
      "span",
      { class: "muted when" },
      cause.reason,
      cause.since !== undefined && " · ",
      since(cause.since, "for "),
      cause.until !== undefined && " · ",
      until(cause.until, `${endLabel(cause.kind).toLowerCase()} `),
    ),
  ];
}
