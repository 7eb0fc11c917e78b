// What both sides said, as bubbles. The rules are those of the protocol's browser client (section 4.4).

export class Captions {
  #list;
  #heard;
  #words = new Map(); // message id -> words heard so far
  #bubbles = new Map(); // message id -> bubble of a bot message

  /** `heard` is what screen readers are told: whole messages, not each word. */
  constructor(list, heard) {
    this.#list = list;
    this.#heard = heard;
  }

  clear() {
    this.#list.replaceChildren();
    this.#words.clear();
    this.#bubbles.clear();
  }

  /** So that a screen reader pronounces it well. */
  spokenIn(language) {
    this.#list.lang = language ?? "";
  }

  /** Text of the user's turn so far. It replaces the user's last bubble until the bot has one below it. */
  user(text, final) {
    let bubble = this.#list.lastElementChild;
    if (bubble?.dataset.role !== "user") bubble = this.#add("user");
    bubble.dataset.final = final;
    this.#write(bubble, text);
    if (final) this.announce(`You: ${text}`);
  }

  /** A message begins to sound; it gets a bubble with its first word. */
  botSpeaking(id) {
    this.#words.set(id, []);
  }

  botWord(id, word) {
    const words = this.#words.get(id) ?? [];
    this.#words.set(id, [...words, word]);
    if (!this.#bubbles.has(id)) this.#bubbles.set(id, this.#add("bot"));
    this.#write(this.#bubbles.get(id), this.#words.get(id).join(" "));
  }

  botFinished(id, text) {
    const bubble = this.#bubbles.get(id);
    if (bubble) {
      bubble.dataset.final = true;
      if (text) this.#write(bubble, text);
      this.announce(`Agent: ${bubble.textContent}`);
    }
    this.#forget(id);
  }

  botInterrupted(id, reason) {
    const bubble = this.#bubbles.get(id);
    if (bubble) {
      bubble.dataset.final = true;
      bubble.dataset.interrupted = reason;
      this.announce(`Agent, interrupted: ${bubble.textContent}`);
    }
    this.#forget(id);
  }

  /** A line that is typed and not spoken, so far or as a whole. */
  botText(id, text, final) {
    if (!this.#bubbles.has(id)) this.#bubbles.set(id, this.#add("bot"));
    if (final) this.botFinished(id, text);
    else this.#write(this.#bubbles.get(id), text);
  }

  /** A line that nobody said: a tool, a failure, the end of the call. */
  system(text) {
    const bubble = this.#add("system");
    bubble.dataset.final = true;
    this.#write(bubble, text);
    this.announce(text);
  }

  announce(text) {
    this.#heard.textContent = text;
  }

  #forget(id) {
    this.#words.delete(id);
    this.#bubbles.delete(id);
  }

  #add(role) {
    const bubble = document.createElement("li");
    bubble.dataset.role = role;
    bubble.dataset.final = false;
    this.#list.append(bubble);
    return bubble;
  }

  #write(bubble, text) {
    bubble.textContent = text;
    this.#list.scrollTop = this.#list.scrollHeight;
  }
}
