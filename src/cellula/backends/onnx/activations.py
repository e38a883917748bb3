"""The activations of ONNX's recurrent operators as text of the formula language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cellula.errors import UsageError

__all__ = ["ACTIVATIONS", "Activation", "read_activations"]


@dataclass(frozen=True)
class Activation:
    """One row.

    Args:
        text: with `{a}` for the argument, `{alpha}` and `{beta}` for the constants.
        usual: the constants that it has, with the values that stand where a node gives none; None: it must.
    """

    text: str
    usual: tuple[tuple[str, float | None], ...] = ()


# The usual constants are those of ONNX's operators of the same name. `Affine` and `ScaledTanh` are no operators any
# more: nothing says what stands for a missing constant, and onnxruntime takes 0, so that everything is 0. (For
# `ThresholdedRelu` it takes 0 too, where ONNX says 1.)
ACTIVATIONS: dict[str, Activation] = {
    "Affine": Activation("{alpha} * ({a}) + {beta}", (("alpha", None), ("beta", None))),
    "Elu": Activation("elu({a}, {alpha})", (("alpha", 1.0),)),
    "HardSigmoid": Activation("clip({alpha} * ({a}) + {beta}, 0, 1)", (("alpha", 0.2), ("beta", 0.5))),
    "LeakyRelu": Activation("leaky_relu({a}, {alpha})", (("alpha", 0.01),)),
    "Relu": Activation("relu({a})"),
    "ScaledTanh": Activation("{alpha} * tanh({beta} * ({a}))", (("alpha", None), ("beta", None))),
    "Sigmoid": Activation("sigmoid({a})"),
    "Softplus": Activation("softplus({a})"),
    "Softsign": Activation("softsign({a})"),
    "Tanh": Activation("tanh({a})"),
    "ThresholdedRelu": Activation("where(({a}) > {alpha}, {a}, 0)", (("alpha", 1.0),)),
}


def read_activations(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> list[str]:
    """The texts of a node's activations, each with `{a}` for its argument.

    The constants are used up in the order of the functions that have one, as onnxruntime does; where they run out, the
    usual ones stand. Where no function has one, they say nothing.

    Raises:
        UsageError: there is no such activation, or there are other constants than the activations take.
    """
    left = {"alpha": list(alphas), "beta": list(betas)}
    known = {name.lower(): row for name, row in ACTIVATIONS.items()}
    taken: set[str] = set()
    texts = []
    for name in names:
        row = known.get(name.lower())
        if row is None:
            raise UsageError(f"{name!r} is no activation of ONNX; they are {', '.join(ACTIVATIONS)}")
        text = row.text
        for word, usual in row.usual:
            number = left[word].pop(0) if left[word] else usual
            if number is None:
                raise UsageError(f"{name} needs a number in activation_{word}, and there is none left for it")
            text = text.replace(f"{{{word}}}", repr(float(number)))
            taken.add(word)
        texts.append(text)
    for word in sorted(taken):
        if left[word]:
            raise UsageError(f"activation_{word} has {len(left[word])} numbers more than {', '.join(names)} take")
    return texts
