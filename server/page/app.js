// The playground: one button, captions, a text box, and what happens inside.

import { Captions } from "./captions.js";
import { Meter, openMicrophone, silentMicrophone } from "./microphone.js";
import { FramePanel, LatencyPanel } from "./panel.js";
import { CallError, Session } from "./session.js";

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

const $ = (id) => document.getElementById(id);
const agent = new URLSearchParams(location.search).get("agent") || "demo";
const captions = new Captions($("captions"));
const frames = new FramePanel($("frames"));
const latency = new LatencyPanel($("start-times"), $("turns"), $("turns-empty"));

let session = null;
let audio = null; // AudioContext, made on the first click as browsers ask
let meters = {}; // user and bot
let metering = null;
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
}

function inCall() {
  return session !== null;
}

function notice(text) {
  $("notice").textContent = text ?? "";
  $("notice").hidden = !text;
}

function setMuted(muted) {
  document.body.dataset.muted = muted;
  $("mute").setAttribute("aria-pressed", muted);
  $("mute").textContent = muted ? "Unmute" : "Mute";
}

// Call ----------------------------------------------------------------------------------------------------------------

async function begin({ microphone = true, firstText = null } = {}) {
  const call = new Session(agent);
  session = call;
  audio ??= new AudioContext();
  audio.resume();
  clock = newClock();
  captions.clear();
  latency.clear();
  frames.clear();
  notice(null);
  setMuted(false);
  show("connecting");
  listenTo(call, firstText);
  try {
    const stream = microphone ? await openMicrophone() : silentMicrophone(audio);
    if (session !== call) return stream.getTracks().forEach((track) => track.stop());
    meters = { user: new Meter(audio, stream) };
    metering = setInterval(measure, METER_MS);
    $("mute").disabled = !microphone;
    await call.connect(stream);
  } catch (error) {
    if (session !== call) return;
    if (!(error instanceof CallError)) console.error(error);
    fail(error instanceof CallError ? error.message : `The call could not be made: ${error.message}`);
  }
}

function listenTo(call, firstText) {
  const on = (type, handle) => call.addEventListener(type, ({ detail }) => session === call && handle(detail));
  on("answered", (ms) => latency.start("offer → answer", ms));
  on("stream", (stream) => {
    $("speaker").srcObject = stream;
    meters.bot = new Meter(audio, stream);
  });
  on("open", () => {
    if (document.body.dataset.state === "connecting") show("listening");
    if (firstText) call.send("inject_text", { text: firstText });
  });
  on("frame", handleFrame);
  on("ended", (reason) => (reason ? fail(reason) : finish()));
}

function fail(reason) {
  finish();
  notice(reason);
  show("error");
}

function finish() {
  const call = session;
  session = null;
  clearInterval(metering);
  meters = {};
  $("speaker").srcObject = null;
  document.body.dataset.userSpeaking = false;
  document.body.style.removeProperty("--level");
  call?.close();
  show("idle");
}

// Frames --------------------------------------------------------------------------------------------------------------

function handleFrame(frame) {
  frames.add((performance.now() - session.offeredAt) / 1000, frame);
  HANDLERS[frame.event]?.(frame);
}

const HANDLERS = {
  "session.started": ({ session_id: id, engines }) => {
    document.body.dataset.session = id;
    showEngines(engines ?? {});
  },
  "speech.started": () => (document.body.dataset.userSpeaking = true),
  "speech.ended": () => (document.body.dataset.userSpeaking = false),
  "user.speaking": ({ text }) => {
    captions.user(text, false);
    show("listening");
  },
  "user.message": ({ text }) => {
    captions.user(text, true);
    show("thinking");
  },
  "turn.pause": () => show("listening", "Go on…"),
  "turn.resumed": () => show("listening"),
  "turn.end": ({ turn_id: turn }) => {
    show("thinking");
    Object.assign(clock, { turn, since: clock.userLoud ?? performance.now(), userLoud: null, armed: false });
  },
  "bot.speaking": ({ message_id: id }) => {
    captions.botSpeaking(id);
    clock.armed = true;
  },
  "bot.word": ({ message_id: id, word }) => {
    captions.botWord(id, word);
    show("speaking");
  },
  "bot.finished": ({ message_id: id, text }) => {
    captions.botFinished(id, text);
    show("listening");
  },
  "bot.interrupted": ({ message_id: id, reason }) => {
    captions.botInterrupted(id, reason);
    show("listening");
  },
  "llm.response": ({ engine }) => markEngine(engine),
  "llm.tool_call": ({ tool_calls: calls = [] }) => calls.forEach(({ name }) => captions.system(`Uses ${name}…`)),
  "llm.error": ({ error }) => captions.system(error),
  error: ({ error }) => captions.system(error),
  "turn.latency": (frame) => latency.stages(frame),
  "session.idle_warning": ({ remaining_seconds: left }) => captions.system(`Still there? The call ends in ${left} s.`),
  "session.timeout": ({ reason }) => {
    finish();
    notice(ENDINGS[reason] ?? "The server ended the call.");
  },
};

const ENDINGS = {
  idle_timeout: "The call ended because nobody spoke.",
  max_duration: "The call reached its longest allowed time.",
  server_shutdown: "The server is shutting down.",
};

function showEngines(engines) {
  const kinds = { stt: "hears", llm: "thinks", tts: "speaks" };
  $("engines").replaceChildren(
    ...Object.entries(engines).map(([kind, name]) => {
      const item = document.createElement("li");
      Object.assign(item.dataset, { kind, name });
      item.textContent = `${kinds[kind] ?? kind}: ${name}`;
      return item;
    }),
  );
  $("tiny").hidden = engines.llm !== "local";
}

/** The engine that wrote the last answer: "local" stands for rules and a model. */
function markEngine(engine) {
  const item = $("engines").querySelector("[data-kind=llm]");
  if (!item || !engine) return;
  const { name } = item.dataset;
  item.textContent = engine === name ? `thinks: ${name}` : `thinks: ${name}, last ${engine}`;
}

// Measuring -----------------------------------------------------------------------------------------------------------

function measure() {
  const now = performance.now();
  const user = meters.user?.level() ?? -100;
  const bot = meters.bot?.level() ?? -100;
  const state = document.body.dataset.state;
  const level = state === "speaking" ? bot : user;
  document.body.style.setProperty("--level", Math.min(1, Math.max(0, (level + 60) / 45)).toFixed(2));
  if (user > LOUD_DB) clock.userLoud = now;
  if (bot <= LOUD_DB) return;
  if (!clock.firstSound) {
    clock.firstSound = true;
    latency.start("offer → first bot audio", now - session.offeredAt);
  }
  if (clock.armed && clock.turn !== null) {
    latency.heard(clock.turn, now - clock.since);
    Object.assign(clock, { turn: null, armed: false });
  }
}

// Controls ------------------------------------------------------------------------------------------------------------

$("orb").addEventListener("click", () => (inCall() ? finish() : begin()));
$("end").addEventListener("click", finish);
$("clear").addEventListener("click", () => frames.clear());
$("mute").addEventListener("click", () => {
  setMuted(document.body.dataset.muted !== "true");
  session?.mute(document.body.dataset.muted === "true");
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  if (!inCall()) begin({ microphone: false, firstText: text });
  else if (!session.send("inject_text", { text })) return;
  $("text").value = "";
});
window.addEventListener("pagehide", () => session?.close());

$("agent").textContent = agent;
show("idle");
