import { expect, test } from "vitest";
import { ignoredAnnotations, tokenOf } from "./ignored-annotations.ts";

const stages = new Set(["app", "db"]);
const whyOf = (key: string, value: string) => ignoredAnnotations({ [key]: value }, stages)[0]?.why;

test.each([
  ["reconcile.fluxcd.io/requestedAt", "x".repeat(256), undefined],
  ["reconcile.fluxcd.io/requestedAt", "ä".repeat(129), "the token is longer than 256 bytes"],
  ["stages.metio.wtf/update-now", "x".repeat(257), "the token is longer than 256 bytes"],
  ["stages.metio.wtf/budget-override", "x".repeat(257), "the token is longer than 256 bytes"],
  ["stages.metio.wtf/reset-scope", "x".repeat(257), "the token is longer than 256 bytes"],
  ["stages.metio.wtf/reconcile-stage", "app@1@2", undefined],
  ["stages.metio.wtf/reconcile-stage", "app", "the value is not <stage>@<token>"],
  ["stages.metio.wtf/reconcile-stage", "app@", "the value is not <stage>@<token>"],
  ["stages.metio.wtf/promote", "@1", "the value is not <stage>@<token>"],
  ["stages.metio.wtf/promote", "web@1", "the value names a stage that is not in spec.stages"],
  ["stages.metio.wtf/promote", `app@${"x".repeat(257)}`, "the token is longer than 256 bytes"],
  ["stages.metio.wtf/approved-version", "v1.2", undefined],
  ["stages.metio.wtf/approved-version", "latest", "the value is not a version"],
  ["stages.metio.wtf/rollback-to", "1.x", "the value is not a version"],
  ["stages.metio.wtf/baseline-version", "", undefined],
  ["stages.metio.wtf/skip-image-verification", "x".repeat(1000), undefined],
])("%s: %s", (key, value, why) => {
  expect(whyOf(key, value)).toBe(why);
});

test("a token that is too long or empty is none", () => {
  expect([tokenOf("a"), tokenOf(""), tokenOf(undefined), tokenOf("x".repeat(257))]).toEqual([
    "a",
    undefined,
    undefined,
    undefined,
  ]);
});
