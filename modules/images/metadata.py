"""Where our record of a picture stands in each kind of file, and A1111's text beside it.

PNG has a chunk for each.  JPEG, WebP and AVIF carry A1111's text where A1111 writes it, as EXIF's UserComment, and the record
in an XMP packet: a second text in EXIF would share its 64 KiB in a JPEG.
"""

from __future__ import annotations

import html

from modules.images import exif, png
from modules.images.containers import Container

NAMESPACE = "https://atelier.invalid/ns/record/1.0/"
"""Of the property that holds the record; nothing is fetched from there."""
MAX_SEGMENT = 65_533
"""Bytes of one segment of a JPEG, its length not counted."""
_XMP_BEGIN, _XMP_END = "<atelier:record>", "</atelier:record>"


def record_of(container: Container) -> str:
    """The JSON text of our record, "" when there is none."""
    if container.kind == "PNG":
        return container.texts.get(png.RECORD, "")
    packet = container.xmp.decode("utf-8", "replace")
    begin, end = packet.find(_XMP_BEGIN), packet.find(_XMP_END)
    return html.unescape(packet[begin + len(_XMP_BEGIN) : end]) if 0 <= begin < end else ""


def exif_block(infotext: str) -> bytes:
    """An EXIF block with A1111's text: UTF-16 big-endian as A1111 writes it; where that is too long, ASCII if it is ASCII."""
    block = exif.write_tags({exif.USER_COMMENT: b"UNICODE\0" + infotext.encode("utf-16-be", "replace")})
    if len(block) > MAX_SEGMENT and infotext.isascii():
        return exif.write_tags({exif.USER_COMMENT: b"ASCII\0\0\0" + infotext.encode("ascii")})
    return block


def xmp_packet(record: str) -> bytes:
    """An XMP packet with our record in it."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:atelier="{NAMESPACE}">{_XMP_BEGIN}{html.escape(record, quote=False)}{_XMP_END}'
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()
