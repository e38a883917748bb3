"""Networks made of `cellula.nn`: what a task trains."""

from cellula.models.forecaster import ForecastNetwork, ForecastSizes, linear_features

__all__ = ["ForecastNetwork", "ForecastSizes", "linear_features"]
