// Types of widget.js.

import type { Frame, PinecallClient, State, TokenResponse } from "./client.js";

/**
 * `<voice-widget agent="…" server="…" api-key="pk_publishable_…" language="es">`. Attributes count for the next call.
 * Every event of the client (`user.message`, `bot.word`, `connected`, `error`, …) is a DOM event of the element too: a
 * `CustomEvent` of the same name whose `detail` is the frame. They do not bubble.
 */
export declare class VoiceWidget extends HTMLElement {
  /** Where tokens come from, when not from the server for this page's origin. */
  tokenProvider: (() => string | TokenResponse | Promise<string | TokenResponse>) | null;
  onUserMessage: ((text: string, frame: Frame) => void) | null;
  onBotSpeaking: ((text: string, frame: Frame) => void) | null;
  onCallEnded: ((reason: string, frame: Frame) => void) | null;
  readonly client: PinecallClient;
  readonly state: State | "error";
  /** Makes a call, as a click does. What goes wrong is shown and told by the event `error`. */
  start(): Promise<void>;
  /** Hangs up. */
  end(): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "voice-widget": VoiceWidget;
  }
}
