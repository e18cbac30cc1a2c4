import re
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "otp.md"


def test_examples_of_the_guide_run():
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    names: dict[str, object] = {}

    for block in blocks:
        exec(compile(block, GUIDE.name, "exec"), names)

    assert len(blocks) == 2
    names["runtime"].close()
