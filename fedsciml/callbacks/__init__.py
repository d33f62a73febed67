"""What is called after each round of a run, with its history.

    run(problem, method, 500, callbacks=[Until(1e-8), CSV("loss.csv")])

Any function of the history is one; where it returns true the run ends. A run that is
resumed calls each with the history so far, before its first round.
"""

from fedsciml.callbacks.ends import Every, Plateau, Until
from fedsciml.callbacks.logs import CSV, TensorBoard

__all__ = ["CSV", "Every", "Plateau", "TensorBoard", "Until"]
