// Runs before the page's own scripts: the microphone becomes a recorded voice that the test starts at its moment, and
// the loudness of the bot is noted from the statistics of the connection. The page itself is untouched.
(() => {
  const SAMPLE_MS = 40;
  const GAP_SECONDS = 60;
  const test = { microphone: "given", samples: [], troubles: [], voices: {} };
  window.voiceTest = test;

  const note = (text) => test.troubles.push(String(text));
  addEventListener("error", (event) => note(event.message));
  addEventListener("unhandledrejection", (event) => note(event.reason));
  addEventListener("securitypolicyviolation", (event) => note(`policy: ${event.violatedDirective} ${event.blockedURI}`));

  // Microphone: voices are 16 bit mono PCM at `rate`, base64.
  const pcm = (base64) => new Int16Array(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer);

  // WebAudio, where it runs without a sound card.
  const throughWebAudio = (voices, rate) => {
    const context = new AudioContext();
    const destination = context.createMediaStreamDestination();
    // A microphone is never without sound; an idle graph would send no packets.
    const room = context.createConstantSource();
    room.offset.value = 0;
    room.connect(destination);
    room.start();
    const play = (name) => {
      const samples = Float32Array.from(pcm(voices[name]), (sample) => sample / 32768);
      const source = context.createBufferSource();
      source.buffer = context.createBuffer(1, samples.length, rate);
      source.buffer.copyToChannel(samples, 0);
      source.connect(destination);
      source.start();
    };
    return { stream: destination.stream, play };
  };

  // Firefox's AudioContext waits for a sound card for ever. There the microphone is a tape: silence with the voices in it.
  const throughTape = async (voices, rate) => {
    const gap = new Int16Array(GAP_SECONDS * rate);
    const offsets = {};
    const parts = [gap];
    let length = gap.length;
    for (const [name, voice] of Object.entries(voices)) {
      offsets[name] = length / rate;
      parts.push(pcm(voice), gap);
      length += parts.at(-2).length + gap.length;
    }
    const header = new DataView(new ArrayBuffer(44));
    const text = (at, word) => [...word].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
    text(0, "RIFF"), header.setUint32(4, 36 + 2 * length, true), text(8, "WAVEfmt ");
    header.setUint32(16, 16, true), header.setUint16(20, 1, true), header.setUint16(22, 1, true);
    header.setUint32(24, rate, true), header.setUint32(28, 2 * rate, true);
    header.setUint16(32, 2, true), header.setUint16(34, 16, true), text(36, "data"), header.setUint32(40, 2 * length, true);
    const tape = new Audio(URL.createObjectURL(new Blob([header, ...parts], { type: "audio/wav" })));
    test.tape = tape; // an element without a reference may be collected
    await new Promise((done, failed) => {
      tape.onloadeddata = done;
      tape.onerror = () => failed(new Error(`tape: ${tape.error.message}`));
    });
    const stream = tape.mozCaptureStream();
    await tape.play();
    return { stream, play: (name) => (tape.currentTime = offsets[name]) };
  };

  test.prepare = async (voices, rate) => {
    const make = "mozCaptureStream" in HTMLMediaElement.prototype ? throughTape : throughWebAudio;
    const { stream, play } = await make(voices, rate);
    test.play = play;
    // Each call stops its tracks when it ends.
    navigator.mediaDevices.getUserMedia = async () => {
      if (test.microphone !== "given") throw new DOMException("refused by the test", test.microphone);
      return stream.clone();
    };
  };

  // Ears: RMS of what was received between two looks, from the energy that the browser sums up.
  let connection = null;
  const Native = RTCPeerConnection;
  window.RTCPeerConnection = class extends Native {
    constructor(...options) {
      super(...options);
      connection = this;
    }
  };
  let last = { energy: 0, seconds: 0 };
  const listen = async () => {
    const heard = connection;
    // Firefox refuses to count for a connection that was closed, also when it was closed meanwhile.
    const reports = await heard.getStats().catch((error) => {
      if (heard.signalingState !== "closed") throw error;
    });
    for (const report of reports?.values() ?? []) {
      if (report.type !== "inbound-rtp" || report.kind !== "audio") continue;
      const { totalAudioEnergy: energy = 0, totalSamplesDuration: seconds = 0 } = report;
      if (seconds === last.seconds) continue;
      const rms = seconds > last.seconds ? Math.max(0, energy - last.energy) / (seconds - last.seconds) : 0;
      test.samples.push([performance.now(), 10 * Math.log10(rms + 1e-10)]);
      last = { energy, seconds };
    }
  };
  setInterval(() => connection && connection.signalingState !== "closed" && test.samples.length < 50000 && listen(), SAMPLE_MS);
})();
