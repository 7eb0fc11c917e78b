// The voice client: an ES module without dependencies that any page may import, from any origin. Types: client.d.ts.
//
//   import { PinecallClient } from "https://voice.example.org/client.js";
//   const client = new PinecallClient({ agentId: "mara" });
//   client.on("user.message", ({ text }) => console.log(text));
//   await client.connect({ token });

const GATHERING_LIMIT_MS = 2000;
const REQUEST_LIMIT_MS = 15000;
const MEDIA_LIMIT_MS = 15000;
const PING_MS = 1000;
const GESTURES = ["pointerup", "keydown"];
const PUBLISHABLE = "pk_publishable_";
const CONSTRAINTS = { audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true } };

/** The server that this file came from. */
const HOME = /^https?:/.test(import.meta.url) ? new URL(".", import.meta.url).href : null;

/** What a frame says about the conversation. */
const STATES = {
  "user.speaking": "listening",
  "user.message": "thinking",
  "turn.pause": "listening",
  "turn.resumed": "listening",
  "turn.end": "thinking",
  "bot.word": "speaking",
  "bot.finished": "listening",
  "bot.interrupted": "listening",
};

const ENDINGS = {
  idle_timeout: "The call ended because nobody spoke.",
  max_duration: "The call reached its longest allowed time.",
  server_shutdown: "The server is shutting down.",
};

/** A failure whose `message` is meant for the person in front of the page and whose `code` is meant for the page. */
export class PinecallError extends Error {
  constructor(message, code, options) {
    super(message, options);
    this.name = "PinecallError";
    this.code = code;
  }
}

/** One visitor's side of a call, and of the next one: a client makes one call at a time, as many as it is asked for. */
export class PinecallClient {
  #defaults;
  #listeners = new Map();
  #line = null;
  #state = "idle";

  /** Takes the options of `connect()` that stay the same for each call. */
  constructor(options = {}) {
    this.#defaults = options;
  }

  /** `idle`, `connecting`, `listening`, `thinking` or `speaking`. */
  get state() {
    return this.#state;
  }

  get muted() {
    return this.#line?.muted ?? false;
  }

  /** The id of the running call, which the server's log knows too; null before the server took the offer. */
  get sessionId() {
    return this.#line?.sessionId ?? null;
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

  /** Makes a call. Resolves when both sides can speak, rejects with a `PinecallError`. */
  async connect(options = {}) {
    if (this.#line) throw new PinecallError("A call is running already.", "IN_CALL");
    const line = new Line({ ...this.#defaults, ...options }, (type, detail) => {
      if (this.#line === line) this.#hear(type, detail);
    });
    this.#line = line;
    this.#enter("connecting");
    try {
      await line.open();
    } catch (error) {
      if (this.#line === line) {
        this.#line = null;
        this.#enter("idle");
        this.#emit("error", { event: "error", error: error.message, code: error.code });
      }
      throw error;
    }
  }

  /** Hangs up, also while the call is still being made. */
  disconnect() {
    const line = this.#line;
    if (!line || line.close()) return;
    this.#line = null; // it never came about
    this.#enter("idle");
  }

  mute() {
    this.setMuted(true);
  }

  unmute() {
    this.setMuted(false);
  }

  setMuted(muted) {
    this.#line?.setMuted(muted);
  }

  /** Says something in writing. These three return false, and nothing is sent, while there is no connection. */
  sendText(text) {
    return this.#send("inject_text", { text });
  }

  /** Tells the agent a fact about the page under a key; null takes it back. */
  setContext(key, value) {
    return this.#send("set_context", { key, value });
  }

  /** Changes the running call, such as `{ language: "es" }`. The event `config.updated` tells what was accepted. */
  configure(changes) {
    return this.#send("configure", changes);
  }

  #send(action, fields) {
    return this.#line?.send({ ...fields, action }) ?? false;
  }

  #hear(type, detail) {
    if (type === "frame") {
      if (STATES[detail.event]) this.#enter(STATES[detail.event]);
      this.#emit(detail.event, detail);
      this.#emit("*", detail);
    } else if (type === "connected") {
      if (this.#state === "connecting") this.#enter("listening");
      this.#emit("connected", detail);
    } else if (type === "ended") {
      const { told, ...ending } = detail;
      const { sessionId } = this.#line;
      this.#line = null;
      this.#enter("idle");
      // Who hangs up does not hear the server's last frames, yet a page may count on this one.
      if (!told) this.#emit("call.ended", { event: "call.ended", call_id: sessionId, reason: ending.reason });
      this.#emit("disconnected", ending);
    } else {
      this.#emit(type, detail);
    }
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
        reportError(error); // a page's mistake does not end the call
      }
    }
  }
}

/** One call, from the microphone to its end. Tells `microphone`, `answered`, `audio`, `connected`, `frame`, `error`, `ended`. */
class Line {
  #options;
  #tell;
  #fail;
  #failed;
  #microphone = null;
  #silence = null; // AudioContext of a call without a microphone
  #pc = null;
  #channel = null;
  #speaker = new Audio();
  #pinging = null;
  #waiting = null;
  #connected = false;
  #told = false; // the server said that the call ended
  #over = false;
  #leave = () => this.close();
  #unblock = () => this.#speaker.play().catch(() => {});
  muted = false;
  sessionId = null;

  constructor(options, tell) {
    this.#options = options;
    this.#tell = tell;
    this.#failed = new Promise((_, reject) => (this.#fail = reject));
    this.#failed.catch(() => {}); // nobody may be waiting any more
  }

  /** Resolves when the DataChannel is open. */
  async open() {
    try {
      await Promise.race([this.#negotiate(), this.#failed]);
    } catch (error) {
      this.#release();
      if (error instanceof PinecallError) throw error;
      throw new PinecallError(`The call could not be made: ${error.message}`, "CALL_FAILED", { cause: error });
    }
  }

  async #negotiate() {
    // The microphone comes first: people think about that question for longer than a token lives.
    const microphone = await this.#openMicrophone();
    if (this.#over) return stop(microphone);
    this.#microphone = microphone;
    this.setMuted(this.muted);
    this.#tell("microphone", { stream: microphone });
    const { token, server } = await getToken(this.#options, "webrtc");
    const { iceServers } = await request(`${server}/webrtc/ice-servers`, "No ICE servers").catch(() => ({}));
    if (this.#over) return;

    const opened = this.#prepare(iceServers ?? []);
    const pc = this.#pc;
    await pc.setLocalDescription(await pc.createOffer());
    await gathered(pc);
    if (this.#over) return;
    const offeredAt = performance.now();
    const { language, config, metadata } = this.#options;
    const wishes = language ? { ...config, language } : config;
    const answer = await request(`${server}/webrtc/offer`, "The call was refused", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ sdp: pc.localDescription.sdp, type: "offer", token, config: wishes, metadata }),
    });
    if (this.#over) return;
    this.sessionId = answer.session_id ?? null;
    this.#tell("answered", { sessionId: this.sessionId, offeredAt, answeredAt: performance.now() });
    await pc.setRemoteDescription({ sdp: answer.sdp, type: "answer" });
    const late = "The server answered, but no sound gets through. A firewall may be in between.";
    this.#waiting = setTimeout(() => this.#end("no_media", late), MEDIA_LIMIT_MS);
    await opened;
  }

  /** Makes the connection; the promise resolves when its DataChannel is open. */
  #prepare(iceServers) {
    const pc = new RTCPeerConnection({ iceServers });
    this.#pc = pc;
    addEventListener("pagehide", this.#leave);
    pc.ontrack = ({ streams: [stream] }) => this.#play(stream);
    pc.onconnectionstatechange = () => {
      if (!["disconnected", "failed"].includes(pc.connectionState)) return;
      this.#end("connection_lost", "The connection to the server was lost.");
    };
    for (const track of this.#microphone.getAudioTracks()) pc.addTrack(track, this.#microphone);
    const channel = pc.createDataChannel("events", { ordered: true });
    this.#channel = channel;
    channel.onmessage = ({ data }) => this.#receive(data);
    channel.onclose = () => this.#end("closed", "The server closed the call.");
    return new Promise((resolve) => {
      channel.onopen = () => {
        clearTimeout(this.#waiting);
        this.#connected = true;
        this.#pinging = setInterval(() => channel.readyState === "open" && channel.send("ping"), PING_MS);
        if (this.muted) this.send({ action: "mute" });
        resolve();
        this.#tell("connected", { sessionId: this.sessionId });
      };
    });
  }

  async #openMicrophone() {
    const { microphone = true } = this.#options;
    if (microphone instanceof MediaStream) return microphone;
    if (microphone) return askForMicrophone();
    this.#silence = new AudioContext();
    return silence(this.#silence);
  }

  #play(stream) {
    this.#tell("audio", { stream });
    this.#speaker.srcObject = stream;
    this.#speaker.play().catch((error) => {
      if (this.#over || error.name !== "NotAllowedError") return;
      const text = "The browser plays no sound before somebody clicks or types on the page.";
      for (const gesture of GESTURES) addEventListener(gesture, this.#unblock);
      this.#tell("error", { event: "error", error: text, code: "AUDIO_BLOCKED" });
    });
  }

  #receive(data) {
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return; // the protocol allows non-JSON answers to a ping
    }
    if (typeof frame?.event !== "string") return;
    if (frame.event === "call.ended") this.#told = true;
    this.#tell("frame", frame);
    if (frame.event === "session.timeout") this.#end(frame.reason, ENDINGS[frame.reason] ?? "The server ended the call.");
  }

  /** False while the channel is not open. */
  send(action) {
    if (this.#channel?.readyState !== "open") return false;
    this.#channel.send(JSON.stringify(action));
    return true;
  }

  setMuted(muted) {
    const changed = muted !== this.muted;
    this.muted = muted;
    for (const track of this.#microphone?.getAudioTracks() ?? []) track.enabled = !muted;
    if (changed) this.send({ action: muted ? "mute" : "unmute" });
  }

  /** Hangs up. False when the call had not come about. */
  close() {
    const connected = this.#connected;
    this.#end("disconnected", null);
    return connected;
  }

  #end(reason, detail) {
    if (this.#over) return;
    this.#release();
    this.#fail(new PinecallError(detail ?? "The call was ended before it came about.", reason.toUpperCase()));
    if (this.#connected) this.#tell("ended", { reason, detail, told: this.#told });
  }

  #release() {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#pinging);
    clearTimeout(this.#waiting);
    removeEventListener("pagehide", this.#leave);
    for (const gesture of GESTURES) removeEventListener(gesture, this.#unblock);
    stop(this.#microphone);
    this.#pc?.close();
    this.#silence?.close();
    this.#speaker.srcObject = null;
  }
}

// Tokens and requests -------------------------------------------------------------------------------------------------

/**
 * `{ token, server }`: the page's own token, its provider's, or one from the server, where the page's origin counts.
 * `channel` is `webrtc` or `chat`. For chat.js; no part of what a page should use.
 */
export async function getToken({ token, tokenProvider, server, agentId, apiKey, language }, channel) {
  if (!token && tokenProvider) {
    let given;
    try {
      given = await tokenProvider();
    } catch (error) {
      throw new PinecallError(`No token: ${error?.message ?? error}`, "TOKEN_PROVIDER_FAILED", { cause: error });
    }
    token = typeof given === "string" ? given : given?.token;
    server ??= given?.server; // the page knows better where the server is than the backend does
    if (!token) throw new PinecallError("No token: the page's token provider gave none.", "TOKEN_PROVIDER_FAILED");
  }
  const base = baseOf(server ?? HOME);
  if (token) return { token, server: base };
  if (apiKey && !apiKey.startsWith(PUBLISHABLE)) {
    throw new PinecallError("A secret API key must not be in a page: use a publishable one.", "SECRET_KEY");
  }
  if (!agentId) throw new PinecallError("Neither a token nor an agent was named.", "AGENT_ID_REQUIRED");
  const headers = apiKey ? { Authorization: `Bearer ${apiKey}` } : {};
  const query = new URLSearchParams({ agent_id: agentId });
  if (channel === "chat" && language) query.set("lang", language); // of a call the offer says it
  const minted = await request(`${base}/${channel}/token?${query}`, "No token", { headers });
  return { token: minted.token, server: base };
}

/** The address under which the routes are, without a slash at its end. */
function baseOf(server) {
  let url;
  try {
    url = new URL(String(server).replace(/^ws/i, "http"));
  } catch {
    url = null;
  }
  if (!url?.protocol.match(/^https?:$/)) {
    throw new PinecallError(`The server must be an address such as wss://voice.example.org, not ${server}.`, "BAD_SERVER");
  }
  return url.origin + url.pathname.replace(/\/+$/, "");
}

async function request(url, failure, options = {}) {
  let response;
  try {
    response = await fetch(url, { ...options, signal: AbortSignal.timeout(REQUEST_LIMIT_MS) });
  } catch (error) {
    throw new PinecallError(`${failure}: the server does not answer.`, "NO_ANSWER", { cause: error });
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  throw new PinecallError(`${failure}: ${body.detail ?? `status ${response.status}`}`, body.code ?? "REFUSED");
}

function gathered(pc) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, GATHERING_LIMIT_MS);
    const look = () => {
      if (pc.iceGatheringState !== "complete") return;
      clearTimeout(timer);
      resolve();
    };
    pc.onicegatheringstatechange = look;
    look();
  });
}

// Microphone ----------------------------------------------------------------------------------------------------------

async function askForMicrophone() {
  if (!isSecureContext || !navigator.mediaDevices) {
    const text = "Browsers give the microphone only to pages on https or on localhost.";
    throw new PinecallError(text, "INSECURE_PAGE");
  }
  try {
    return await navigator.mediaDevices.getUserMedia(CONSTRAINTS);
  } catch (error) {
    const [text, code] = REFUSALS[error.name] ?? [`The microphone did not open: ${error.message}`, "MICROPHONE_FAILED"];
    throw new PinecallError(text, code, { cause: error });
  }
}

const REFUSALS = {
  NotAllowedError: [
    "The microphone was refused. Allow it in the site settings beside the address bar and try again.",
    "MICROPHONE_REFUSED",
  ],
  NotFoundError: ["No microphone was found. Plug one in and try again.", "MICROPHONE_MISSING"],
  NotReadableError: ["Another program holds the microphone. Close it and try again.", "MICROPHONE_BUSY"],
};

/** A microphone that hears nothing: a call by keyboard needs an audio track like any other. */
function silence(context) {
  const source = context.createConstantSource();
  source.offset.value = 0;
  const destination = context.createMediaStreamDestination();
  source.connect(destination); // without a source some browsers send no packets at all
  source.start();
  context.resume();
  return destination.stream;
}

function stop(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}
