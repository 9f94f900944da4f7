import { describe, expect, test } from "vitest";
import type { KubeObject } from "../../lib/kube-object.ts";
import { readyReasons, type ReadyReason } from "../../api/reasons.ts";
import { explainWhy, type WhyInput } from "./why.ts";

const now = Date.parse("2026-03-01T12:00:00Z");

interface Case {
  readonly ready?: string;
  readonly message?: string;
  readonly spec?: object;
  readonly stage?: object;
  readonly second?: object;
  readonly status?: object;
  readonly metadata?: object;
}

function stageSet(of: Case): KubeObject {
  const [status = "True", reason = "Succeeded"] = (of.ready ?? "True Succeeded").split(" ");
  return {
    apiVersion: "stages.metio.wtf/v1",
    kind: "StageSet",
    metadata: { name: "web", namespace: "apps", generation: 3, ...of.metadata },
    spec: {
      stages: [
        { name: "app", sourceRef: { name: "app" }, ...("stage" in of ? { promotion: {} } : {}) },
        { name: "prod", sourceRef: { name: "app" } },
      ],
      ...of.spec,
    },
    status: {
      observedGeneration: 3,
      conditions: [
        {
          type: "Ready",
          status,
          reason,
          message: `${of.message ?? "said"} (runbook: https://example.org/x.md)`,
          lastTransitionTime: "2026-03-01T11:58:00Z",
        },
      ],
      stages: [
        { name: "app", phase: "Ready", ...of.stage },
        { name: "prod", phase: "Ready", ...of.second },
      ],
      ...of.status,
    },
  };
}

function why(of: Case, more: Partial<WhyInput> = {}) {
  return explainWhy({ stageSet: stageSet(of), now, ...more });
}

describe("the headline", () => {
  const gate = (state: object) => ({ ready: "False Soaking", stage: { promotionState: state } });
  test.each<[string, Case, object]>([
    [
      "deletion before all that is on record",
      { ready: "False StageProgressing", metadata: { deletionTimestamp: "2026-03-01T11:00:00Z" } },
      { state: "waiting", cause: { kind: "deleting", since: "2026-03-01T11:00:00Z" } },
    ],
    [
      "suspended, with the command that ends it",
      { ready: "False Suspended", spec: { suspend: true } },
      { state: "waiting", cause: { kind: "suspended", command: expect.stringContaining('"suspend":false') as string } },
    ],
    [
      "a spec the controller has not seen",
      { metadata: { generation: 4 } },
      { state: "waiting", cause: { kind: "controller", reason: "SpecPending" } },
    ],
    [
      "a window that holds back what is deployed, until it opens",
      {
        message: "Deployed; outside the update windows",
        status: { pendingUpdate: { revisions: { "apps/app": "v2" }, nextWindowOpens: "2026-03-01T20:00:00Z" } },
      },
      {
        state: "waiting",
        cause: {
          kind: "window",
          message: "outside the update windows",
          until: "2026-03-01T20:00:00Z",
          command: expect.stringContaining("update-now=") as string,
        },
      },
    ],
    [
      "an error budget that holds back what is deployed",
      { message: "Deployed; error budget is exhausted", status: { budgetFreeze: { remaining: "0.1" } } },
      { state: "waiting", cause: { kind: "budget", command: expect.stringContaining("budget-override=") as string } },
    ],
    [
      "an approval, naming the version",
      { ready: "False AwaitingApproval", status: { pendingVersion: "2.0.0" } },
      { cause: { kind: "approval", command: expect.stringContaining("approved-version=2.0.0") as string } },
    ],
    [
      "a stage that becomes ready, what it waits for and how long that may take",
      {
        ready: "Unknown Progressing",
        stage: {
          phase: "Verifying",
          entriesCount: 1,
          waitingFor: [
            {
              kind: "Deployment",
              namespace: "apps",
              name: "web",
              status: "InProgress",
              message: "3/5 updated",
              since: "2026-03-01T11:59:00Z",
            },
          ],
        },
        spec: { timeout: "5m" },
      },
      {
        state: "waiting",
        cause: {
          kind: "verify",
          stage: "app",
          object: "Deployment/web",
          message: "Deployment/web InProgress: 3/5 updated",
          since: "2026-03-01T11:59:00Z",
          until: "2026-03-01T12:04:00Z",
        },
        objects: [{ stage: "app", kind: "Deployment", name: "web", namespace: "apps", status: "InProgress" }],
      },
    ],
    [
      "a stage that failed, by its operation",
      {
        ready: "False StageFailed",
        message: 'stage "app" build: no such file',
        stage: { phase: "Failed", message: "build: no such file" },
      },
      { state: "failing", cause: { kind: "preflight", stage: "app", message: "build: no such file" } },
    ],
    [
      "a failed action of a stage",
      { ready: "False StageFailed", stage: { phase: "Failed", message: 'pre-action: action "db": exit code 1' } },
      { state: "failing", cause: { kind: "preAction", stage: "app" } },
    ],
    [
      "missing rights of a stage's identity",
      { ready: "False RBACDenied", second: { phase: "Failed", message: "apply: forbidden" } },
      { state: "failing", cause: { kind: "apply", stage: "prod", reason: "RBACDenied" } },
    ],
    [
      "a soak with its end",
      gate({ phase: "Soaking", since: "2026-03-01T11:50:00Z", soakUntil: "2026-03-01T12:10:00Z" }),
      {
        state: "waiting",
        cause: { kind: "promotion", stage: "app", since: "2026-03-01T11:50:00Z", until: "2026-03-01T12:10:00Z" },
      },
    ],
    [
      "a stage that awaits its promotion, with the command",
      { ...gate({ phase: "AwaitingManual" }), ready: "False AwaitingPromotion" },
      { cause: { reason: "AwaitingManual", command: expect.stringContaining('promote="app@') as string } },
    ],
    [
      "an analysis, each check with value and bounds",
      {
        ...gate({
          phase: "Blocked",
          lastAnalysis: { checks: [{ name: "errors", value: "0.4", ok: false }] },
        }),
        ready: "False PromotionBlocked",
        spec: {
          stages: [
            {
              name: "app",
              sourceRef: { name: "app" },
              promotion: { analysis: { checks: [{ name: "errors", threshold: { max: "0.1" } }] } },
            },
          ],
        },
      },
      {
        state: "failing",
        cause: { kind: "promotion", message: 'is blocked: "errors" fails at 0.4 (max 0.1)' },
      },
    ],
  ])("%s", (_name, of, wanted) => {
    expect(why(of)).toMatchObject(wanted);
  });

  test("none while all is well, whatever old records say", () => {
    const result = why({ status: { budgetFreeze: { remaining: "0.1" } } });
    expect(result).toEqual({ namespace: "apps", name: "web", state: "ok", others: [], objects: [] });
  });

  test("every reason of Ready that is not True has one, without the link to its runbook", () => {
    // The keys of a literal.
    for (const reason of Object.keys(readyReasons) as readonly ReadyReason[]) {
      if (readyReasons[reason].status === "True") continue;
      const { state, cause } = why({
        ready: `${readyReasons[reason].status} ${reason}`,
        ...(reason === "Suspended" ? { spec: { suspend: true } } : {}),
      });
      expect(cause?.message, reason).not.toMatch(/runbook|^$/);
      expect(state, reason).toBe(readyReasons[reason].class === "failure" ? "failing" : "waiting");
    }
  });

  test("a status of a later version is told as it is", () => {
    expect(why({ ready: "False Hibernating", message: "sleeps" }).cause).toMatchObject({
      reason: "Hibernating",
      message: "sleeps",
    });
    const broken: KubeObject = { apiVersion: "v1", kind: "StageSet", metadata: { name: "x" }, status: { stages: 7 } };
    expect(explainWhy({ stageSet: broken, now })).toMatchObject({ state: "ok", objects: [] });
  });
});

describe("a deletion", () => {
  const metadata = { deletionTimestamp: "2026-03-01T11:00:00Z" };
  test("goes well whatever failed before: a teardown leaves Ready as it was", () => {
    const { state, cause, others } = why({
      ready: "False StageFailed",
      message: 'stage "prod" apply: refused',
      metadata: { ...metadata, generation: 4 },
      stage: { phase: "Pruning" },
      second: { phase: "Failed", message: "apply: refused" },
      status: { pendingVersion: "2.0.0" },
    });
    expect(state).toBe("waiting");
    expect(cause?.message).toBe('is being deleted, with what its policy deletes; stage "app" is being torn down');
    expect(others).toEqual([]);
  });
  test("waits for a controller like everything else", () => {
    const { state, others } = why({ metadata }, { leaseRenewedAt: now - 60_000 });
    expect(state).toBe("stale");
    expect(others.map(({ kind }) => kind)).toEqual(["deleting"]);
  });
});

describe("an error budget", () => {
  const held = "Deployed; the error budget holds";
  const freeze = { remaining: "0.1", since: "2026-03-01T11:30:00Z" };
  const exhausted = { kind: "budget", reason: "BudgetExhausted", since: "2026-03-01T11:30:00Z" };
  test.each<[string, Case, object]>([
    ["of a stage", { message: held, second: { budgetFreeze: freeze } }, { ...exhausted, stage: "prod" }],
    [
      "of a stage, half-way through a release",
      { ready: "False BudgetExhausted", second: { budgetFreeze: freeze } },
      { ...exhausted, stage: "prod" },
    ],
    [
      "of a stage, beside a dry run of the StageSet's",
      { message: held, status: { budgetFreeze: { ...freeze, dryRun: true } }, second: { budgetFreeze: freeze } },
      { ...exhausted, stage: "prod" },
    ],
    [
      "that cannot be read, whatever a dry run would freeze",
      { message: held, status: { budgetFreeze: { ...freeze, dryRun: true } } },
      { kind: "budget", reason: "BudgetSourceUnavailable", message: "the error budget holds" },
    ],
  ])("%s is told once", (_name, of, wanted) => {
    const { cause, others } = why(of);
    expect(cause).toMatchObject(wanted);
    expect(others).toEqual([]);
  });
});

describe("times that are not on record are not told", () => {
  test.each<[string, Case]>([
    ["a reason of Ready=False may be younger than its status", { ready: "False SourceNotReady" }],
    ["a stage that failed", { ready: "False StageFailed", stage: { phase: "Failed", message: "build: no such file" } }],
    [
      "a gate without a time of its own",
      { ready: "False AwaitingPromotion", stage: { promotionState: { phase: "Analyzing" } } },
    ],
    ["a verification whose time was up", { ready: "False StageProgressing", stage: { phase: "Verifying" } }],
    ["a suspension", { ready: "False Suspended", spec: { suspend: true } }],
    ["what holds back what is deployed", { message: "Deployed; error budget cannot be read" }],
  ])("%s", (_name, of) => {
    const { cause } = why(of);
    expect(cause).toBeDefined();
    expect(cause).not.toHaveProperty("since");
  });
  test("Unknown has one reason: it began with the status", () => {
    expect(why({ ready: "Unknown Progressing" }).cause?.since).toBe("2026-03-01T11:58:00Z");
  });

  const waitingFor = [{ kind: "Deployment", namespace: "apps", name: "web", since: "2026-03-01T11:59:00Z" }];
  test.each<[string, string, object, string | undefined]>([
    [
      "every object is listed: the first was when the clock began",
      "Unknown Progressing",
      { entriesCount: 1 },
      "2026-03-01T12:14:00Z",
    ],
    ["others are ready: the clock may have begun before", "Unknown Progressing", { entriesCount: 2 }, undefined],
    ["it is not known how many objects there are", "Unknown Progressing", {}, undefined],
    ["the time was up before", "False StageProgressing", { entriesCount: 1 }, undefined],
  ])("when verifying times out: %s", (_name, ready, entry, until) => {
    const { cause } = why({ ready, stage: { phase: "Verifying", waitingFor, ...entry } });
    expect(cause).toMatchObject({ kind: "verify", since: "2026-03-01T11:59:00Z" });
    expect(cause?.until).toBe(until);
  });
});

describe("a controller that is not at work", () => {
  test("not one whose lease was left behind: a status is still written without it", () => {
    const written = (time: string, more = {}) => ({
      metadata: { managedFields: [{ manager: "stageset-controller", subresource: "status", time, ...more }] },
    });
    const lease = { leaseRenewedAt: now - 600_000 };
    expect(why(written("2026-03-01T11:51:00Z"), lease).state).toBe("ok");
    // Its holder may have written that, just before it was gone.
    expect(why(written("2026-03-01T11:50:59Z"), lease).state).toBe("stale");
    expect(why(written("2026-03-01T11:51:00Z", { manager: "somebody" }), lease).state).toBe("stale");
    expect(why(written("2026-03-01T11:51:00Z", { subresource: undefined }), lease).state).toBe("stale");
  });

  test("its lease was not renewed for 60 s: what is on record is stale, whatever it says", () => {
    const result = why({}, { leaseRenewedAt: now - 60_000 });
    expect(result).toMatchObject({ state: "stale", cause: { kind: "controller", since: "2026-03-01T11:59:00Z" } });
    expect(why({}, { leaseRenewedAt: now - 59_000 }).state).toBe("ok");
  });
  test("a generation was not looked at for 60 s", () => {
    const metadata = { generation: 4 };
    expect(why({ metadata }, { changedAt: now - 60_000 }).state).toBe("stale");
    expect(why({ metadata }, { changedAt: now - 59_000 }).state).toBe("waiting");
  });
});

describe("what is queued behind", () => {
  test("in the controller's order, each once", () => {
    const { cause, others } = why({
      ready: "False Suspended",
      spec: { suspend: true },
      status: { pendingUpdate: { revisions: {} }, budgetFreeze: { remaining: "0" }, pendingVersion: "2.0.0" },
      stage: { promotionState: { phase: "AwaitingManual" } },
      second: { phase: "Failed", message: "apply: refused" },
    });
    expect(cause?.kind).toBe("suspended");
    expect(others.map(({ kind }) => kind)).toEqual(["window", "budget", "approval", "promotion", "apply"]);
  });

  test("dependencies and sources as the caller sees them, silent about what the caller may not see", () => {
    const other: KubeObject = {
      apiVersion: "stages.metio.wtf/v1",
      kind: "StageSet",
      metadata: { name: "db", namespace: "apps", generation: 1 },
      status: { observedGeneration: 1, conditions: [{ type: "Ready", status: "False" }] },
    };
    const of: Case = {
      ready: "False DependencyNotReady",
      spec: {
        dependsOn: [{ name: "db" }, { name: "gone" }, { name: "secret", namespace: "theirs" }],
        stages: [{ name: "app", sourceRef: { kind: "GitRepository", name: "app" } }],
      },
    };
    const { others } = why(of, {
      stageSetOf: (namespace, name) => (namespace === "theirs" ? "unknown" : name === "db" ? other : "absent"),
      sourceOf: () => "absent",
    });
    expect(others).toMatchObject([
      { kind: "dependency", object: "StageSet/db", message: 'dependency "apps/db" is not ready' },
      { kind: "dependency", object: "StageSet/gone", message: 'dependency "apps/gone" does not exist' },
      { kind: "source", object: "GitRepository/app", message: 'GitRepository "apps/app" offers no artifact' },
    ]);
  });

  test("a command survives a shell, whatever a status holds", () => {
    const { cause } = why({ ready: "False AwaitingApproval", status: { pendingVersion: "1'; rm -rf $HOME #" } });
    expect(cause?.command).toMatch(/approved-version='1'\\''; rm -rf \$HOME #'$/);
  });
});
