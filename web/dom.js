/**
 * Builds elements. What comes from the cluster becomes text nodes and values of known attributes, never markup.
 */

/** @typedef {Node | string | number | undefined | false} Child */

const svg = "http://www.w3.org/2000/svg";

/** Paths of 16 × 16 icons. */
const icons = {
  ok: "M3.5 8.5l3 3 6-7",
  waiting: "M8 2.2a5.8 5.8 0 1 1 0 11.6a5.8 5.8 0 1 1 0-11.6M8 5v3.3l2.2 1.4",
  failing: "M4.5 4.5l7 7M11.5 4.5l-7 7",
  stale: "M3.5 8h9",
  working: "M8 3.2a4.8 4.8 0 1 1-4.6 3.4",
  paused: "M6 4.5v7M10 4.5v7",
  pending: "M8 8h.01",
};

/** @typedef {keyof typeof icons} IconName */

/**
 * @param {string} tag
 * @param {Readonly<Record<string, string | undefined>>} attributes
 * @param {...Child} children
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(name, value);
  append(made, children);
  return made;
}

/**
 * @param {Element} parent
 * @param {readonly Child[]} children
 */
export function append(parent, children) {
  for (const child of children) {
    if (child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : String(child));
  }
}

/**
 * An icon that says nothing to a screen reader: the words beside it do.
 *
 * @param {IconName} name
 */
export function icon(name) {
  const image = document.createElementNS(svg, "svg");
  image.setAttribute("viewBox", "0 0 16 16");
  image.setAttribute("aria-hidden", "true");
  image.setAttribute("class", `icon icon-${name}`);
  const path = document.createElementNS(svg, "path");
  path.setAttribute("d", icons[name]);
  image.append(path);
  return image;
}

/**
 * @param {HTMLElement} of
 * @param {() => void} run
 */
export function onClick(of, run) {
  of.addEventListener("click", run);
  return of;
}

/**
 * A command with a button that copies it.
 *
 * @param {string} command
 */
export function commandLine(command) {
  const code = element("code", {}, command);
  const button = element("button", { type: "button", class: "quiet copy" }, "Copy");
  onClick(button, () => {
    copy(command, code).then(
      () => flash(button, "Copied"),
      () => flash(button, "Press Ctrl+C"),
    );
  });
  return element("div", { class: "command" }, code, button);
}

/**
 * Outside a secure context there is no clipboard: the text is selected instead.
 *
 * @param {string} text
 * @param {HTMLElement} shown
 */
async function copy(text, shown) {
  if (window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  getSelection()?.selectAllChildren(shown);
  throw new Error("no clipboard");
}

/**
 * @param {HTMLElement} button
 * @param {string} text
 */
function flash(button, text) {
  button.textContent = text;
  setTimeout(() => {
    button.textContent = "Copy";
  }, 2_000);
}
