"""Files as they are converted in tests."""

from lstmfcn.convert.run import convert


def converted(tmp_path, name, content, **flags):
    """What the shards of a file of this content hold, by name."""
    source, output = tmp_path / name, tmp_path / "output"
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    rows = convert(str(source), str(output), **flags)
    parts = {path.name: path.read_text(encoding="utf-8") for path in sorted(output.iterdir())}
    assert rows == sum(part.count("\n") - 1 for part in parts.values())
    return parts


def lines_of(tmp_path, name, content, **flags):
    """The lines of the one shard."""
    (part,) = converted(tmp_path, name, content, **flags).values()
    return part.splitlines()
