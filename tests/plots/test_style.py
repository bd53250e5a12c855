"""Names become text that can be drawn, in whatever fonts the style asks for."""

import matplotlib
import pytest

from noisyseg.plots import style


@pytest.mark.parametrize("family", ["sans-serif", "DejaVu Sans", "DejaVu Sans Mono"])
def test_a_name_is_legible_in_any_family(family, monkeypatch):
    style._has_font.cache_clear()
    monkeypatch.setitem(matplotlib.rcParams, "font.family", [family])
    assert style.legible(["over", "_hidden", "5 $"]) == ["over", " _hidden", r"5 \$"]
    assert style.illegible(["over"]) == {}
    style._has_font.cache_clear()
