import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createComputePool, type ComputePool } from "../../src/compute/pool.ts";
import { judgingPolicy, type JudgingPolicy } from "../../src/domain/images/governing.ts";
import { planImages } from "../../src/domain/images/plan-images.ts";
import { createImageVerifier, type ImageVerdict, type ImageVerifier } from "../../src/images/image-verifier.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { createGuardedFetch } from "../../src/outbound/guard.ts";
import {
  createKeySigner,
  startImageRegistry,
  startSigstore,
  type ImageRegistry,
  type Signer,
  type Sigstore,
} from "../support/signing.ts";

let compute: ComputePool;
let registry: ImageRegistry;
let signer: Signer;
let sigstore: Sigstore;
const signal = new AbortController().signal;
const issuer = "https://issuer.example";

beforeAll(async () => {
  compute = createComputePool({
    clock: systemClock,
    workerUrl: new URL(`file://${fileURLToPath(new URL("../../src/main/worker.ts", import.meta.url))}`),
  });
  [registry, signer, sigstore] = await Promise.all([startImageRegistry(), createKeySigner(), startSigstore()]);
}, 300_000);
afterAll(async () => {
  await compute[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  await signer[Symbol.asyncDispose]();
  await sigstore[Symbol.asyncDispose]();
});

let version = 0;
function policy(authorities: readonly unknown[], name = "p"): JudgingPolicy {
  version += 1;
  return judgingPolicy({
    apiVersion: "stages.metio.wtf/v1",
    kind: "ImageVerificationPolicy",
    metadata: { name, uid: name, generation: version },
    spec: { images: ["**"], authorities },
  });
}
const keyed = (publicKey = signer.publicKey) => ({ key: { publicKey } });
const keyless = (more: Readonly<Record<string, string>> = {}) => ({
  keyless: { issuer, subject: "ci@example.test", ...more },
});

const settings = () => ({
  clock: systemClock,
  compute,
  fetch: createGuardedFetch({ allowLoopback: true, clock: systemClock }),
  isInsecure: (host: string) => host === registry.host,
  trustedRoot: () => Promise.resolve(sigstore.trustedRoot),
});

function createVerifier(): ImageVerifier {
  return createImageVerifier(settings());
}

const refusedWith = (why: string) => ({ kind: "refused", why: expect.stringContaining(why) as string });

async function judge(
  image: string,
  policies: readonly JudgingPolicy[],
  o: { readonly pinned?: string; readonly verifier?: ImageVerifier } = {},
): Promise<ImageVerdict> {
  const [governed] = planImages([`${registry.host}/${image}`], { policies, unmatched: "allowed" }).governed;
  if (governed === undefined) throw new Error("no policy governs it");
  return await (o.verifier ?? createVerifier()).verify(
    {
      image: governed,
      pinned: o.pinned,
      credential: () => Promise.resolve(undefined),
      puller: "",
      queue: "shop",
    },
    signal,
  );
}

describe("images that cosign signed with a key", () => {
  test("[50.28] are accepted by that key at the digest of their tag, and by no other one", async () => {
    const digest = await registry.push("team/app", "v1", "one");
    await signer.sign(registry, "team/app", digest);
    expect(await judge("team/app:v1", [policy([keyed()])])).toEqual({ kind: "accepted", digest });
    await using other = await createKeySigner();
    expect(await judge("team/app:v1", [policy([keyed(other.publicKey)])])).toEqual(
      refusedWith("not signed with the key"),
    );
    // Any authority of a policy, but each policy.
    expect(await judge("team/app:v1", [policy([keyed(other.publicKey), keyed()])])).toEqual({
      kind: "accepted",
      digest,
    });
    expect(await judge("team/app:v1", [policy([keyed()]), policy([keyed(other.publicKey)], "q")])).toEqual(
      refusedWith('ImageVerificationPolicy "q"'),
    );
  });

  test("unsigned: refused; a digest that is not there: refused", async () => {
    await registry.push("team/bare", "v1", "bare");
    expect(await judge("team/bare:v1", [policy([keyed()])])).toEqual(refusedWith("it is not signed"));
    expect(await judge("team/bare:none", [policy([keyed()])])).toMatchObject({ kind: "refused" });
    expect(await judge(`team/bare@sha256:${"0".repeat(64)}`, [policy([keyed()])])).toMatchObject({ kind: "refused" });
  });

  test("a signature of another image, listed as one of this one, is about the other one", async () => {
    const signed = await registry.push("team/moved", "good", "good");
    await signer.sign(registry, "team/moved", signed);
    const evil = await registry.push("team/moved", "evil", "evil");
    const index = await fetch(`http://${registry.host}/v2/team/moved/manifests/${signed.replace(":", "-")}`);
    await fetch(`http://${registry.host}/v2/team/moved/manifests/${evil.replace(":", "-")}`, {
      method: "PUT",
      body: await index.text(),
      headers: { "content-type": "application/vnd.oci.image.index.v1+json" },
    });
    expect(await judge("team/moved:evil", [policy([keyed()])])).toEqual(refusedWith("about something else"));
  });

  test("[50.30] what is pinned is judged, wherever the tag went", async () => {
    const first = await registry.push("team/tag", "v1", "first");
    await signer.sign(registry, "team/tag", first);
    const second = await registry.push("team/tag", "v1", "second");
    expect(await judge("team/tag:v1", [policy([keyed()])], { pinned: first })).toEqual({
      kind: "accepted",
      digest: first,
    });
    expect(await judge("team/tag:v1", [policy([keyed()])])).toMatchObject({ kind: "refused" });
    await signer.sign(registry, "team/tag", second);
    expect(await judge("team/tag:v1", [policy([keyed()])])).toEqual({ kind: "accepted", digest: second });
  });

  test("[50.29] a tag that moves between requests: all policies judge the digest it had at the first one", async () => {
    const first = await registry.push("team/race", "v1", "race-1");
    await signer.sign(registry, "team/race", first);
    const fetch = createGuardedFetch({ allowLoopback: true, clock: systemClock });
    let lookUps = 0;
    const verifier = createImageVerifier({
      ...settings(),
      fetch: async (url, o) => {
        const answer = await fetch(url, o);
        if (url.endsWith("/manifests/v1")) {
          lookUps += 1;
          await registry.push("team/race", "v1", `race-${String(lookUps + 1)}`);
        }
        return answer;
      },
    });
    await using other = await createKeySigner();
    await other.sign(registry, "team/race", first);
    const policies = [policy([keyed()]), policy([keyed(other.publicKey)], "q")];
    expect(await judge("team/race:v1", policies, { verifier })).toEqual({ kind: "accepted", digest: first });
    expect(lookUps).toBe(1);
  });

  test("a verdict is not another policy generation's", async () => {
    const digest = await registry.push("team/gen", "v1", "gen");
    await signer.sign(registry, "team/gen", digest);
    await using other = await createKeySigner();
    const verifier = createVerifier();
    expect(await judge("team/gen:v1", [policy([keyed()])], { verifier })).toMatchObject({ kind: "accepted" });
    expect(await judge("team/gen:v1", [policy([keyed(other.publicKey)])], { verifier })).toMatchObject({
      kind: "refused",
    });
  });
});

describe("images that cosign signed without a key, with an offline root", () => {
  let digest = "";
  beforeAll(async () => {
    digest = await registry.push("team/keyless", "v1", "keyless");
    await sigstore.sign(registry, { repository: "team/keyless", digest, subject: "ci@example.test", issuer });
  }, 120_000);

  test.each([
    ["who signed", {}, "accepted"],
    ["another subject", { subject: "other@example.test" }, "refused"],
    ["another issuer", { issuer: "https://issuer.example/" }, "refused"],
  ] as const)("[50.28] %s: %o is %s", async (_what, more, kind) => {
    expect((await judge("team/keyless:v1", [policy([keyless(more)])])).kind).toBe(kind);
  });

  test.each([
    [{ issuerRegExp: "issuer", subjectRegExp: "@example\\.test$" }, "accepted"],
    [{ issuerRegExp: "issuer", subjectRegExp: "^example" }, "refused"],
    [{ issuerRegExp: "", subjectRegExp: "" }, "refused"],
  ] as const)("expressions %o: %s", async (keylessSigner, kind) => {
    const spec = { authorities: [{ keyless: keylessSigner }] };
    const made = { ...policy([]), authorities: spec.authorities, broken: undefined };
    const verdict = await judge("team/keyless:v1", [made]);
    if (kind === "accepted") expect(verdict).toEqual({ kind, digest });
    else expect(verdict.kind).toBe(kind);
  });

  test("a root of others does not accept it, and no root is not told from one that is down", async () => {
    await using others = await startSigstore();
    const options = settings();
    const verifier = createImageVerifier({ ...options, trustedRoot: () => Promise.resolve(others.trustedRoot) });
    expect(await judge("team/keyless:v1", [policy([keyless()])], { verifier })).toMatchObject({ kind: "refused" });
    const broken = createImageVerifier({ ...options, trustedRoot: () => Promise.resolve("{}") });
    expect(await judge("team/keyless:v1", [policy([keyless()])], { verifier: broken })).toMatchObject({
      kind: "refused",
    });
  });
});
