"""Real-time media: PCM frames in, PCM out, data-channel messages as text. Knows no provider and no HTTP."""
