import { describe, expect, test } from "vitest";
import { skipImageVerificationAnnotation } from "../api/keys.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { createBreakGlass, type AccessVerdict, type BreakGlassMode } from "./break-glass.ts";

const broken = stageSet("outage");
const whole = stageSet();
const signal = new AbortController().signal;

function stageSet(reason?: string): KubeObject {
  const annotations = reason === undefined ? {} : { [skipImageVerificationAnnotation]: reason };
  return {
    apiVersion: "stages.metio.wtf/v1",
    kind: "StageSet",
    metadata: { namespace: "shop", name: "shop", annotations },
  };
}

async function violations(
  { mode, verdict = { kind: "denied" } }: { readonly mode: BreakGlassMode; readonly verdict?: AccessVerdict },
  object: KubeObject,
  oldObject?: KubeObject,
): Promise<readonly string[]> {
  const review = createBreakGlass({ mode, authorize: () => Promise.resolve(verdict) });
  const user = { username: "u", uid: "", groups: [], extra: {} };
  const request = { object, oldObject, user, namespace: "shop", name: "shop", operation: "UPDATE" as const };
  return (await review(request, { signal })).violations;
}

describe("who may add the annotation that skips image verification", () => {
  test("off: nobody, and the flag is named", async () => {
    const [refused] = await violations({ mode: "off", verdict: { kind: "allowed" } }, broken);
    expect(refused).toContain("--image-verification-break-glass=off");
  });

  test("off: an annotation that was there before may stay and go", async () => {
    expect(await violations({ mode: "off" }, broken, broken)).toEqual([]);
    expect(await violations({ mode: "off" }, whole, broken)).toEqual([]);
  });

  test("any: everybody, and nobody is asked", async () => {
    expect(await violations({ mode: "any" }, broken)).toEqual([]);
  });

  test("authorized: who may, and not when that cannot be known", async () => {
    expect(await violations({ mode: "authorized", verdict: { kind: "allowed" } }, broken)).toEqual([]);
    const [denied] = await violations({ mode: "authorized" }, broken);
    expect(denied).toContain('want a user with the verb "skip-image-verification"');
    const verdict = { kind: "unknown", problem: "Timeout" } as const;
    const [unknown] = await violations({ mode: "authorized", verdict }, broken);
    expect(unknown).toContain("which cannot be checked: Timeout");
  });
});
