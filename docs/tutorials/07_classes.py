"""
Classes at five sites of unlike labels
======================================

Five sites have images of handwritten digits, and each has mostly two or three of the
ten classes. This tutorial trains one classifier on all of them by FedAvg, SCAFFOLD and
FIPA, and compares their accuracy by rounds and by what the sites send. Who knows Flower
finds its words beside those of this package. The data come with scikit-learn:
``pip install 'fedsciml[data]'``.
"""

# %%
# Images
# ------
#
# 1797 digits of 8 x 8 pixels. Each image is a point of 64 coordinates; its class, 0 to
# 9, is what was observed. Every fifth image is kept for testing: nobody trains on it.

import torch
from sklearn.datasets import load_digits

found = load_digits()
images = torch.from_numpy(found.data) / 16 - 0.3  # about 0 in the mean
labels = torch.from_numpy(found.target)
test = torch.arange(len(labels)) % 5 == 4

# %%
# Who has which
# -------------
#
# In Flower this is a ``DirichletPartitioner``. The smaller alpha, the less alike are
# the sites' labels; ``split`` gives each site its part. At real sites every site has
# its own images instead (:doc:`../../deploy`).

from fedsciml.collocation import dirichlet, explicit, split

sites = 5
owners = dirichlet(labels[~test], sites, alpha=0.1, seed=0, least=10)

# %%
# The problem
# -----------
#
# Where Flower has a ``ClientApp`` with a torch module, a data loader and a training
# loop, here is a ``Problem``: the network, the rows with their owners, and what a row's
# loss is. A term with a *likelihood* returns its predictors; those of ``Categorical``
# are the ten logits, and the loss is the cross-entropy. The prior is weight decay.

from fedsciml import MLP, Problem, Term, plot
from fedsciml.likelihoods import Categorical
from fedsciml.problem import numbered


def logits(u, row):
    return u.values


classes = Categorical()
problem = Problem(
    "digits",
    MLP((64, 32, 10), activation="sin"),
    [
        Term(
            "images",
            logits,
            split(images[~test], owners),
            target=split(labels[~test].double(), owners),
            likelihood=classes,
        )
    ],
    explicit(sites),
    coordinates=numbered("x", 64),
    outputs=numbered("class", 10),
    prior=1e-4,
    tests=[
        Term("images", logits, images[test], labels[test].double(), likelihood=classes)
    ],
)
plot.save(plot.partition(problem), "labels.png")

# %%
# Four ways
# ---------
#
# FedAvg and SCAFFOLD train at the sites, five epochs in batches of 50; their learning
# rate is the one of .1, .3 and 1 that is at 95 per cent first. FIPA's sites do not
# train: they send their gradient in each round, and the leading 10 rows of their
# Jacobian in every eighth, and the server solves for a Gauss-Newton step. With
# ``rank="20"`` it is 20 rows in each round.

from fedsciml import methods, run

trained = {"local": "sgd", "learning_rate": 1.0, "tau": 5, "batch": 50}
ways = {
    "FedAvg": methods.load("fedavg", **trained),
    "SCAFFOLD": methods.load("scaffold", **trained),
    "FIPA": methods.load("fipa"),
    "FIPA, 20 rows": methods.load("fipa", rank="20", gradient=True),
}
rounds = {"FIPA, 20 rows": 10}
results = {
    name: run(problem, method, rounds=rounds.get(name, 20))
    for name, method in ways.items()
}

# %%
# Accuracy by rounds and by bytes
# -------------------------------
#
# A round is worth more to who waits for sites, bytes to who pays for lines. Uploads are
# in numbers for each parameter of the network and each site.

histories = {name: result.history for name, result in results.items()}
plot.save(plot.convergence(histories, "accuracy"), "accuracy.png")

sent = 8 * problem.network.size * sites
for name, history in histories.items():
    there = [line for line in history if line.metrics["accuracy"] >= 0.95]
    told = "not to 95 %"
    if there:
        told = f"95 % in round {there[0].round}, {there[0].bytes_up / sent:.0f} p up"
    print(f"{name:14} {history[-1].metrics['accuracy']:.1%} in the end, {told}")

# %%
# Twenty rows in each round need the fewest rounds and the most bytes. On the way to 95
# per cent SCAFFOLD and FedAvg send less than FIPA, and they end below it. Where labels
# are spread evenly, alpha of 0.5 and more, FedAvg gets as far with fewer bytes.
# :doc:`../../likelihoods` says what else to know.

accuracy = {name: line[-1].metrics["accuracy"] for name, line in histories.items()}
assert accuracy["FIPA"] > 0.97
assert accuracy["FIPA"] > max(accuracy["FedAvg"], accuracy["SCAFFOLD"])

# %%
# What is mistaken for what
# -------------------------
#
# ``analysis.predicted`` gives logits and classes of the tests, and the likelihood makes
# of them what is to be seen. A run with ``out=DIR`` draws both by itself.

from fedsciml.analysis import predicted

result = results["FIPA"]
((z, y),) = predicted(problem, result.theta)
plot.save(plot.confusion(classes.confusion(z, y).numpy(), "digits"), "confusion.png")
plot.save(plot.reliability(classes.reliability(z, y), "digits"), "reliability.png")

# %%
# The result is a torch module that gives logits:

module = result.module()
print("probabilities of the first image:", module(images[:1]).softmax(1))
assert (module(images[test]).argmax(1) == labels[test]).double().mean() > 0.96

# %%
# Your own images
# ---------------
#
# ``load_cifar`` and ``load_tiny_imagenet`` of ``fedsciml.problem`` read the files as
# they are published, and give points [n, 3072] and classes; ``fednet`` and ``lenet`` of
# ``fedsciml.network`` are convolutional networks for them::
#
#     train = load_cifar("cifar-10-batches-bin")
#     owners = dirichlet(train.labels, 100, alpha=0.3, balanced=True)
#     term = Term("images", logits, split(train.images, owners), ...)
#
# What was written as a torch module stays one: ``ModuleNetwork(module)``. To go on from
# here over Flower, with sites as programs, see :doc:`../../deploy`.
