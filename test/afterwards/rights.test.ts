import { describe, expect, inject, test } from "vitest";
import { allRights, type DeclaredRight } from "../../scripts/chart/permissions.ts";
import { auditEvents, testCluster, type AuditEvent } from "../support/cluster.ts";
import { controllerUsername } from "../support/controller-account.ts";

/** Every ServiceAccount of this name holds the rendered roles, or some of their rules. */
const anyController = ":stageset-controller";

/**
 * What the whole run asked the API server for as a controller: every test's controller is a ServiceAccount with exactly the
 * rendered roles, unless the test says otherwise. A part of a run proves nothing here.
 */
describe.runIf(inject("everyTitle"))("rights of the controller, after every test has run", () => {
  const used = new Set<string>();
  const refused = new Set<string>();

  test("[50.44] [60.21] every right that is rendered was used, but those that are told apart, and no other was", async () => {
    const look = ({ username, resource, decision, ...event }: AuditEvent): boolean => {
      if (!username.endsWith(anyController) || resource === "") return false;
      if (decision === "allow") used.add(rightOf({ resource, ...event }));
      else if (username === controllerUsername && !isMeant(event.uri)) refused.add(`${event.verb} ${event.uri}`);
      return false;
    };
    await auditEvents(testCluster(), { contains: `${anyController}"`, where: look });
    const declared = allRights().filter(({ when }) => when !== "reviews callers");
    const isUsed = ({ right }: DeclaredRight): boolean => used.has(right);
    expect(declared.filter((one) => !isUsed(one) && one.unused === undefined).map(({ right }) => right)).toEqual([]);
    expect(declared.filter((one) => isUsed(one) && one.unused !== undefined).map(({ right }) => right)).toEqual([]);
    // What everybody may, such as asking who one is.
    const known = new Set(declared.map(({ right }) => right));
    const undeclared = [...used].filter((right) => !known.has(right));
    expect(undeclared.filter((right) => !/^auth[a-z]+\.k8s\.io\/selfsubject/.test(right))).toEqual([]);
  });

  test("[50.44] [60.21] nothing a controller with the rendered roles asked for was refused", () => {
    expect(used.size).toBeGreaterThan(0);
    expect([...refused]).toEqual([]);
  });
});

/** Refusals that tests provoke: a Lease that a replica must not get, and ServiceAccounts with impossible names. */
function isMeant(uri: string): boolean {
  return uri.includes("/namespaces/no-such-namespace/leases/") || /\/serviceaccounts\/[^/]*%/.test(uri);
}

function rightOf({
  group,
  resource,
  subresource,
  verb,
}: Pick<AuditEvent, "group" | "resource" | "subresource" | "verb">) {
  return `${group}/${resource}${subresource === "" ? "" : `/${subresource}`} ${verb}`;
}
