"""What the README points to is there."""

import re

from fmnist import PROJECT


def test_every_file_that_the_readme_names_is_there():
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    linked = {link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link}
    assert len([link for link in linked if link.startswith("docs/")]) > 5
    assert [link for link in linked if not (PROJECT / link).exists()] == []
    rooms = re.findall(r"^  (\w+\.py)(?:, (\w+\.py))?  ", text, re.MULTILINE)
    listed = {name for names in rooms for name in names if name}
    assert listed == {p.name for p in (PROJECT / "fmnist").glob("*.py")} - {"__init__.py"}
