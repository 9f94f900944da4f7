import { expect, test } from "vitest";
import { mergeEvents } from "../support/merged-events.ts";

const line = (type: string, name: string, resourceVersion: string): string =>
  JSON.stringify({ type, object: { metadata: { namespace: "apps", name, resourceVersion } } });

test.each([
  ["changes of one object", ["MODIFIED a 1", "MODIFIED a 2"], ["MODIFIED a 2"]],
  ["one that is new", ["ADDED a 1", "MODIFIED a 2"], ["ADDED a 2"]],
  ["one that goes", ["MODIFIED a 1", "DELETED a 2"], ["DELETED a 2"]],
  ["one that came and went", ["ADDED a 1", "MODIFIED a 2", "DELETED a 3"], []],
  ["one that came, went and came again", ["ADDED a 1", "DELETED a 2", "ADDED a 3"], ["ADDED a 3"]],
  ["one that was made anew", ["DELETED a 1", "ADDED a 2", "MODIFIED a 3"], ["MODIFIED a 3"]],
  ["several", ["ADDED a 1", "ADDED b 2", "MODIFIED c 3", "MODIFIED a 4"], ["ADDED b 2", "MODIFIED c 3", "ADDED a 4"]],
])("a watch that fell behind: %s", (_what, before, after) => {
  const lines = (from: readonly string[]) =>
    from.map((each) => {
      const [type = "", name = "", version = ""] = each.split(" ");
      return line(type, name, version);
    });
  expect(mergeEvents(lines(before))).toEqual(lines(after));
});
