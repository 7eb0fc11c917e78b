// Whom to call and in which language. Both are kept in the address, so that a link says them.

const LIST = new URL("../webrtc/agents", import.meta.url);
const LOADING_MS = 2000; // between two looks while engines load
const SILENT_MS = 5000; // likewise, when the server did not answer

/** Two selects. `changed` is called when another agent or language is chosen, and when the list has news of them. */
export class Choice {
  agent;
  language; // "" is what the agent wants
  #agents = null; // as the server lists them; null before it has
  #lists;
  #changed;
  #timer = null;

  /** `lists` are the selects of agents and languages, each inside its label. */
  constructor(lists, changed) {
    this.#lists = lists;
    this.#changed = changed;
    const query = new URLSearchParams(location.search);
    this.agent = query.get("agent") ?? "";
    this.language = query.get("language") ?? "";
    lists.agent.addEventListener("change", () => this.#choose({ agent: lists.agent.value }));
    lists.language.addEventListener("change", () => this.#choose({ language: lists.language.value }));
  }

  /** False when no agent lets this page in; null while that is not known. */
  get welcome() {
    return this.#agents && this.#agents.length > 0;
  }

  /** `{ language, engines, answers, state }` of the call that would begin now; undefined when nobody knows. */
  get prospect() {
    const { languages, language } = this.#listed() ?? {};
    return languages?.find((entry) => entry.language === (this.language || base(language)));
  }

  /** The tag to ask for in a running call, where "what the agent wants" has to be named. */
  get tag() {
    return this.language || this.#listed()?.language;
  }

  /** In a call only the language may change. */
  lock(locked) {
    this.#lists.agent.disabled = locked;
  }

  /** Asks the server, again while its engines load or when it did not answer. */
  async refresh() {
    clearTimeout(this.#timer);
    const answer = await fetch(LIST, { cache: "no-store" }).then((response) => response.ok && response.json()).catch(() => null);
    clearTimeout(this.#timer); // of another look, meanwhile
    if (answer) {
      this.#agents = answer.agents;
      this.agent ||= (this.#find("demo") ?? this.#agents[0])?.agent ?? "demo";
      this.#draw();
    }
    if (!answer || this.prospect?.state === "loading") this.#timer = setTimeout(() => this.refresh(), answer ? LOADING_MS : SILENT_MS);
    this.#changed({ agent: false, language: false });
  }

  #find(agent) {
    return this.#agents?.find((entry) => entry.agent === agent);
  }

  #listed() {
    return this.#find(this.agent);
  }

  #choose({ agent = this.agent, language = this.language }) {
    const before = { agent: this.agent, language: this.tag };
    Object.assign(this, { agent, language });
    this.#draw();
    const address = new URL(location.href);
    for (const [name, value] of Object.entries({ agent: this.agent, language: this.language })) {
      if (value) address.searchParams.set(name, value);
      else address.searchParams.delete(name);
    }
    history.replaceState(null, "", address);
    this.#changed({ agent: before.agent !== this.agent, language: before.language !== this.tag });
  }

  #draw() {
    const names = this.#agents.map(({ agent }) => [agent, title(agent)]);
    if (!this.#listed()) names.push([this.agent, `${title(this.agent)} (does not let this page in)`]);
    fill(this.#lists.agent, names, this.agent);
    const { language: own, languages = [] } = this.#listed() ?? {};
    if (!languages.some(({ language }) => language === this.language)) this.language = "";
    const tags = languages.map(({ language }) => [language, inItself(language)]);
    fill(this.#lists.language, [["", own ? `${inItself(own)} (default)` : "Default"], ...tags], this.language);
    this.#lists.agent.parentElement.hidden = names.length < 2;
    this.#lists.language.parentElement.hidden = tags.length < 2;
  }
}

/** Options that have not changed stay: a list that is open would close. */
function fill(select, options, chosen) {
  if (JSON.stringify(options) !== select.dataset.options) {
    select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
    select.dataset.options = JSON.stringify(options);
  }
  select.value = chosen;
}

/** The name of a language in that language. */
function inItself(tag) {
  try {
    const name = new Intl.DisplayNames([tag], { type: "language" }).of(tag);
    return name.charAt(0).toLocaleUpperCase(tag) + name.slice(1);
  } catch {
    return tag; // such as "multi_speaker", which is no tag
  }
}

/** `front-desk` as people write it. */
function title(agent) {
  const words = agent.replaceAll("-", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function base(tag) {
  return tag?.split("-")[0].toLowerCase();
}
