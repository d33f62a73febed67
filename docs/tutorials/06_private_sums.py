"""
Private sums across three sites
===============================

From what a site sends by default, the server could work out the site's points. With
*secure sums* the sites mask their numbers, and the masks cancel in the sum over all
sites: the server learns the sum, and a message by itself is as random as dice. This
tutorial trains both ways, compares the results, and looks at the messages.
"""

# %%
# Three sites
# -----------
#
# Three sites have measured sin(2 pi x), each on a third of (0, 1). ``secure=True`` puts
# a method into the wrapper that masks. It needs the extra ``secure``: ``pip install
# 'fedsciml[secure]'``. The other run sends the same sums in the open. A backend is the
# way to the clients; this one also keeps what client 0 sends.

from fedsciml import InProcess, problems, run, wrappers


class Overheard:
    """Clients in this process, and all that client 0 sends."""

    def __init__(self):
        self.messages = []

    def connect(self, *arguments):
        clients = InProcess().connect(*arguments)
        ask = clients.ask

        def listen(*arguments):
            replies = ask(*arguments)
            self.messages.append(replies[0].answer)
            return replies

        clients.ask = listen
        return clients


problem = problems.load("sine2", clients=3)
methods = {
    "plain": wrappers.load("fipa", basis="shared", upload="sums"),
    "secure": wrappers.load("fipa", secure=True),
}
wires = {name: Overheard() for name in methods}
results = {
    name: run(problem, method, rounds=40, backend=wires[name])
    for name, method in methods.items()
}
for name, result in results.items():
    last = result.history[-1]
    print(f"{name:6} error {last.relative_l2:.1e}, {last.sent / 1e6:.1f} MB sent")
    assert last.relative_l2 < 1e-10

# %%
# Masks cost bytes and no digits: numbers are integers in the sum, and masks cancel
# exactly.
#
# The messages
# ------------
#
# What client 0 sent in all rounds. In the open these are gramians, from which points
# can be read. Under masks they are words of 64 bits, and every value is as frequent as
# any other.

import numpy as np
from matplotlib.figure import Figure

from fedsciml.plot import save

plain = [m.gramian for m in wires["plain"].messages if hasattr(m, "gramian")]
masked = [m.masked.numbers for m in wires["secure"].messages if hasattr(m, "masked")]
words = np.concatenate(masked).flatten() / 2.0**64

figure = Figure(figsize=(7, 2.4), layout="constrained")
left, right = figure.subplots(1, 2)
left.hist(np.concatenate(plain), bins=40, color="tab:orange")
left.set_title("in the open: entries of the gramians")
left.set_ylabel("how many")
left.set_yscale("log")
right.hist(words, bins=40, color="tab:blue")
right.set_title("masked: words, over $2^{64}$")
save(figure, "messages.png")

expected = len(words) / 40
counts, _ = np.histogram(words, bins=40, range=(0, 1))
chi2 = ((counts - expected) ** 2 / expected).sum()
print(f"{len(words)} words, chi-squared {chi2:.1f}; of uniform ones 39 on average")
assert chi2 < 95  # one sample of uniform words in 700,000 is above

# %%
# What the sum tells
# ------------------
#
# The server knows the sum. Of many points it tells the model, which everybody gets
# anyway; of few points it *is* the points. The run says so:

small = run(problems.load("sine2", clients=3, points=0.05), methods["secure"], rounds=5)
print(small.warnings[-1])
assert "differential privacy" in small.warnings[-1]

# %%
# A sum over two sites would give each the other's part. There is none:

try:
    run(problems.load("sine2", clients=2), methods["secure"])
except ValueError as error:
    print(error)
else:
    raise AssertionError("a sum over two sites")

# %%
# :doc:`../../privacy` says who learns what in each mode, what has to be assumed, and
# how to choose.
