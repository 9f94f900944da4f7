import { expect, test } from "vitest";
import { KubeError, type KubeReason, type StatusCause } from "../kube/error.ts";
import { outlookOf, type Outlook } from "./refusal-text.ts";

function refusal(reason: KubeReason, message: string, causes: readonly StatusCause[] = []): KubeError {
  return new KubeError({ reason, message, status: { message, reason, details: { causes } } });
}

test.each<readonly [string, KubeError, Outlook]>([
  [
    "a field that is not valid",
    refusal("Invalid", 'Service "a" is invalid: spec.ports[0].port', [{ field: "spec.ports[0].port" }]),
    "lasting",
  ],
  ["a manifest that cannot be decoded", refusal("BadRequest", "cannot be handled as a Deployment"), "lasting"],
  ["a manifest past the server's limit", refusal("TooLarge", "Request entity too large"), "lasting"],
  [
    "a policy, which answers 422 without a field",
    refusal(
      "Invalid",
      "configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: x",
      [{ message: "x" }],
    ),
    "for now",
  ],
  [
    "a webhook that answers 422 with fields",
    refusal("Invalid", 'admission webhook "w" denied the request: x', [{ field: "spec.replicas" }]),
    "for now",
  ],
  ["a webhook that answers 400", refusal("BadRequest", 'admission webhook "w" denied the request: x'), "for now"],
  ["422 for no field", refusal("Invalid", "x"), "for now"],
  [
    "a port that another Service still has",
    refusal("Invalid", 'Service "a" is invalid: spec.ports[0].nodePort: provided port is already allocated', [
      { field: "spec.ports[0].nodePort" },
    ]),
    "for now",
  ],
  [
    "versions that are still stored",
    refusal("Invalid", "must appear in spec.versions", [{ field: "status.storedVersions[0]" }]),
    "for now",
  ],
  ["a quota", refusal("Forbidden", "exceeded quota: q"), "for now"],
  ["a missing right", refusal("Forbidden", 'User "u" cannot patch resource "configmaps"'), "for now"],
  ["a conflict", refusal("Conflict", "x"), "for now"],
  ["a namespace that is not there", refusal("NotFound", 'namespaces "a" not found'), "unknown"],
  ["a kind that is not served", refusal("NotServed", "x"), "unknown"],
])("%s: %#", (_title, error, outlook) => {
  expect(outlookOf(error)).toBe(outlook);
});
