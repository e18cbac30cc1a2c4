import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted((DOCS / "otp").glob("*.md"))
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_links_to_files_that_exist(page):
    missing = [to for to in LINK.findall(page.read_text()) if not (page.parent / to).is_file()]

    assert missing == []


def test_index_names_every_page():
    index = (DOCS / "otp" / "README.md").read_text()
    named = {Path(to).name for to in LINK.findall(index)}

    assert {page.name for page in PAGES} - named == {"README.md"}
