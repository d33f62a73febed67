"""DeepXDE's callbacks in training by Gauss-Newton."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedsciml import deepxde as federated
from fedsciml import load, methods
from fedsciml.deepxde.package import double_precision
from fedsciml.federation import run


def decay(dde: Any, **options: Any) -> Any:  # noqa: ANN401
    """A compiled model of u' = -c u, with c = 2 from values of u."""
    dde.config.set_random_seed(1)
    c, at = dde.Variable(0.7), np.linspace(0, 1, 8)[:, None]
    data = dde.data.PDE(
        dde.geometry.TimeDomain(0, 1),
        lambda x, y: dde.grad.jacobian(y, x) + c * y,
        dde.icbc.PointSetBC(at, np.exp(-2 * at)),
        num_domain=12,
        num_boundary=2,
        **options,
    )
    net = dde.nn.FNN([1, 8, 8, 1], "tanh", "Glorot normal")
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3, external_trainable_variables=c, verbose=0)
    return model


def test_callbacks_are_told_of_every_step_and_see_its_values(tmp_path: Path) -> None:
    with double_precision() as dde:
        model, told = decay(dde), []
        (c,) = model.external_trainable_variables

        class Told(dde.callbacks.Callback):  # type: ignore[misc]
            """Writes down when it is called, the loss and the variable."""

            def on_train_begin(self) -> None:
                told.append("begin")

            def on_epoch_begin(self) -> None:
                told.append(self.model.train_state.iteration)

            def on_epoch_end(self) -> None:
                told.append((sum(self.model.train_state.loss_train), c.item()))

            def on_train_end(self) -> None:
                told.append("end")

        path = tmp_path / "c.dat"
        values = dde.callbacks.VariableValue(c, filename=str(path), precision=12)
        saving = dde.callbacks.ModelCheckpoint(str(tmp_path / "model"), period=3)
        history, _ = federated.train(model, 6, callbacks=[Told(), values, saving])
        values.file.close()
        assert (told[0], told[-1]) == ("begin", "end")
        assert told[1:-1:2] == [0, 1, 2, 3, 4, 5]
        losses, numbers = zip(*told[2:-1:2], strict=True)
        assert losses == tuple(sum(line) for line in history.loss_train[1:])
        written = [
            float(line.split("[")[1][:-1]) for line in path.read_text().splitlines()
        ]
        assert written == pytest.approx([0.7, *numbers], rel=1e-11)
        assert len(set(numbers)) > 2
        assert {p.name for p in tmp_path.glob("*.pt")} == {"model-3.pt", "model-6.pt"}
        model.restore(str(tmp_path / "model-3.pt"))
        c.data.fill_(numbers[2])  # DeepXDE saves the net alone
        model._test(verbose=0)
        assert sum(model.train_state.loss_train) == pytest.approx(losses[2])


def test_a_callback_stops_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    with double_precision() as dde:
        model = decay(dde)
        stopping = dde.callbacks.EarlyStopping(baseline=1e-9, patience=2)
        _, state = federated.train(model, 50, callbacks=[stopping])
    assert "early stopping" in capsys.readouterr().out
    # Two epochs above the baseline.
    assert state.step == 2


def test_training_goes_on_where_a_callback_changes_the_model() -> None:
    with double_precision() as dde:
        model = decay(dde, train_distribution="pseudo")
        points = []

        class Seen(dde.callbacks.Callback):  # type: ignore[misc]
            """Remembers the points of each step."""

            def on_batch_end(self) -> None:
                points.append(self.model.train_state.X_train.copy())

        resampler = dde.callbacks.PDEPointResampler(period=4)
        history, _ = federated.train(model, 12, callbacks=[resampler, Seen()])
        same = [np.array_equal(a, b) for a, b in pairwise(points)]
        assert same == [k % 4 != 3 for k in range(11)]
        (c,) = model.external_trainable_variables
        assert c.item() == pytest.approx(2, rel=0.1)
        assert sum(history.loss_train[-1]) < 0.1 * sum(history.loss_train[0])

        class Reset(dde.callbacks.Callback):  # type: ignore[misc]
            """Sets the variable to what it must not stay."""

            def on_epoch_end(self) -> None:
                if self.model.train_state.step == 14:
                    c.data.fill_(50.0)

        history, _ = federated.train(model, 4, callbacks=[Reset()])
        assert c.item() < 40


def test_callbacks_of_no_use_are_refused() -> None:
    with double_precision() as dde:
        model = decay(dde)
        for callback, message in [
            (dde.callbacks.DropoutUncertainty(), "DropoutUncertainty needs a net with"),
            (print, "of the kind builtin_function_or_method; derive it from"),
        ]:
            with pytest.raises(ValueError, match=message):
                federated.train(model, 1, callbacks=[callback])
    assert model.losshistory.steps == []


def test_who_looks_on_is_told_of_every_step_and_its_loss() -> None:
    with double_precision() as dde:
        model, seen = decay(dde), []
        history, _ = federated.train(model, 3, progress=seen.append)
    assert [line.round for line in seen] == [1, 2, 3]
    before = [sum(line) / 2 for line in history.loss_train[:-1]]
    assert [line.loss for line in seen] == pytest.approx(before, rel=1e-9)


@pytest.mark.parametrize("activation", ["tanh", "elu"])
def test_the_solution_of_a_model_is_a_module_that_comes_back(
    activation: str, tmp_path: Path
) -> None:
    """By jets, and with an activation that only torch knows."""
    with double_precision() as dde:
        model = decay(dde)
        net = dde.nn.FNN([1, 6, 1], activation, "Glorot normal")
        net.apply_output_transform(lambda x, y: 1 + x * y)
        variables = model.external_trainable_variables
        problem = federated.problem(
            model.data, net, external_trainable_variables=variables, clients=2
        )
        result = run(problem, methods.load("fipa"), 2)
        federated.restore(net, result, variables)
        x = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
        assert torch.equal(result.module()(x), net(x))
        result.save(tmp_path / "model")
        # The net has other weights now; the problem is the same.
        found = load(tmp_path / "model", problem)
        assert torch.equal(found.theta, result.theta)
        assert found.unknowns() == result.unknowns()
