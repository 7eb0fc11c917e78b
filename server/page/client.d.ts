// Types of client.js.

export type State = "idle" | "connecting" | "listening" | "thinking" | "speaking";

/** A token as the server's `GET /webrtc/token` answers it; a backend may hand it on as it is. */
export interface TokenResponse {
  token: string;
  /** Where the call goes when the page names no server. */
  server?: string;
}

export interface ConnectOptions {
  /** `http(s)://` or `ws(s)://`. Default: the server that client.js came from. */
  server?: string;
  /** A token that the page has already. It is good for one call, within a minute. */
  token?: string;
  /** Asked for a token once the microphone is open, when there is no `token`. */
  tokenProvider?: () => string | TokenResponse | Promise<string | TokenResponse>;
  /** With neither of them the server is asked for a token for this agent; the page's origin decides. */
  agentId?: string;
  /** A publishable key, `pk_publishable_…`, to be shown then. A secret one is refused. */
  apiKey?: string;
  /** false: a call by keyboard. A stream belongs to the call from now on: its end stops the tracks. Default: ask for one. */
  microphone?: boolean | MediaStream;
  /** BCP-47 tag such as `es`. Default: the agent's own language. */
  language?: string;
  /** What else a visitor may choose, such as `{ voice: "es-ES", greeting: false }`. */
  config?: Record<string, unknown>;
  /** Facts about the visitor; the agent's backend must not trust them. */
  metadata?: Record<string, unknown>;
}

/** A frame of the server, with the fields of the wire protocol. */
export interface Frame {
  event: string;
  call_id?: string;
  [field: string]: unknown;
}

interface Utterance extends Frame {
  message_id: string;
}

/** The named events; every other frame comes under its own name, as a `Frame`. */
export interface ClientEvents {
  /** Every frame of the server. */
  "*": Frame;
  /** Both sides can speak. */
  connected: { sessionId: string | null };
  /** A call that had come about is over. `detail` is a sentence for people, null when this side hung up. */
  disconnected: { reason: string; detail: string | null };
  state: { state: State };
  /** What the visitor says, for a level meter for example. */
  microphone: { stream: MediaStream };
  /** What the agent says. The client plays it already. */
  audio: { stream: MediaStream };
  /** The server took the offer; moments of `performance.now()`. */
  answered: { sessionId: string | null; offeredAt: number; answeredAt: number };
  /** A failure during the call, told by the server or met here; also what `connect()` rejects with. */
  error: { event: "error"; error: string; code?: string };
  "user.speaking": Frame & { text: string };
  "user.message": Utterance & { text: string };
  "bot.speaking": Utterance & { text: string };
  "bot.word": Utterance & { word: string; word_index: number };
  "bot.finished": Utterance & { text: string; duration_ms: number };
  "bot.interrupted": Utterance & { reason: string; played_ms: number };
  /** Once per call that had come about, also when this side hung up ("disconnected") or the line broke ("connection_lost"). */
  "call.ended": Frame & { reason: string };
}

type Listener<Name extends string> = (event: Name extends keyof ClientEvents ? ClientEvents[Name] : Frame) => void;

/** `message` is meant for the person in front of the page, `code` for the page: `ORIGIN_NOT_ALLOWED`, `MICROPHONE_REFUSED`, … */
export declare class PinecallError extends Error {
  code: string;
  constructor(message: string, code: string, options?: ErrorOptions);
}

export declare class PinecallClient {
  /** Takes the options of `connect()` that stay the same for each call. */
  constructor(options?: ConnectOptions);
  readonly state: State;
  readonly muted: boolean;
  /** The id of the running call, which the server's log knows too. */
  readonly sessionId: string | null;
  /** Makes a call. Resolves when both sides can speak, rejects with a `PinecallError`. */
  connect(options?: ConnectOptions): Promise<void>;
  /** Hangs up, also while the call is still being made: `connect()` then rejects with the code `DISCONNECTED`. */
  disconnect(): void;
  /** Returns a function that ends the listening. */
  on<Name extends string>(event: Name, listener: Listener<Name>): () => void;
  off<Name extends string>(event: Name, listener: Listener<Name>): void;
  mute(): void;
  unmute(): void;
  setMuted(muted: boolean): void;
  /** Says something in writing. Like the next two: false, and nothing is sent, while there is no connection. */
  sendText(text: string): boolean;
  /** Tells the agent a fact about the page under a key; null takes it back. */
  setContext(key: string, value: unknown): boolean;
  /** Changes the running call: `language`, `voice`, `stt`, `tts`. `config.updated` tells what was accepted. */
  configure(changes: Record<string, unknown>): boolean;
}
