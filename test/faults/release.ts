import { configMap } from "../support/controller.ts";
import { deployment } from "../support/manifests.ts";

/** Manifests by path, of one artifact that all stages share so that all of them move at once. */
type Files = Readonly<Record<string, string>>;

/** One look of the reference release: three stages, about fifteen objects. */
export interface Revision {
  readonly revision: string;
  readonly files: Files;
}

export const stageNames = ["base", "apps", "extras"] as const;
/** The last stage under its second name. */
export const renamedStage = "tail";

function secret(name: string, value: string): string {
  return `apiVersion: v1\nkind: Secret\nmetadata:\n  name: ${name}\nstringData:\n  value: ${value}\n`;
}

function account(name: string): string {
  return `apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: ${name}\n`;
}

function service(name: string, port: number): string {
  return `apiVersion: v1\nkind: Service\nmetadata:\n  name: ${name}\nspec:\n  selector:\n    app: web\n  ports:\n    - port: ${port}\n`;
}

function volume(name: string, storage: string): string {
  return `apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: ${name}\nspec:\n  accessModes: [ReadWriteOnce]\n  resources:\n    requests:\n      storage: ${storage}\n`;
}

/** What is installed, what an upgrade drops, moves and adds, one that cannot be applied, and its repair. */
export const revisions = {
  installed: {
    revision: "r1",
    files: {
      "base/config.yaml": configMap("config", { v: "1" }),
      "base/keep.yaml": configMap("keep"),
      "base/drop.yaml": configMap("drop-base"),
      "base/moves.yaml": configMap("moves-down", { v: "1" }),
      "base/creds.yaml": secret("creds", "one"),
      "base/runner.yaml": account("runner"),
      "apps/web.yaml": deployment("web"),
      "apps/service.yaml": service("web", 80),
      "apps/env.yaml": configMap("env", { v: "1" }),
      "apps/drop.yaml": secret("drop-apps", "x"),
      "apps/moves.yaml": configMap("moves-up"),
      "extras/one.yaml": configMap("one", { v: "1" }),
      "extras/two.yaml": configMap("two"),
      "extras/secret.yaml": secret("extra", "one"),
    },
  },
  upgraded: {
    revision: "r2",
    files: {
      "base/config.yaml": configMap("config", { v: "2" }),
      "base/keep.yaml": configMap("keep"),
      "base/moves.yaml": configMap("moves-up"),
      "base/creds.yaml": secret("creds", "two"),
      "base/runner.yaml": account("runner"),
      "base/added.yaml": configMap("added"),
      "apps/web.yaml": deployment("web", { image: "app:2" }),
      "apps/service.yaml": service("web", 81),
      "apps/env.yaml": configMap("env", { v: "2" }),
      "extras/one.yaml": configMap("one", { v: "2" }),
      "extras/moves.yaml": configMap("moves-down", { v: "2" }),
      "extras/secret.yaml": secret("extra", "one"),
    },
  },
  broken: {
    revision: "r3",
    files: {
      "base/config.yaml": configMap("config", { v: "3" }),
      "base/keep.yaml": configMap("keep"),
      "base/moves.yaml": configMap("moves-up"),
      "base/creds.yaml": secret("creds", "two"),
      "base/runner.yaml": account("runner"),
      "apps/web.yaml": deployment("web", { image: "app:2" }),
      "apps/service.yaml": service("web", 81),
      "apps/volume.yaml": volume("data", "2Gi"),
      "apps/env.yaml": configMap("env", { v: "3" }),
      "extras/one.yaml": configMap("one", { v: "3" }),
      "extras/secret.yaml": secret("extra", "three"),
    },
  },
  repaired: {
    revision: "r4",
    files: {
      "base/config.yaml": configMap("config", { v: "4" }),
      "base/keep.yaml": configMap("keep"),
      "base/creds.yaml": secret("creds", "four"),
      "base/runner.yaml": account("runner"),
      "apps/web.yaml": deployment("web", { image: "app:2" }),
      "apps/service.yaml": service("web", 82),
      "apps/env.yaml": configMap("env", { v: "4" }),
      "apps/new.yaml": configMap("new-in-apps"),
      "extras/one.yaml": configMap("one", { v: "4" }),
      "extras/moves.yaml": configMap("moves-up"),
    },
  },
} as const satisfies Readonly<Record<string, Revision>>;

/** Marks what actions patch, with the name of the action behind it. */
export const actedAnnotation = "acted.example.com/";

/** Actions of a stage, named `<stage>-<list>`; each leaves a mark at an object of the first stage. */
function actionsOf(stage: string, lists: readonly ("pre" | "post")[]): Readonly<Record<string, unknown>> {
  const target = { apiVersion: "v1", kind: "ServiceAccount", name: "runner" };
  return Object.fromEntries(
    lists.map((list) => {
      const name = `${stage}-${list}`;
      const patch = JSON.stringify({ metadata: { annotations: { [`${actedAnnotation}${name}`]: "yes" } } });
      return [list, [{ name, patch: { target, patch } }]];
    }),
  );
}

const acting: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  base: actionsOf("base", ["post"]),
  apps: actionsOf("apps", ["pre", "post"]),
};

/** The spec before and after the last stage was renamed. */
export function releaseSpec(stage: "extras" | typeof renamedStage): Readonly<Record<string, unknown>> {
  const names = ["base", "apps", stage];
  return {
    interval: "2s",
    retryInterval: "1s",
    timeout: "60s",
    serviceAccountName: "deployer",
    stages: names.map((name) => ({
      name,
      path: name === renamedStage ? "extras" : name,
      sourceRef: { name: "app" },
      ...(acting[name] === undefined ? {} : { actions: acting[name] }),
    })),
  };
}
