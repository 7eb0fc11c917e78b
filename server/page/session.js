// One call, made as any browser makes it: token, ICE servers, offer, DataChannel. Knows nothing of the page.

const GATHERING_LIMIT_MS = 2000;
const PING_MS = 1000;

/** An error whose text is meant for the person in front of the page. */
export class CallError extends Error {}

/**
 * Events: `frame` (detail: the parsed frame), `stream` (detail: the bot's MediaStream), `open` (the DataChannel is up),
 * `answered` (detail: ms from offer to answer), `ended` (detail: a reason for people, or null when this side hung up).
 */
export class Session extends EventTarget {
  #agent;
  #pc = null;
  #channel = null;
  #microphone = null;
  #pinging = null;
  #over = false;

  constructor(agent) {
    super();
    this.#agent = agent;
  }

  /** Moment of the offer, ms of `performance.now()`. */
  offeredAt = 0;

  /** Connects with the given microphone, a MediaStream that this session owns from now on. */
  async connect(microphone) {
    this.#microphone = microphone;
    const { token } = await request(`/webrtc/token?agent_id=${encodeURIComponent(this.#agent)}`, "No token");
    const { iceServers } = await request("/webrtc/ice-servers", "No ICE servers").catch(() => ({ iceServers: [] }));
    if (this.#over) return;

    const pc = new RTCPeerConnection({ iceServers });
    this.#pc = pc;
    pc.ontrack = ({ streams }) => this.#tell("stream", streams[0]);
    pc.onconnectionstatechange = () => {
      if (["disconnected", "failed"].includes(pc.connectionState)) this.#end("The connection to the server was lost.");
    };
    for (const track of microphone.getAudioTracks()) pc.addTrack(track, microphone);
    this.#openChannel(pc.createDataChannel("events", { ordered: true }));

    await pc.setLocalDescription(await pc.createOffer());
    await gathered(pc);
    if (this.#over) return;
    this.offeredAt = performance.now();
    const answer = await request("/webrtc/offer", "The call was refused", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ sdp: pc.localDescription.sdp, type: "offer", token }),
    });
    if (this.#over) return;
    this.#tell("answered", performance.now() - this.offeredAt);
    await pc.setRemoteDescription({ sdp: answer.sdp, type: "answer" });
  }

  #openChannel(channel) {
    this.#channel = channel;
    channel.onopen = () => {
      this.#pinging = setInterval(() => channel.readyState === "open" && channel.send("ping"), PING_MS);
      this.#tell("open");
    };
    channel.onclose = () => this.#end("The server closed the call.");
    channel.onmessage = ({ data }) => {
      let frame;
      try {
        frame = JSON.parse(data);
      } catch {
        return; // the protocol allows non-JSON answers to a ping
      }
      this.#tell("frame", frame);
    };
  }

  /** Sends an action; false while the channel is not open. */
  send(action, fields = {}) {
    if (this.#channel?.readyState !== "open") return false;
    this.#channel.send(JSON.stringify({ action, ...fields }));
    return true;
  }

  mute(muted) {
    for (const track of this.#microphone?.getAudioTracks() ?? []) track.enabled = !muted;
    this.send(muted ? "mute" : "unmute");
  }

  /** Hangs up and releases the microphone. */
  close() {
    this.#end(null);
  }

  #end(reason) {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#pinging);
    for (const track of this.#microphone?.getTracks() ?? []) track.stop();
    this.#pc?.close();
    this.#tell("ended", reason);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

async function request(path, failure, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new CallError(`${failure}: the server does not answer.`);
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new CallError(`${failure}: ${body.detail || `status ${response.status}`}`);
  return body;
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
