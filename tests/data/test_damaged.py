"""Prepared folders damaged at random: refused with a remedy, or the same data as before."""

import json
from collections import Counter

import pytest
from trials import common, prepared


@pytest.mark.parametrize(("sealed", "tries"), [(True, 200), (False, 100)])
def test_no_damage_is_taken_for_data_and_none_ends_without_a_remedy(sealed, tries, tmp_path):
    source = common.write(tmp_path / "source" / "tiny")
    if not sealed:  # a folder older than seals: other data may pass, but nothing else
        meta = json.loads((source / "meta.json").read_text())
        (source / "meta.json").write_text(json.dumps({k: meta[k] for k in meta if k != "seal"}))
    results, bad = Counter(), []

    def note(damage, result):
        results[result] += 1
        if result not in {"refused", "same"} | ({"changed"} if not sealed else set()):
            bad.append((damage.name, result))

    prepared.attempts(tries, source, tmp_path / "place", note)
    assert not bad
    # The trial itself can fail: damage is drawn, and each draw is one.
    assert results.total() >= tries and results["refused"] > tries / 2
