/**
 * A version as spec 30 §5.2 reads it: missing parts are 0. Numbers are below 2⁶⁴ in what is parsed; a bound derived
 * from one may be 2⁶⁴.
 */
export interface Version {
  readonly major: bigint;
  readonly minor: bigint;
  readonly patch: bigint;
  /** Identifiers after `-`; empty for a release. */
  readonly prerelease: readonly string[];
  /** What follows `+`, without it; empty when absent. It does not take part in comparisons. */
  readonly build: string;
}

const longestVersion = 256;
const largestNumber = 2n ** 64n - 1n;
const shape =
  /^v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?$/;

/** Reads a loose version: `v1.2` is 1.2.0. Space around it is ignored; undefined when it is none. */
export function parseVersion(text: string): Version | undefined {
  const trimmed = text.trim();
  if (trimmed.length > longestVersion) return undefined;
  const match = shape.exec(trimmed);
  if (match === null) return undefined;
  const [, majorText = "", minorText = "0", patchText = "0", prereleaseText, build = ""] = match;
  const major = versionNumber(majorText);
  const minor = versionNumber(minorText);
  const patch = versionNumber(patchText);
  if (major === undefined || minor === undefined || patch === undefined) return undefined;
  const prerelease = prereleaseText === undefined ? [] : prereleaseText.split(".");
  if (prerelease.some((identifier) => /^0[0-9]+$/.test(identifier))) return undefined;
  return { major, minor, patch, prerelease, build };
}

/** A part of a version; undefined when it is 2⁶⁴ or more. */
export function versionNumber(digits: string): bigint | undefined {
  const value = BigInt(digits);
  return value <= largestNumber ? value : undefined;
}

/** Below 0, 0 or above 0 by the precedence of Semantic Versioning 2.0.0 §11: a pre-release is below its release. */
export function compareVersions(a: Version, b: Version): number {
  return (
    compare(a.major, b.major) ||
    compare(a.minor, b.minor) ||
    compare(a.patch, b.patch) ||
    comparePrereleases(a.prerelease, b.prerelease)
  );
}

/** The canonical form `major.minor.patch[-pre][+build]`; equal texts are the same version, build included. */
export function renderVersion(version: Version): string {
  const prerelease = version.prerelease.length === 0 ? "" : `-${version.prerelease.join(".")}`;
  const build = version.build === "" ? "" : `+${version.build}`;
  return `${String(version.major)}.${String(version.minor)}.${String(version.patch)}${prerelease}${build}`;
}

function comparePrereleases(a: readonly string[], b: readonly string[]): number {
  if (a.length === 0 || b.length === 0) return compare(b.length, a.length);
  for (const [index, identifier] of a.entries()) {
    const other = b[index];
    if (other === undefined) return 1;
    const order = compareIdentifiers(identifier, other);
    if (order !== 0) return order;
  }
  return compare(a.length, b.length);
}

function compareIdentifiers(a: string, b: string): number {
  const aIsNumber = /^[0-9]+$/.test(a);
  const bIsNumber = /^[0-9]+$/.test(b);
  if (aIsNumber && bIsNumber) return compare(BigInt(a), BigInt(b));
  if (aIsNumber !== bIsNumber) return aIsNumber ? -1 : 1;
  return compare(a, b);
}

function compare<T extends bigint | number | string>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Whether two texts are the same version, build metadata included, however they are spelled. */
export function sameVersion(one: string, other: string): boolean {
  const [first, second] = [parseVersion(one), parseVersion(other)];
  return first !== undefined && second !== undefined && renderVersion(first) === renderVersion(second);
}
