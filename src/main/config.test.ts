import { describe, expect, test } from "vitest";
import { readConfig, type Config } from "./config.ts";
import { controllerFlags } from "./flags.ts";
import { renderHelp } from "./help.ts";

const ownPort = "--enable-webhook=false";

function configOf(args: readonly string[], env: Readonly<Record<string, string>> = {}): Config {
  const read = readConfig(args, env, "test");
  if (read.kind !== "config") throw new Error(JSON.stringify(read));
  return read.config;
}

function problemsOf(args: readonly string[], env: Readonly<Record<string, string>> = {}): readonly string[] {
  const read = readConfig(args, env, "test");
  return read.kind === "invalid" ? read.problems : [];
}

describe("what is refused names the flag, the value and the remedy", () => {
  const rows: readonly (readonly [title: string, args: readonly string[], says: readonly string[], env?: object])[] = [
    ["an unknown flag", ["--no-such-flag"], ["--no-such-flag", "--help"]],
    ["a positional argument", ["serve"], ['"serve"', "--help"]],
    ["a flag without its value", ["--kubeconfig"], ["--kubeconfig", "VALUE"]],
    [
      "an address without a port",
      ["--metrics-bind-address=localhost"],
      ["--metrics-bind-address", '"localhost"', "port"],
    ],
    ["a port above 65535", ["--health-probe-bind-address=:65536"], ["--health-probe-bind-address", ":65536"]],
    ["0 as the gate's address", ["--gate-bind-address=0"], ["--gate-bind-address", '"0"']],
    ["two listeners on one port", ["--gate-bind-address=:8081"], ["--gate-bind-address", "--health-probe", "8081"]],
    ["the webhook on another's port", ["--webhook-port=8080"], ["--webhook-port", "--metrics-bind-address", "8080"]],
    ["self-signed without a configuration", ["--webhook-cert-mode=self-signed"], ["--webhook-validating-config-name"]],
    ["a validity too short to renew", ["--webhook-cert-validity=5m"], ["--webhook-cert-validity", '"5m"', "10m"]],
    ["loopback in a pod", ["--dev-allow-loopback"], ["--dev-allow-loopback"], { KUBERNETES_SERVICE_HOST: "10.0.0.1" }],
    ["a word that is no boolean", ["--leader-elect=yes"], ["--leader-elect", '"yes"', "true or false"]],
    ["a number without its unit", ["--default-interval=10"], ["--default-interval", '"10"', "10m"]],
    ["an interval of nothing", ["--default-interval=0s"], ["--default-interval", "above 0"]],
    ["a negative wait", ["--max-teardown-wait=-1s"], ["--max-teardown-wait", "negative"]],
    ["a shard too large for etcd", ["--inventory-shard-cap=10001"], ["--inventory-shard-cap", "1 to 10000"]],
    ["no worker", ["--max-concurrent-reconciles=0"], ["--max-concurrent-reconciles", "1 to 64"]],
    [
      "a trusted root that cannot be read",
      ["--image-verification-trusted-root=/nonexistent/root.json"],
      ["--image-verification-trusted-root", "/nonexistent/root.json", "cannot be read"],
    ],
    [
      "a trusted root that is something else",
      ["--image-verification-trusted-root=tsconfig.build-of-nothing", "--image-verification-trusted-root=LICENSE"],
      ["--image-verification-trusted-root", "LICENSE", "is not JSON"],
    ],
    [
      "a registry with a scheme",
      ["--image-verification-insecure-registry=http://registry.test"],
      ["--image-verification-insecure-registry", "http://registry.test", "host:port"],
    ],
    ["a level in the wrong case", ["--log-level=INFO"], ["--log-level", '"INFO"', '"info"']],
    ["a format that is unknown", ["--log-format=yaml"], ["--log-format", '"json" or "text"']],
    ["a sample ratio above 1", ["--tracing-sample-ratio=2"], ["--tracing-sample-ratio", "0 to 1"]],
    ["a collector with a scheme", ["--tracing-endpoint=http://c:4317"], ["--tracing-endpoint", "without a scheme"]],
    ["an events address that is no URL", ["--events-addr=example.com"], ["--events-addr", "http://"]],
    ["a feature that is not built", ["--rollback-store-path=/x"], ["--rollback-store-path", "does not have"]],
    ["both rollback stores", ["--rollback-store-path=/x", "--rollback-store-s3-endpoint=s:1"], ["path", "s3-endpoint"]],
    ["a static key without its secret", ["--rollback-store-s3-access-key=AKIA"], ["--rollback-store-s3-access-key"]],
    ["writing MCP tools without MCP", ["--mcp-allow-mutations"], ["--mcp-allow-mutations"]],
  ];
  for (const [title, args, says, env] of rows)
    test(`[60.1] ${title}`, () => {
      const problems = problemsOf(args, { ...env });
      expect(problems.length).toBeGreaterThan(0);
      for (const words of says) expect(problems.join("\n")).toContain(words);
    });

  test("[60.1] all problems at once", () => {
    expect(problemsOf(["--log-level=loud", "--webhook-port=0", "extra"])).toHaveLength(3);
  });

  test("the UI's address is looked at only when it is served", () => {
    expect(problemsOf(["--enable-ui", "--ui-bind-address=:8082"])).toEqual([
      "--ui-bind-address: port 8082 is taken by --gate-bind-address: give each a port of its own",
    ]);
    expect(problemsOf(["--enable-ui", "--ui-bind-address="])[0]).toContain("--ui-bind-address");
    expect(configOf(["--ui-bind-address=nonsense"]).ui).toBeUndefined();
    expect(configOf(["--enable-ui", "--ui-auth=none"]).ui).toEqual({ host: undefined, port: 8085, auth: "none" });
    expect(configOf(["--enable-ui"]).ui?.auth).toBe("kubernetes");
    expect(problemsOf(["--ui-auth=basic"])[0]).toContain("--ui-auth");
  });

  test.each(["allowed-action-hosts", "allowed-kubeconfig-hosts"])("a malformed glob of --%s is refused", (flag) => {
    expect(problemsOf([`--${flag}=*.example`, `--${flag}=[a-z`])).toEqual([
      `--${flag}: "[a-z" is no glob: close its bracket, or leave it out`,
    ]);
  });

  test("never a credential", () => {
    const args = ["--rollback-store-s3-secret-key=canary", "--events-addr=ftp://u:canary@h/?t=canary"];
    expect(problemsOf(args).join("\n")).not.toContain("canary");
  });
});

describe("flags and environment", () => {
  test("[60.2] a variable is read, and the flag wins", () => {
    const env = { STAGESET_LOG_LEVEL: "debug" };
    expect(configOf([], env).logLevel).toBe("debug");
    expect(configOf(["--log-level=warn"], env).logLevel).toBe("warn");
    expect(configOf(["-log-level", "warn"], env).logLevel).toBe("warn");
  });

  test("an empty variable is unset", () => {
    expect(configOf([], { STAGESET_GATE_BIND_ADDRESS: "" }).gate).toEqual({ host: undefined, port: 8082 });
  });

  test("[60.2] namespaces are trimmed and empty ones dropped", () => {
    expect(configOf([], { STAGESET_WATCH_NAMESPACES: "a,,b " }).namespaces).toEqual(["a", "b"]);
    expect(configOf(["--watch-namespaces= , "]).namespaces).toBeUndefined();
  });

  test("a scalar given twice: the last wins", () => {
    expect(configOf(["--log-level=error", "--log-level=warn"]).logLevel).toBe("warn");
  });

  test("an empty runbook base means no links", () => {
    expect(configOf([]).runbookBaseUrl).toBe("docs/runbooks");
    expect(configOf(["--runbook-base-url="]).runbookBaseUrl).toBeUndefined();
  });

  test("0 and empty switch listeners off where the table says so", () => {
    const { metrics, health, gate } = configOf([
      "--metrics-bind-address=0",
      "--health-probe-bind-address=",
      "--gate-bind-address=",
      ownPort,
    ]);
    expect([metrics, health, gate]).toEqual([undefined, undefined, undefined]);
    expect(configOf(["--metrics-bind-address="]).metrics?.port).toBe(8080);
  });
});

test("help names every flag and fits a terminal", () => {
  const help = renderHelp();
  for (const { name } of controllerFlags) expect(help).toContain(`--${name}`);
  for (const line of help.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
});
