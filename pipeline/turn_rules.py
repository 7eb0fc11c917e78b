"""Durations, levels and shares by which the turn machine decides and that no agent sets."""

from __future__ import annotations

HYSTERESIS = 0.15
"""Voice goes on down to so much below the probability with which it began."""

GAP_MS = 80
"""Silence inside of voice that does not end it: the closure of a "t"."""

HEARD_GAP_MS = 160
"""And so much in which the detector hears a voice, though it is too soft to be one: in noise words fall to pieces."""

SHORTEST_VOICE_MS = 60
"""Voice of less is a click: it prolongs nothing."""

WINDOW = 2.0
"""The voice that halts the bot comes within so many times its length."""

EARLY = 1.6
"""So many times as much voice interrupts while echo is not cancelled yet, of what may be echo."""

SILENT, UNECHOED_MS = -58.0, 600
"""A microphone that was softer than this, dBFS, for so long while the bot spoke does not hear it."""

EARLY_WORDS_MS = 400
"""What a recogniser makes of less voice, while it still goes on, is anybody's guess."""

LONE_ECHO_MS = 600
"""Silence behind one word of the bot's own last words, in which another may show that it is an echo."""

MANY_WORDS, FEW_WORDS_MS = 3, 440
"""Fewer words interrupt with so much loud voice: shorter ones are more often a "mm-hm" that was misheard."""

FEW_EARLY_MS = 400
"""The same in an answer that has just begun: it may have come too soon."""

FEW_IN_NOISE_MS, NOISY_ROOM = 320, -35.0
"""The same where what is softer than the second, dBFS, does not stand out: of a voice in noise less is loud."""

CLAIM_MS = 240
"""Loud voice of a word that contradicts, when all is heard; before, as much as of any word."""

LOUD_WORD_MS = 80
"""Loud and sure voice that each word has: those of a television have little."""

SETTLED_WORD_MS, WORD_MS = 150, 220
"""Voice that a word takes at least, in a hurry and usually: more words than that were not said."""

DEAF_MS = 450
"""So much longer is voice that interrupts where no words can come: no acknowledgement is that long."""

STANDING_OUT_MS = 40
"""Loud and sure voice for which a recogniser listens while the bot is busy."""

SHORTEST_COMMAND_MS = 100
"""Loud and sure voice that a word such as "stop" must have."""

NOISY = 10.0
"""After noise that was long taken for voice only words halt the bot for so long, s."""

LOUD_COMMAND_MS = 240
"""So much is enough for one in many other words."""

AS_LOUD = 6.0
"""Who is not softer than the user was before by this much, dB, is the user, whatever is said."""

LAST_WORDS_MS = 700
"""A bot that has less left to say says it: who speaks now does not interrupt but answers."""

LAG_MS = 80
"""The neural detector is so late; what the cheap one heard before counts as soon as it agrees."""

SOFT_MS = 500
"""Voice that is much softer than the user's for so long is somebody else's."""

TOLD_MS = 400
"""A pause in mid-sentence is told from then on: shorter ones belong to speaking."""

OUTLASTING_MS = 300
"""Voice that lasts so much longer than the bot's is not its echo."""

PERHAPS_MS = 40
"""So much of what may be voice lowers the bot's, before the neural detector has heard it."""

PROVEN_MS = 140
"""After so long the neural detector must have agreed."""

DISTRUST = 2.0
"""When it did not, the cheap one is not believed for so long, s: there is noise."""

CLEAR, CLEAR_LEVEL, CLEARLY_ABOVE = 0.95, -40.0, 5.0
"""A frame is clearly a voice at this probability, this level, dBFS, and so much above what has to be reached, dB."""

UNVOICED_MS = 800
"""A bot that spoke for so long, and nobody took what the microphone heard for a voice, has no echo."""
