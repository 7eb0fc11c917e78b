"""The call: hearing, turns, language model, speech. Knows no HTTP and no WebRTC."""
