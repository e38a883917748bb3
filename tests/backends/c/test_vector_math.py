"""The vector mathematics of generated C: accuracy, edge values, lanes, memory, undefined behaviour."""

import ctypes
import math
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

HEADER = Path(str(files("cellula") / "backends" / "c" / "vector_math.h"))
FLAGS = "-std=c11 -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math -Wall -Wextra -Werror".split()
ONE_ARGUMENT = "exp log tanh sigmoid erf sin cos sqrt abs sign".split()
TWO_ARGUMENTS = "pow min max less less_equal greater greater_equal equal not_equal".split()
INF, NAN = math.inf, math.nan

SHIM = """
#define _DEFAULT_SOURCE
#define CELLULA_DOUBLE {double}
{header}
#include <sys/mman.h>
#define ONE(name) void run_##name(const real *a, const real *b, real *y, int n) {{ (void)b; \\
    for (int i = 0; i < n; i += WIDTH) store(y + i, v_##name(load(a + i))); }}
#define TWO(name) void run_##name(const real *a, const real *b, real *y, int n) {{ \\
    for (int i = 0; i < n; i += WIDTH) store(y + i, v_##name(load(a + i), load(b + i))); }}
{functions}
void run_select(const real *a, const real *b, real *y, int n) {{
    for (int i = 0; i < n; i += WIDTH)
        store(y + i, v_select((ivec)(load(a + i) != splat(0)), load(b + i), splat(7)));
}}
void run_sum(const real *a, real *y) {{ *y = sum_lanes(load(a)); }}
void run_peak(const real *a, real *y) {{ *y = peak_lanes(load(a)); }}
int width(void) {{ return WIDTH; }}

/* Moves n numbers between the ends of two pages; behind each lies a page that may not be touched. */
int run_part(const real *a, real *y, int n) {{
    enum {{ PAGE = 65536 }};
    char *pages = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + PAGE, PAGE, PROT_NONE) || mprotect(pages + 3 * PAGE, PAGE, PROT_NONE))
        return 1;
    real *from = (real *)(pages + PAGE) - n, *to = (real *)(pages + 3 * PAGE) - n;
    for (int i = 0; i < n; i++) from[i] = a[i];
    vec value = load_part(from, n);
    store_part(to, value, n);
    store(y, value);
    for (int i = 0; i < n; i++) y[WIDTH + i] = to[i];
    return munmap(pages, 4 * PAGE);
}}
"""

MAIN = """
int main(void) {{
    static const real edges[] = {{0, REAL(-0.0), 1, -1, REAL(0.3), REAL(-2.5), 60, -60, 1000, -1000, SMALLEST_NORMAL,
                                  SMALLEST_NORMAL / 8, REAL(1e30), REAL(-1e30), INFINITY, -INFINITY, NAN}};
    enum {{ COUNT = sizeof(edges) / sizeof(real) }};
    real a[WIDTH], b[WIDTH], y[2 * WIDTH];
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < COUNT; j++) {{
            for (int k = 0; k < WIDTH; k++) a[k] = edges[(i + k) % COUNT], b[k] = edges[(j + k) % COUNT];
            {calls}
            run_sum(a, y), run_peak(a, y);
        }}
    for (int n = 0; n <= WIDTH; n++)
        if (run_part(a, y, n)) return 1;
}}
"""


def compilers() -> list[str]:
    """The C compilers of this machine: $CC or cc, and clang."""
    commands = {}
    for command in (os.environ.get("CC") or ("cc" if shutil.which("cc") else "gcc"), "clang"):
        path = shutil.which(shlex.split(command)[0])
        if path:
            commands.setdefault((os.path.realpath(path), *shlex.split(command)[1:]), command)
    return list(commands.values())


@dataclass(frozen=True)
class Kind:
    """How the header is compiled: bytes 0 is the default of a processor without extensions, as for -march=x86-64."""

    compiler: str
    double: bool
    bytes: int

    def __str__(self) -> str:
        return f"{Path(self.compiler).name}-{'double' if self.double else 'float'}-{self.bytes or 'plain'}"

    @property
    def flags(self) -> list[str]:
        # The note on passing vectors wider than the processor's is about calls, and all functions that take one inline.
        return ["-march=native", f"-DCELLULA_BYTES={self.bytes}", "-Wno-psabi"] if self.bytes else []


KINDS = [Kind(c, double, size) for c in compilers() for double in (False, True) for size in (16, 32, 64, 0)]
if not KINDS:
    pytest.skip("no C compiler: $CC, cc, gcc and clang are all missing", allow_module_level=True)


def source(kind: Kind, main: bool = False) -> str:
    """The C text of a shim that runs every function over arrays."""
    functions = [f"ONE({name})" for name in ONE_ARGUMENT] + [f"TWO({name})" for name in TWO_ARGUMENTS]
    text = SHIM.format(double=int(kind.double), header=HEADER.read_text(), functions="\n".join(functions))
    calls = " ".join(f"run_{name}(a, b, y, WIDTH);" for name in [*ONE_ARGUMENT, *TWO_ARGUMENTS, "select"])
    return text + MAIN.format(calls=calls) if main else text


def compile_c(kind: Kind, text: str, target: Path, *flags: str) -> None:
    """Compiles C text to a library or a program; the messages of the compiler are the error."""
    command = [*shlex.split(kind.compiler), *FLAGS, *kind.flags, *flags, "-x", "c", "-", "-o", str(target), "-lm"]
    result = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    assert result.returncode == 0, f"{shlex.join(command)}\n{result.stderr}"


class Library:
    """A compiled shim, called with arrays."""

    def __init__(self, kind: Kind, path: Path) -> None:
        self.dtype = np.dtype(np.float64 if kind.double else np.float32)
        self.eps = float(np.finfo(self.dtype).eps)
        self.c = ctypes.CDLL(str(path))
        self.width = self.c.width()

    def array(self, values) -> np.ndarray:
        return np.ascontiguousarray(values, dtype=self.dtype)

    def __call__(self, name: str, a, b=None) -> np.ndarray:
        """v_name of arrays of any length: they are filled up with ones to whole vectors."""
        a = self.array(a)
        b = np.ones_like(a) if b is None else self.array(b)
        pad = -len(a) % self.width
        a, b = (np.concatenate([v, np.ones(pad, self.dtype)]) for v in (a, b))
        y = np.empty_like(a)
        getattr(self.c, f"run_{name}")(*(ctypes.c_void_p(v.ctypes.data) for v in (a, b, y)), ctypes.c_int(len(a)))
        return y[: len(y) - pad]

    def reduce(self, name: str, a: np.ndarray):
        y = np.empty(1, self.dtype)
        getattr(self.c, f"run_{name}")(ctypes.c_void_p(a.ctypes.data), ctypes.c_void_p(y.ctypes.data))
        return y[0]


@pytest.fixture(scope="module", params=KINDS, ids=str)
def kind(request) -> Kind:
    return request.param


@pytest.fixture(scope="module")
def library(kind, tmp_path_factory) -> Library:
    path = tmp_path_factory.mktemp("vector_math") / "shim.so"
    compile_c(kind, source(kind), path, "-shared", "-fPIC")
    return Library(kind, path)


@cache
def arguments(low: float, high: float, count: int = 20_000) -> np.ndarray:
    """Numbers spread evenly over a range."""
    return np.random.default_rng(0).uniform(low, high, count)


@cache
def magnitudes(low: float, high: float, count: int = 20_000) -> np.ndarray:
    """Positive numbers whose logarithms are spread evenly."""
    return np.exp(arguments(math.log(low), math.log(high), count))


def logistic(x):
    return 1 / (1 + np.exp(-x))


SIGNS = np.where(np.arange(20_000) % 2, 1, -1)
# Function, truth, arguments as float and as double, and the relative error allowed as a multiple of the distance from 1
# to the next number. Without fused multiply-add the rounding of x log2(e) shows in sigmoid far below 0.
ACCURACY = [
    ("exp", np.exp, arguments(-1, 1), arguments(-1, 1), 1.0),
    ("exp", np.exp, arguments(-87, 88.7), arguments(-708, 709.7), 1.0),
    ("log", np.log, magnitudes(1e-37, 1e38), magnitudes(1e-307, 1e308), 1.7),
    ("log", np.log, arguments(0.5, 2), arguments(0.5, 2), 1.7),
    ("log", np.log, 1 + SIGNS * magnitudes(1e-6, 0.3), 1 + SIGNS * magnitudes(1e-14, 0.3), 1.7),
    ("log", np.log, magnitudes(2e-45, 1e-38), magnitudes(5e-324, 2e-308), 1.7),
    ("tanh", np.tanh, arguments(-1, 1), arguments(-1, 1), 1.6),
    ("tanh", np.tanh, arguments(-12, 12), arguments(-25, 25), 1.6),
    ("tanh", np.tanh, SIGNS * magnitudes(1e-37, 1), SIGNS * magnitudes(1e-307, 1), 1.6),
    ("sigmoid", logistic, arguments(-2, 40), arguments(-2, 80), 2.0),
    ("sigmoid", logistic, arguments(-10, 2), arguments(-10, 2), 6.0),
    ("sigmoid", logistic, arguments(-87, -10), arguments(-708, -10), 600.0),
    ("sin", np.sin, arguments(-20, 20), arguments(-20, 20), 1.0),
    ("cos", np.cos, arguments(-20, 20), arguments(-20, 20), 1.0),
    ("erf", np.vectorize(math.erf), arguments(-4, 4), arguments(-4, 4), 2.0),
    ("sqrt", np.sqrt, magnitudes(1e-37, 1e38), magnitudes(1e-307, 1e308), 0.5),
]


@pytest.mark.parametrize(("name", "truth", "floats", "doubles", "limit"), ACCURACY, ids=lambda v: str(v)[:8])
def test_values_are_as_exact_as_promised(library, name, truth, floats, doubles, limit):
    x = library.array(doubles if library.dtype == np.float64 else floats)
    expected = truth(x.astype(np.longdouble))
    error = np.abs(library(name, x) - expected) / np.abs(expected)
    worst = int(np.argmax(error))
    assert error[worst] <= limit * library.eps, f"{name}({x[worst]!r}): {float(error[worst] / library.eps):.2f} eps"


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_squashing_never_leaves_its_range_and_reaches_its_ends(library, name):
    y = library(name, np.concatenate([np.linspace(-1000, 1000, 1001), np.linspace(-40, 40, 200_001)]))
    low = -1 if name == "tanh" else 0
    assert (y.min(), y.max()) == (low, 1)


TINY = {np.dtype(np.float32): 1e-40, np.dtype(np.float64): 1e-310}
EDGES = {
    "exp": {0: 1, 1000: INF, -1000: 0, INF: INF, -INF: 0, NAN: NAN, "tiny": 1},
    "log": {1: 0, 0: -INF, -1: NAN, -1e-30: NAN, -INF: NAN, INF: INF, NAN: NAN},
    "tanh": {0: 0, 1000: 1, -1000: -1, INF: 1, -INF: -1, NAN: NAN, "tiny": "tiny"},
    "sigmoid": {0: 0.5, 1000: 1, -1000: 0, INF: 1, -INF: 0, NAN: NAN, "tiny": 0.5},
    "sqrt": {0: 0, 4: 2, -1: NAN, INF: INF, -INF: NAN, NAN: NAN},
    "abs": {0: 0, -3: 3, 3: 3, -INF: INF, NAN: NAN},
    "sign": {0: 0, -3: -1, 3: 1, -INF: -1, INF: 1, "tiny": 1, NAN: 0},
    "erf": {0: 0, INF: 1, -INF: -1, NAN: NAN},
    "sin": {0: 0, INF: NAN, NAN: NAN},
    "cos": {0: 1, INF: NAN, NAN: NAN},
}


@pytest.mark.parametrize("name", EDGES)
def test_edge_values(library, name):
    tiny = TINY[library.dtype]
    rows = [(tiny if x == "tiny" else x, tiny if y == "tiny" else y) for x, y in EDGES[name].items()]
    x, expected = library.array(rows).T
    np.testing.assert_array_equal(library(name, x), expected)


def test_the_sign_of_zero(library):
    for name in ("tanh", "sin", "erf", "sqrt"):
        assert np.signbit(library(name, [-0.0, 0.0])).tolist() == [True, False], name
    assert library("log", [-0.0])[0] == -INF
    assert not np.signbit(library("abs", [-0.0]))[0]


PAIRS = [(a, b) for a in (NAN, -INF, -2, 0, 0.5, 3, INF) for b in (NAN, -INF, -2, 0, 0.5, 3, INF)]
TRUTH = {
    "min": np.minimum,
    "max": np.maximum,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "pow": np.power,
    "select": lambda a, b: np.where(a != 0, b, 7),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", TRUTH)
def test_functions_of_two_arguments(library, name):
    a, b = library.array(PAIRS).T
    expected = TRUTH[name](a, b).astype(library.dtype)
    np.testing.assert_allclose(library(name, a, b), expected, rtol=2 * library.eps, atol=0)


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sigmoid", "sqrt", "erf", "sin", "cos"])
def test_the_lane_and_the_neighbours_do_not_matter(library, name):
    x = library.array(np.concatenate([arguments(-3, 3, 500), [INF, -INF, NAN, 0, 100, -100, TINY[library.dtype]]]))
    whole = library.array(np.resize(x, len(x) // library.width * library.width))
    y = library(name, whole)
    for shift in range(1, library.width):
        shifted = np.roll(library(name, np.roll(whole, shift)), -shift)
        np.testing.assert_array_equal(shifted, y)


def test_reductions_fold_halves(library):
    x = library.array(arguments(-1, 1, library.width))
    folded = x
    while len(folded) > 1:
        folded = folded[: len(folded) // 2] + folded[len(folded) // 2 :]
    assert library.reduce("sum", x) == folded[0]
    assert library.reduce("peak", x) == x.max()
    assert library.reduce("peak", library.array([-INF] * library.width)) == -INF
    for lane in range(library.width):
        spoiled = x.copy()
        spoiled[lane] = NAN
        assert math.isnan(library.reduce("peak", spoiled)), lane


def test_a_part_of_a_vector_touches_nothing_else(library):
    a = library.array(np.arange(1, library.width + 1))
    for n in range(library.width + 1):
        y = np.full(2 * library.width, -7, library.dtype)
        failed = library.c.run_part(ctypes.c_void_p(a.ctypes.data), ctypes.c_void_p(y.ctypes.data), ctypes.c_int(n))
        assert not failed, "the pages of the test could not be made"
        expected = [*a[:n], *[0] * (library.width - n), *a[:n], *[-7] * (library.width - n)]
        assert y.tolist() == expected, n


def test_no_undefined_behaviour(kind, tmp_path):
    program = tmp_path / "edges"
    # A trap instead of a message: it needs no library beside the compiler.
    trap = ("-O1", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error")
    compile_c(kind, source(kind, main=True), program, *trap)
    result = subprocess.run([program], check=False)
    assert result.returncode == 0, f"stopped with {result.returncode}: undefined behaviour, or no memory for the test"
