// How loud both sides are.

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
