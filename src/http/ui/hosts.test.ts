import { expect, test } from "vitest";
import { isLocalHost } from "./hosts.ts";

test.each([
  "127.0.0.1:8085",
  "10.1.2.3",
  "[::1]:8085",
  "[fd00::7]",
  "localhost",
  "LocalHost:8085",
  "localhost.:8085",
  "stageset-controller-ui.stageset-system.svc",
  "stageset-controller-ui.stageset-system.svc:8085",
  "stageset-controller-ui.stageset-system.svc.cluster.local.:8085",
])("%s leads here and nowhere else", (host) => expect(isLocalHost(host)).toBe(true));

test.each([
  "",
  "rebound.example.com",
  "127.0.0.1.example.com:8085",
  "localhost.example.com",
  "ui.svc.example.com",
  "ui.svc.cluster.local.example.com",
  "svc",
  ".svc",
  "evil.com/.svc",
  "[::1].example.com",
  "[127.0.0.1]",
  "::1",
  "localhost:",
  "127.1",
  "localhost@example.com",
])("%s may lead anywhere", (host) => expect(isLocalHost(host)).toBe(false));
