// What to do when a call could not be made, by the code of the failure.

export const ADVICE = {
  INSECURE_PAGE:
    `Open this page as http://localhost:${location.port || 80} on the machine that runs the server, or put TLS in ` +
    "front of it. Typing works without a microphone.",
  MICROPHONE_REFUSED: "Or type below.",
  MICROPHONE_MISSING: "Or type below.",
  MICROPHONE_BUSY: "Or type below.",
};
