"""Pictures that would rather be programs. Each of these says so on the console when it runs, and asks for /ran."""

from __future__ import annotations

import struct

from PIL import Image, PngImagePlugin

from .drawn import encoded, halves

RAN = "ran-in-the-browser"
CODE = (
    f"console.log('{RAN}');"
    "try{parent.document.title='owned'}catch(e){};try{top.document.title='owned'}catch(e){};"
    "new Image().src='/ran?script'"
)
HTML = f'<html><body><script>{CODE}</script><img src=x onerror="{CODE}"></body></html>'
OPEN = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="40" height="30"'
SQUARE = '<rect width="40" height="30" fill="red"/>'

SVGS: dict[str, bytes] = {
    name: text.encode()
    for name, text in {
        "script": f"{OPEN}>{SQUARE}<script>{CODE}</script></svg>",
        "cdata": f"{OPEN}>{SQUARE}<script type='text/ecmascript'><![CDATA[{CODE}]]></script></svg>",
        "onload": f'{OPEN} onload="{CODE}">{SQUARE}</svg>',
        "onbegin": f'{OPEN}>{SQUARE}<animate attributeName="x" dur="1s" onbegin="{CODE}"/></svg>',
        "foreign": f'{OPEN}>{SQUARE}<foreignObject width="9" height="9"><body xmlns="http://www.w3.org/1999/xhtml">'
        f'<img src="x" onerror="{CODE}"/><iframe srcdoc="&lt;script>{CODE}&lt;/script>"/></body></foreignObject></svg>',
        "outside": f'{OPEN}>{SQUARE}<script href="/ran.js"/><image href="/ran?image" width="9" height="9"/>'
        '<style>@import url("/ran?style");</style><use href="/ran?use#a"/></svg>',
        "link": f'{OPEN}>{SQUARE}<a xlink:href="javascript:{CODE}"><rect width="40" height="30"/></a></svg>',
        "entity": '<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">'
        f'<!ENTITY y SYSTEM "/ran?entity">]>{OPEN}>{SQUARE}<text>&x;&y;</text><script>{CODE}</script></svg>',
        "sheet": f'<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="/ran?sheet"?>{OPEN}>{SQUARE}'
        f"<script>{CODE}</script></svg>",
    }.items()
}
RUNS = ("script", "cdata", "onload", "onbegin", "foreign", "entity")  # by themselves, where nobody hinders them


def _png_text() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", HTML)
    return encoded(Image.new("RGB", (300, 200), "red"), "png", pnginfo=text)


def _noted(sort: str) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = HTML
    return halves(sort, exif=exif)


# By their ending: what a browser that guesses would take for a page.
POLYGLOTS: dict[str, tuple[str, bytes]] = {
    "a GIF with a page in its comment": ("gif", halves("gif", comment=HTML.encode())),
    "a GIF that goes on as a page": ("gif", b"GIF89a" + struct.pack("<HH", 40, 30) + b"\0\0\0" + HTML.encode()),
    "a JPEG with a page in its comment": ("jpg", halves("jpeg", comment=HTML.encode())),
    "a JPEG with a page behind it": ("jpg", halves("jpeg") + HTML.encode()),
    "a PNG with a page in a chunk": ("png", _png_text()),
    "a WebP with a page in its EXIF": ("webp", _noted("webp")),
}
# A GIF of 10799 x 10799 by its head, and a program by the rest: GIF89a/*/*...*/=1;...
PROGRAM = b"GIF89a/*/*\0\0\0*/=1;" + CODE.encode()

LIES: dict[str, bytes] = {
    "a page": HTML.encode(),
    "a page behind a comment": b"<!-- <svg> -->" + HTML.encode(),
    "a page in XML": f'<html xmlns="http://www.w3.org/1999/xhtml"><script>{CODE}</script></html>'.encode(),
    "a page with an svg in it": f'<html xmlns="http://www.w3.org/1999/xhtml">{SVGS["script"].decode()}</html>'.encode(),
    "a script": CODE.encode(),
    "a document": b"%PDF-1.7\n/OpenAction",
    "an archive": b"PK\x03\x04" + bytes(40),
    "a program": b"\x7fELF" + bytes(40),
    "a bitmap": b"BM" + bytes(60),
    "an icon": b"\0\0\1\0\1\0" + bytes(40),
    "the beginning of a PNG": b"\x89PNG\r\n\x1a\n",
    "a PNG without a head": b"\x89PNG\r\n\x1a\n" + HTML.encode(),
}
LAUGHS = (
    '<!DOCTYPE svg [<!ENTITY a0 "ha">'
    + "".join([f'<!ENTITY a{n} "{f"&a{n - 1};" * 20}">' for n in range(1, 12)])
    + f']>{OPEN} class="&a11;"><text>&a11;</text></svg>'
).encode()
