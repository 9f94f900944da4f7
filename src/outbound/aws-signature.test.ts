import { expect, test } from "vitest";
import { presignedUrl, signedHeaders } from "./aws-signature.ts";

const credentials = {
  accessKeyId: "AKIDEXAMPLE",
  secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
  sessionToken: undefined,
};
const scope = { region: "us-east-1", service: "service", now: Date.UTC(2015, 7, 30, 12, 36) };

// "get-vanilla" of AWS' Signature Version 4 test suite.
test("a GET is signed as AWS does it", () => {
  expect(signedHeaders(new URL("https://example.amazonaws.com/"), credentials, scope)).toEqual({
    "x-amz-date": "20150830T123600Z",
    authorization:
      "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, " +
      "SignedHeaders=host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
  });
});

test("a URL is signed with headers, a life and the session in its query", () => {
  const url = presignedUrl(
    new URL("https://sts.eu-central-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15"),
    { ...credentials, sessionToken: "s+/=" },
    { ...scope, service: "sts", headers: { "x-k8s-aws-id": "shop" }, expiresSeconds: 60 },
  );
  const query = new URL(url).searchParams;
  expect(query.get("X-Amz-SignedHeaders")).toBe("host;x-k8s-aws-id");
  expect(query.get("X-Amz-Expires")).toBe("60");
  expect(query.get("X-Amz-Security-Token")).toBe("s+/=");
  expect(url).toContain("X-Amz-Security-Token=s%2B%2F%3D");
  expect(url).toMatch(/&X-Amz-Signature=[0-9a-f]{64}$/);
});
