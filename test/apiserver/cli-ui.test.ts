import { spawn } from "node:child_process";
import { request } from "node:http";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { namesOf, ready, stageSetWithStatus } from "../support/ui.ts";

const cluster = testCluster();
const program = fileURLToPath(new URL("../../bin/stagesetctl", import.meta.url));

function statusFor(url: string, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { headers: { host } }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    sent.on("error", reject);
    sent.end();
  });
}

test("stagesetctl ui serves the page on loopback, to who has the printed address alone", async () => {
  const namespace = await uniqueNamespace(cluster);
  await stageSetWithStatus(cluster, {
    namespace,
    name: "web",
    status: { conditions: [ready("True", "Succeeded", "done")] },
  });
  const child = spawn(program, ["ui", "-n", namespace], {
    env: { ...process.env, KUBECONFIG: cluster.kubeconfigPath },
  });
  try {
    let stdout = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    const found = await eventually(() => /^(http:\/\/127\.0\.0\.1:\d+)\/#token=(\S+)\n/.exec(stdout) ?? undefined, {
      timeoutMs: 60_000,
    });
    const [, url = "", token = ""] = found;
    expect(await (await fetch(url)).text()).toContain("<title>StageSets");
    expect((await fetch(`${url}/api/v1/stagesets`)).status).toBe(401);
    const answer = await fetch(`${url}/api/v1/stagesets`, { headers: { authorization: `Bearer ${token}` } });
    expect(namesOf(await answer.json())).toEqual([`${namespace}/web`]);
    // A name that somebody else's site resolves to loopback.
    expect(await statusFor(url, "evil.example:80")).toBe(421);
  } finally {
    const ended = new Promise((resolve) => child.once("close", resolve));
    child.kill("SIGINT");
    expect(await ended).toBe(130);
  }
});
