import { expect, test } from "vitest";
import { errorOfAnswer } from "./error.ts";
import { isAuthorizationRefusal } from "./refusal.ts";

function forbidden(message: string, causes: readonly unknown[] = [], httpStatus = 403): unknown {
  return errorOfAnswer({
    httpStatus,
    body: { kind: "Status", status: "Failure", reason: "Forbidden", message, details: { name: "x", causes } },
    what: "PATCH /x",
  });
}

const sentence =
  'User "system:serviceaccount:apps:deployer" cannot patch resource "secrets" in API group "" in the namespace "apps"';

test.each([
  ["a verb is not granted", `secrets "db" is forbidden: ${sentence}`],
  [
    "a list is not granted",
    'configmaps is forbidden: User "a" cannot list resource "configmaps" in API group "" at the cluster scope',
  ],
  ["a path is not granted", 'forbidden: User "a" cannot get path "/metrics"'],
  ["the role is missing", `secrets "db" is forbidden: ${sentence}: RBAC: role.rbac.authorization.k8s.io "r" not found`],
  [
    "rights beyond the writer's own",
    'roles.rbac.authorization.k8s.io "r" is forbidden: user "a" (groups=["g" "system:authenticated"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}',
  ],
])("authorization: %s", (_, message) => {
  expect(isAuthorizationRefusal(forbidden(message))).toBe(true);
});

test.each([
  ["an admission webhook", 'admission webhook "policy.example.com" denied the request: no latest tags'],
  [
    "an admission webhook quoting the authorizer",
    `admission webhook "p.example.com" denied the request: secrets "db" is forbidden: ${sentence}`,
  ],
  [
    "an admission policy quoting the authorizer",
    `secrets "db" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: x is forbidden: ${sentence}`,
  ],
  ["quota", 'pods "a" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'],
  [
    "Pod Security",
    'pods "a" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false',
  ],
])("no authorization: %s", (_, message) => {
  expect(isAuthorizationRefusal(forbidden(message))).toBe(false);
});

test("no authorization: a terminating namespace", () => {
  const message =
    'configmaps "a" is forbidden: unable to create new content in namespace apps because it is being terminated';
  expect(
    isAuthorizationRefusal(forbidden(message, [{ reason: "NamespaceTerminating", field: "metadata.namespace" }])),
  ).toBe(false);
});

test("no authorization: the same sentence under another status", () => {
  expect(isAuthorizationRefusal(forbidden(`secrets "db" is forbidden: ${sentence}`, [], 422))).toBe(false);
});
