import { describe, expect, test } from "vitest";
import { dialectOf } from "./accept.ts";

describe("the dialect a client asks for", () => {
  test.each<[string | undefined, "text" | "json"]>([
    [undefined, "text"],
    ["", "text"],
    ["*/*", "text"],
    ["text/*", "text"],
    ["text/plain", "text"],
    ["application/json;q=0", "text"],
    ["application/json", "json"],
    ["APPLICATION/JSON", "json"],
    ["application/*", "json"],
    ["application/json, text/plain, */*", "json"],
    ["text/plain, application/json", "json"],
    ["text/plain, application/*", "text"],
    ["text/plain;q=0.9, application/*", "json"],
    ["text/plain;q=0.5, application/json;q=0.4", "text"],
    ["application/json;q=0.5, text/plain;q=0.4", "json"],
    ["application/json;q=0.5, */*;q=0.8", "text"],
    ["application/*;q=0.2, application/json;q=0.9, text/plain;q=0.5", "json"],
    ["application/json;charset=utf-8;q=0.9, text/plain;q=0.8", "json"],
    ["application/json ; Q=1.000", "json"],
    ["application/json;q=1.0000", "text"],
    ["application/json;q=2", "text"],
    ["application/json;q=-1", "text"],
    ["application/json;q=0.1234, text/plain;q=0", "text"],
    ["application json", "text"],
    ["*/json", "text"],
    ["not a range, application/json", "json"],
    [",,application/json,,", "json"],
    [`application/json, ${"a/b, ".repeat(63)}x/y`, "text"],
    [`application/json, ${"x".repeat(4_100)}/y`, "text"],
  ])("[40.38] %s is answered as %s", (accept, dialect) => {
    expect(dialectOf(accept)).toBe(dialect);
  });
});
