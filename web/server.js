/**
 * What the page asks the server. The token is kept for this tab alone, and sent as a header: no cookie, so that no other
 * site can have a browser use it.
 */

const tokenKey = "stageset-token";

/** @returns {string | undefined} */
export function storedToken() {
  return sessionStorage.getItem(tokenKey) ?? undefined;
}

/** @param {string | undefined} token */
export function storeToken(token) {
  if (token === undefined) sessionStorage.removeItem(tokenKey);
  else sessionStorage.setItem(tokenKey, token);
}

/** The server wants a token, or another one. */
export class SignInNeeded extends Error {}

/** What was asked for is not there, or not for this caller. */
export class NotShown extends Error {}

/**
 * @param {string} path
 * @param {AbortSignal} signal
 */
async function ask(path, signal) {
  const token = storedToken();
  const headers = token === undefined ? undefined : { authorization: `Bearer ${token}` };
  const answer = await fetch(path, { ...(headers === undefined ? {} : { headers }), signal, cache: "no-store" });
  if (answer.status === 401) throw new SignInNeeded();
  if (answer.status === 403 || answer.status === 404) throw new NotShown(await problemOf(answer));
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return answer;
}

/** @param {Response} answer */
async function problemOf(answer) {
  /** @type {unknown} */
  const body = await answer.json().catch(() => undefined);
  const said = typeof body === "object" && body !== null && "error" in body ? body.error : undefined;
  return typeof said === "string" ? said : `the server answered ${answer.status}`;
}

/**
 * @param {string} path
 * @param {AbortSignal} signal
 * @returns {Promise<unknown>}
 */
export async function read(path, signal) {
  return (await ask(path, signal)).json();
}

/** @typedef {{ readonly name: string, readonly data: unknown }} ServerEvent */

/**
 * The events of a stream, until it ends.
 *
 * @param {string} path
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<ServerEvent>}
 */
export async function* events(path, signal) {
  const { body } = await ask(path, signal);
  if (body === null) return;
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop() ?? "";
    for (const block of blocks) {
      const fields = new Map(
        block.split("\n").map((line) => {
          const colon = line.indexOf(": ");
          return [line.slice(0, colon), line.slice(colon + 2)];
        }),
      );
      const name = fields.get("event");
      const data = fields.get("data");
      // A line that only says the server is still there.
      yield name === undefined || data === undefined ? { name: "beat", data: {} } : { name, data: JSON.parse(data) };
    }
  }
}
