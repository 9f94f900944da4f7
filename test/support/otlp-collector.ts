import { Server, ServerCredentials, status } from "@grpc/grpc-js";

/** One span as the collector received it. */
export interface ReceivedSpan {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  /** Empty for a root. */
  readonly parentSpanId: string;
  readonly attributes: Readonly<Record<string, string | number | boolean>>;
  readonly failed: boolean;
  /** Names of events, `exception` among them. */
  readonly events: readonly string[];
  readonly resource: Readonly<Record<string, string | number | boolean>>;
  /** Nanoseconds since 1970, 19 digits. */
  readonly startedAt: string;
}

export interface OtlpCollector extends AsyncDisposable {
  /** `host:port`. */
  readonly endpoint: string;
  readonly spans: readonly ReceivedSpan[];
  /** `authorization` of each request. */
  readonly headers: readonly string[];
}

/**
 * A collector that speaks OTLP/gRPC: the service of `collector/trace/v1/trace_service.proto`, its messages read by their
 * field numbers, so that nothing of the exporter under test helps to understand what it sends.
 */
export async function startOtlpCollector(): Promise<OtlpCollector> {
  const spans: ReceivedSpan[] = [];
  const headers: string[] = [];
  const server = new Server();
  const method = {
    path: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    requestStream: false,
    responseStream: false,
    requestSerialize: (value: Buffer) => value,
    requestDeserialize: (value: Buffer) => value,
    responseSerialize: (value: Buffer) => value,
    responseDeserialize: (value: Buffer) => value,
  } as const;
  server.addService(
    { Export: method },
    {
      Export: (
        call: { readonly request: Buffer; readonly metadata: { get(name: string): readonly unknown[] } },
        done: (error: { code: number; message: string } | null, answer?: Buffer) => void,
      ) => {
        try {
          spans.push(...readRequest(call.request));
          headers.push(call.metadata.get("x-canary").join());
          done(null, Buffer.alloc(0)); // An ExportTraceServiceResponse without partial success.
        } catch (error) {
          done({ code: status.INVALID_ARGUMENT, message: String(error) });
        }
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  return {
    endpoint: `127.0.0.1:${port}`,
    spans,
    headers,
    [Symbol.asyncDispose]: () => {
      server.forceShutdown();
      return Promise.resolve();
    },
  };
}

type Field =
  | { readonly number: number; readonly bytes: Buffer }
  | { readonly number: number; readonly value: number; /** Of a fixed64. */ readonly whole?: bigint };

/** The fields of a protobuf message (protobuf.dev/programming-guides/encoding). */
function fieldsOf(message: Buffer): readonly Field[] {
  const fields: Field[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message[at++];
      if (byte === undefined) throw new RangeError("a varint is cut");
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return Number(value);
    }
  };
  while (at < message.length) {
    const key = varint();
    const number = key >> 3;
    switch (key & 7) {
      case 0:
        fields.push({ number, value: varint() });
        break;
      case 1:
        fields.push({ number, value: message.readDoubleLE(at), whole: message.readBigUInt64LE(at) });
        at += 8;
        break;
      case 2: {
        const length = varint();
        if (at + length > message.length) throw new RangeError("a field is cut");
        fields.push({ number, bytes: message.subarray(at, at + length) });
        at += length;
        break;
      }
      case 5:
        fields.push({ number, value: message.readUInt32LE(at) });
        at += 4;
        break;
      default:
        throw new RangeError(`wire type ${key & 7}`);
    }
  }
  return fields;
}

function messages(of: Buffer, number: number): readonly Buffer[] {
  return fieldsOf(of).flatMap((field) => (field.number === number && "bytes" in field ? [field.bytes] : []));
}

function readRequest(request: Buffer): readonly ReceivedSpan[] {
  return messages(request, 1).flatMap((resourceSpans) => {
    const resource = attributesOf(messages(resourceSpans, 1)[0] ?? Buffer.alloc(0), 1);
    return messages(resourceSpans, 2).flatMap((scopeSpans) =>
      messages(scopeSpans, 2).map((span) => readSpan(span, resource)),
    );
  });
}

function readSpan(span: Buffer, resource: ReceivedSpan["resource"]): ReceivedSpan {
  const hex = (number: number): string => messages(span, number)[0]?.toString("hex") ?? "";
  const code = fieldsOf(messages(span, 15)[0] ?? Buffer.alloc(0)).find((field) => field.number === 3);
  return {
    traceId: hex(1),
    spanId: hex(2),
    parentSpanId: hex(4),
    name: messages(span, 5)[0]?.toString() ?? "",
    attributes: attributesOf(span, 9),
    events: messages(span, 11).map((event) => messages(event, 2)[0]?.toString() ?? ""),
    startedAt:
      fieldsOf(span).flatMap((field) => (field.number === 7 && "whole" in field ? [String(field.whole)] : []))[0] ?? "",
    failed: code !== undefined && "value" in code && code.value === 2,
    resource,
  };
}

function attributesOf(message: Buffer, number: number): ReceivedSpan["attributes"] {
  return Object.fromEntries(
    messages(message, number).map((pair): [string, string | number | boolean] => {
      const value = fieldsOf(messages(pair, 2)[0] ?? Buffer.alloc(0))[0];
      const key = messages(pair, 1)[0]?.toString() ?? "";
      if (value === undefined) return [key, ""];
      if ("bytes" in value) return [key, value.bytes.toString()];
      return [key, value.number === 2 ? value.value === 1 : value.value];
    }),
  );
}
