import { abortable } from "../../lib/abortable.ts";
import { deadline } from "../../lib/abort.ts";
import type { Clock } from "../../lib/clock.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import type { Caller } from "./callers.ts";
import { rowsPerTurn, type Rows } from "./rows.ts";
import type { UiView } from "./ui-view.ts";

/** How long a list waits for reviews; what is not known by then is missing and counted. */
const reviewsMs = 2_500;
/** Lists one caller has under way; those who cannot be told apart share more. */
const mostPerCaller = 1;
const mostOfAnybody = 8;

/** Lists of the StageSets a caller may list. */
export interface Lists {
  /**
   * JSON of the rows by namespace and name; undefined: the caller has a list under way, which counts until `signal` aborts.
   *
   * @param signal - aborts when the client is gone, or has the answer
   * @throws when nothing can be told now
   */
  ofCaller(caller: Caller, signal: AbortSignal): Promise<string> | undefined;
}

export function createLists(options: { readonly view: UiView; readonly rows: Rows; readonly clock: Clock }): Lists {
  const { view, rows } = options;
  const underWay = new Map<string, number>();
  const make = async (caller: Caller, signal: AbortSignal): Promise<string> => {
    const { isSeen, pending } = await rightsOf(caller, { ...options, signal });
    const visible = view
      .stageSets()
      .filter(({ metadata }) => isSeen(metadata.namespace ?? ""))
      .toSorted(byName);
    const texts: string[] = [];
    for (const [index, stageSet] of visible.entries()) {
      if (index > 0 && index % rowsPerTurn === 0) await new Promise((resolve) => setImmediate(resolve));
      signal.throwIfAborted();
      texts.push(rows.text(stageSet));
    }
    return `{"items":[${texts.join(",")}]${pending > 0 ? `,"pending":${pending}` : ""}}\n`;
  };
  return {
    ofCaller(caller, signal) {
      const { name } = caller;
      const before = underWay.get(name) ?? 0;
      if (before >= (name === "" ? mostOfAnybody : mostPerCaller)) return undefined;
      underWay.set(name, before + 1);
      const leave = (): void => {
        const left = (underWay.get(name) ?? 1) - 1;
        if (left === 0) underWay.delete(name);
        else underWay.set(name, left);
      };
      if (signal.aborted) leave();
      else signal.addEventListener("abort", leave, { once: true });
      return make(caller, signal);
    },
  };
}

/** In which namespaces the caller may list, as for `kubectl get`: everywhere, else in some. */
async function rightsOf(
  caller: Caller,
  { view, clock, signal }: { readonly view: UiView; readonly clock: Clock; readonly signal: AbortSignal },
): Promise<{ readonly isSeen: (namespace: string) => boolean; readonly pending: number }> {
  const may = (namespace: string): Promise<boolean> =>
    caller.may({ verb: "list", resource: "stagesets", namespace, name: "" });
  using limit = deadline(clock, { timeoutMs: reviewsMs, what: "reviewing a caller", parent: signal });
  if (await abortable(may(""), limit.signal)) return { isSeen: () => true, pending: 0 };
  const verdicts = new Map<string, boolean>();
  const namespaces = new Set(view.stageSets().map(({ metadata }) => metadata.namespace ?? ""));
  await Promise.all(
    [...namespaces].map((namespace) =>
      abortable(may(namespace), limit.signal).then(
        (verdict) => verdicts.set(namespace, verdict),
        () => undefined,
      ),
    ),
  );
  return { isSeen: (namespace) => verdicts.get(namespace) === true, pending: namespaces.size - verdicts.size };
}

function byName(a: KubeObject, b: KubeObject): number {
  return compare(a.metadata.namespace, b.metadata.namespace) || compare(a.metadata.name, b.metadata.name);
}

function compare(a = "", b = ""): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
