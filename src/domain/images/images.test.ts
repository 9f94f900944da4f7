import { describe, expect, test } from "vitest";
import type { KubeObject } from "../../lib/kube-object.ts";
import { bindSkip, isSkipped, skipToken, skipUnusable } from "./break-glass.ts";
import { governanceOf, judgingPolicy, type JudgingPolicy } from "./governing.ts";
import { planImages } from "./plan-images.ts";
import { imagesOf, pullerOf, withImages } from "./pod-spec.ts";
import { parseImageReference, pinnedImage } from "./reference.ts";

const hex = "a".repeat(64);

function policy(name: string, spec: Readonly<Record<string, unknown>>): KubeObject {
  return {
    apiVersion: "stages.metio.wtf/v1",
    kind: "ImageVerificationPolicy",
    metadata: { name, uid: name, generation: 1 },
    spec,
  };
}
const keyless = { issuer: "https://issuer.example", subject: "ci@example.test" };
const judged = (name: string, spec: Readonly<Record<string, unknown>>): JudgingPolicy =>
  judgingPolicy(policy(name, { authorities: [{ keyless }], ...spec }));

describe("references", () => {
  test.each([
    ["nginx", "index.docker.io", "library/nginx", "latest", undefined],
    ["nginx:1.27", "index.docker.io", "library/nginx", "1.27", undefined],
    ["docker.io/nginx", "index.docker.io", "library/nginx", "latest", undefined],
    ["Docker.IO/library/nginx", "index.docker.io", "library/nginx", "latest", undefined],
    ["team/app@sha256:" + hex, "index.docker.io", "team/app", undefined, `sha256:${hex}`],
    ["GHCR.io/team/app:v1@sha256:" + hex, "ghcr.io", "team/app", "v1", `sha256:${hex}`],
    ["localhost/app", "localhost", "app", "latest", undefined],
    ["registry.test:5000/a/b:1", "registry.test:5000", "a/b", "1", undefined],
    ["[::1]:5000/a", "[::1]:5000", "a", "latest", undefined],
    ["HOST/app", "host", "app", "latest", undefined],
    ["registry.test:05000/a", "registry.test:5000", "a", "latest", undefined],
    ["index.docker.io:443/nginx", "index.docker.io", "library/nginx", "latest", undefined],
    ["docker.io:00443/team/app", "index.docker.io", "team/app", "latest", undefined],
  ])("%s", (text, registry, repository, tag, digest) => {
    expect(parseImageReference(text)).toMatchObject({ registry, repository, tag, digest });
  });

  test.each([
    [""],
    [" nginx"],
    ["nginx:"],
    ["nginx@"],
    ["nginx@sha256:short"],
    ["ghcr.io/Team/app"],
    ["ghcr.io./team/app"],
    ["ghcr.io//app"],
    ["user@host/app"],
    ["ghcr.io:000443/app"],
    ["ghcr.io:65536/app"],
    ["a".repeat(600)],
    ["nginx\n"],
  ])("%j is none", (text) => {
    expect(parseImageReference(text)).toBeUndefined();
  });

  test("pins are written as other clients write them", () => {
    const nginx = parseImageReference("nginx:1");
    const other = parseImageReference("Registry.test:443/a/b:1");
    expect(nginx && pinnedImage(nginx, `sha256:${hex}`)).toBe(`index.docker.io/library/nginx@sha256:${hex}`);
    expect(other && pinnedImage(other, `sha256:${hex}`)).toBe(`registry.test:443/a/b@sha256:${hex}`);
  });
});

describe("which policies govern", () => {
  const governs = (glob: string, image: string): boolean => {
    const reference = parseImageReference(image);
    return reference !== undefined && governanceOf(reference, [judged("p", { images: [glob] })]).governing.length === 1;
  };
  test.each([
    ["nginx", "nginx:1", true],
    ["nginx", "index.docker.io/library/nginx", true],
    ["docker.io/library/*", "nginx", true],
    ["library/nginx", "docker.io/nginx@sha256:" + hex, true],
    ["index.docker.io/**", "team/app", true],
    ["GHCR.io/**", "ghcr.io/team/app", true],
    ["ghcr.io/*", "ghcr.io/team/app", false],
    ["ghcr.io/te?m/app", "ghcr.io/team/app", true],
    ["ghcr.io/team", "ghcr.io/team/app", false],
    ["registry.test/a", "registry.test:443/a", true],
    ["registry.test:443/a", "registry.test:443/a", true],
    ["registry.test/a", "registry.test:5000/a", false],
    ["registry.test:443/a", "registry.test/a", true],
    ["docker.io/library/**", "index.docker.io:443/library/nginx", true],
    ["nginx", "index.docker.io:443/library/nginx", true],
    ["team/app", "index.docker.io:443/team/app", true],
    ["index.docker.io:443/**", "nginx", true],
    ["ghcr.io/**", "ghcr.io:0443/org/app", true],
    ["registry.corp:5000/**", "registry.corp:05000/x", true],
    ["registry.corp:05000/**", "registry.corp:05000/x", true],
    ["docker.io/**", "registry-1.docker.io/library/nginx", true],
    ["**", "anything.example/at/all:1", true],
  ])("glob %s, image %s: %j", (glob, image, expected) => {
    expect(governs(glob, image)).toBe(expected);
  });

  test("[10.37] a name without a registry is the Hub's, with and without its official prefix", () => {
    for (const image of ["nginx:1", "library/nginx:1", "docker.io/nginx:1", "index.docker.io/library/nginx:1"])
      expect(governs("docker.io/library/*", image), image).toBe(true);
    expect(governs("docker.io/library/*", "team/nginx:1")).toBe(false);
  });

  test("[50.31] one policy's skip disarms no other one", () => {
    const policies = [
      judged("a", { images: ["ghcr.io/**"], skip: ["ghcr.io/team/**"] }),
      judged("b", { images: ["ghcr.io/team/app"] }),
    ];
    const plan = planImages(["ghcr.io/team/app:1", "ghcr.io/team/other", "quay.io/x"], {
      policies,
      unmatched: "allowed",
    });
    expect(plan.governed.map(({ image, policies: by }) => [image, by.map(({ name }) => name)])).toEqual([
      ["ghcr.io/team/app:1", ["b"]],
    ]);
    expect(plan.exempted).toEqual([{ image: "ghcr.io/team/other", policies: ["a"] }]);
    expect(plan.refused).toBeUndefined();
  });

  test("[50.31] under the require flag what every policy skips is applied, and what none matches is held", () => {
    const policies = [judged("a", { images: ["ghcr.io/**"], skip: ["ghcr.io/team/**"] })];
    expect(planImages(["ghcr.io/team/app"], { policies, unmatched: "refused" }).refused).toBeUndefined();
    expect(planImages(["quay.io/x"], { policies, unmatched: "refused" }).refused).toContain('image "quay.io/x"');
  });

  test("what is no reference is held once there is any policy", () => {
    const policies = [judged("a", { images: ["ghcr.io/**"] })];
    expect(planImages(["ghcr.io/UPPER/x"], { policies, unmatched: "allowed" }).refused).toContain("is no image");
    expect(planImages(["TO_BE_REPLACED"], { policies: [], unmatched: "refused" }).refused).toContain("is no image");
    expect(planImages(["TO_BE_REPLACED"], { policies: [], unmatched: "allowed" }).refused).toBeUndefined();
  });
});

describe("[10.36] a policy that got past admission holds what it governs", () => {
  const pem = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----";
  test.each([
    ["requireAttestations", { authorities: [{ keyless }], requireAttestations: [{ predicateType: "x" }] }],
    ["two matchers", { authorities: [{ keyless: { ...keyless, issuerRegExp: "^a$" } }] }],
    ["two kinds of signer", { authorities: [{ keyless, key: { publicKey: pem } }] }],
    ["a bad PEM", { authorities: [{ key: { publicKey: pem } }] }],
    ["a bad regexp", { authorities: [{ keyless: { issuerRegExp: "(", subject: "a" } }] }],
    ["no signer", { authorities: [] }],
    ["a blank skip", { authorities: [{ keyless }], skip: [""] }],
    ["a member of another type", { authorities: "x" }],
  ])("%s", (_what, spec) => {
    const policies = [judgingPolicy(policy("bad", { images: ["ghcr.io/**"], ...spec }))];
    const held = planImages(["ghcr.io/team/app", "quay.io/x"], { policies, unmatched: "allowed" });
    expect(held.refused).toContain('ImageVerificationPolicy "bad" is invalid');
    expect(planImages(["quay.io/x"], { policies, unmatched: "allowed" }).refused).toBeUndefined();
  });

  test.each([[undefined], [null], [{}], [{ images: "x" }], [{ images: [] }], [{ images: ["ghcr.io/**", 7] }]])(
    "one whose globs cannot all be read holds every image: %j",
    (spec) => {
      const { spec: _spec, ...bare } = policy("bad", {});
      const policies = [judgingPolicy(spec === undefined ? bare : { ...bare, spec })];
      expect(planImages(["quay.io/x"], { policies, unmatched: "allowed" }).refused).toContain("is invalid");
    },
  );
});

describe("images of objects", () => {
  const spec = {
    containers: [{ name: "a", image: "a:1" }, { name: "none" }, { name: "again", image: "a:1" }],
    initContainers: [{ name: "b", image: "b:1" }],
    ephemeralContainers: [{ name: "c", image: "c:1" }],
    volumes: [
      { name: "v", image: { reference: "d:1", pullPolicy: "Always" } },
      { name: "w", emptyDir: {} },
    ],
    imagePullSecrets: [{ name: "one" }, {}],
    serviceAccountName: "runner",
  };
  const template = { spec: { template: { spec } } };
  const kinds: readonly (readonly [string, string, unknown])[] = [
    ["", "Pod", { spec }],
    ["", "PodTemplate", { template: { spec } }],
    ["", "ReplicationController", template],
    ["apps", "Deployment", template],
    ["apps", "StatefulSet", template],
    ["apps", "DaemonSet", template],
    ["apps", "ReplicaSet", template],
    ["batch", "Job", template],
    ["batch", "CronJob", { spec: { jobTemplate: { spec: { template: { spec } } } } }],
  ];

  test.each(kinds)("%s/%s: found and replaced", (group, kind, object) => {
    expect(imagesOf(object, { group, kind })).toEqual(["a:1", "b:1", "c:1", "d:1"]);
    expect(pullerOf(object, { group, kind })).toEqual({ pullSecrets: ["one"], serviceAccount: "runner" });
    const pinned = new Map(["a", "b", "c", "d"].map((name) => [`${name}:1`, `${name}@pin`]));
    const changed = withImages(object, { group, kind }, pinned);
    expect(imagesOf(changed, { group, kind })).toEqual(["a@pin", "b@pin", "c@pin", "d@pin"]);
    expect(JSON.parse(JSON.stringify(changed).replaceAll("@pin", ":1"))).toEqual(object);
  });

  test.each([
    ["example.test", "Deployment", template],
    ["", "ConfigMap", { spec }],
  ])("%s/%s is of no kind that is known", (group, kind, object) => {
    expect(imagesOf(object, { group, kind })).toEqual([]);
    expect(withImages(object, { group, kind }, new Map([["a:1", "x"]]))).toBe(object);
  });

  test("what is of another type is left alone", () => {
    for (const odd of [null, 7, [], { spec: { template: { spec: { containers: {}, volumes: [null] } } } }])
      expect(imagesOf(odd, { group: "apps", kind: "Deployment" })).toEqual([]);
  });
});

describe("break glass", () => {
  const annotations = { "stages.metio.wtf/skip-image-verification": "outage" };
  const at = (revision: string, digest = "sha256:1") => ({ stage: "web", identity: { revision, digest } });

  test("[50.35] a value counts for the revisions that were pinned when it was first used, and for no other", () => {
    const token = skipToken(annotations);
    const bound = bindSkip({}, { token: token ?? "", generation: 1 }, [at("v1")]);
    const status = { imageVerificationSkip: bound };
    expect(isSkipped(status as never, token, at("v1"))).toBe(true);
    expect(isSkipped(status as never, token, at("v2"))).toBe(false);
    expect(isSkipped(status as never, token, at("v1", "sha256:2"))).toBe(false);
    expect(isSkipped(status as never, token, { ...at("v1"), stage: "db" })).toBe(false);
    expect(isSkipped(status as never, "another", at("v1"))).toBe(false);
    expect(isSkipped(status as never, undefined, at("v1"))).toBe(false);
    expect(bindSkip(status as never, { token: token ?? "", generation: 2 }, [at("v2")])).toBeUndefined();
    expect(bindSkip(status as never, { token: "another", generation: 2 }, [at("v2")])).toMatchObject({
      revisions: { web: "v2" },
    });
  });

  test("a blank value is none, and one that does not count says why", () => {
    expect(skipToken({ "stages.metio.wtf/skip-image-verification": " " })).toBeUndefined();
    expect(skipUnusable(annotations, "counts")).toBeUndefined();
    expect(skipUnusable({}, "off")).toBeUndefined();
    expect(skipUnusable(annotations, "off")).toContain("break-glass is off");
    expect(skipUnusable(annotations, "unchecked")).toContain("without the webhook");
  });
});
