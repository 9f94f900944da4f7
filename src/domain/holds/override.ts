import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import type { StageSetSpec } from "../../api/stage-set.ts";
import type { Pin } from "../pins.ts";

/** Pins are fixed for a run and asked about in each of its steps. */
const hashes = new WeakMap<readonly Pin[], string>();

/**
 * What an override lets through, as `updateOverrideFor` names it (spec 40 §1): hex SHA-256 over the sorted lines
 * `stage\0revision\0digest`, joined by line feeds.
 */
export function pinsHash(stages: StageSetSpec["stages"], pins: readonly Pin[]): string {
  const known = hashes.get(pins);
  if (known !== undefined) return known;
  const lines = pins.map(({ revision, digest }, index) => `${stages[index]?.name ?? ""}\0${revision}\0${digest}`);
  const hash = bytesToHex(sha256(utf8ToBytes(lines.toSorted().join("\n"))));
  hashes.set(pins, hash);
  return hash;
}
