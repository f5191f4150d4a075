"""What `recloom fit` says of a loss whose file was not named."""

from __future__ import annotations

import pytest
from recloom.cli.main import main


def test_a_loss_without_its_file_says_which_option_is_missing(capsys, tmp_path):
    main(["data", "synth", "--users", "60", "--items", "60", "--out", str(tmp_path / "data")])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--model", "SASRec", "--data", str(tmp_path / "data"), "--model.loss", "ColdStart"])
    assert stop.value.code == 2
    assert "say --model.loss.pairs" in capsys.readouterr().err
