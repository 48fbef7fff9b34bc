"""Name the content of a file that is not what was expected, such as a web page saved as an image."""

from mmkd_jax.errors import shown

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
    b"\x00\x00\x01\x00": "ICO",
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
_BRANDS = {b"hei": "HEIC", b"hev": "HEIC", b"mif": "HEIC", b"m4a": "M4A", b"avi": "AVIF", b"qt ": "QuickTime"}
"""Brands of ISO media files, after `ftyp` at byte 4; others are MP4."""
_NOT_DOWNLOADED = {"a web page": "fetch it again", "a Git LFS pointer": "run `git lfs pull`"}


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
    known = _known(data)
    return f"is {known}" if known else f"starts with {shown(data[:12])}"


def remedy(data: bytes, otherwise: str) -> str:
    """Return what to do about a file that is not what was expected.

    Args:
        data: the file's content, or its start.
        otherwise: the remedy for a file that is complete, but of another format.

    Example:
        >>> remedy(b"version https://git-lfs.github.com/spec/v1", "convert it")
        'run `git lfs pull`'
    """
    return _NOT_DOWNLOADED.get(_known(data), otherwise) if data else "fetch it again"


def not_downloaded(data: bytes) -> str:
    """Return what a file is in place of its content, with the remedy; empty if it has content.

    Example:
        >>> not_downloaded(b"<html>"), not_downloaded(b"abc")
        ('is a web page: fetch it again', '')
    """
    what = remedy(data, "")
    return f"{looks_like(data)}: {what}" if what else ""


def _known(data: bytes) -> str:
    start = data[:64].lower()
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:11], "MP4")
    return next((name for magic, name in _STARTS.items() if start.lstrip(b" \t\r\n").startswith(magic)), "")
