// How a page uses client.js and widget.js, in all that their type files declare, and what they must refuse.
// Compiled by tests/browser/test_types.py, never run.

import { PinecallChat } from "./chat.js";
import { PinecallClient, PinecallError } from "./client.js";
import type { ClientEvents, ConnectOptions, Frame, State, TokenResponse } from "./client.js";
import { VoiceWidget } from "./widget.js";

const provider = async (): Promise<TokenResponse> => ({ token: "wrtc_…", server: "wss://voice.example.org" });
const options: ConnectOptions = {
  server: "https://voice.example.org",
  tokenProvider: provider,
  agentId: "mara",
  apiKey: "pk_publishable_…",
  language: "es",
  microphone: false,
  config: { greeting: false },
  metadata: { page: "shop" },
};

const client = new PinecallClient(options);
new PinecallClient();
const state: State = client.state;
const muted: boolean = client.muted;
const session: string | null = client.sessionId;

const stop: () => void = client.on("user.message", ({ text, message_id }) => text.concat(message_id));
stop();
const hear = ({ word, word_index }: ClientEvents["bot.word"]): void => console.log(word.length + word_index);
client.on("bot.word", hear);
client.off("bot.word", hear);
client.on("user.speaking", ({ text }) => text.trim());
client.on("bot.speaking", ({ text, message_id }) => text + message_id);
client.on("bot.finished", ({ text, duration_ms }) => text.repeat(duration_ms));
client.on("bot.interrupted", ({ reason, played_ms }) => reason.repeat(played_ms));
client.on("call.ended", ({ reason, event }) => reason + event);
client.on("connected", ({ sessionId }) => sessionId?.length);
client.on("disconnected", ({ reason, detail }) => detail?.concat(reason));
client.on("state", ({ state }) => state === "speaking");
client.on("microphone", ({ stream }) => stream.getAudioTracks());
client.on("audio", ({ stream }) => stream.getAudioTracks());
client.on("answered", ({ sessionId, offeredAt, answeredAt }) => [sessionId, answeredAt - offeredAt]);
client.on("error", ({ event, error, code }) => [event, error.trim(), code?.trim()]);
client.on("*", (frame: Frame) => frame.event);
client.on("turn.latency", (frame) => frame["total_ms"] === frame.call_id);

const connected: Promise<void> = client.connect({ token: "wrtc_…", microphone: new MediaStream() });
connected.catch((error: unknown) => error instanceof PinecallError && `${error.code}: ${error.message}`);
client.connect({ tokenProvider: () => "wrtc_…" });
const sent: boolean = client.sendText("Hello") && client.setContext("cart", null) && client.configure({ language: "en" });
client.mute();
client.unmute();
client.setMuted(!muted);
client.disconnect();
console.log(state, session, sent, new PinecallError("No.", "REFUSED", { cause: 1 }));

const widget = document.createElement("voice-widget");
const again: VoiceWidget | null = document.querySelector("voice-widget");
widget.setAttribute("language", "es");
widget.tokenProvider = provider;
widget.tokenProvider = null;
widget.onUserMessage = (text, frame) => text.concat(frame.event);
widget.onBotSpeaking = (text, frame) => text.concat(frame.event);
widget.onCallEnded = (reason, frame) => reason.concat(frame.event);
widget.onCallEnded = null;
const started: Promise<void> = widget.start();
widget.client.sendText("Hello");
widget.end();
console.log(widget.state === "error", again, started);

// Each of these is a mistake; the compiler fails when one of them is none.

// @ts-expect-error An option that there is not.
client.connect({ agent: "mara" });
// @ts-expect-error A language is a tag.
client.connect({ language: ["es"] });
// @ts-expect-error A token comes from somewhere.
client.connect({ tokenProvider: () => 5 });
// @ts-expect-error Said in writing.
client.sendText(5);
// @ts-expect-error Read only.
client.state = "idle";
// @ts-expect-error A client is in no error; a widget may be.
client.state === "error";
// @ts-expect-error The field is called text.
client.on("user.message", ({ message }: { message: string }) => message);
// @ts-expect-error A word is no number.
client.on("bot.word", ({ word }) => word.toFixed());
// @ts-expect-error A frame's other fields are unknown until the page looks.
client.on("turn.latency", (frame) => frame["total_ms"] + 1);
// @ts-expect-error An error has a code.
new PinecallError("No.");
// @ts-expect-error Read only.
widget.client = client;
// @ts-expect-error A reason is a text.
widget.onCallEnded = (reason: number) => reason;
// @ts-expect-error Not a state.
widget.state === "ringing";

const chat = new PinecallChat({ agentId: "mara", thread: "t1" });
const unhear = chat.on("text", ({ id, text, final }) => console.log(id.length, text.toUpperCase(), !final));
chat.on("chat.history", ({ messages }) => messages.filter(({ role }) => role === "bot"));
chat.on("disconnected", ({ reason }) => reason.length);
const opened: Promise<void> = chat.connect({ token: "cht_1" });
opened.catch(() => chat.disconnect());
const written: boolean = chat.send("Hello") && chat.setContext("cart", null);
unhear();

// @ts-expect-error Not a state.
chat.state === "listening";
// @ts-expect-error There is no microphone.
chat.connect({ microphone: false });
// @ts-expect-error A line is a text.
chat.send({ text: "Hello" });
