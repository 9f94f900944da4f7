/** The part of the WebAssembly API in use: Node's own types leave it to those of browsers. */
export interface WebAssemblyInstance {
  readonly exports: Readonly<Record<string, unknown>>;
}
interface WebAssemblyApi {
  compile(bytes: Uint8Array): Promise<object>;
  instantiate(module: object, imports: Readonly<Record<string, unknown>>): Promise<WebAssemblyInstance>;
}

// Every Node has it.
export const webAssembly = (globalThis as unknown as { readonly WebAssembly: WebAssemblyApi }).WebAssembly;
