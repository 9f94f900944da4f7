import { networkInterfaces } from "node:os";
import { expect, test } from "vitest";
import { ownAddresses } from "./own-addresses.ts";

const interfaces = {
  lo: [{ address: "127.0.0.1", internal: true }],
  eth0: [
    { address: "10.1.2.3", internal: false },
    { address: "fd00::7", internal: false },
  ],
};

test("in a pod its addresses are its own, elsewhere none is", () => {
  const pod = { KUBERNETES_SERVICE_HOST: "10.0.0.1" };
  expect(ownAddresses(pod, interfaces)).toEqual(["10.1.2.3", "fd00::7"]);
  expect(ownAddresses({}, interfaces)).toEqual([]);
  expect(ownAddresses({ KUBERNETES_SERVICE_HOST: "" }, interfaces)).toEqual([]);
  expect(() => ownAddresses(pod, networkInterfaces())).not.toThrow();
});
