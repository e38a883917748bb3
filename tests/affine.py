"""Random formulas whose units run through time by themselves: one or two states, affine in their past."""

from hypothesis import strategies as st

# What an old value is multiplied with, and what is added; s is a state that is computed before.
FACTORS = (
    "sigmoid(x[t] @ W_a)", "0.5", "tanh(u)", "(1 - sigmoid(x[t-1] @ V_a + p))", "(x[t] @ W_b > 0)", "s[t-1]", "s[t]",
    "sigmoid(s[t-1] @ U_s)", "tanh(mean(s[t]))", "-0.25",
)  # fmt: skip
OFFSETS = ("x[t] @ W_c", "tanh(x[t-2] @ V_c + q)", "relu(s[t-1])", "s[t] @ U_s", "0", "0.1 * mean(s[t-1])")


@st.composite
def affine_formulas(draw):
    """A formula: s runs first, then a pair of states c and d, or one that looks two steps back."""
    lines = ["s[t]: hidden = 0.3 * s[t-1] + 0.5 * tanh(x[t] @ W_s)"]
    factors, offsets = st.sampled_from(FACTORS), st.sampled_from(OFFSETS)

    def update(name, *old):
        terms = [f"0.4 * {draw(factors)} * {one}" for one in old]
        return f"{name}[t]: hidden = {' + '.join([*terms, draw(offsets)])}"

    if draw(st.booleans()):
        lines += [update("c", "c[t-1]", "d[t-1]"), update("d", "d[t-1]", "c[t-1]")]
    else:
        lines += [update("c", "c[t-1]", "c[t-2]"), "d[t] = c[t-1] * c[t]"]
    lines.append(f"h[t]: hidden = tanh(d[t] @ U_h) * {draw(factors)} + c[t] + s[t]")
    return "\n".join(lines) + "\n"
