const memorySection = 5;

/**
 * The module with a maximum for its one memory, in pages of 64 KiB: growing past it fails inside the program. Limits of
 * worker threads do not bound WebAssembly memory.
 *
 * @throws {RangeError} when it is no module with a memory of its own, without a maximum, that starts below this one
 */
export function withMemoryMaximum(module: Uint8Array, maximumPages: number): Uint8Array<ArrayBuffer> {
  let at = 8; // Magic number and version.
  while (at < module.byteLength) {
    const id = module[at];
    const length = readUnsigned(module, at + 1);
    const end = length.end + length.value;
    if (id !== memorySection) {
      at = end;
      continue;
    }
    const count = readUnsigned(module, length.end);
    const flags = readUnsigned(module, count.end);
    const minimum = readUnsigned(module, flags.end);
    if (count.value !== 1 || flags.value !== 0 || minimum.value > maximumPages) break;
    const body = [1, 1, ...writeUnsigned(minimum.value), ...writeUnsigned(maximumPages)];
    const section = Uint8Array.from([memorySection, ...writeUnsigned(body.length), ...body]);
    const patched = new Uint8Array(at + section.byteLength + module.byteLength - end);
    patched.set(module.subarray(0, at));
    patched.set(section, at);
    patched.set(module.subarray(end), at + section.byteLength);
    return patched;
  }
  throw new RangeError("the module's memory cannot be given a maximum");
}

/** LEB128, as WebAssembly encodes sizes. */
function readUnsigned(bytes: Uint8Array, at: number): { readonly value: number; readonly end: number } {
  let value = 0;
  for (let index = 0; index < 5; index++) {
    const byte = bytes[at + index] ?? 0;
    value += (byte & 0x7f) * 2 ** (7 * index);
    if (byte < 0x80) return { value, end: at + index + 1 };
  }
  throw new RangeError("not a WebAssembly module");
}

function writeUnsigned(value: number): readonly number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...writeUnsigned(Math.floor(value / 0x80))];
}
