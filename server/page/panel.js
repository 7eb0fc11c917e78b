// Beside the call: raw frames and where the time of each answer went.

const FRAMES_KEPT = 300;
const TURNS_KEPT = 30;
const NEAR_END = 40; // pixels

const STAGES = {
  turn: "turn decided",
  stt: "transcript",
  llm: "first token",
  clause: "first clause",
  tts: "first sound",
  send: "sent",
};

export class FramePanel {
  #list;
  #following = true; // the end stays in sight, until somebody scrolls away from it

  constructor(list) {
    this.#list = list;
    let last = 0;
    list.addEventListener("scroll", () => {
      // The list also shrinks under a scroll that was on its way: only who goes up wants to look back.
      const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_END;
      if (atEnd || list.scrollTop < last) this.#following = atEnd;
      last = list.scrollTop;
    });
    new ResizeObserver(() => this.#follow()).observe(list);
  }

  clear() {
    this.#list.replaceChildren();
    this.#following = true;
  }

  /** Shows a frame that came `at` seconds after the offer. */
  add(at, frame) {
    const { event, ...fields } = frame;
    const item = document.createElement("li");
    item.dataset.event = event;
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.append(span("time", at.toFixed(2)), span("name", event), span("gist", gist(fields)));
    const raw = document.createElement("pre");
    raw.textContent = JSON.stringify(frame, null, 1);
    details.append(summary, raw);
    item.append(details);
    this.#list.append(item);
    while (this.#list.childElementCount > FRAMES_KEPT) this.#list.firstElementChild.remove();
    this.#follow();
  }

  #follow() {
    if (this.#following) this.#list.scrollTop = this.#list.scrollHeight;
  }
}

export class LatencyPanel {
  #start;
  #turns;
  #hint;

  constructor(start, turns, hint) {
    this.#start = start;
    this.#turns = turns;
    this.#hint = hint;
  }

  clear() {
    this.#start.replaceChildren();
    this.#turns.replaceChildren();
    this.#hint.hidden = false;
  }

  /** A number of the call's beginning, such as offer to answer, ms. */
  start(name, ms) {
    const term = document.createElement("dt");
    term.textContent = name;
    const value = document.createElement("dd");
    value.textContent = milliseconds(ms);
    this.#start.append(term, value);
  }

  /** The server's account of a turn: contiguous stages, ms. */
  stages({ turn_id: turn, stages, total_ms: total }) {
    const row = this.#row(turn);
    row.querySelector(".total").textContent = milliseconds(total);
    const bar = row.querySelector(".bar");
    const legend = row.querySelector(".legend");
    bar.replaceChildren();
    legend.replaceChildren();
    for (const [stage, ms] of Object.entries(stages)) {
      const part = span("part", "");
      part.dataset.stage = stage;
      part.style.flexGrow = Math.max(ms, 0);
      part.title = `${STAGES[stage] ?? stage} ${milliseconds(ms)}`;
      bar.append(part);
      const entry = span("entry", `${STAGES[stage] ?? stage} `);
      entry.dataset.stage = stage;
      entry.append(span("ms", String(ms)));
      legend.append(entry);
    }
  }

  /** What this page measured: the caller fell silent (or typed), then the bot was heard, ms. */
  heard(turn, ms) {
    this.#row(turn).querySelector(".heard").textContent = `heard here after ${milliseconds(ms)}`;
  }

  #row(turn) {
    this.#hint.hidden = true;
    let row = this.#turns.querySelector(`[data-turn="${CSS.escape(turn)}"]`);
    if (!row) {
      row = document.createElement("li");
      row.dataset.turn = turn;
      const head = span("head", "");
      head.append(span("turn", `Turn ${turn}`), span("total", ""), span("heard", ""));
      row.append(head, span("bar", ""), span("legend", ""));
      this.#turns.prepend(row);
      while (this.#turns.childElementCount > TURNS_KEPT) this.#turns.lastElementChild.remove();
    }
    return row;
  }
}

function gist(fields) {
  const told = fields.text ?? fields.word ?? fields.error ?? fields.reason ?? fields.total_ms ?? fields.engine;
  return told === undefined ? "" : String(told);
}

function milliseconds(ms) {
  return `${Math.round(ms)} ms`;
}

function span(name, text) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}
