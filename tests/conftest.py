"""Settings that every test shares."""

import os

from hypothesis import HealthCheck, settings

# Read when torch and matplotlib are first imported: workers run side by side, one thread each, and a
# picture needs no screen.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# A shared machine makes time limits per example meaningless.  CI tries the same examples every time.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
