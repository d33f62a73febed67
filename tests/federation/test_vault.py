"""What a site keeps on disk, where the server cannot turn it back."""

from pathlib import Path

import pytest
import torch

from fedsciml.federation.vault import Vault
from fedsciml.problem import SiteError


def test_a_vault_is_a_mapping_that_lasts(tmp_path: Path) -> None:
    directory, expected = tmp_path / "new" / "vault", dict[str, str]()
    for word in ("1", "2"):
        for key in ("made", "sum.0a-1", "ledger.points.3"):
            Vault(directory)[key] = expected[key] = word + key
    assert dict(Vault(directory)) == expected
    assert Vault(directory).pop("made") == expected.pop("made")
    assert dict(Vault(directory)) == expected
    assert len(Vault(directory)) == len(expected)
    assert "made" not in Vault(directory)
    with pytest.raises(KeyError):
        Vault(directory)["made"]
    with pytest.raises(KeyError):
        del Vault(directory)["made"]


def test_a_vault_without_words_is_empty(tmp_path: Path) -> None:
    assert not Vault(tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_a_vault_is_its_owner_s_alone(tmp_path: Path) -> None:
    Vault(tmp_path / "vault")["made"] = "1"
    assert (tmp_path / "vault").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("key", ["", "../made", "a/b", "a b", "\u00e4", 201 * "a"])
def test_no_key_leads_out_of_a_vault(key: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="A key is of up to 200 letters"):
        Vault(tmp_path)[key] = "1"


def test_other_files_and_half_written_ones_are_no_words(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault["made"] = "1"
    (tmp_path / "run.lock").touch()
    (tmp_path / "made.word.tmp").touch()
    assert dict(vault) == {"made": "1"}


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "vault").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="is a symbolic link"):
        Vault(tmp_path / "vault")["made"] = "1"


def test_a_damaged_word_is_told(tmp_path: Path) -> None:
    (tmp_path / "made.word").write_bytes(b"\xff\xfe")
    with pytest.raises(SiteError, match=r"made\.word, in the site's vault, is damaged"):
        Vault(tmp_path)["made"]


def test_a_ledger_of_a_hundred_sites_fits_into_a_vault(tmp_path: Path) -> None:
    ledgers = pytest.importorskip("fedsciml.secure.ledger")
    everyone = list(range(100))
    ledger = ledgers.Ledger(Vault(tmp_path))
    points = ledger.products(torch.ones(1, 7, dtype=torch.float64))
    ledger.opened(everyone, points)
    ledger.opened(everyone, points)
    again = ledgers.Ledger(Vault(tmp_path))
    assert again.beside(everyone, points, 1.0) is None
    assert again.beside(everyone[1:], points, 1.0) == everyone
