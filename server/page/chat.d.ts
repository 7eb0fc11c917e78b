// Types of chat.js.

import type { Frame, TokenResponse } from "./client.js";

export type ChatState = "idle" | "connecting" | "ready" | "busy";

export interface ChatOptions {
  /** `http(s)://` or `ws(s)://`. Default: the server that chat.js came from. */
  server?: string;
  /** A token that the page has already (`GET /chat/token`). It is good for one chat, within a minute. */
  token?: string;
  /** Asked for a token when there is no `token`. */
  tokenProvider?: () => string | TokenResponse | Promise<string | TokenResponse>;
  /** With neither of them the server is asked for a token for this agent; the page's origin decides. */
  agentId?: string;
  /** A publishable key, `pk_publishable_…`, to be shown then. A secret one is refused. */
  apiKey?: string;
  /** BCP-47 tag such as `es`, when the server is asked for a token. Default: the agent's own language. */
  language?: string;
  /** The name of a thread to go on with; long and random, since whoever knows it can read on. */
  thread?: string;
}

/** The named events; every frame of the server also comes under its own name. */
export interface ChatEvents {
  "*": Frame;
  state: { state: ChatState };
  /** A line of the agent so far, or as a whole. */
  text: { id: string; text: string; final: boolean };
  /** What was said in the thread before. */
  "chat.history": Frame & { messages: { role: "user" | "bot"; text: string }[] };
  "chat.tool_call": Frame & { tool_calls: { id: string; name: string; arguments: string }[] };
  "chat.tool_result": Frame & { tool_call_id: string; name: string; result: unknown };
  /** The last line is not answered. The chat goes on. */
  "chat.error": Frame & { error: string; code: string };
  /** The server has closed the chat. */
  disconnected: { reason: string };
}

type Listener<Name extends string> = (event: Name extends keyof ChatEvents ? ChatEvents[Name] : Frame) => void;

export declare class PinecallChat {
  /** Takes the options of `connect()` that stay the same for each chat. */
  constructor(options?: ChatOptions);
  readonly state: ChatState;
  /** Opens a chat. Resolves when lines can be sent; rejects with a `PinecallError`. */
  connect(options?: ChatOptions): Promise<void>;
  /** Writes a line. False, and nothing is sent, unless the agent is ready for it. */
  send(text: string): boolean;
  /** Tells the agent a fact about the page under a key; null takes it back. */
  setContext(key: string, value: unknown): boolean;
  disconnect(): void;
  /** Returns a function that ends the listening. */
  on<Name extends string>(event: Name, listener: Listener<Name>): () => void;
  off<Name extends string>(event: Name, listener: Listener<Name>): void;
}
