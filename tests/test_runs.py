"""The run store: atomic writes and clear failures (resuming is tested in test_train)."""

import pytest

import noisyseg as ns
from noisyseg import storage


def test_an_unknown_metric_names_those_there_are(tiny_folder):
    cfg = ns.ExperimentConfig.preset("tiny", "smoke", "majority_fusion", dataset=str(tiny_folder))
    with pytest.raises(KeyError, match="dice"):
        ns.run(cfg).value("dcie")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    storage.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        storage.write_json(path, {"a": object()})
    assert path.read_text() == '{\n "a": 1\n}\n' and list(tmp_path.iterdir()) == [path]
