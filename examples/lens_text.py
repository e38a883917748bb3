"""What a unit of a character-level LSTM knows: train it on the formulas that ship, find a unit that follows something
a person can name, and colour the text by it.

python examples/lens_text.py [FOLDER]      about a minute on a CPU; writes the pictures to FOLDER

Reference: Karpathy, Johnson & Fei-Fei 2015, Visualizing and Understanding Recurrent Networks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

import cellula
from cellula.inspection.lens import Lens

HELD_OUT = ("gru",)
STEPS, BATCH, UPDATES, HIDDEN = 200, 16, 800, 96


class CharacterModel(nn.Module):
    """Characters [T, B] to the logits of the next one [T, B, V]."""

    def __init__(self, alphabet: str) -> None:
        super().__init__()
        self.alphabet = alphabet
        self.memory = cellula.Recurrent("lstm", len(alphabet), HIDDEN)
        self.head = nn.Linear(HIDDEN, len(alphabet))

    def encode(self, text: str) -> Tensor:
        return torch.tensor([self.alphabet.index(character) for character in text])

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.memory(nn.functional.one_hot(x, len(self.alphabet)).to(torch.float32))
        return self.head(output)


def in_docstring(text: str) -> list[bool]:
    """Whether the text is between two triple quotes after each character."""
    return [text[: end + 1].count('"""') % 2 == 1 for end in range(len(text))]


def in_comment(text: str) -> list[bool]:
    """Whether the line has had its # by now, outside the docstring."""
    quoted = in_docstring(text)
    return [not quoted[at] and "#" in text[text.rfind("\n", 0, at) + 1 : at + 1] for at in range(len(text))]


def in_brackets(text: str) -> list[bool]:
    """Whether a round bracket is open after each character."""
    return [text[: end + 1].count("(") > text[: end + 1].count(")") for end in range(len(text))]


FEATURES: dict[str, Callable[[str], list[bool]]] = {
    "within the docstring": in_docstring,
    "within a comment": in_comment,
    "within brackets": in_brackets,
}


def read(name: str) -> str:
    return cellula.load_cell(name).source.text


def train(model: CharacterModel, text: str) -> float:
    """Learn to say the next character; gives the loss of the last updates in bits a character."""
    codes, losses = model.encode(text), []
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=UPDATES)
    for _ in range(UPDATES):
        starts = torch.randint(len(codes) - STEPS - 1, (BATCH,))
        rows = torch.stack([codes[start : start + STEPS + 1] for start in starts.tolist()], 1)  # [T+1, B]
        loss = nn.functional.cross_entropy(model(rows[:-1]).flatten(0, 1), rows[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item() / 0.6931)
    return sum(losses[-20:]) / 20


def best_unit(found: Lens, feature: Tensor) -> tuple[int, float]:
    """The unit of the cell state that goes with a feature most closely, and their correlation."""
    units = torch.from_numpy(found.node("c").values[:, 0])  # [T, H]
    together = torch.corrcoef(torch.cat([units, feature[:, None]], 1).T)[-1, :-1].nan_to_num()
    unit = int(together.abs().argmax())
    return unit, float(together[unit])


def main() -> None:
    folder = sys.argv[1] if len(sys.argv) > 1 else "lens-text"
    torch.manual_seed(0)
    texts = {name: read(name) for name in cellula.cells()}
    alphabet = "".join(sorted(set("".join(texts.values()))))
    model = CharacterModel(alphabet)
    loss = train(model, "".join(text for name, text in texts.items() if name not in HELD_OUT))
    print(f"{loss:.2f} bits a character on the text it has learned")
    text = "".join(texts[name] for name in HELD_OUT)
    # The text that is looked at was not learned.
    found = cellula.lens(model, model.encode(text)[:, None], characters=text)
    print(found)
    units = []
    for name, feature in FEATURES.items():
        unit, correlation = best_unit(found, torch.tensor(feature(text), dtype=torch.float64))
        print(f"unit {unit:>3} of c is {name}: correlation {correlation:+.2f}")
        units.append(unit)
    for path in found.save(folder, "c", units=units, order="time"):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
