/** The part of the WebAssembly API in use: Node's own types leave it to those of browsers. */
interface WasmRuntime {
  /** Compiles on the calling thread. */
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => WasmModule;
  readonly Instance: new (module: WasmModule, imports: WasmImports) => WasmInstance;
  readonly Memory: new (o: { readonly initial: number }) => WasmMemory;
  /** A trap. */
  readonly RuntimeError: new () => Error;
}

export interface WasmModule {
  readonly exports?: undefined;
}

export interface WasmInstance {
  readonly exports: Readonly<Record<string, unknown>>;
}

export interface WasmMemory {
  /** Another one each time the memory has grown. */
  readonly buffer: ArrayBuffer;
}

/** Functions a module calls, by module and name. */
export type WasmImports = Readonly<Record<string, Readonly<Record<string, WasmFunction>>>>;

// It takes the parameters the module declares: only `never` admits functions of any.
export type WasmFunction = (...args: never[]) => number | undefined;

// Every Node has it.
export const wasm = (globalThis as unknown as { readonly WebAssembly: WasmRuntime }).WebAssembly;
