import { describe, expect, test } from "vitest";
import { parseChallenge, mayReceiveCredentials } from "./challenge.ts";
import { credentialFor } from "./pull-credentials.ts";
import { fetchedTrustedRoot } from "./trusted-root.ts";
import { systemClock } from "../lib/clock.ts";

describe("challenges", () => {
  test("parameters in any order, quoted or not", () => {
    const parsed = parseChallenge('Bearer service=registry,realm="https://auth.example/token?a=b",scope="x,y"');
    expect(parsed).toMatchObject({ scheme: "bearer", service: "registry", scope: "x,y" });
    expect(parsed?.scheme === "bearer" && parsed.realm.href).toBe("https://auth.example/token?a=b");
    expect(parseChallenge('Basic realm="x"')).toEqual({ scheme: "basic" });
  });
  test.each([[undefined], [""], ["Bearer"], ['Bearer realm="no url"'], ["Digest x"], [`Bearer ${"a".repeat(9000)}`]])(
    "%j cannot be answered",
    (header) => {
      expect(parseChallenge(header)).toBeUndefined();
    },
  );

  test.each([
    ["https://auth.docker.io/token", "https://index.docker.io", true],
    ["https://gitlab.com/jwt/auth", "https://registry.gitlab.com", true],
    ["https://auth.corp.co.uk/", "https://registry.corp.co.uk", true],
    ["https://evil.co.uk/", "https://registry.corp.co.uk", false],
    ["https://evil.github.io/", "https://victim.github.io", false],
    ["https://docker.io.evil.example/", "https://index.docker.io", false],
    ["http://auth.docker.io/token", "https://index.docker.io", false],
    ["https://10.0.0.2/", "https://10.0.0.1", false],
    ["https://registry:8443/", "https://registry", true],
    ["http://localhost:5000/token", "http://localhost:5000", true],
    ["http://localhost:5001/token", "http://localhost:5000", false],
  ])("realm %s of registry %s may be told: %j", (realm, registry, expected) => {
    expect(mayReceiveCredentials(new URL(realm), new URL(registry))).toBe(expected);
  });
});

describe("credentials of a docker config", () => {
  const auth = (user: string) => ({ auth: Buffer.from(`${user}:secret`).toString("base64") });
  const config = JSON.stringify({
    auths: {
      "https://index.docker.io/v1/": auth("hub"),
      "ghcr.io": auth("whole"),
      "https://ghcr.io/team": auth("team"),
      "*.dkr.ecr.example": { username: "aws", password: "secret" },
      "empty.example": {},
    },
    credHelpers: { "helped.example": "run-me" },
  });
  test.each([
    ["index.docker.io", "library/nginx", "hub"],
    ["ghcr.io", "other/app", "whole"],
    ["ghcr.io", "team/app", "team"],
    ["ghcr.io", "teams/app", "whole"],
    ["one.dkr.ecr.example", "app", "aws"],
    ["a.b.dkr.ecr.example", "app", undefined],
    ["evil-ghcr.io", "team/app", undefined],
    ["empty.example", "app", undefined],
    ["helped.example", "app", undefined],
  ])("%s/%s: %j", (registry, repository, username) => {
    expect(credentialFor(config, { registry, repository })?.username).toBe(username);
  });
  test("an older Secret is the list itself", () => {
    const old = JSON.stringify({ "ghcr.io": auth("old") });
    expect(credentialFor(old, { registry: "ghcr.io", repository: "a" })?.username).toBe("old");
  });
  test("what cannot be read is not told", () => {
    expect(() => credentialFor("secret {", { registry: "ghcr.io", repository: "a" })).toThrow(/^is not JSON$/);
  });
});

test("[50.33] a root that could not be fetched is fetched by the next need, and once for all who need it", async () => {
  let asked = 0;
  let down = true;
  const source = fetchedTrustedRoot({
    clock: systemClock,
    fetchRoot: () => {
      asked += 1;
      return down ? Promise.reject(new Error("down")) : Promise.resolve("root");
    },
  });
  const { signal } = new AbortController();
  await expect(source(signal)).rejects.toMatchObject({ reason: "unavailable" });
  down = false;
  expect(await Promise.all([source(signal), source(signal)])).toEqual(["root", "root"]);
  expect(await source(signal)).toBe("root");
  expect(asked).toBe(2);
});
