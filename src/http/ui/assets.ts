import { gzipSync } from "node:zlib";
import { textResponse, type HttpRequest, type HttpResponse } from "../message.ts";

/** The files of the page. */
export interface Assets {
  answer(request: HttpRequest, path: string): HttpResponse;
  /** Of all files as they are sent, bytes. */
  readonly compressedBytes: number;
}

const types: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml; charset=utf-8",
};

/** Files that are there, compressed once; nothing is ever read from a path a client names. */
export function createAssets(files: ReadonlyMap<string, Uint8Array>): Assets {
  const served = new Map<string, { readonly plain: Uint8Array; readonly packed: Uint8Array; readonly type: string }>();
  for (const [name, plain] of files) {
    const type = types[name.slice(name.lastIndexOf(".") + 1)] ?? "application/octet-stream";
    served.set(`/${name}`, { plain, packed: gzipSync(plain, { level: 9 }), type });
  }
  return {
    compressedBytes: [...served.values()].reduce((sum, { packed }) => sum + packed.byteLength, 0),
    answer(request, path) {
      const file = served.get(path === "/" ? "/index.html" : path);
      if (file === undefined) return textResponse(404, "not found\n");
      const isPacked = /\bgzip\b/.test(request.header("accept-encoding") ?? "");
      return {
        status: 200,
        headers: { "content-type": file.type, ...(isPacked ? { "content-encoding": "gzip" } : {}) },
        body: isPacked ? file.packed : file.plain,
      };
    },
  };
}
