"""Offers and answers: what a browser's SDP must hold for a call, and the one answer to it (RFC 8829, 8841, 8843)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from media.audio import INPUT_RATE

MAX_OFFER = 64 * 1024
"""Largest offer that is read, bytes. A browser's is 2 to 10 KB."""

MAX_SECTIONS = 32

MAX_MESSAGE_SIZE = 64 * 1024
"""Largest DataChannel message that is taken, bytes (protocol 4.3)."""

UPLINK_BITRATE = 28_000
"""What the browser is asked to send at most, bit/s. Below 24,000 libopus pays for its FEC with bandwidth."""

_DIGESTS = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
_ANSWER_DIRECTION = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}
_MEDIA_LINE = re.compile(r"([!-~]{1,32}) ([0-9]{1,5})(?:/[0-9]{1,5})? ([!-~]{1,64}) ([!-~]{1,64}(?: [!-~]{1,64})*) ?")
_MID = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,64}")
_RTPMAP = re.compile(r"([0-9]{1,3}) opus/48000(?:/2)?", re.IGNORECASE)
_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PASSWORD = re.compile(r"[A-Za-z0-9+/]{22,256}")


class SdpError(ValueError):
    """The offer cannot be answered. The text is a sentence for the person who made it."""


@dataclass(frozen=True, slots=True)
class Section:
    """One ``m=`` section of the offer, as much of it as the answer repeats."""

    kind: str
    protocol: str
    formats: str
    mid: str | None


@dataclass(frozen=True, slots=True)
class Offer:
    """What the answer and the session need of an offer.

    ``audio`` and ``data`` are indexes into ``sections`` (``data`` is ``None`` for a call without a DataChannel); every
    other section is refused with port 0. ``direction`` is already the answerer's: ``recvonly`` means we only listen.
    ``fingerprints`` are pairs of digest name and colon-separated hex. ``max_message_size`` is in bytes.
    """

    sections: tuple[Section, ...]
    audio: int
    data: int | None
    bundle: bool
    payload_type: int
    direction: str
    fingerprints: tuple[tuple[str, str], ...]
    sctp_port: int
    max_message_size: int

    @property
    def sends(self) -> bool:
        """Whether the server may send audio."""
        return self.direction in ("sendrecv", "sendonly")


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """Our end as the answer announces it. Candidates are (IP address, port), of UDP and of TCP, best first."""

    ufrag: str
    password: str
    fingerprint: str
    candidates: Sequence[tuple[str, int]]
    ssrc: int
    cname: str
    tcp_candidates: Sequence[tuple[str, int]] = ()


class _Attributes:
    """The ``a=`` lines of one section or of the session level, by name."""

    def __init__(self, media: str | None) -> None:
        self.media = media
        self._values: dict[str, list[str]] = {}

    def add(self, line: str) -> None:
        name, _, value = line.partition(":")
        self._values.setdefault(name, []).append(value.strip())

    def all(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def first(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    def __contains__(self, name: str) -> bool:
        return name in self._values


def parse_offer(sdp: str) -> Offer:
    """Read a browser's offer.

    Candidates are ignored: an ICE-lite agent only answers (RFC 8445 section 2.5).

    Raises ``SdpError`` for anything that cannot become a call, and nothing else.
    """
    session, media = _split(sdp)
    sections = tuple(_section(attributes) for attributes in media)
    audio = _find(sections, media, "audio")
    if audio is None:
        raise SdpError("The offer has no audio section.")
    data = _find(sections, media, "application")
    payload_type = _opus(media[audio], sections[audio])
    _check_transport(session, media[audio])
    bundle = _check_bundle(session, sections, audio, data)
    direction = next((name for name in _ANSWER_DIRECTION if name in media[audio]), None)
    direction = direction or next((name for name in _ANSWER_DIRECTION if name in session), "sendrecv")
    channel = media[data] if data is not None else _Attributes(None)
    return Offer(
        sections=sections,
        audio=audio,
        data=data,
        bundle=bundle,
        payload_type=payload_type,
        direction=_ANSWER_DIRECTION[direction],
        fingerprints=_fingerprints(session, media[audio]),
        sctp_port=_number(channel.first("sctp-port"), default=5000, highest=65535),
        max_message_size=_number(channel.first("max-message-size"), default=MAX_MESSAGE_SIZE, highest=2**63),
    )


def _split(sdp: str) -> tuple[_Attributes, list[_Attributes]]:
    """Session-level attributes and those of each section."""
    if len(sdp) > MAX_OFFER or len(sdp.encode("utf-8", "replace")) > MAX_OFFER:
        raise SdpError(f"The offer is larger than {MAX_OFFER // 1024} KiB.")
    lines = sdp.replace("\r\n", "\n").split("\n")
    if lines[0].strip() != "v=0":
        raise SdpError("The offer is not SDP: it does not begin with v=0.")
    session = current = _Attributes(None)
    media: list[_Attributes] = []
    for line in lines:
        if line.startswith("m="):
            current = _Attributes(line[2:])
            media.append(current)
        elif line.startswith("a="):
            current.add(line[2:].rstrip())
    if len(media) > MAX_SECTIONS:
        raise SdpError(f"The offer has more than {MAX_SECTIONS} media sections.")
    return session, media


def _section(attributes: _Attributes) -> Section:
    match = _MEDIA_LINE.fullmatch(attributes.media or "")
    if match is None:
        raise SdpError("The offer has a media line that is not SDP.")
    mid = attributes.first("mid")
    if mid is not None and not _MID.fullmatch(mid):
        raise SdpError("The offer has an a=mid that is not a token.")
    kind, _, protocol, formats = match.groups()
    return Section(kind, protocol, formats, mid)


def _find(sections: Sequence[Section], media: Sequence[_Attributes], kind: str) -> int | None:
    """Index of the first section of that kind that can be accepted."""
    for index, (section, attributes) in enumerate(zip(sections, media, strict=True)):
        refused = (attributes.media or "").split(" ")[1] == "0" and "bundle-only" not in attributes
        channel = section.formats == "webrtc-datachannel" and section.protocol.endswith("DTLS/SCTP")
        if section.kind == kind and not refused and (kind == "audio" or channel):
            return index
    return None


def _opus(attributes: _Attributes, section: Section) -> int:
    """The payload type of Opus that the offerer prefers: the first on the media line (RFC 3264 section 5.1)."""
    found = {match[1] for value in attributes.all("rtpmap") if (match := _RTPMAP.fullmatch(value))}
    for name in section.formats.split(" "):
        if name in found and int(name) < 128:
            return int(name)
    raise SdpError("The offer has no Opus (opus/48000/2) in its audio section.")


def _check_transport(session: _Attributes, audio: _Attributes) -> None:
    if "ice-lite" in session or "ice-lite" in audio:
        raise SdpError("The offer is ICE-lite; this server is too, and two lite agents cannot connect.")
    ufrag = audio.first("ice-ufrag") or session.first("ice-ufrag") or ""
    password = audio.first("ice-pwd") or session.first("ice-pwd") or ""
    if not _UFRAG.fullmatch(ufrag) or not _PASSWORD.fullmatch(password):
        raise SdpError("The offer has no valid ICE credentials (a=ice-ufrag and a=ice-pwd).")
    setup = audio.first("setup") or session.first("setup")
    if setup not in ("actpass", "active"):
        raise SdpError("The offer must be a=setup:actpass or a=setup:active; this server takes the passive DTLS role.")
    if "rtcp-mux" not in audio:
        raise SdpError("The offer has no a=rtcp-mux in its audio section; audio and its reports share one port here.")


def _check_bundle(session: _Attributes, sections: Sequence[Section], audio: int, data: int | None) -> bool:
    """Whether the audio section is bundled; it must be when there is a DataChannel beside it (RFC 8843)."""
    mids = {sections[index].mid for index in (audio, data) if index is not None}
    groups = (value.split() for value in session.all("group"))
    bundle = any(group[:1] == ["BUNDLE"] and mids <= set(group[1:]) for group in groups)
    if data is not None and not bundle:
        raise SdpError("The offer does not BUNDLE its audio and application sections; one transport carries both here.")
    return bundle


def _fingerprints(session: _Attributes, audio: _Attributes) -> tuple[tuple[str, str], ...]:
    found = []
    for value in audio.all("fingerprint") or session.all("fingerprint"):
        digest, _, text = value.partition(" ")
        size = _DIGESTS.get(digest.lower())
        if size is not None and re.fullmatch(rf"[0-9A-Fa-f]{{2}}(:[0-9A-Fa-f]{{2}}){{{size - 1}}}", text):
            found.append((digest.lower(), text.upper()))
    if not found:
        raise SdpError("The offer has no certificate fingerprint (a=fingerprint with sha-256, sha-384 or sha-512).")
    return tuple(found)


def _number(text: str | None, *, default: int, highest: int) -> int:
    """A decimal attribute; 0 and nonsense mean the default."""
    if text is None or not re.fullmatch(r"[0-9]{1,19}", text):
        return default
    return min(int(text), highest) or default


def build_answer(offer: Offer, local: LocalTransport) -> str:
    """The answer: every candidate inside, since no client trickles (protocol 2.5)."""
    accepted = [index for index in (offer.audio, offer.data) if index is not None]
    bundle = " ".join(offer.sections[index].mid or "" for index in sorted(accepted))
    lines = ["v=0", f"o=- {secrets.randbits(62)} 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=ice-lite"]
    if offer.bundle:
        lines.append(f"a=group:BUNDLE {bundle}")
    lines.append("a=msid-semantic: WMS voice")
    for index, section in enumerate(offer.sections):
        port = local.candidates[0][1] if index in accepted else 0
        lines.append(f"m={section.kind} {port} {section.protocol} {_formats(offer, index)}")
        lines.append(f"c={_connection(local.candidates[0][0]) if index in accepted else 'IN IP4 0.0.0.0'}")
        if section.mid is not None:
            lines.append(f"a=mid:{section.mid}")
        if index not in accepted:
            lines.append("a=inactive")
            continue
        lines += _audio(offer, local) if index == offer.audio else _channel()
        lines += _transport(local)
        if index == min(accepted):  # RFC 8843 section 7.1.3: candidates stand in the tagged section only
            lines += [_candidate(rank, host, port) for rank, (host, port) in enumerate(local.candidates)]
            lines += [_tcp_candidate(rank, host, port) for rank, (host, port) in enumerate(local.tcp_candidates)]
            lines.append("a=end-of-candidates")
    return "\r\n".join(lines) + "\r\n"


def _formats(offer: Offer, index: int) -> str:
    return str(offer.payload_type) if index == offer.audio else offer.sections[index].formats


def _audio(offer: Offer, local: LocalTransport) -> list[str]:
    lines = [f"a={offer.direction}"]
    if offer.sends:  # without a stream id the page's ontrack gets no stream and stays silent (protocol 2.5)
        lines += ["a=msid:voice audio", f"a=ssrc:{local.ssrc} cname:{local.cname}"]
    return [
        *lines,
        "a=rtcp-mux",
        f"a=rtpmap:{offer.payload_type} opus/48000/2",
        f"a=fmtp:{offer.payload_type} minptime=10;useinbandfec=1;"
        # RFC 7587 section 6.1: nothing above 8 kHz is heard here. Without that band the same bits describe the rest
        # better, and a packet is decoded in 60 % of the time.
        f"maxplaybackrate={INPUT_RATE};maxaveragebitrate={UPLINK_BITRATE}",
        "a=ptime:20",
    ]


def _channel() -> list[str]:
    return ["a=sctp-port:5000", f"a=max-message-size:{MAX_MESSAGE_SIZE}"]


def _transport(local: LocalTransport) -> list[str]:
    return [
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.password}",
        f"a=fingerprint:sha-256 {local.fingerprint}",
        "a=setup:passive",
    ]


def _candidate(rank: int, host: str, port: int) -> str:
    priority = (126 << 24) | ((65535 - rank) << 8) | 255  # RFC 8445 section 5.1.2.1: host, component 1
    return f"a=candidate:{rank + 1} 1 udp {priority} {host} {port} typ host"


def _tcp_candidate(rank: int, host: str, port: int) -> str:
    # RFC 6544 section 4.2: direction preference 4 of a passive candidate; any UDP candidate is better.
    priority = (90 << 24) | ((4 << 13) + 8191 - rank << 8) | 255
    return f"a=candidate:{100 + rank} 1 tcp {priority} {host} {port} typ host tcptype passive"


def _connection(host: str) -> str:
    return f"IN IP{'6' if ':' in host else '4'} {host}"
