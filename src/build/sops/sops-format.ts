import { posix } from "node:path";

/** `binary`: a whole file as one value, in an envelope of JSON. */
export type SopsFormat = "yaml" | "json" | "dotenv" | "ini" | "binary";

/** What a file of this name is (spec 50 §3.1). */
export function formatOf(name: string): SopsFormat {
  switch (posix.extname(name)) {
    case ".yaml":
    case ".yml":
      return "yaml";
    case ".json":
      return "json";
    case ".env":
      return "dotenv";
    case ".ini":
      return "ini";
    default:
      // `posix` takes a name like `.env` for one without an ending.
      return posix.basename(name) === ".env" ? "dotenv" : "binary";
  }
}

/** The format of a text by what SOPS leaves in it; `yaml` stands for JSON and whole files, too. */
export function formatByMarkers(bytes: Uint8Array): SopsFormat {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (text.includes("\nsops_mac=") || text.subarray(0, 9).equals(Buffer.from("sops_mac="))) return "dotenv";
  return /^\[sops\]\s*$/m.test(text.toString("latin1")) ? "ini" : "yaml";
}
