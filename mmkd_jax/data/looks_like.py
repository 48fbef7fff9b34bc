"""Name the content of a file that is not what was expected, such as a web page saved as an image."""

_STARTS = {
    b"<!doc": "a web page",
    b"<html": "a web page",
    b"<?xml": "XML, such as SVG",
    b"<svg": "SVG",
    b"%pdf": "PDF",
    b"%!ps": "PostScript",
    b"version https://git-lfs": "a Git LFS pointer",
    b"\x00\x00\x00\x0cjp": "JPEG 2000",
    b"\xff\xd8\xff": "JPEG",
    b"\x89png": "PNG",
    b"gif8": "GIF",
    b"flac": "FLAC",
    b"oggs": "Ogg",
    b"id3": "MP3",
    b"\xff\xfb": "MP3",
    b"form": "AIFF",
    b"rifx": "big-endian WAV",
    b"rf64": "WAV beyond 4 GiB",
    b"riff": "RIFF",
    b"pk\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "gzip",
}


def looks_like(data: bytes) -> str:
    """Describe the content of a file, for an error.

    Args:
        data: the file's content, or its start.

    Example:
        >>> looks_like(b"<!DOCTYPE html>"), looks_like(b""), looks_like(b"abc")
        ('is a web page', 'is empty', "starts with b'abc'")
    """
    if not data:
        return "is empty"
    start = data[:64].lstrip().lower()
    known = next((name for magic, name in _STARTS.items() if start.startswith(magic)), None)
    return f"is {known}" if known else f"starts with {data[:12]!r}"
