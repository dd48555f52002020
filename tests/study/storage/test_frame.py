"""Tables of a run folder in notebooks."""

import builtins

import pytest

import fahw
import fahw.study
from fahw.config.sweep import Sweep
from fahw.study.sweeps.sweep import sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small sweep of costs."""
    out = tmp_path_factory.mktemp("sweep")
    sweep(Sweep(name="s", train=False, grid={"rule": ("bp", "dfa"), "batch_size": (8, 16)}), out=out, workers=1)
    return out


def test_a_table_is_a_data_frame(folder):
    """Numbers as numbers, texts as texts, empty cells as not a number."""
    pandas = pytest.importorskip("pandas")
    found = fahw.study.frame(folder)
    assert isinstance(found, pandas.DataFrame)
    assert list(found["rule"]) == ["bp", "bp", "dfa", "dfa"]
    assert found["axis.batch_size"].tolist() == [8, 16, 8, 16]
    assert found["saving_per_step"].isna().tolist() == [True, True, False, False]
    best = found.loc[found["saving_per_step"].idxmax()]
    assert best["rule"] == "dfa"
    assert set(fahw.study.frame(folder, "ledger")["point"]) == {1, 2, 3, 4}


def test_without_pandas_a_table_is_a_dict_of_columns(folder, monkeypatch):
    """The same cells; what is empty is None."""
    real = builtins.__import__

    def without(name, *rest):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    found = fahw.study.frame(folder)
    assert found["axis.batch_size"] == [8, 16, 8, 16]
    assert found["saving_per_step"][:2] == [None, None]
    assert found["reason"] == [None] * 4


@pytest.mark.parametrize(("table", "said"), [("sumary", "did you mean 'summary'"), (3, "table: must be")])
def test_an_unknown_table_is_named(folder, table, said):
    """With what there is."""
    with pytest.raises(fahw.ConfigError, match=said):
        fahw.study.frame(folder, table)


def test_a_folder_without_tables_is_named(tmp_path):
    """Not an empty table."""
    with pytest.raises(fahw.ConfigError, match="holds no tables"):
        fahw.study.frame(tmp_path)
