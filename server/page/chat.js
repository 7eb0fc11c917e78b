// The chat client: an ES module that any page may import, from any origin. It needs client.js beside it. Types: chat.d.ts.
//
//   import { PinecallChat } from "https://voice.example.org/chat.js";
//   const chat = new PinecallChat({ agentId: "mara" });
//   chat.on("text", ({ id, text, final }) => show(id, text, final));
//   await chat.connect({ token });
//   chat.send("Hello");

import { PinecallError, getToken } from "./client.js";

const OPENING_LIMIT_MS = 15000;

/** One visitor's side of a chat, and of the next one. */
export class PinecallChat {
  #defaults;
  #listeners = new Map();
  #attempt = null; // the connect() that was not given up
  #socket = null;
  #state = "idle";

  /** Takes the options of `connect()` that stay the same for each chat. */
  constructor(options = {}) {
    this.#defaults = options;
  }

  /** `idle`, `connecting`, `ready`, or `busy` while a line waits for the end of its answer. */
  get state() {
    return this.#state;
  }

  /** Calls `listener` with each event of that name. Returns a function that ends this. */
  on(event, listener) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
    this.#listeners.get(event).add(listener);
    return () => this.off(event, listener);
  }

  off(event, listener) {
    this.#listeners.get(event)?.delete(listener);
  }

  /** Opens a chat. Resolves when lines can be sent, rejects with a `PinecallError`. */
  async connect(options = {}) {
    if (this.#state !== "idle") throw new PinecallError("A chat is running already.", "IN_CHAT");
    const wishes = { ...this.#defaults, ...options };
    const attempt = (this.#attempt = {});
    this.#enter("connecting");
    try {
      const { token, server } = await getToken(wishes, "chat");
      if (this.#attempt !== attempt) throw closed();
      await this.#open(address(server, token, wishes.thread));
    } catch (error) {
      if (this.#attempt === attempt) this.disconnect();
      throw error;
    }
  }

  /** Writes a line. False, and nothing is sent, unless the agent is ready for it. */
  send(text) {
    if (this.#state !== "ready" || !text.trim()) return false;
    this.#enter("busy");
    return this.#write({ event: "message", text });
  }

  /** Tells the agent a fact about the page under a key; null takes it back. */
  setContext(key, value) {
    return this.#write({ event: "set_context", key, value });
  }

  disconnect() {
    this.#attempt = null;
    this.#socket?.close();
    this.#socket = null;
    this.#enter("idle");
  }

  #open(url) {
    const socket = new WebSocket(url);
    this.#socket = socket;
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new PinecallError("No chat: the server does not answer.", "NO_ANSWER")), OPENING_LIMIT_MS);
      socket.onmessage = ({ data }) => {
        if (this.#socket !== socket) return;
        const frame = parsed(data);
        if (frame.event === "chat.connected") resolve();
        if (frame.event === "error") reject(new PinecallError(frame.error, frame.code));
        this.#hear(frame);
      };
      socket.onclose = ({ reason }) => {
        clearTimeout(late);
        reject(closed());
        if (this.#socket !== socket) return;
        const began = this.#state !== "connecting";
        this.#socket = null;
        this.#enter("idle");
        if (began) this.#emit("disconnected", { reason });
      };
    });
  }

  #hear(frame) {
    const { event, message_id: id, text, final = true } = frame;
    if (event === "chat.connected") this.#enter("ready");
    if (event === "chat.token") this.#emit("text", { id, text, final: false });
    if (event === "chat.done" && text) this.#emit("text", { id, text, final: true });
    if (event === "chat.error" || (event === "chat.done" && final)) {
      if (this.#state === "busy") this.#enter("ready");
    }
    this.#emit(event, frame);
    this.#emit("*", frame);
  }

  #write(frame) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #enter(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#emit("state", { state });
  }

  #emit(event, detail) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        listener(detail);
      } catch (error) {
        reportError(error); // a page's mistake does not end the chat
      }
    }
  }
}

function address(server, token, thread) {
  const url = new URL(`${server.replace(/^http/, "ws")}/chat/ws`);
  url.searchParams.set("token", token);
  if (thread) url.searchParams.set("thread", thread);
  return url;
}

function closed() {
  return new PinecallError("The chat was closed before it began.", "DISCONNECTED");
}

function parsed(data) {
  try {
    return JSON.parse(data) ?? {};
  } catch {
    return {};
  }
}
