import { expect, test } from "vitest";
import { mayGuideAdmission, mayMendManifests } from "./admission-inputs.ts";

test.each([
  ["", "ConfigMap", false],
  ["apps", "Deployment", false],
  ["networking.k8s.io", "Ingress", false],
  ["", "ResourceQuota", true],
  ["", "LimitRange", true],
  ["", "Namespace", true],
  ["rbac.authorization.k8s.io", "Role", true],
  ["apiextensions.k8s.io", "CustomResourceDefinition", true],
  ["admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", true],
  ["kyverno.io", "ClusterPolicy", true],
])("what the API server accepts may go by %s/%s: %s", (group, kind, guides) => {
  expect(mayGuideAdmission({ group, kind })).toBe(guides);
});

test("manifests are changed by mutating webhooks, mutating policies and limit ranges", () => {
  expect(mayMendManifests({ group: "admissionregistration.k8s.io", kind: "MutatingWebhookConfiguration" })).toBe(true);
  expect(mayMendManifests({ group: "", kind: "LimitRange" })).toBe(true);
  expect(mayMendManifests({ group: "", kind: "ResourceQuota" })).toBe(false);
});
