"""Offers of real browsers, offers that cannot be answered, and offers that are no offers."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from aiortc.sdp import SessionDescription
from hypothesis import given
from hypothesis import strategies as st

from media.sdp import MAX_OFFER, LocalTransport, Offer, SdpError, build_answer, parse_offer

OFFERS = {path.stem: path.read_bytes().decode() for path in (Path(__file__).parent / "offers").glob("*.sdp")}
CHROMIUM, FIREFOX = OFFERS["chromium"], OFFERS["firefox"]

LOCAL = LocalTransport(
    ufrag="Uf12Rag8",
    password="p" * 24,
    fingerprint=":".join(["AB"] * 32),
    candidates=[("192.0.2.7", 40000), ("2001:db8::7", 40000), ("127.0.0.1", 40000)],
    ssrc=4242,
    cname="name",
)


def answer(offer: Offer) -> SessionDescription:
    return SessionDescription.parse(build_answer(offer, LOCAL))


@pytest.mark.parametrize("name", sorted(OFFERS))
def test_offers_of_browsers_are_read_as_aiortc_reads_them(name: str) -> None:
    offer, reference = parse_offer(OFFERS[name]), SessionDescription.parse(OFFERS[name])
    assert [(each.kind, each.mid) for each in offer.sections] == [
        (each.kind, each.rtp.muxId) for each in reference.media
    ]
    audio = reference.media[offer.audio]
    opus = next(codec for codec in audio.rtp.codecs if codec.mimeType == "audio/opus")
    assert offer.payload_type == opus.payloadType
    assert offer.direction == "sendrecv"
    assert audio.dtls is not None
    assert offer.fingerprints == tuple((each.algorithm, each.value) for each in audio.dtls.fingerprints)
    if offer.data is not None:
        channel = reference.media[offer.data]
        assert channel.sctpCapabilities is not None
        assert (offer.sctp_port, offer.max_message_size) == (channel.sctp_port, channel.sctpCapabilities.maxMessageSize)
    assert (offer.data is None) == name.endswith("audio_only")


@pytest.mark.parametrize("name", sorted(OFFERS))
def test_the_answer_is_complete(name: str) -> None:
    offer = parse_offer(OFFERS[name])
    text = build_answer(offer, LOCAL)
    parsed = answer(offer)
    assert [(each.kind, each.rtp.muxId) for each in parsed.media] == [(each.kind, each.mid) for each in offer.sections]
    accepted = [each for each in parsed.media if each.port]
    assert [each.kind for each in parsed.media if not each.port] == ["video"] * (len(parsed.media) - len(accepted))
    assert parsed.group[0].items == [each.rtp.muxId for each in accepted]
    for media in accepted:
        assert media.dtls is not None
        assert media.dtls.role == "server"  # a=setup:passive
        assert media.ice is not None
        assert media.ice.iceLite
        assert (media.ice.usernameFragment, media.ice.password) == (LOCAL.ufrag, LOCAL.password)
    tagged = accepted[0]
    assert [(each.ip, each.port) for each in tagged.ice_candidates] == LOCAL.candidates
    priorities = [each.priority for each in tagged.ice_candidates]
    assert priorities == sorted(priorities, reverse=True)
    assert tagged.ice_candidates_complete
    audio = parsed.media[offer.audio]
    assert audio.rtcp_mux
    assert audio.msid
    assert audio.ssrc[0].ssrc == 4242
    assert audio.ssrc[0].cname == "name"
    assert audio.fmt == [offer.payload_type]
    assert [codec.parameters for codec in audio.rtp.codecs] == [
        {"minptime": 10, "useinbandfec": 1, "maxplaybackrate": 16_000, "maxaveragebitrate": "28000"}
    ]
    assert "a=ptime:20\r\n" in text
    if offer.data is not None:
        assert "a=sctp-port:5000\r\na=max-message-size:65536\r\n" in text


@pytest.mark.parametrize(
    ("offered", "answered", "sends"),
    [("sendrecv", "sendrecv", True), ("sendonly", "recvonly", False), ("recvonly", "sendonly", True),
     ("inactive", "inactive", False)],
)  # fmt: skip
def test_directions(offered: str, answered: str, sends: bool) -> None:
    offer = parse_offer(CHROMIUM.replace("a=sendrecv", f"a={offered}"))
    parsed = answer(offer).media[offer.audio]
    assert parsed.direction == answered
    assert offer.sends is sends
    assert bool(parsed.msid) is sends


def test_sections_keep_their_order_when_the_channel_comes_first() -> None:
    head, audio, channel = re.split("(?=^m=)", CHROMIUM, flags=re.MULTILINE)
    offer = parse_offer(head + channel + audio)
    parsed = answer(offer)
    assert [each.rtp.muxId for each in parsed.media] == ["1", "0"]
    assert parsed.group[0].items == ["1", "0"]
    assert parsed.media[0].ice_candidates
    assert not parsed.media[1].ice_candidates


def test_a_second_audio_section_is_refused_with_port_zero() -> None:
    _, audio, _ = re.split("(?=^m=)", CHROMIUM, flags=re.MULTILINE)
    offer = parse_offer(CHROMIUM + audio.replace("a=mid:0", "a=mid:2"))
    assert [each.port for each in answer(offer).media] == [40000, 40000, 0]


def test_of_several_payload_types_of_opus_the_preferred_one_is_taken() -> None:
    several = CHROMIUM.replace("SAVPF 111 63", "SAVPF 96 111 63").replace(
        "a=rtpmap:111 opus", "a=rtpmap:111 opus/48000/2\r\na=rtpmap:97 opus/48000/2\r\na=rtpmap:96 OPUS"
    )
    offer = parse_offer(several)
    assert offer.payload_type == 96  # 97 is not on the media line
    assert answer(offer).media[0].fmt == [96]


def test_stereo_and_packet_lengths_are_the_offerers_wish_and_no_obligation() -> None:
    """RFC 7587 section 7.1: without ``stereo=1`` in the answer the browser need not send stereo, and ours is mono."""
    wishes = CHROMIUM.replace("useinbandfec=1", "useinbandfec=1;stereo=1;sprop-stereo=1;maxaveragebitrate=510000")
    wishes = wishes.replace("a=rtcp-mux\r\n", "a=rtcp-mux\r\na=ptime:40\r\na=maxptime:60\r\n")
    text = build_answer(parse_offer(wishes), LOCAL)
    assert "stereo" not in text
    assert "510000" not in text
    assert text.count("a=ptime:20\r\n") == 1
    assert text.splitlines()[2:] == build_answer(parse_offer(CHROMIUM), LOCAL).splitlines()[2:]  # but for its number


@pytest.mark.parametrize(
    "extra",
    ["m=video 9 UDP/TLS/RTP/SAVPF 96", "m=text 9 UDP/TLS/RTP/SAVPF 98", "m=application 9 TCP/MRCPv2 1",
     "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "m=audio 9 UDP/TLS/RTP/SAVPF 111"],
)  # fmt: skip
def test_what_is_too_much_is_refused_with_port_zero_and_the_rest_goes_on(extra: str) -> None:
    offer = parse_offer(CHROMIUM.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + f"{extra}\r\na=mid:2\r\n")
    text = build_answer(offer, LOCAL)
    assert text.count("a=group:BUNDLE 0 1\r\n") == 1
    *_, refused = re.split("(?=^m=)", text, flags=re.MULTILINE)
    assert refused.startswith(extra.replace(" 9 ", " 0 ", 1))
    assert "a=mid:2\r\n" in refused
    assert "a=inactive\r\n" in refused
    assert [each.port for each in answer(parse_offer(CHROMIUM)).media] == [40000, 40000]


def test_candidates_are_not_needed() -> None:
    assert parse_offer(re.sub("a=candidate.*\r\n", "", CHROMIUM)) == dataclasses.replace(parse_offer(CHROMIUM))


def without(pattern: str, text: str = CHROMIUM) -> str:
    changed = re.sub(pattern, "", text)
    assert changed != text
    return changed


@pytest.mark.parametrize(
    ("sdp", "says"),
    [
        ("", "not SDP"),
        ("hello", "not SDP"),
        ('{"type": "offer"}', "not SDP"),
        ("v=0\r\n", "no audio"),
        (CHROMIUM + "a=x\r\n" * MAX_OFFER, "larger than 64 KiB"),
        (CHROMIUM + "m=audio 9 X 0\r\n" * 40, "more than 32"),
        (CHROMIUM.replace("m=audio", "m=image"), "no audio"),
        (re.sub("m=audio [0-9]+", "m=audio 0", CHROMIUM), "no audio"),
        (CHROMIUM.replace("m=audio ", "m=audio x"), "media line"),
        (CHROMIUM.replace("opus/48000/2", "speex/16000"), "no Opus"),
        (CHROMIUM.replace("a=setup:actpass", "a=setup:passive"), "a=setup"),
        (without("a=setup:actpass\r\n"), "a=setup"),
        (CHROMIUM.replace("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n"), "ICE-lite"),
        (without("a=ice-ufrag.*\r\n"), "ICE credentials"),
        (without("a=ice-pwd.*\r\n"), "ICE credentials"),
        (re.sub("a=ice-pwd.*\r\n", "a=ice-pwd:short\r\n", CHROMIUM), "ICE credentials"),
        (without("a=fingerprint.*\r\n"), "fingerprint"),
        (CHROMIUM.replace("fingerprint:sha-256", "fingerprint:md5"), "fingerprint"),
        (CHROMIUM.replace("fingerprint:sha-256 ", "fingerprint:sha-256 ZZ:"), "fingerprint"),
        (without("a=rtcp-mux\r\n"), "rtcp-mux"),
        (without("a=group.*\r\n"), "BUNDLE"),
        (CHROMIUM.replace("BUNDLE 0 1", "BUNDLE 0"), "BUNDLE"),
        (CHROMIUM.replace("a=mid:0", "a=mid:0\u2028m=evil"), "token"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_sentence(sdp: str, says: str) -> None:
    with pytest.raises(SdpError, match=re.escape(says)) as caught:
        parse_offer(sdp)
    assert str(caught.value).endswith(".") or ":" in str(caught.value)


def test_a_crowded_offer_is_read_in_no_time() -> None:
    """A quadratic parser would need seconds for this, on the loop of all calls."""
    lines = "".join(f"a=rtpmap:{n % 128} opus/48000/2\r\na=rtcp-fb:* x\r\n" for n in range(1300))
    crowded = CHROMIUM + lines
    assert len(crowded) < MAX_OFFER
    assert parse_offer(crowded).payload_type == 111


def check(sdp: str) -> None:
    """Either a sentence, or an offer whose answer is well-formed and holds no line that the offer smuggled in."""
    try:
        offer = parse_offer(sdp)
    except SdpError:
        return
    lines = build_answer(offer, LOCAL).split("\r\n")
    assert lines.pop() == ""
    assert all(re.fullmatch("[a-z]=[!-~][ -~]*", line) for line in lines)
    media = [line.split(" ")[0] for line in lines if line.startswith("m=")]
    assert media == [f"m={section.kind}" for section in offer.sections]
    assert sum(line.startswith("a=setup:") for line in lines) == 1 + (offer.data is not None)


@given(st.text())
def test_random_text_raises_nothing_else(text: str) -> None:
    check(text)
    check("v=0\r\n" + text)


@given(st.data())
def test_mutated_offers_raise_nothing_else(data: st.DataObject) -> None:
    lines = data.draw(st.sampled_from(sorted(OFFERS.values()))).splitlines(keepends=True)
    for _ in range(data.draw(st.integers(1, 6))):
        index = data.draw(st.integers(0, len(lines) - 1))
        action = data.draw(st.sampled_from(["drop", "double", "swap", "cut", "insert", "digits"]))
        if action == "drop":
            lines[index] = ""
        elif action == "double":
            lines[index] *= 2
        elif action == "swap":
            other = data.draw(st.integers(0, len(lines) - 1))
            lines[index], lines[other] = lines[other], lines[index]
        elif action == "cut":
            lines[index] = lines[index][: data.draw(st.integers(0, len(lines[index])))]
        elif action == "insert":
            at = data.draw(st.integers(0, len(lines[index])))
            lines[index] = lines[index][:at] + data.draw(st.text(max_size=8)) + lines[index][at:]
        else:
            lines[index] = re.sub("[0-9]", data.draw(st.sampled_from("09²x-")), lines[index])
    check("".join(lines))
