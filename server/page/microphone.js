// Where the caller's sound comes from, how loud both sides are, and why a microphone is missing.

import { CallError } from "./session.js";

const CONSTRAINTS = { audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true } };

/** Asks for the microphone. Throws a CallError that tells the person what to do. */
export async function openMicrophone() {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    throw new CallError(
      "Browsers give the microphone only to pages on https or on localhost. Open this page as " +
        `http://localhost:${location.port || 80} on the machine that runs the server, or put TLS in front of it. ` +
        "Typing works without a microphone.",
    );
  }
  try {
    return await navigator.mediaDevices.getUserMedia(CONSTRAINTS);
  } catch (error) {
    throw new CallError(REASONS[error.name] ?? `The microphone did not open: ${error.message}`);
  }
}

const REASONS = {
  NotAllowedError:
    "The microphone was refused. Allow it in the site settings beside the address bar and click again, or type below.",
  NotFoundError: "No microphone was found. Plug one in and click again, or type below.",
  NotReadableError: "Another program holds the microphone. Close it and click again, or type below.",
};

/** A microphone that hears nothing: a call by keyboard needs an audio track like any other. */
export function silentMicrophone(context) {
  const silence = context.createConstantSource();
  silence.offset.value = 0;
  const destination = context.createMediaStreamDestination();
  silence.connect(destination); // without a source some browsers send no packets at all
  silence.start();
  return destination.stream;
}

/** Loudness of a stream. */
export class Meter {
  #analyser;
  #samples;

  constructor(context, stream) {
    this.#analyser = context.createAnalyser();
    this.#analyser.fftSize = 1024;
    this.#samples = new Float32Array(this.#analyser.fftSize);
    context.createMediaStreamSource(stream).connect(this.#analyser);
  }

  /** RMS level of the last 20 ms or so, dBFS, -100 when silent. */
  level() {
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    return Math.max(-100, 10 * Math.log10(sum / this.#samples.length + 1e-12));
  }
}
