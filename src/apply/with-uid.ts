const quote = 0x22;
const backslash = 0x5c;
const [openBrace, closeBrace, openBracket, closeBracket] = [0x7b, 0x7d, 0x5b, 0x5d];
const member = new TextEncoder().encode('"metadata":{');

/**
 * The manifest with `metadata.uid` set: applied so, it changes that one object or nothing. Without it a late apply would
 * create anew what somebody else has deleted meanwhile. Bytes before and after are kept, so big integers keep their
 * digits.
 *
 * @param body compact JSON of an object with a `metadata` object that has members and no uid
 * @throws {TypeError} when `body` is something else
 */
export function withUid(body: Uint8Array, uid: string): Uint8Array {
  const at = metadataMembers(body);
  if (at === undefined) throw new TypeError("the manifest has no metadata");
  const inserted = new TextEncoder().encode(`"uid":${JSON.stringify(uid)},`);
  const result = new Uint8Array(body.length + inserted.length);
  result.set(body.subarray(0, at));
  result.set(inserted, at);
  result.set(body.subarray(at), at + inserted.length);
  return result;
}

/** Where the members of the outermost `metadata` begin. */
function metadataMembers(body: Uint8Array): number | undefined {
  let depth = 0;
  let inText = false;
  for (let index = 0; index < body.length; index++) {
    const byte = body[index];
    if (inText) {
      if (byte === backslash) index++;
      else if (byte === quote) inText = false;
      continue;
    }
    if (byte === openBrace || byte === openBracket) depth++;
    else if (byte === closeBrace || byte === closeBracket) depth--;
    else if (byte === quote) {
      if (depth === 1 && isMember(body, index)) return index + member.length;
      inText = true;
    }
  }
  return undefined;
}

function isMember(body: Uint8Array, at: number): boolean {
  return member.every((byte, offset) => body[at + offset] === byte);
}
