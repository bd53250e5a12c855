"""The README is true: its table is that of the committed results, its links lead somewhere."""

import re

from noisyseg.paper import standings


def readme(root):
    return (root / "README.md").read_text("utf-8")


def test_its_results_are_those_of_the_committed_tables(root):
    shown = readme(root).split("<!-- results -->\n")[1].split("<!-- /results -->")[0]
    assert shown == standings.at_a_glance()


def test_its_links_lead_somewhere(root):
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", readme(root))
    assert links and not [link for link in links if not (root / link).exists()]


def test_it_opens_with_the_two_commands(root):
    assert readme(root).index("make figures") < readme(root).index("make test") < 1200


def test_its_python_names_exist(root):
    import noisyseg

    code = re.search(r"```python\n(.*?)```", readme(root), re.DOTALL)[1]
    names = set(re.findall(r"\bns\.(\w+)", code))
    assert names and not [name for name in names if not hasattr(noisyseg, name)]
