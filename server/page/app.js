// The playground: one button, captions, a text box, and what happens inside.

import { PinecallClient } from "../client.js";
import { PinecallChat } from "../chat.js";
import { ADVICE } from "./advice.js";
import { Captions } from "./captions.js";
import { Choice } from "./choice.js";
import { EnginePanel } from "./engines.js";
import { Meter } from "./meter.js";
import { FramePanel, LatencyPanel } from "./panel.js";

const LOUD_DB = -50; // above this somebody is heard
const METER_MS = 25;
const STATUS = {
  idle: "Click to talk",
  connecting: "Connecting…",
  listening: "Listening",
  thinking: "Thinking…",
  speaking: "Speaking",
  error: "That did not work. Click to try again",
};

const WAITING = {
  loading: "The engines are still loading. A call waits for them.",
  unloaded: "The engines for this are loaded when a call begins.",
};

const $ = (id) => document.getElementById(id);
const captions = new Captions($("captions"), $("heard"));
const engines = new EnginePanel($("engines"), $("engines-state"), $("answers"));
const frames = new FramePanel($("frames"));
const latency = new LatencyPanel($("start-times"), $("turns"), $("turns-empty"));
const choice = new Choice({ agent: $("agent"), language: $("language") }, rechosen);

const server = new URL("..", import.meta.url).href;
const client = new PinecallClient({ server });
const chat = new PinecallChat({ server });
let audio = null; // AudioContext, made on the first click as browsers ask
let meters = {}; // user and bot
let metering = null;
let offeredAt = 0; // performance.now()
let clock = null; // what the page itself measures, see newClock()

function newClock() {
  return { userLoud: null, firstSound: false, turn: null, since: null, armed: false };
}

// State ---------------------------------------------------------------------------------------------------------------

function show(state, status = STATUS[state]) {
  document.body.dataset.state = state;
  const live = inCall();
  $("orb").setAttribute("aria-label", live ? "End the call" : "Talk");
  $("status").textContent = status;
  $("end").disabled = !live;
  if (!live) $("mute").disabled = true;
  choice.lock(live);
  $("text").placeholder = live ? "Or type something to say…" : "Or type instead…";
}

function inCall() {
  return client.state !== "idle";
}

function notice(text) {
  $("notice").textContent = text ?? "";
  $("notice").hidden = !text;
}

function setMuted(muted) {
  document.body.dataset.muted = muted;
  $("mute").setAttribute("aria-pressed", muted);
  $("mute-text").textContent = muted ? "Unmute" : "Mute";
}

// Choice --------------------------------------------------------------------------------------------------------------

/** Something else was chosen, or the server told more about what can be. */
function rechosen({ agent, language }) {
  if (agent || language) chat.disconnect(); // the next line is for another agent, or in another language
  if (language && inCall()) {
    client.configure({ language: choice.tag });
    captions.spokenIn(choice.tag);
  }
  engines.show(choice.prospect);
  const { state } = choice.prospect ?? {};
  $("waiting").textContent = WAITING[state] ?? "";
  $("waiting").hidden = !WAITING[state];
  if (choice.welcome === false && isSecureContext && !inCall()) {
    notice(`No agent lets this page in: ${location.origin} stands in no agent's allowed_origins.`);
  }
}

// Call ----------------------------------------------------------------------------------------------------------------

async function begin() {
  chat.disconnect();
  audio ??= new AudioContext();
  audio.resume();
  clear();
  setMuted(false);
  $("mute").disabled = false;
  try {
    await client.connect(chosen());
  } catch (error) {
    if (error.code !== "DISCONNECTED") fail(explained(error));
  }
}

function chosen() {
  return { agentId: choice.agent || "demo", language: choice.language || undefined };
}

function explained(error) {
  return [error.message, ADVICE[error.code]].filter(Boolean).join(" ");
}

function clear() {
  clock = newClock();
  captions.clear();
  latency.clear();
  frames.clear();
  notice(null);
}

client.on("state", ({ state }) => (state === "idle" ? rest() : show(state)));
client.on("microphone", ({ stream }) => {
  meters = { user: new Meter(audio, stream) };
  metering = setInterval(measure, METER_MS);
});
client.on("answered", (times) => {
  offeredAt = times.offeredAt;
  latency.start("offer → answer", times.answeredAt - offeredAt);
});
client.on("audio", ({ stream }) => (meters.bot = new Meter(audio, stream)));
client.on("disconnected", ({ reason, detail }) => {
  if (["connection_lost", "closed"].includes(reason)) fail(detail);
  else notice(detail);
});

function fail(reason) {
  notice(reason);
  show("error");
}

function rest() {
  clearInterval(metering);
  meters = {};
  document.body.dataset.userSpeaking = false;
  for (const level of ["--level", "--user-level"]) document.body.style.removeProperty(level);
  show("idle");
  choice.refresh();
}

// Frames --------------------------------------------------------------------------------------------------------------

client.on("*", (frame) => frames.add((performance.now() - offeredAt) / 1000, frame));

const HANDLERS = {
  "session.started": ({ session_id: id, language, engines: names }) => {
    document.body.dataset.session = id;
    captions.spokenIn(language);
    engines.names(names ?? {});
    captions.announce("The call has begun");
    choice.refresh();
  },
  "speech.started": () => (document.body.dataset.userSpeaking = true),
  "speech.ended": () => (document.body.dataset.userSpeaking = false),
  "user.speaking": ({ text }) => captions.user(text, false),
  "user.message": ({ text }) => captions.user(text, true),
  "turn.pause": () => show("listening", "Go on…"),
  "turn.resumed": () => show("listening"),
  "turn.end": ({ turn_id: turn }) => {
    Object.assign(clock, { turn, since: clock.userLoud ?? performance.now(), userLoud: null, armed: false });
  },
  "bot.speaking": ({ message_id: id }) => {
    captions.botSpeaking(id);
    clock.armed = true;
  },
  "bot.word": ({ message_id: id, word }) => captions.botWord(id, word),
  "bot.finished": ({ message_id: id, text }) => captions.botFinished(id, text),
  "bot.interrupted": ({ message_id: id, reason }) => captions.botInterrupted(id, reason),
  "llm.response": ({ engine }) => engines.answered(engine),
  "llm.tool_call": ({ tool_calls: calls = [] }) => calls.forEach(({ name }) => captions.system(`Uses ${name}…`)),
  "llm.error": ({ error }) => captions.system(error),
  error: ({ error }) => inCall() && captions.system(error), // before a call it is told above
  "turn.latency": (frame) => latency.stages(frame),
  "session.idle_warning": ({ remaining_seconds: left }) => captions.system(`Still there? The call ends in ${left} s.`),
};
for (const [event, handle] of Object.entries(HANDLERS)) client.on(event, handle);

// Chat ----------------------------------------------------------------------------------------------------------------

/** A line that is typed outside of a call is answered in writing. False: not now, the one before is not answered yet. */
async function write(text) {
  if (chat.state === "idle") {
    clear();
    show("idle");
    offeredAt = performance.now();
    try {
      await chat.connect(chosen());
    } catch (error) {
      if (error.code !== "DISCONNECTED") fail(explained(error));
      return false;
    }
    captions.spokenIn(choice.tag);
  }
  if (!chat.send(text)) return false;
  captions.user(text, true);
  return true;
}

chat.on("*", (frame) => frames.add((performance.now() - offeredAt) / 1000, frame));
chat.on("state", ({ state }) => (document.body.dataset.chat = state));
chat.on("text", ({ id, text, final }) => captions.botText(id, text, final));
chat.on("chat.tool_call", ({ tool_calls: calls }) => calls.forEach(({ name }) => captions.system(`Uses ${name}…`)));
chat.on("chat.error", ({ error }) => captions.system(error));
chat.on("disconnected", ({ reason }) => captions.system(reason === "idle_timeout" ? "The chat has ended." : "The server closed the chat."));

// Measuring -----------------------------------------------------------------------------------------------------------

function measure() {
  const now = performance.now();
  const user = meters.user?.level() ?? -100;
  const bot = meters.bot?.level() ?? -100;
  const state = document.body.dataset.state;
  document.body.style.setProperty("--level", share(state === "speaking" ? bot : user));
  document.body.style.setProperty("--user-level", share(user));
  if (user > LOUD_DB) clock.userLoud = now;
  if (bot <= LOUD_DB) return;
  if (!clock.firstSound) {
    clock.firstSound = true;
    latency.start("offer → first bot audio", now - offeredAt);
  }
  if (clock.armed && clock.turn !== null) {
    latency.heard(clock.turn, now - clock.since);
    Object.assign(clock, { turn: null, armed: false });
  }
}

/** dBFS as a share of what a meter can show. */
function share(level) {
  return Math.min(1, Math.max(0, (level + 60) / 45)).toFixed(2);
}

// Controls ------------------------------------------------------------------------------------------------------------

$("orb").addEventListener("click", () => (inCall() ? client.disconnect() : begin()));
$("end").addEventListener("click", () => client.disconnect());
$("clear").addEventListener("click", () => frames.clear());
$("mute").addEventListener("click", () => {
  setMuted(document.body.dataset.muted !== "true");
  client.setMuted(document.body.dataset.muted === "true");
});
$("composer").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  const sent = inCall() ? client.sendText(text) : await write(text);
  if (sent && $("text").value.trim() === text) $("text").value = "";
});

$("choice").addEventListener("submit", (event) => event.preventDefault());

show("idle");
choice.refresh();
