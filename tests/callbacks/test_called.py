"""What is called after each round: ends runs, writes them down, also when resumed."""

import csv
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from cases import classes, scalar

from fedsciml import Result, methods
from fedsciml.callbacks import CSV, Every, Plateau, TensorBoard, Until
from fedsciml.federation import Round, run

FIPA = methods.load("fipa")


def trained(
    rounds: int, *callbacks: Callable[..., object], **options: object
) -> Result:
    return run(scalar(), FIPA, rounds, callbacks=callbacks, **options)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("word", "quantity", "value"),
    [
        ("1e-8", "loss", 1e-8),
        ("relative_l2=0.5", "relative_l2", 0.5),
        ("held_out=2", "held_out", 2.0),
        ("accuracy=0.98", "accuracy", 0.98),
    ],
)
def test_until_is_a_word(word: str, quantity: str, value: float) -> None:
    assert Until.read(word) == Until(value, quantity)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("small", "'small' is not VALUE or QUANTITY=VALUE"),
        ("error=1e-3", "no 'error' to wait for; choose one of loss"),
        ("loss=-1", "positive number"),
        ("inf", "positive number"),
        ("nan", "positive number"),
        ("accuracy=98", "part of 1, such as 0.98; got 98"),
    ],
)
def test_until_what_is_not_known_is_refused(word: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Until.read(word)


def test_a_run_ends_where_it_is_good_enough_also_when_it_is_resumed(
    tmp_path: Path,
) -> None:
    whole = trained(9)
    bound = whole.history[5].loss
    first = next(line.round for line in whole.history if line.loss <= bound)
    early = trained(9, Until(bound), out=tmp_path)
    assert len(early.history) == first
    assert "as asked (loss <= " in early.outcome.sentence
    again = trained(9, Until(bound), out=tmp_path, resume=True)
    assert again.theta_sha256() == early.theta_sha256()
    assert again.outcome == early.outcome
    assert trained(9, out=tmp_path, resume=True).theta_sha256() == whole.theta_sha256()


def test_an_error_that_is_not_known_is_not_waited_for() -> None:
    problem = replace(scalar(), exact=None, test_points=None)
    with pytest.raises(ValueError, match="relative_l2 is not known.*exact="):
        run(problem, FIPA, 2, callbacks=[Until(1e-3, "relative_l2")])
    assert not Until(1.0, "held_out")([Round(1, 0.5)])
    assert Until(1.0, "held_out")([Round(10, 0.5, held_out=0.9)])


def test_an_accuracy_is_waited_for_from_below() -> None:
    wanted = Until(0.98, "accuracy")
    assert str(wanted) == "accuracy >= 0.98"
    assert not wanted([Round(1, 0.5, metrics={"accuracy": 0.97})])
    assert wanted([Round(1, 0.5, metrics={"accuracy": 0.98})])
    assert Until(0.3, "deviance")([Round(1, 0.5, metrics={"deviance": 0.2})])
    with pytest.raises(ValueError, match="accuracy is not known.*tests="):
        wanted([Round(1, 0.5)])
    with pytest.raises(ValueError, match="give it the deviance"):
        Plateau(quantity="accuracy")


def history(*losses: float) -> list[Round]:
    return [Round(k, loss) for k, loss in enumerate(losses, 1)]


def test_a_plateau_is_where_the_lowest_loss_does_not_fall() -> None:
    ends = Plateau(2, 0.5)
    assert not ends(history(8.0, 8.0))
    assert ends(history(8.0, 8.0, 5.0))
    assert not ends(history(8.0, 8.0, 3.0))
    assert not ends(history(8.0, 3.0, 9.0))  # it fell in the last two
    assert ends(history(8.0, 3.0, 9.0, 2.0))
    with pytest.raises(ValueError, match="at least 1 round and a factor"):
        Plateau(0)
    with pytest.raises(ValueError, match="at least 1 round and a factor"):
        Plateau(2, 1.5)


def test_every_so_many_rounds_is_every_so_many() -> None:
    seen = list[int]()
    result = trained(5, Every(2, lambda history: seen.append(len(history))))
    assert seen == [2, 4]
    assert len(result.history) == 5
    assert len(trained(5, Every(2, lambda history: True)).history) == 2
    with pytest.raises(ValueError, match="at least 1 round"):
        Every(0, seen.append)


def test_all_are_called_in_the_round_that_ends_a_run() -> None:
    seen = list[int]()
    trained(5, Until(1e9), lambda history: seen.append(len(history)))
    assert seen == [1]


def test_callbacks_change_no_byte_of_theta(tmp_path: Path) -> None:
    logged = trained(3, CSV(tmp_path / "a.csv"), Plateau(9))
    assert logged.theta_sha256() == trained(3).theta_sha256()


def read(row: Mapping[str, str], line: Round) -> bool:
    """Whether a row of a CSV file has what a line of a history has."""
    numbers = ("loss", "step", "relative_l2", "promised", "held_out")
    known = {k: v for k in numbers if (v := getattr(line, k)) is not None}
    known |= {f"terms.{name}": value for name, value in line.terms.items()}
    known |= {f"losses.{m}": value for m, value in line.losses.items()}
    ranks = "/".join(map(str, line.ranks))
    return row["ranks"] == ranks and all(float(row[k]) == v for k, v in known.items())


def test_a_csv_file_has_a_row_for_each_round_also_when_a_run_is_resumed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log.csv"
    trained(12, CSV(path), lambda history: len(history) == 4, out=tmp_path / "run")
    assert len(table(path)) == 4
    # Killed after a row was written, before its round was kept.
    with path.open("a") as file:
        file.write(path.read_text().splitlines()[-1].replace("4,", "5,", 1) + "\n")
    result = trained(12, CSV(path), out=tmp_path / "run", resume=True)
    rows = table(path)
    assert [row["round"] for row in rows] == [str(k) for k in range(1, 13)]
    assert all(map(read, rows, result.history))
    assert rows[9]["terms.pde"]
    assert not rows[8]["terms.pde"]


def test_a_csv_file_of_another_run_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("x,t,u\n1,2,3\n")
    with pytest.raises(FileExistsError, match="Name another file"):
        trained(2, CSV(path))
    assert path.read_text() == "x,t,u\n1,2,3\n"
    logger = CSV(tmp_path / "two.csv")
    trained(2, logger)
    with pytest.raises(FileExistsError, match="Name another file"):
        run(scalar(), FIPA, 1, 1, callbacks=[logger])


def test_tensorboard_shows_each_round_once_also_when_a_run_is_resumed(
    tmp_path: Path,
) -> None:
    pytest.importorskip("tensorboard", reason="comes with fedsciml[loggers]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log, out = tmp_path / "log", tmp_path / "run"
    trained(11, TensorBoard(log), lambda history: len(history) == 2, out=out)
    result = trained(11, TensorBoard(log), out=out, resume=True)
    found = EventAccumulator(str(log)).Reload()
    losses = found.Scalars("loss")
    assert [event.step for event in losses] == list(range(1, 12))
    assert [event.value for event in losses] == pytest.approx(
        [line.loss for line in result.history]
    )  # in float32
    (terms,) = found.Scalars("terms/pde")
    assert terms.value == pytest.approx(result.history[9].terms["pde"])


def test_a_missing_package_is_named_with_what_to_type(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fedsciml\[loggers\]'"):
        TensorBoard(tmp_path)


def test_a_csv_file_has_what_is_measured_on_tests(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    result = run(classes(), FIPA, 2, callbacks=[CSV(path)])
    told = [float(row["metrics.accuracy"]) for row in table(path)]
    assert told == [line.metrics["accuracy"] for line in result.history]
