"""DeepXDE models: federate one, or train one by Gauss-Newton inside DeepXDE.

With ``data`` a ``dde.data.PDE`` or ``TimePDE`` (also ``Function``, ``DataSet``) and
``net`` a ``dde.nn.FNN``, ``PFNN`` or any other torch module, as a DeepXDE script builds
them (PyTorch backend):

    from fedsciml import deepxde as federated, methods, run

    problem = federated.problem(data, net, loss_weights, clients=4)
    result = run(problem, methods.load("fipa"), rounds=50)
    federated.restore(net, result)            # the trained weights, in the net again

    losshistory, train_state = federated.train(model, iterations=100)  # centralised

``problem`` takes any ``pde(x, y)`` or ``pde(x, y, aux)`` written with ``dde.grad`` or
``torch.autograd``; Dirichlet, Neumann, Robin, periodic, operator and point-set
conditions; interfaces; initial conditions; feature and output transforms; unknown
numbers by ``external_trainable_variables=[C]``, which ``restore`` sets as well. What
``net.parameters()`` has is trained, sub-networks and trained features as well, but for
those with ``requires_grad`` False. It computes in float64; the net keeps its own
precision: for all digits in it, call ``dde.config.set_default_float("float64")`` first,
as for any accurate DeepXDE model.

DeepXDE (Lu, Meng, Mao, Karniadakis, SIAM Review 63, 2021, arXiv 1907.04502) is imported
when one of these functions needs it; importing this package does not.
"""

from fedsciml.deepxde.conversion import problem
from fedsciml.deepxde.package import deepxde
from fedsciml.deepxde.solver import train
from fedsciml.deepxde.weights import restore

__all__ = ["deepxde", "problem", "restore", "train"]
