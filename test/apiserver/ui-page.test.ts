import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { at } from "../../src/lib/json.ts";
import { readUiAssets } from "../../src/main/start-ui.ts";
import { startBrowser } from "../support/browser.ts";
import { createServiceAccount, testCluster, uniqueName, uniqueNamespace } from "../support/cluster.ts";
import { stageSetRef } from "../support/controller.ts";
import { ready, readerToken, stageSetWithStatus, startUiReplica, writeStatus, type UiReplica } from "../support/ui.ts";

const cluster = testCluster();
const { admin } = cluster;
/** Set, pictures of the pages are left there. */
const pictures = process.env["STAGESET_UI_PICTURES"];
const hostile = `<img src=x onerror="document.body.dataset.owned='1'"><script>document.body.dataset.owned="1"</script>`;

let namespace = "";
let token = "";
let replica: UiReplica;
let browser: Browser;
/** What has started by the end, however far that came. */
const running = new AsyncDisposableStack();
const instant = (fromNowMs: number): string => `${new Date(Date.now() + fromNowMs).toISOString().slice(0, 19)}Z`;
const minute = 60_000;

beforeAll(async () => {
  namespace = await uniqueNamespace(cluster, "shop");
  token = await readerToken(cluster, { namespace, name: "reader" });
  const revision = "main@sha1:2f1c9a7be04d0c1f5a88d0f1c3a9e7b6d5c4b3a2";
  const next = "main@sha1:9b8e7d6c5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0c";
  const source = { sourceRef: { name: "web" } };
  const stages = ["crds", "app", "canary", "prod"].map((name) => ({ name, ...source }));
  const set = (name: string, status: Record<string, unknown>, more: object = {}) =>
    stageSetWithStatus(cluster, { namespace, name, stages, status, ...more });
  const deployed = (name: string) => ({
    name,
    phase: "Ready",
    appliedRevision: revision,
    enteredRevision: revision,
    entriesCount: 12,
  });
  await set(
    "storefront",
    {
      version: "1.4.0",
      conditions: [ready("Unknown", "Progressing", "Working", new Date(Date.now() - 3 * minute))],
      lastAttemptedRevisions: { [`${namespace}/web`]: next },
      lastAppliedRevisions: { [`${namespace}/web`]: revision },
      snapshotHistory: [
        { version: "1.4.0", appliedAt: instant(-2 * 24 * 60 * minute) },
        { version: "1.3.2", appliedAt: instant(-9 * 24 * 60 * minute) },
      ],
      stages: [
        { ...deployed("crds"), appliedRevision: next, enteredRevision: next },
        {
          ...deployed("app"),
          phase: "Verifying",
          entriesCount: 2,
          enteredRevision: next,
          waitingFor: [
            {
              kind: "Deployment",
              namespace,
              name: "storefront",
              status: "InProgress",
              message: "3 of 5 replicas are updated: container web waits: ImagePullBackOff",
              since: instant(-2 * minute),
            },
            {
              kind: "Job",
              namespace,
              name: "warm-cache",
              status: "InProgress",
              message: "1 active",
              since: instant(-minute),
            },
          ],
        },
        deployed("canary"),
        deployed("prod"),
      ],
    },
    { spec: { timeout: "10m", dependsOn: [{ name: "database" }] } },
  );
  await set(
    "checkout",
    {
      version: "2.1.0",
      conditions: [ready("False", "Soaking", 'stage "canary" soaks', new Date(Date.now() - 4 * minute))],
      stages: [
        deployed("crds"),
        deployed("app"),
        {
          ...deployed("canary"),
          promotionState: { phase: "Soaking", since: instant(-4 * minute), soakUntil: instant(9 * minute) },
        },
        { name: "prod", phase: "Pending" },
      ],
    },
    { stages: stages.map((stage) => (stage.name === "canary" ? { ...stage, promotion: { soak: "13m" } } : stage)) },
  );
  await set("search", {
    version: "0.9.3",
    conditions: [
      ready(
        "False",
        "StageFailed",
        'stage "app" pre-action: action "migrate": exit code 1',
        new Date(Date.now() - 41 * minute),
      ),
    ],
    stages: [
      deployed("crds"),
      {
        ...deployed("app"),
        phase: "Failed",
        message:
          'pre-action: action "migrate": Job migrate-7f3 failed: container migrate exited with code 1: relation "orders" does not exist',
      },
      { name: "canary", phase: "Pending" },
      { name: "prod", phase: "Pending" },
    ],
  });
  await set("payments", {
    version: "5.2.1",
    conditions: [
      ready("True", "Succeeded", "Deployed; outside the update windows", new Date(Date.now() - 6 * 60 * minute)),
    ],
    pendingUpdate: { revisions: { [`${namespace}/web`]: next }, nextWindowOpens: instant(7 * 60 * minute) },
    stages: ["crds", "app", "canary", "prod"].map(deployed),
  });
  for (const name of ["database", "identity", "mail"])
    await set(name, {
      version: "3.0.0",
      conditions: [
        ready("True", "Succeeded", "Applied and verified 4 stage(s)", new Date(Date.now() - 50 * 60 * minute)),
      ],
      stages: ["crds", "app", "canary", "prod"].map(deployed),
    });
  await set(
    "reports",
    {
      conditions: [ready("False", "Suspended", "Suspended by spec.suspend", new Date(Date.now() - 26 * 60 * minute))],
      stages: [deployed("crds")],
    },
    { spec: { suspend: true } },
  );
  await set("evil", {
    version: hostile,
    pendingVersion: hostile,
    conditions: [ready("False", "StageFailed", hostile)],
    stages: [
      {
        name: "crds",
        phase: "Failed",
        message: `apply: ${hostile}`,
        appliedRevision: hostile,
        waitingFor: [{ kind: hostile, name: hostile, status: hostile, message: hostile }],
      },
    ],
    snapshotHistory: [{ version: hostile, appliedAt: instant(-minute) }],
  });
  replica = running.use(await startUiReplica(cluster, { namespaces: [namespace] }));
  browser = running.adopt(await startBrowser(), (started) => started.close());
});
afterAll(() => running.disposeAsync());

/** A page of a browser of its own, signed in unless told otherwise; its errors and what it was forbidden are kept. */
async function open(
  path: string,
  { signedIn = true, ...options }: BrowserContextOptions & { readonly signedIn?: boolean } = {},
): Promise<Page & AsyncDisposable & { readonly complaints: readonly string[] }> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  if (signedIn) await context.addInitScript(`sessionStorage.setItem("stageset-token", ${JSON.stringify(token)})`);
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    // An answer that is no success is written there by the browser itself.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource"))
      complaints.push(message.text());
  });
  await page.goto(`${replica.url}/${path}`);
  return Object.assign(page, { complaints, [Symbol.asyncDispose]: () => context.close() });
}

async function picture(page: Page, name: string): Promise<void> {
  if (pictures === undefined) return;
  await mkdir(pictures, { recursive: true });
  await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
}

const page = (name: string): string => `#/stagesets/${namespace}/${name}`;

describe("the page in a browser", () => {
  test("asks for a token, says when it is refused, and shows what its holder may read", async () => {
    await using tab = await open("", { signedIn: false });
    await tab.getByLabel("Bearer token").fill("wrong");
    await tab.getByRole("button", { name: "Sign in" }).click();
    await tab.getByRole("alert").waitFor();
    await picture(tab, "sign-in");
    await tab.getByLabel("Bearer token").fill(token);
    await tab.getByRole("button", { name: "Sign in" }).click();
    await tab.getByRole("link", { name: "storefront" }).waitFor();
    expect(await tab.evaluate("document.cookie")).toBe("");
    await tab.getByRole("button", { name: "Sign out" }).click();
    await tab.getByLabel("Bearer token").waitFor();
    expect(tab.complaints).toEqual([]);
  });

  test("lists StageSets, the worst first, and filters them", async () => {
    await using tab = await open("");
    await tab.getByRole("link", { name: "storefront" }).waitFor();
    await tab.getByText("Failing 2").waitFor();
    const names = await tab.locator("tbody th a").allTextContents();
    expect(names).toHaveLength(9);
    expect(names.slice(0, 2).toSorted()).toEqual(["evil", "search"]);
    expect(names.slice(-3)).toEqual(["database", "identity", "mail"]);
    // A version of any length has two lines, and is whole in its title.
    const long = tab.getByRole("row", { name: /evil/ }).locator(".version span");
    expect(await long.getAttribute("title")).toBe(`${hostile} → ${hostile}`);
    const [most, usual] = [await long.boundingBox(), await tab.getByRole("row", { name: /mail/ }).boundingBox()];
    expect(most?.height).toBeLessThanOrEqual(usual?.height ?? 0);
    await picture(tab, "overview");
    await tab.getByRole("button", { name: /^Failing/ }).click();
    await expect.poll(() => tab.locator("tbody tr").count(), { timeout: 20_000 }).toBe(2);
    await tab.getByRole("button", { name: /^All/ }).click();
    await tab.keyboard.press("/");
    await tab.keyboard.type("checkout");
    await expect.poll(() => tab.locator("tbody tr").count(), { timeout: 20_000 }).toBe(1);
    expect(tab.complaints).toEqual([]);
  });

  test("shows a StageSet: why, the stages as a tree, what they wait for, and how long", async () => {
    await using tab = await open(page("storefront"));
    await tab.getByRole("heading", { name: /Deployment\/storefront InProgress/ }).waitFor();
    expect(await tab.getByRole("region", { name: "Why" }).textContent()).toMatch(/Times out in\d+m \d+s/);
    expect(await tab.locator(".stage h3").allTextContents()).toEqual(["crds", "app", "canary", "prod"]);
    expect(await tab.locator(".objects").textContent()).toContain("ImagePullBackOff");
    await picture(tab, "stageset");
    await tab.goto(`${replica.url}/${page("checkout")}`);
    await tab.getByRole("progressbar", { name: "Soak of canary" }).waitFor();
    await picture(tab, "soaking");
    await tab.goto(`${replica.url}/${page("search")}`);
    await tab.getByRole("heading", { name: /exited with code 1/ }).waitFor();
    await picture(tab, "failing");
    expect(tab.complaints).toEqual([]);
  });

  test("follows what changes, without being asked to", async () => {
    const name = "live";
    const made = await stageSetWithStatus(cluster, {
      namespace,
      name,
      status: { conditions: [ready("True", "Succeeded", "done")] },
    });
    await using tab = await open(page(name));
    await tab.getByRole("heading", { name: "All is deployed" }).waitFor();
    await writeStatus(cluster, made, { conditions: [ready("False", "InvalidSpec", "spec.stages[0] is odd")] });
    await tab.getByRole("heading", { name: "spec.stages[0] is odd" }).waitFor();
    await admin.delete(stageSetRef(namespace, name));
    await tab.getByText("It does not exist, or you may not read it.").waitFor();
    expect(tab.complaints).toEqual([]);
  });

  test("never takes what a status holds for markup", async () => {
    await using tab = await open("");
    await tab.getByRole("link", { name: "evil" }).waitFor();
    await tab.getByRole("link", { name: "evil" }).click();
    await tab.getByRole("heading", { name: "evil", exact: true }).waitFor();
    await tab.getByRole("heading", { name: /onerror/ }).waitFor();
    expect(await tab.locator("main img, main script").count()).toBe(0);
    expect(await tab.evaluate("document.body.dataset.owned ?? ''")).toBe("");
    expect(tab.complaints).toEqual([]);
  });

  test("runs nothing but its own files, were markup to get in all the same", async () => {
    await using tab = await open("");
    await tab.getByRole("link", { name: "storefront" }).waitFor();
    // As a text: types of browsers are none of the tests'.
    await tab.evaluate(`
      document.querySelector("main").insertAdjacentHTML("beforeend", ${JSON.stringify(hostile)});
      const script = document.createElement("script");
      script.textContent = 'document.body.dataset.owned = "1"';
      document.body.append(script);
    `);
    await tab.getByRole("link", { name: "checkout" }).waitFor();
    expect(await tab.evaluate("document.body.dataset.owned ?? ''")).toBe("");
    expect(tab.complaints.length).toBeGreaterThan(0);
  });

  test("can be used with the keyboard, and every control has a name", async () => {
    await using tab = await open("");
    await tab.getByRole("link", { name: "storefront" }).waitFor();
    await tab.getByText("Failing 2").waitFor();
    await tab.keyboard.press("Tab");
    const seen: string[] = [];
    for (let count = 0; count < 12; count++) {
      seen.push(String(await tab.evaluate("document.activeElement.textContent.trim() || document.activeElement.id")));
      await tab.keyboard.press("Tab");
    }
    expect(seen).toContain("search");
    expect(seen.some((text) => text.startsWith("All"))).toBe(true);
    expect(seen).toContain("evil");
    const nameless = await tab.evaluate(`
      [...document.querySelectorAll("a, button, input, textarea")]
        .filter((each) => !(each.textContent.trim() || each.getAttribute("aria-label") || each.labels?.length))
        .map((each) => each.outerHTML)
    `);
    expect(nameless).toEqual([]);
    await tab.getByRole("link", { name: "storefront" }).press("Enter");
    await tab.getByRole("heading", { name: "storefront", exact: true }).waitFor();
    expect(await tab.title()).toBe("storefront · StageSets");
  });

  test.each([
    ["a narrow window", "narrow", { viewport: { width: 390, height: 844 } }],
    ["a dark one", "dark", { colorScheme: "dark" as const }],
  ])("fits %s: nothing has to be scrolled sideways", async (_name, file, options) => {
    await using tab = await open("", options);
    await tab.getByRole("link", { name: "storefront" }).waitFor();
    await tab.getByText("Failing 2").waitFor();
    await picture(tab, `${file}-overview`);
    const wider = (): Promise<number> =>
      tab.evaluate<number>("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    expect(await wider()).toBeLessThanOrEqual(0);
    await tab.goto(`${replica.url}/${page("storefront")}`);
    await tab.getByRole("heading", { name: /Deployment\/storefront/ }).waitFor();
    await picture(tab, `${file}-stageset`);
    expect(await wider()).toBeLessThanOrEqual(0);
  });

  test("shows a FleetRollout with its waves", async () => {
    const name = uniqueName("fleet");
    const fleet = { apiVersion: "stages.metio.wtf/v1", kind: "FleetRollout", metadata: { name } } as const;
    const reader = await fleetReader(name);
    await admin.create({
      ...fleet,
      spec: {
        targetVersion: "2.0.0",
        selector: {},
        waves: ["canary", "europe", "rest"].map((wave) => ({ name: wave, selector: {} })),
      },
    });
    try {
      const live = await admin.get(fleet);
      await admin.request("PUT", `/apis/stages.metio.wtf/v1/fleetrollouts/${name}/status`, {
        body: {
          ...live,
          status: {
            phase: "InProgress",
            currentWave: "europe",
            waves: [
              { name: "canary", total: 2, atTarget: 2, ready: 2, settled: true, health: "Passing" },
              { name: "europe", total: 8, atTarget: 5, ready: 4, settled: false, soakUntil: instant(20 * minute) },
              { name: "rest", total: 31, atTarget: 0, ready: 31, settled: false },
            ],
          },
        },
      });
      await using tab = await open(`#/fleets/${name}`, { signedIn: false });
      await tab.getByLabel("Bearer token").fill(reader);
      await tab.getByRole("button", { name: "Sign in" }).click();
      await tab.getByText("5 of 8 at the version, 4 ready").waitFor();
      await picture(tab, "fleet");
      expect(at(live, "metadata", "name")).toBe(name);
    } finally {
      await admin.delete(fleet);
    }
  });
});

/** FleetRollouts are of no namespace: whoever reads one needs a ClusterRole. */
async function fleetReader(name: string): Promise<string> {
  const rules = [
    { apiGroups: ["stages.metio.wtf"], resources: ["fleetrollouts"], verbs: ["get"], resourceNames: [name] },
  ];
  return (await createServiceAccount(cluster, { namespace, name: "fleets", clusterRules: rules })).token;
}

test("all files of the page together are at most 300 KB compressed", async () => {
  const { compressedBytes } = await readUiAssets();
  expect(compressedBytes).toBeGreaterThan(5_000);
  expect(compressedBytes).toBeLessThanOrEqual(300 * 1024);
});
