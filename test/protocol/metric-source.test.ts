import { gzipSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { MetricSource } from "../../src/api/stage-set.ts";
import { startPrometheus, type DeliveryProgram } from "../../src/dev/delivery-programs.ts";
import { hostAllowance } from "../../src/domain/formats/host-glob.ts";
import type { MetricAnswer } from "../../src/domain/metrics/metric-answer.ts";
import { createMetricReader, type MetricReaderOptions } from "../../src/engine/metrics/metric-source.ts";
import { createManualClock, systemClock, type Clock } from "../../src/lib/clock.ts";
import { createGuardedFetch } from "../../src/outbound/guard.ts";
import { eventually } from "../support/eventually.ts";
import {
  promAnswer,
  promValue,
  startMetricServer,
  type MetricReply,
  type MetricServer,
} from "../support/metric-server.ts";

const never = new AbortController().signal;
let server: MetricServer;
beforeAll(async () => {
  server = await startMetricServer();
});
afterAll(() => server[Symbol.asyncDispose]());
afterEach(() => server.reply(() => ({ status: 404 })));

/** No Secret is named here, so no identity is asked for. */
const owner = (name = "shop") => ({
  namespace: "apps",
  name,
  access: () => Promise.reject(new Error("no Secret is to be read")),
});
const readerOf = (o: Partial<MetricReaderOptions> = {}) => {
  const clock = o.clock ?? systemClock;
  return createMetricReader({
    fetch: createGuardedFetch({ allowLoopback: true, clock }),
    isAllowedHost: undefined,
    ...o,
    clock,
  });
};
const read = (source: MetricSource, o: Partial<MetricReaderOptions> = {}): Promise<MetricAnswer> =>
  readerOf(o)(source, { owner: owner(), signal: never });
const prometheus = (address = server.url): MetricSource => ({ prometheus: { address, query: "slo:left" } });
const webhook = (jsonPath: string, url = `${server.url}/slo`): MetricSource => ({ webhook: { url, jsonPath } });
/** What the query comes to: the number, or the problem without the URL it names first. */
const outcome = (answer: MetricAnswer): unknown =>
  answer.kind === "value" ? answer.value : answer.problem.replace(/^"[^"]*": /, "");

describe("an answer of Prometheus", () => {
  const rows: readonly (readonly [string, MetricReply, unknown])[] = [
    ["a scalar", promAnswer("scalar", [1, "0.02"]), 0.02],
    ["a vector of one sample", promValue("-0.1"), -0.1],
    ["a number with an exponent", promValue("1.5e-05"), 0.000015],
    ["no sample", promAnswer("vector", []), "the query yields 0 samples, want one"],
    [
      "two samples",
      promAnswer("vector", [{ value: [1, "1"] }, { value: [1, "2"] }]),
      "the query yields 2 samples, want one",
    ],
    ["NaN", promValue("NaN"), "the value is not a finite number"],
    ["+Inf", promValue("+Inf"), "the value is not a finite number"],
    ["-Inf", promAnswer("scalar", [1, "-Inf"]), "the value is not a finite number"],
    ["a number beyond a double", promValue("1e999"), "the value is not a finite number"],
    ["a value that is no text", promAnswer("vector", [{ value: [1, 7] }]), "the sample has no value"],
    ["a histogram", promAnswer("vector", [{ histogram: [1, {}] }]), "the sample is a histogram, want a number"],
    [
      "a range",
      promAnswer("matrix", [{ values: [[1, "1"]] }]),
      "the query does not yield a scalar or an instant vector: want one number",
    ],
    [
      "a text",
      promAnswer("string", [1, "1"]),
      "the query does not yield a scalar or an instant vector: want one number",
    ],
    [
      "an error with status 200",
      { body: '{"status":"error","error":"secret"}' },
      'the answer of Prometheus does not have status "success"',
    ],
    ["404", { status: 404, body: "a secret" }, "the server answered 404, want 2xx"],
    ["what is no JSON", { body: "<html>a secret</html>" }, "the answer is not JSON"],
    ["nothing", { status: 204 }, "the answer is not JSON"],
  ];
  test.each(rows)("[40.9] %s", async (_what, reply, wanted) => {
    server.reply(() => reply);
    expect(outcome(await read(prometheus()))).toBe(wanted);
  });
});

describe("an answer of a webhook", () => {
  const rows: readonly (readonly [string, string, string, unknown])[] = [
    ["a number", "{.slo.left}", '{"slo":{"left":0.25}}', 0.25],
    ["a number, without braces", ".slo.left", '{"slo":{"left":-1}}', -1],
    ["a text that is a number", "{.left}", '{"left":"0.5"}', 0.5],
    ["one item of a list", "{.items[?(@.name=='a')].left}", '{"items":[{"name":"a","left":3},{"left":4}]}', 3],
    ["a missing key", "{.left}", "{}", 'jsonPath selects no number: field "left" is not found'],
    [
      "several numbers",
      "{.items[*]}",
      '{"items":[1,2]}',
      "jsonPath selects no number: 2 values are selected, want one",
    ],
    ["an object", "{.left}", '{"left":{}}', "jsonPath selects no number: the value is no number"],
    ["a boolean", "{.left}", '{"left":true}', "jsonPath selects no number: the value is no number"],
    ["null", "{.left}", '{"left":null}', "jsonPath selects no number: the value is no number"],
    ["a text that is none", "{.left}", '{"left":"NaN"}', "jsonPath selects no number: the value is no number"],
    ["a number beyond a double", "{.left}", '{"left":1e999}', "jsonPath selects no number: the value is no number"],
    ["nested arrays", "{.left}", "[".repeat(200_000), "the answer is nested deeper than 100"],
    [
      "more values than are looked at",
      "{..left}",
      JSON.stringify({ items: Array.from({ length: 20_000 }, () => 1) }),
      "jsonPath selects no number: it selects too many values",
    ],
  ];
  test.each(rows)("[40.9] %s", async (_what, jsonPath, body, wanted) => {
    server.reply(() => ({ body }));
    expect(outcome(await read(webhook(jsonPath)))).toBe(wanted);
  });

  test("brackets within a text do not count as nesting", async () => {
    server.reply(() => ({ body: JSON.stringify({ text: `\\"${"[{".repeat(500)}`, left: 1 }) }));
    expect(outcome(await read(webhook("{.left}")))).toBe(1);
  });
});

describe("what is asked", () => {
  const paths: readonly (readonly [string, string, string])[] = [
    ["an address without a path", "", "/api/v1/query?query=slo%3Aleft"],
    ["an address that ends with a slash", "/prom/", "/prom/api/v1/query?query=slo%3Aleft"],
    ["an address with parameters", "/?dedup=true&query=x", "/api/v1/query?dedup=true&query=slo%3Aleft"],
  ];
  test.each(paths)("[40.9] %s", async (_what, path, asked) => {
    server.reply(() => promValue(1));
    const before = server.queries.length;
    expect(outcome(await read(prometheus(`${server.url}${path}`)))).toBe(1);
    const [query, ...others] = server.queries.slice(before);
    expect(others).toEqual([]);
    expect(query?.path).toBe(asked);
    expect(query?.headers).toMatchObject({ accept: "application/json" });
    expect(query?.headers.authorization).toBeUndefined();
  });

  test("[40.9] a redirect is followed, and the number read from where it leads", async () => {
    server.reply(({ path }) =>
      path.startsWith("/slo") ? { status: 307, headers: { location: "/elsewhere" } } : { body: '{"left":4}' },
    );
    expect(outcome(await read(webhook("{.left}")))).toBe(4);
  });
});

describe("where no request goes", () => {
  const rows: readonly (readonly [string, string, string])[] = [
    [
      "169.254.169.254",
      "http://169.254.169.254/",
      "the URL leads to an address that is never connected to (link-local)",
    ],
    [
      "::ffff:127.0.0.1",
      "http://[::ffff:127.0.0.1]/",
      "the URL leads to an address that is never connected to (loopback)",
    ],
    ["100.100.100.200", "http://100.100.100.200/", "the URL leads to an address that is never connected to (metadata)"],
    ["user information", "http://user:secret@127.0.0.1/", "the URL carries credentials"],
  ];
  test.each(rows)("[40.9] %s", async (_what, address, wanted) => {
    const answer = await read(prometheus(address));
    expect(outcome(answer)).toBe(wanted);
    expect(JSON.stringify(answer)).not.toContain("secret");
  });

  test("[40.9] loopback, unless it is allowed", async () => {
    const fetch = createGuardedFetch({ allowLoopback: false, clock: systemClock });
    const before = server.queries.length;
    expect(outcome(await read(prometheus(), { fetch }))).toBe(
      "the URL leads to an address that is never connected to (loopback)",
    );
    expect(server.queries).toHaveLength(before);
  });

  test("[40.9] a host that --allowed-action-hosts does not name, as the URL's or as a redirect's", async () => {
    const isAllowedHost = hostAllowance(["127.0.0.*"]);
    const before = server.queries.length;
    expect(outcome(await read(prometheus(server.url.replace("127.0.0.1", "localhost")), { isAllowedHost }))).toBe(
      "the URL leads to a host that --allowed-action-hosts does not allow",
    );
    expect(server.queries).toHaveLength(before);
    server.reply(() => ({ status: 302, headers: { location: `http://localhost:${server.port}/` } }));
    expect(outcome(await read(prometheus(), { isAllowedHost }))).toBe(
      "a redirect leads to a host that --allowed-action-hosts does not allow",
    );
    expect(server.queries).toHaveLength(before + 1);
    server.reply(() => promValue(2));
    expect(outcome(await read(prometheus(), { isAllowedHost }))).toBe(2);
  });
});

describe("what bounds a query", () => {
  const mebibyte = 1024 * 1024;
  const padded = (bytes: number) => {
    const rest = '{"left":1,"pad":""}'.length;
    return `{"left":1,"pad":"${"x".repeat(bytes - rest)}"}`;
  };
  test("[40.9] 2 MiB are too many, 1 MiB is not, and packed ones count as they are unpacked", async () => {
    server.reply(() => ({ body: padded(mebibyte) }));
    expect(outcome(await read(webhook("{.left}")))).toBe(1);
    server.reply(() => ({ body: padded(mebibyte + 1) }));
    expect(outcome(await read(webhook("{.left}")))).toBe("the answer is larger than 1048576 bytes");
    server.reply(() => ({ body: padded(2 * mebibyte) }));
    expect(outcome(await read(webhook("{.left}")))).toBe("the answer is larger than 1048576 bytes");
    const packed = (body: string) => ({ headers: { "content-encoding": "gzip" }, body: gzipSync(body) });
    server.reply(() => packed(padded(mebibyte)));
    expect(outcome(await read(webhook("{.left}")))).toBe(1);
    server.reply(() => packed(padded(2 * mebibyte)));
    expect(outcome(await read(webhook("{.left}")))).toBe("the answer is larger than 1048576 bytes");
  });

  test("[40.9] a packing that is broken or another one", async () => {
    server.reply(() => ({ headers: { "content-encoding": "gzip" }, body: "not packed" }));
    expect(outcome(await read(webhook("{.left}")))).toBe("the answer cannot be unpacked");
    server.reply(() => ({ headers: { "content-encoding": "br" }, body: "x" }));
    expect(outcome(await read(webhook("{.left}")))).toBe("the answer has another content-encoding than gzip");
  });

  test("[40.9] 5xx and a refused connection are tried once more after 1 s, 4xx is not", async () => {
    const manual = createManualClock();
    const waits: number[] = [];
    const noting = (clock: Clock): Clock => ({
      now: () => clock.now(),
      monotonic: () => clock.monotonic(),
      timer(delayMs, run) {
        waits.push(delayMs);
        return clock.timer(delayMs, run);
      },
    });
    const retries = (): number => waits.filter((ms) => ms === 1_000).length;
    const clock = noting(manual);
    const replies = [{ status: 503 }, promValue(7)];
    server.reply(() => replies.shift() ?? { status: 500 });
    const before = server.queries.length;
    const asked = read(prometheus(), { clock });
    await eventually(() => retries() === 1);
    manual.advance(999);
    await settled();
    expect(server.queries).toHaveLength(before + 1);
    manual.advance(1);
    expect(outcome(await asked)).toBe(7);
    // Nor a third time.
    const again = read(prometheus(), { clock });
    await eventually(() => retries() === 2);
    manual.advance(1_000);
    expect(outcome(await again)).toBe("the server answered 500, want 2xx");
    expect(server.queries).toHaveLength(before + 4);
    server.reply(() => ({ status: 403 }));
    expect(outcome(await read(prometheus(), { clock }))).toBe("the server answered 403, want 2xx");
    expect([server.queries.length, retries()]).toEqual([before + 5, 2]);
    const gone = await startMetricServer();
    await gone[Symbol.asyncDispose]();
    const refused = read(prometheus(gone.url), { clock: noting(systemClock) });
    expect(outcome(await refused)).toBe("cannot reach the server (ECONNREFUSED)");
    expect(retries()).toBe(3);
  });

  test("[40.9] an answer that does not come is left after 30 s, redirects and retry included", async () => {
    const clock = createManualClock();
    server.reply(() => new Promise(() => undefined));
    const before = server.queries.length;
    const asked = read(prometheus(), { clock });
    await eventually(() => server.queries.length === before + 1);
    clock.advance(30_000);
    expect(outcome(await asked)).toBe("the query took longer than 30000 ms");
    await eventually(() => server.open === 0);
  });

  test("an abort ends it with its reason", async () => {
    server.reply(() => new Promise(() => undefined));
    const abort = new AbortController();
    const before = server.queries.length;
    const asked = readerOf()(prometheus(), { owner: owner(), signal: abort.signal });
    await eventually(() => server.queries.length === before + 1);
    abort.abort(new RangeError("enough"));
    await expect(asked).rejects.toThrow(RangeError);
    await eventually(() => server.open === 0);
  });

  test("four queries of one StageSet run at once, thirty-two of the process, and none waits behind another's", async () => {
    const held = Promise.withResolvers<MetricReply>();
    server.reply(() => held.promise);
    const reader = readerOf();
    const ask = (name: string) => reader(prometheus(), { owner: owner(name), signal: never });
    const asked = Array.from({ length: 6 }, () => ask("first"));
    await eventually(() => server.open === 4);
    for (const name of ["a", "b", "c", "d", "e", "f", "g", "h"])
      asked.push(...Array.from({ length: 4 }, () => ask(name)));
    await eventually(() => server.open === 32);
    await settled();
    expect(server.open).toBe(32);
    held.resolve(promValue(1));
    expect((await Promise.all(asked)).map(outcome)).toEqual(Array.from({ length: 38 }, () => 1));
  });
});

describe("a real Prometheus", () => {
  let real: DeliveryProgram;
  beforeAll(async () => {
    real = await startPrometheus({ targets: [] });
  }, 600_000);
  afterAll(() => real[Symbol.asyncDispose]());
  const rows: readonly (readonly [string, unknown])[] = [
    ["vector(0.02)", 0.02],
    ["scalar(vector(-3))", -3],
    ["vector(0) / 0", "the value is not a finite number"],
    ["vector(1) / 0", "the value is not a finite number"],
    ["absent_metric", "the query yields 0 samples, want one"],
    ['label_replace(vector(1), "a", "b", "", "") or vector(2)', "the query yields 2 samples, want one"],
    ['"text"', "the query does not yield a scalar or an instant vector: want one number"],
    ["up[5m]", "the query does not yield a scalar or an instant vector: want one number"],
    ["sum(", "the server answered 400, want 2xx"],
  ];
  test.each(rows)("[40.9] %s", async (query, wanted) => {
    expect(outcome(await read({ prometheus: { address: real.url, query } }))).toBe(wanted);
  });
});

/** Lets what is under way go as far as it can. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}
