// <voice-widget agent="mara" server="https://voice.example.org" api-key="pk_publishable_…" language="es">: a button to
// talk with.
// No inline code and no inline style: it works under a strict policy of the page. Types: widget.d.ts.

import { PinecallClient } from "./client.js";

const STATUS = {
  idle: "Click to talk",
  connecting: "Connecting…",
  listening: "Listening",
  thinking: "Thinking…",
  speaking: "Speaking",
  error: "Click to try again",
};

const ICONS = {
  mic: ["M16 4a4 4 0 0 1 4 4v8a4 4 0 0 1-8 0V8a4 4 0 0 1 4-4z", "M7 15v1a9 9 0 0 0 18 0v-1M16 25v4"],
  stop: ["M11 11h10v10H11z"],
};

const STYLE = new CSSStyleSheet();
STYLE.replaceSync(`
  :host {
    --voice-accent: #0c7f70;
    --voice-card: #ffffff;
    --voice-ink: #1d2126;
    --voice-soft: #5d6670;
    --voice-line: #dfddd5;
    --voice-error: #b3261e;
    color-scheme: light dark;
    display: inline-block;
    width: 340px;
    max-width: 100%;
  }
  @media (prefers-color-scheme: dark) {
    :host {
      --voice-accent: #12897a;
      --voice-card: #1a1d21;
      --voice-ink: #e9ebee;
      --voice-soft: #9aa3ad;
      --voice-line: #2c3137;
      --voice-error: #ff8a80;
    }
  }
  :host([hidden]), [hidden] { display: none !important; }
  .card {
    --state: var(--voice-accent);
    display: grid;
    grid-template-columns: auto minmax(0, 1fr) auto;
    align-items: center;
    gap: 4px 14px;
    padding: 12px 16px;
    border: 1px solid var(--voice-line);
    border-radius: 18px;
    background: var(--voice-card);
    color: var(--voice-ink);
    font: 15px/1.4 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  }
  .card[data-state="thinking"] { --state: #5b5bd6; }
  .card[data-state="speaking"] { --state: #c2571a; }
  .card[data-state="error"] { --state: #b3261e; }
  button { font: inherit; color: inherit; cursor: pointer; }
  :focus-visible { outline: 3px solid var(--voice-accent); outline-offset: 3px; }
  .talk { width: 52px; height: 52px; padding: 12px; border: 0; border-radius: 50%; background: var(--state); color: #fff; }
  .talk:hover { filter: brightness(1.1); }
  .talk svg { display: block; fill: none; stroke: currentColor; stroke-width: 2.4; stroke-linecap: round; stroke-linejoin: round; }
  .card:is([data-state="connecting"], [data-state="thinking"], [data-state="speaking"]) .talk {
    animation: breathe 1.4s ease-in-out infinite alternate;
  }
  .card[data-user-speaking="true"] .talk { box-shadow: 0 0 0 6px color-mix(in srgb, var(--state) 25%, transparent); }
  p { margin: 0; }
  .status { font-weight: 600; }
  .mute { padding: 4px 12px; border: 1px solid var(--voice-line); border-radius: 99px; background: none; font-size: 13px; }
  .mute[aria-pressed="true"] { border-color: var(--voice-error); color: var(--voice-error); }
  .caption, .problem { grid-column: 1 / -1; font-size: 14px; overflow-wrap: anywhere; }
  .caption { max-height: 4.2em; overflow: hidden; color: var(--voice-soft); }
  .caption[data-role="bot"] { color: var(--voice-ink); }
  .problem { color: var(--voice-error); }
  .heard { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
  @keyframes breathe { to { box-shadow: 0 0 0 7px color-mix(in srgb, var(--state) 25%, transparent); } }
  @media (prefers-reduced-motion: reduce) { .talk { animation: none !important; } }
`);

/** The properties that may hold a function, the frames that call them, and what they get beside the frame. */
const HANDLERS = {
  onUserMessage: ["user.message", "text"],
  onBotSpeaking: ["bot.speaking", "text"],
  onCallEnded: ["call.ended", "reason"],
};

export class VoiceWidget extends HTMLElement {
  // A page may have set them before this file had come.
  tokenProvider = this.tokenProvider ?? null;
  onUserMessage = this.onUserMessage ?? null;
  onBotSpeaking = this.onBotSpeaking ?? null;
  onCallEnded = this.onCallEnded ?? null;

  #client = new PinecallClient();
  #parts = build();
  #words = [];

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [STYLE];
    root.append(this.#parts.card);
    this.#parts.talk.addEventListener("click", () => (this.#client.state === "idle" ? this.start() : this.end()));
    this.#parts.mute.addEventListener("click", () => this.#setMuted(!this.#client.muted));
    this.#listen();
    this.#show("idle");
  }

  /** The call's client, for whatever the widget has no button for: `sendText`, `setContext`, `configure`, every event. */
  get client() {
    return this.#client;
  }

  /** `idle`, `connecting`, `listening`, `thinking`, `speaking` or `error`. */
  get state() {
    return this.#parts.card.dataset.state;
  }

  /** Makes a call, as a click does. What goes wrong is shown and told by the event `error`. */
  async start() {
    if (this.#client.state !== "idle") return;
    this.#problem(null);
    this.#caption(null, "");
    this.#parts.heard.textContent = "";
    this.#setMuted(false);
    const asked = {
      agentId: this.getAttribute("agent") ?? undefined,
      server: this.getAttribute("server") ?? undefined,
      apiKey: this.getAttribute("api-key") ?? undefined,
      language: this.getAttribute("language") ?? undefined,
      tokenProvider: this.tokenProvider ? () => this.tokenProvider() : undefined,
    };
    try {
      await this.#client.connect(asked);
    } catch (error) {
      if (error.code !== "DISCONNECTED") this.#fail(error.message);
    }
  }

  /** Hangs up. */
  end() {
    this.#client.disconnect();
  }

  disconnectedCallback() {
    queueMicrotask(() => this.isConnected || this.end()); // moved inside the page, it goes on
  }

  #listen() {
    const client = this.#client;
    client.on("state", ({ state }) => this.#show(state));
    client.on("*", (frame) => frame.event !== "call.ended" && frame.event !== "error" && this.#tell(frame.event, frame));
    for (const event of ["connected", "disconnected", "call.ended", "error"]) {
      client.on(event, (detail) => this.#tell(event, detail));
    }
    for (const [property, [event, field]] of Object.entries(HANDLERS)) {
      client.on(event, (frame) => this[property]?.(frame[field], frame));
    }
    client.on("speech.started", () => (this.#parts.card.dataset.userSpeaking = true));
    client.on("speech.ended", () => (this.#parts.card.dataset.userSpeaking = false));
    client.on("user.speaking", ({ text }) => this.#caption("user", text));
    client.on("user.message", ({ text }) => this.#caption("user", text, true));
    client.on("bot.speaking", () => (this.#words = []));
    client.on("bot.word", ({ word }) => this.#caption("bot", this.#words.push(word) && this.#words.join(" ")));
    client.on("bot.finished", ({ text }) => this.#caption("bot", text || this.#words.join(" "), true));
    client.on("error", ({ error }) => this.#problem(error));
    client.on("disconnected", ({ reason, detail }) => {
      if (["connection_lost", "closed"].includes(reason)) this.#fail(detail);
      else this.#problem(detail);
    });
  }

  #tell(event, detail) {
    this.dispatchEvent(new CustomEvent(event, { detail }));
  }

  #show(state) {
    const { card, talk, mute, status, icons } = this.#parts;
    const live = this.#client.state !== "idle";
    card.dataset.state = state;
    status.textContent = STATUS[state];
    talk.setAttribute("aria-label", live ? "End the call" : "Talk");
    icons.mic.toggleAttribute("hidden", live);
    icons.stop.toggleAttribute("hidden", !live);
    mute.hidden = !live;
    if (!live) card.dataset.userSpeaking = false;
  }

  #fail(text) {
    this.#problem(text);
    this.#show("error");
  }

  #problem(text) {
    this.#parts.problem.textContent = text ?? "";
    this.#parts.problem.hidden = !text;
  }

  /** One line of what is said now. Screen readers are told whole messages, not each word. */
  #caption(role, text, final = false) {
    const { caption, heard } = this.#parts;
    caption.dataset.role = role;
    caption.textContent = text;
    caption.scrollTop = caption.scrollHeight;
    if (final) heard.textContent = `${role === "user" ? "You" : "Answer"}: ${text}`;
  }

  #setMuted(muted) {
    this.#client.setMuted(muted);
    this.#parts.mute.setAttribute("aria-pressed", muted);
    this.#parts.mute.textContent = muted ? "Unmute" : "Mute";
  }
}

function build() {
  const icons = { mic: icon(ICONS.mic), stop: icon(ICONS.stop) };
  const talk = element("button", { type: "button", class: "talk", part: "button", "aria-describedby": "status" });
  talk.append(icons.mic, icons.stop);
  const status = element("p", { id: "status", class: "status", role: "status" });
  const mute = element("button", { type: "button", class: "mute", "aria-pressed": "false" });
  const caption = element("p", { class: "caption", part: "caption", "aria-hidden": "true" });
  const heard = element("p", { class: "heard", role: "log" });
  const problem = element("p", { class: "problem", role: "alert", hidden: "" });
  const card = element("div", { class: "card", part: "card", role: "group", "aria-label": "Voice call" });
  card.append(talk, status, mute, caption, heard, problem);
  return { card, talk, icons, status, mute, caption, heard, problem };
}

function element(name, attributes) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

function icon(paths) {
  const SVG = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", "0 0 32 32");
  drawing.setAttribute("aria-hidden", "true");
  for (const d of paths) drawing.append(document.createElementNS(SVG, "path"));
  paths.forEach((d, i) => drawing.children[i].setAttribute("d", d));
  return drawing;
}

if (!customElements.get("voice-widget")) customElements.define("voice-widget", VoiceWidget);
