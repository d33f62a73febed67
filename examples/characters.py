"""The next character of texts on four topics, by a language model that others trained.

textgenrnn 2.0 (M. Woolf, MIT licence) brings weights of a recurrent network that reads
40 characters and tells the next one: an embedding [465, 100], two LSTM layers of 128
units, and of the three side by side, h_t [356], a mean over the 40 places

    f = sum_t a_t h_t,    a = softmax(w . h_t),    z = W f + b,    P(c) = softmax(z)_c.

Every site has texts on a topic of its own. All layers but the last stay as they are, so
f, the *features* of a context, is computed once, and a row of the problem is one place
of a text: its 356 features and the character that comes next. What is trained is a
change of low rank,

    W + B diag(m) A,    A [r, 356], B [C, r], m [r],

of which m is each site's own, or B, or nothing is.

The package is read, not imported: it would want TensorFlow. Install it without what it
asks for, and h5py beside it:

    pip install 'fedsciml[text]'
    pip install --no-deps textgenrnn==2.0.0

Texts are folded to lower case, white space to one blank, and the softmax is over a
public alphabet; other characters are left out, and a warning counts them. The last
fifth of each text is for testing alone.

    fedsciml run examples/characters.py --sketch svd --rounds 5
    fedsciml run examples/characters.py --set texts=FOLDER
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from fedsciml.collocation import explicit
from fedsciml.extras import needed
from fedsciml.likelihoods import Categorical
from fedsciml.network import MLP, Jet, lora
from fedsciml.problem import Problem, Row, Term, numbered

LENGTH = 40
"""Characters that are read to tell the next one."""

BEGIN = "<s>"
"""What the model knows as the beginning of a text; code 0 stands before it."""

LETTERS = " abcdefghijklmnopqrstuvwxyz.,:;'"

FIFTH = 5
"""One character in five is for testing: those at the end."""

EPSILON = 1e-7
"""Keras adds it to what it divides by."""

BATCH = 512
"""Contexts that are read at once."""


def packaged(name: str) -> Path:
    """A file of the package textgenrnn, which is not imported.

    Raises:
        ModuleNotFoundError: If the package is not installed.
        FileNotFoundError: If it came without the file.
    """
    found, how = find_spec("textgenrnn"), "pip install --no-deps textgenrnn==2.0.0"
    if found is None or found.origin is None:
        raise ModuleNotFoundError(
            "The weights come with the package textgenrnn, which is not installed: "
            f"{how}. (Without --no-deps it brings TensorFlow, which is not needed.)",
            name="textgenrnn",
        )
    path = Path(found.origin).parent / name
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {path}: this textgenrnn came without its weights. Install "
            f"the one from PyPI: {how}."
        )
    return path


def vocabulary() -> dict[str, int]:
    """The code of each character that the model knows, 1 to 464.

    Raises:
        ModuleNotFoundError: If the package is not installed.
        FileNotFoundError: If it came without the file.
    """
    codes = json.loads(packaged("textgenrnn_vocab.json").read_text("utf-8"))
    return {str(letter): int(code) for letter, code in codes.items()}


def weights() -> dict[str, np.ndarray]:
    """The arrays of the weight file by layer and name, ``rnn_1/kernel``.

    Raises:
        ModuleNotFoundError: If the package or h5py is not installed.
        FileNotFoundError: If it came without the file.
    """
    path, found = packaged("textgenrnn_weights.hdf5"), dict[str, np.ndarray]()
    with needed("The weights need", "text"):
        import h5py

    def take(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            layer, _, own = name.rpartition("/")
            found[f"{layer.partition('/')[0]}/{own.partition(':')[0]}"] = item[()]

    with h5py.File(path) as file:
        file.visititems(take)
    return found


class Reader(nn.Module):
    """The network of textgenrnn: codes [n, 40] to logits [n, 465].

    Args:
        arrays: Of the weight file, see ``weights``.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        own = {name: torch.from_numpy(array) for name, array in arrays.items()}
        embedding, kernel = own["embedding/embeddings"], own["output/kernel"]
        self.embedding = nn.Embedding.from_pretrained(embedding)
        self.rnn_1 = _lstm(own, "rnn_1", embedding.shape[1])
        self.rnn_2 = _lstm(own, "rnn_2", self.rnn_1.hidden_size)
        self.attention = nn.Parameter(own["attention/attention_W"])
        self.output = nn.Linear(*kernel.shape)
        self.output.load_state_dict({"weight": kernel.mT, "bias": own["output/bias"]})

    def features(self, codes: Tensor) -> Tensor:
        """f of each context: what the output layer takes, shape [n, 356]."""
        first = self.embedding(codes.long())
        second, _ = self.rnn_1(first)
        third, _ = self.rnn_2(second)
        every = torch.cat([first, second, third], -1)
        score = every @ self.attention
        share = (score - score.amax(1, keepdim=True)).exp()
        share = share / (share.sum(1, keepdim=True) + EPSILON)
        return (share * every).sum(1)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits of the next character, shape [n, 465]."""
        logits: Tensor = self.output(self.features(codes))
        return logits


def _lstm(arrays: Mapping[str, Tensor], name: str, inputs: int) -> nn.LSTM:
    """A layer of the weight file, whose weights are those of Keras' CuDNNLSTM.

    As CuDNN's own, their four gates are input, forget, cell, output, and they have two
    biases. Each gate's matrices are stored row by row [units, inputs] and [units,
    units], under the shape that Keras' other kind of LSTM has.
    """
    kernel, recurrent = arrays[f"{name}/kernel"], arrays[f"{name}/recurrent_kernel"]
    units = len(recurrent)
    layer = nn.LSTM(inputs, units, batch_first=True)
    gates = [gate.reshape(units, inputs) for gate in kernel.chunk(4, 1)]
    biases = arrays[f"{name}/bias"].chunk(2)
    layer.load_state_dict(
        {
            "weight_ih_l0": torch.cat(gates),
            "weight_hh_l0": torch.cat(recurrent.chunk(4, 1)),
            "bias_ih_l0": biases[0],
            "bias_hh_l0": biases[1],
        }
    )
    return layer


def head(reader: Reader, codes: Sequence[int]) -> MLP:
    """The output layer for the characters of an alphabet: [n, 356] to logits [n, C].

    An ``MLP`` of one layer, whose rows take a fraction of the time of a module's.
    """
    own = reader.output.state_dict()
    start = torch.cat([own[part][list(codes)].flatten() for part in ("weight", "bias")])
    return MLP((reader.output.in_features, len(codes)), start=start.double())


def contexts(text: str, codes: Mapping[str, int]) -> Tensor:
    """Codes of the 40 characters before each one of a text, shape [n, 40].

    Before its beginning stand the sign for it, and zeros.
    """
    before = [0] * (LENGTH - 1) + [codes[BEGIN]]
    line = torch.tensor(before + [codes[letter] for letter in text], device="cpu")
    return line.unfold(0, LENGTH, 1)[:-1]


@torch.no_grad()
def read(reader: Reader, codes: Tensor) -> Tensor:
    """Features of contexts [n, 40], shape [n, 356], in the precision of the weights."""
    return torch.cat([reader.features(part) for part in codes.split(BATCH)]).double()


def folded(path: Path, letters: str) -> str:
    """A text in the characters of an alphabet; a warning counts those left out.

    Raises:
        ValueError: If it is not UTF-8.
    """
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text in UTF-8: {error.reason}.") from error
    text = " ".join(text.lower().split())
    kept = "".join(letter for letter in text if letter in letters)
    if len(kept) < len(text):
        warnings.warn(
            f"{path.name}: {len(text) - len(kept)} of {len(text)} characters are not "
            "in the alphabet and are left out; give letters=... to have others.",
            stacklevel=2,
        )
    return kept


def texts_of(folder: Path, letters: str, size: int | None) -> dict[str, str]:
    """The texts of a folder by topic, at most ``size`` characters each.

    Raises:
        ValueError: If there are fewer than two files, or one has too few characters.
    """
    files = sorted(folder.glob("*.txt"))
    if len(files) < 2:
        raise ValueError(
            f"A federation needs texts of two sites at least, one file NAME.txt for "
            f"each; in {folder.absolute()} there "
            f"{'is one' if files else 'are none'}. Give --set texts=FOLDER."
        )
    found = {path.stem: folded(path, letters)[:size] for path in files}
    short = [name for name, text in found.items() if len(text) < LENGTH]
    if short:
        raise ValueError(
            f"The text '{short[0]}' has {len(found[short[0]])} characters of the "
            f"alphabet, which is less than the {LENGTH} that are read at once. Give a "
            "longer one."
        )
    return found


def logits(u: Jet, row: Row) -> Tensor:
    """The network's outputs are the logits of the characters, [n, C]."""
    return u.values


def make(
    texts: Path | None = None,
    rank: int = 2,
    form: Literal["plain", "diagonal", "split"] = "diagonal",
    personal: Literal["none", "magnitudes", "magnitudes_B", "B"] = "magnitudes",
    letters: str = LETTERS,
    size: int | None = None,
    prior: float = 1e-2,
    personal_prior: float = 1e-2,
) -> Problem:
    """The problem.

    Args:
        texts: Folder with one file, TOPIC.txt in UTF-8, for each site; without it the
            four short ones beside this program.
        rank: Of the change of the output layer.
        form: How it is made of its factors, see ``fedsciml.network.lora``.
        personal: What of it is each site's own.
        letters: The alphabet: which characters are told apart, all known to the model.
        size: Characters of each text that are used, from its beginning; all if not
            given. A fifth of them is for testing.
        prior: lambda of lambda / 2 times the sum of the squared shared parameters;
            local training with personal ones takes 0 alone.
        personal_prior: The same of each site's own, about what they begin with.

    Raises:
        ValueError: If there are fewer than two texts, one is too short, or a character
            of the alphabet is not known to the model.
        ModuleNotFoundError: If textgenrnn or h5py is not installed.
    """
    codes = vocabulary()
    strange = [letter for letter in letters if letter not in codes]
    if strange or len(set(letters)) < max(2, len(letters)):
        raise ValueError(
            f"The alphabet must be at least two different characters that the model "
            f"knows; got {letters!r}, of which it does not know {strange}."
        )
    folder = Path(__file__).parent / "texts" if texts is None else texts
    found, reader = texts_of(folder, letters, size), Reader(weights())
    points, targets, ends = [], [], []
    for text in found.values():
        points.append(read(reader, contexts(text, codes)))
        numbers = [float(letters.index(one)) for one in text]
        targets.append(torch.tensor(numbers, device="cpu"))
        ends.append(len(text) - len(text) // FIFTH)
    known = Categorical()

    def term(parts: Sequence[slice]) -> Term:
        own = [x[part] for x, part in zip(points, parts, strict=True)]
        next_ = [y[part] for y, part in zip(targets, parts, strict=True)]
        return Term("texts", logits, own, next_, likelihood=known)

    own = () if personal == "none" else personal
    layer = head(reader, [codes[letter] for letter in letters])
    change: dict[str, object] = {"rank": rank, "form": form, "personal": personal}
    place = None if texts is None else str(texts)
    used = {"texts": place, "letters": letters, "size": size}
    priors = {"prior": prior, "personal_prior": personal_prior}
    return Problem(
        "characters",
        lora(layer, rank, form=form, personal=own),
        [term([slice(end) for end in ends])],
        explicit(len(found)),
        coordinates=numbered("f", reader.output.in_features),
        outputs=numbered("letter", len(letters)),
        parameters={**change, **used, **priors},
        prior=prior,
        personal_prior=personal_prior if own else 0.0,
        tests=[term([slice(end, None) for end in ends])],
    )
