// Which engines hear, think and speak, before a call and in it.

const KINDS = { stt: "Hears", llm: "Thinks", tts: "Speaks" };
const STATES = { ready: "ready", loading: "loading…", unloaded: "on demand" };
const ANSWERS = {
  tiny: "A tiny local model: it proves the loop and is poor company. Name a better one with VOICE_LLM_FILE.",
  rules: "Only fixed rules answer in this language: the time, sums, small talk. Name a language model with VOICE_LLM_FILE.",
};

export class EnginePanel {
  #list;
  #state;
  #hint;

  constructor(list, state, hint) {
    this.#list = list;
    this.#state = state;
    this.#hint = hint;
  }

  /** As the server expects a call to be: `{ engines, answers, state }`; nothing when it does not say. */
  show({ engines = {}, answers, state } = {}) {
    this.#state.textContent = STATES[state] ?? "";
    this.#state.dataset.state = state ?? "";
    this.#hint.textContent = ANSWERS[answers] ?? "";
    this.#hint.hidden = !ANSWERS[answers];
    this.names(engines);
  }

  /** Names by kind. */
  names(engines) {
    for (const [kind, name] of Object.entries(engines)) {
      const item = this.#item(kind);
      if (item.dataset.name !== name) this.#write(item, name, name);
    }
  }

  /** Who wrote the last answer: "local" stands for rules and a model. */
  answered(engine) {
    const item = this.#item("llm");
    const { name } = item.dataset;
    if (engine && name) this.#write(item, name, engine === name ? name : `${name} (${engine})`);
  }

  #write(item, name, text) {
    item.dataset.name = name;
    item.lastElementChild.textContent = text;
  }

  #item(kind) {
    let item = this.#list.querySelector(`[data-kind="${CSS.escape(kind)}"]`);
    if (!item) {
      item = document.createElement("li");
      item.dataset.kind = kind;
      const does = document.createElement("span");
      does.textContent = `${KINDS[kind] ?? kind} `;
      item.append(does, document.createElement("b"));
      this.#list.append(item);
    }
    return item;
  }
}
