import { describe, expect, test } from "vitest";
import type { Cron } from "./cron.ts";
import { neverFires, parseCron } from "./cron.ts";

const all = (from: number, to: number, step = 1): readonly number[] =>
  Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, index) => from + index * step);

const always: Cron = {
  minutes: all(0, 59),
  hours: all(0, 23),
  days: all(1, 31),
  months: all(1, 12),
  weekdays: all(0, 6),
  dayMatch: "both",
  zone: "UTC",
};
const midnight = { minutes: [0], hours: [0] };

const accepted: readonly (readonly [text: string, value: Partial<Cron>])[] = [
  ["* * * * *", {}],
  ["? ? ? ? ?", {}],
  ["0 0 * * *", midnight],
  ["  0\t0 *  * * ", midnight],
  ["05 009 * * *", { minutes: [5], hours: [9] }],
  ["0,30 8,20 * * *", { minutes: [0, 30], hours: [8, 20] }],
  ["30,0,30 * * * *", { minutes: [0, 30] }],
  ["1-3 * * * *", { minutes: [1, 2, 3] }],
  ["5-5 * * * *", { minutes: [5] }],
  ["*/15 * * * *", { minutes: [0, 15, 30, 45] }],
  ["?/20 * * * *", { minutes: [0, 20, 40] }],
  ["*/60 * * * *", { minutes: [0] }],
  ["*/1 * * * *", {}],
  ["*/99999999999999999999 * * * *", { minutes: [0] }],
  ["50/3 * * * *", { minutes: [50, 53, 56, 59] }],
  ["10-20/5 * * * *", { minutes: [10, 15, 20] }],
  ["0-4,50/5,30 * * * *", { minutes: [0, 1, 2, 3, 4, 30, 50, 55] }],
  ["0 0 1 jan *", { ...midnight, days: [1], months: [1] }],
  ["0 0 1 JAN,dEc *", { ...midnight, days: [1], months: [1, 12] }],
  ["0 0 * mar-may *", { ...midnight, months: [3, 4, 5] }],
  ["0 0 * nov/1 *", { ...midnight, months: [11, 12] }],
  ["0 0 * * sun", { ...midnight, weekdays: [0] }],
  ["0 0 * * Mon-FRI", { ...midnight, weekdays: [1, 2, 3, 4, 5] }],
  ["0 0 * * 0,6", { ...midnight, weekdays: [0, 6] }],
  ["0 0 * * mon/2", { ...midnight, weekdays: [1, 3, 5] }],
  ["0 0 13 * fri", { ...midnight, days: [13], weekdays: [5], dayMatch: "either" }],
  ["0 0 */2 * 1", { ...midnight, days: all(1, 31, 2), weekdays: [1], dayMatch: "either" }],
  ["0 0 13 * */2", { ...midnight, days: [13], weekdays: [0, 2, 4, 6], dayMatch: "either" }],
  ["0 0 */1 * 1", { ...midnight, weekdays: [1] }],
  ["0 0 13 * */1", { ...midnight, days: [13] }],
  ["0 0 ? * 1", { ...midnight, weekdays: [1] }],
  ["0 0 1-31 * 1", { ...midnight, weekdays: [1], dayMatch: "either" }],
  ["0 0 13 * *,5", { ...midnight, days: [13] }],
  ["0 0 29 2 *", { ...midnight, days: [29], months: [2] }],
  ["0 0 31 4 1", { ...midnight, days: [31], months: [4], weekdays: [1], dayMatch: "either" }],
  ["0 0 30-31 2,3 *", { ...midnight, days: [30, 31], months: [2, 3] }],
  ["@yearly", { ...midnight, days: [1], months: [1] }],
  ["@annually", { ...midnight, days: [1], months: [1] }],
  ["@monthly", { ...midnight, days: [1] }],
  ["@weekly", { ...midnight, weekdays: [0] }],
  ["@daily", midnight],
  ["@midnight", midnight],
  ["@hourly", { minutes: [0] }],
  ["TZ=Europe/Berlin 0 0 * * *", { ...midnight, zone: "Europe/Berlin" }],
  ["CRON_TZ=America/New_York 0 0 * * *", { ...midnight, zone: "America/New_York" }],
  ["TZ=UTC @daily", midnight],
  ["CRON_TZ=Asia/Tokyo @hourly", { minutes: [0], zone: "Asia/Tokyo" }],
  ["TZ=Etc/GMT+5 0 0 * * *", { ...midnight, zone: "Etc/GMT+5" }],
];

const rejected: readonly string[] = [
  "",
  " ",
  "*",
  "0 0 * *",
  "0 0 * * * *",
  "0 0 * * * 2026",
  "0 0 * * 7",
  "0 0 * * 5-7",
  "60 * * * *",
  "0 24 * * *",
  "0 0 0 * *",
  "0 0 32 * *",
  "0 0 * 0 *",
  "0 0 * 13 *",
  "-1 * * * *",
  "5-1 * * * *",
  "0 0 * * fri-mon",
  "0 0 * * monday",
  "0 0 * january *",
  "0 0 jan * *",
  "mon 0 * * *",
  "0 0 * sun *",
  "*/0 * * * *",
  "*/-1 * * * *",
  "*/x * * * *",
  "1-2-3 * * * *",
  "1/2/3 * * * *",
  "*-5 * * * *",
  "1, * * * *",
  ",1 * * * *",
  "1,,2 * * * *",
  "1.5 * * * *",
  "+1 * * * *",
  "L 0 * * *",
  "0 0 L * *",
  "0 0 15W * *",
  "0 0 * * 1#2",
  "H * * * *",
  "@every 1h",
  "@reboot",
  "@Daily",
  "@fortnightly",
  "TZ=UTC",
  "TZ=UTC ",
  "CRON_TZ=UTC",
  "TZ= 0 0 * * *",
  "TZ=Local 0 0 * * *",
  "TZ=Mars/Olympus 0 0 * * *",
  "TZ=+01:00 0 0 * * *",
  "TZ=UTC TZ=UTC 0 0 * * *",
  "TZ=UTC @every 1h",
  "tz=UTC 0 0 * * *",
  "* ".repeat(50_000),
  `${"1,".repeat(50_000)}x * * * *`,
  `${"9".repeat(100_000)} * * * *`,
  `TZ=${"A".repeat(100_000)} * * * * *`,
];

describe("parseCron", () => {
  test.each(accepted)("[10.18] accepted: cron %j", (text, value) => {
    expect(parseCron(text)).toEqual({ kind: "cron", cron: { ...always, ...value } });
  });

  test.each(rejected.map((text) => [text.slice(0, 40), text] as const))("[10.18] rejected: cron %j", (_short, text) => {
    expect(parseCron(text).kind).toBe("malformed");
  });

  test("[10.18] a zone in the text wins over the one beside it", () => {
    const zoneOf = (text: string): string | undefined => {
      const parsed = parseCron(text, "Europe/Paris");
      return parsed.kind === "cron" ? parsed.cron.zone : undefined;
    };
    expect(zoneOf("@daily")).toBe("Europe/Paris");
    expect(zoneOf("TZ=Asia/Tokyo @daily")).toBe("Asia/Tokyo");
  });

  test.each(["Local", "", "Nowhere", "+02:00", "Europe/Berlin "])("[10.18] rejected: zone %j", (zone) => {
    expect(parseCron("@daily", zone).kind).toBe("malformed");
  });

  test.each(["UTC", "Europe/Berlin", "US/Pacific", "America/Argentina/Buenos_Aires", "Etc/GMT-14"])(
    "[10.18] accepted: zone %j",
    (zone) => {
      expect(parseCron("@daily", zone).kind).toBe("cron");
    },
  );
});

describe("neverFires", () => {
  test.each([
    ["0 0 31 4 *", true],
    ["0 0 30 2 *", true],
    ["0 0 30,31 feb *", true],
    ["0 0 31 2,4,6,9,11 *", true],
    ["0 0 29 2 *", false],
    ["0 0 31 4 1", false],
    ["0 0 31 4,5 *", false],
    ["@yearly", false],
  ])("%s: %s", (text, never) => {
    const parsed = parseCron(text);
    expect(parsed.kind === "cron" && neverFires(parsed.cron)).toBe(never);
  });
});
