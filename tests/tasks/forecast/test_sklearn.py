"""scikit-learn's own tools take a forecaster for one of theirs; without scikit-learn nothing changes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from cellula import Forecaster, UsageError
from cellula.cells.catalogue import load_cell
from tasks.forecast.series import hourly, small, wave

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed: install cellula[test]")


def test_clone_and_tags():
    from sklearn.base import clone
    from sklearn.utils import get_tags
    from sklearn.utils.validation import check_is_fitted

    forecaster = small(load_cell("gru"), level=[80], known=("a", "b"))
    copy = clone(forecaster)
    assert repr(copy) == repr(forecaster) and copy is not forecaster
    assert copy.cell == load_cell("gru")
    tags = get_tags(forecaster)
    assert tags.estimator_type is None and not tags.target_tags.required and tags.input_tags.allow_nan
    fitted = small().fit(wave())
    check_is_fitted(fitted)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        check_is_fitted(clone(fitted))


def test_a_grid_is_searched_in_the_order_of_time():
    from sklearn.model_selection import GridSearchCV, TimeSeriesSplit

    data = hourly(600)
    grid = {"hidden_size": [2, 6], "training__learning_rate": [1e-3]}
    search = GridSearchCV(small(split=(0.8, 0.2, 0.0)), grid, cv=TimeSeriesSplit(n_splits=2), error_score="raise")
    search.fit(data)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_params_["hidden_size"] in (2, 6) and isinstance(search.best_estimator_, Forecaster)
    assert search.predict(data)["ds"].iloc[0] == data["ds"].iloc[-1] + (data["ds"].iloc[1] - data["ds"].iloc[0])


def test_the_last_step_of_a_pipeline():
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    pipeline = make_pipeline(FunctionTransformer(lambda frame: frame.assign(y=frame["y"] * 10)), small())
    forecast = pipeline.fit(hourly()).predict(hourly())
    np.testing.assert_allclose(forecast["y"], small().fit(hourly().assign(y=lambda f: f["y"] * 10)).predict()["y"])
    pipeline.set_params(forecaster__horizon=3)
    assert pipeline.get_params()["forecaster__horizon"] == 3


def test_a_y_of_its_own_is_refused_with_the_remedy():
    with pytest.raises(UsageError, match=r"one dataframe with all columns, and target="):
        small().fit(hourly(), y=np.zeros(400))


def test_scikit_learn_is_not_imported():
    code = "import sys, cellula; cellula.Forecaster(); sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
