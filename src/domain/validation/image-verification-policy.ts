import {
  parseImageVerificationPolicy,
  type Authority,
  type ImageVerificationPolicySpec,
} from "../../api/image-verification-policy.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import { isPublicKeyPem } from "../formats/public-key.ts";
import { isAnchored, regularExpressionProblem } from "../formats/regular-expression.ts";
import { deny, exactlyOneProblem, type Finding, inside, type Place, quote, root, warn } from "./finding.ts";
import { aboutReadItems } from "./unread-items.ts";
import { renderReview, type Review } from "./validate-stored.ts";

/** Everything that can be said about an ImageVerificationPolicy as it is sent or stored, whatever it holds. */
export function reviewImageVerificationPolicy(object: KubeObject): Review {
  const parsed = parseImageVerificationPolicy(object);
  const spec = parsed.kind === "valid" ? parsed.value.spec : parsed.readable?.spec;
  const found = spec === undefined ? [] : [...imageVerificationPolicyFindings(spec)];
  return parsed.kind === "valid"
    ? renderReview([], found)
    : renderReview(parsed.violations, aboutReadItems(found, { stored: object["spec"], read: spec }));
}

/** V35: a policy that fits the schema. */
export function* imageVerificationPolicyFindings(spec: ImageVerificationPolicySpec): Generator<Finding> {
  const images = inside(root, "images");
  if (spec.images.length === 0) yield deny("V35", images, "is empty, want at least one image glob");
  yield* blankGlobs(images, spec.images);
  yield* blankGlobs(inside(root, "skip"), spec.skip ?? []);
  const attestations = spec.requireAttestations ?? [];
  if (attestations.length > 0)
    yield deny(
      "V35",
      inside(root, "requireAttestations"),
      `names ${quote(attestations[0]?.predicateType ?? "")}, want none: attestations are not enforced yet`,
    );
  const authorities = spec.authorities ?? [];
  if (authorities.length === 0)
    yield deny("V35", inside(root, "authorities"), "is empty, want at least one signer that is accepted");
  for (const [index, authority] of authorities.entries())
    yield* authorityFindings(inside(inside(root, "authorities"), `[${index}]`), authority);
}

function* blankGlobs(place: Place, globs: readonly string[]): Generator<Finding> {
  for (const [index, glob] of globs.entries())
    if (glob.trim() === "")
      yield deny("V35", inside(place, `[${index}]`), `is ${quote(glob)}, want a glob such as "ghcr.io/example/**"`);
}

function* authorityFindings(place: Place, authority: Authority): Generator<Finding> {
  const problem = exactlyOneProblem(authority, ["keyless", "key"]);
  if (problem !== undefined) yield deny("V35", place, problem);
  const { keyless, key } = authority;
  if (key !== undefined && !isPublicKeyPem(key.publicKey))
    yield deny(
      "V35",
      inside(inside(place, "key"), "publicKey"),
      `is ${quote(key.publicKey)}, want one PEM block "PUBLIC KEY" with an ECDSA, RSA or Ed25519 key`,
    );
  if (keyless === undefined) return;
  const at = inside(place, "keyless");
  for (const pair of [
    ["issuer", "issuerRegExp"],
    ["subject", "subjectRegExp"],
  ] as const) {
    const unfit = exactlyOneProblem(keyless, pair);
    if (unfit !== undefined) yield deny("V35", at, unfit);
    const [, member] = pair;
    const text = keyless[member];
    if (text !== undefined) yield* expressionFindings(inside(at, member), text);
  }
}

function* expressionFindings(place: Place, text: string): Generator<Finding> {
  const problem = regularExpressionProblem(text);
  if (problem !== undefined)
    yield deny("V35", place, `is ${quote(text)}, want a regular expression of RE2: ${problem}`);
  else if (!isAnchored(text))
    yield warn("V35", place, `is ${quote(text)}, which also matches within a longer text, want "^…$" around it`);
}
