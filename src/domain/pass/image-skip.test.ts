import { expect, test } from "vitest";
import { bindSkip, skipsArtifact } from "../images/break-glass.ts";
import { actionSkip } from "./image-skip.ts";

const token = "outage";
const identity = { revision: "v1", digest: "sha256:1" };
const bound = bindSkip({}, { token, generation: 3 }, [{ stage: "web", identity }]);

/** What an action of the stage is told, with the glass broken at generation 3. */
function skipAt(generation: number, more: { readonly isSourced?: boolean; readonly digest?: string } = {}) {
  const annotations = { "stages.metio.wtf/skip-image-verification": token };
  const state = {
    snapshot: { generation, annotations },
    stored: { status: { imageVerificationSkip: bound } },
    options: { breakGlass: "counts" },
  } as unknown as Parameters<typeof actionSkip>[0];
  const { digest = identity.digest, ...rest } = more;
  return actionSkip(state, { stage: "web", identity: { ...identity, digest }, ...rest });
}

test("[50.35] a broken glass covers actions of the spec it was broken for, and artifacts of that digest alone", () => {
  const call = skipAt(3);
  expect(call).toEqual({ skipsImages: "sha256:1" });
  expect(skipsArtifact(call, "sha256:1")).toBe(true);
  // A tenant points an action elsewhere, or publishes anew.
  for (const other of ["sha256:2", undefined]) expect(skipsArtifact(call, other)).toBe(false);
  expect(skipsArtifact({}, undefined)).toBe(false);
});

test.each([
  ["the spec was edited", skipAt(4)],
  ["the migrations are of an artifact", skipAt(3, { isSourced: true })],
  ["the stage has another artifact", skipAt(3, { digest: "sha256:2" })],
])("[50.35] and none where %s", (_what, call) => {
  expect(call).toEqual({});
});
