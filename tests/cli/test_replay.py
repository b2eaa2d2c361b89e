"""``drivetrain replay``."""

from __future__ import annotations

from typing import Any

from drivetrain.cli.replay import _lines
from drivetrain.engine.defaults.replay import Replay


def test_the_command_that_the_error_names(command: Any) -> None:
    code, _, err = command(
        *command.train_args("SOLVER.BASE_LR=1e30", "SOLVER.CLIP_GRADIENTS.ENABLED=False", max_iter=9)
    )
    assert code == 1
    line = next(line for line in err.splitlines() if "drivetrain replay" in line)
    code, out, err = command("replay", line.split("drivetrain replay ")[1].strip())
    assert code == 0, err
    assert "losses in the training:" in out and "the first output that is not finite:" in out
    assert out.count("BAD ") + out.count("ok  ") == 2


def test_a_file_that_is_no_saved_batch(command: Any, trained: Any) -> None:
    assert "nothere.pt" in command.refused("replay", "nothere.pt")
    assert "is no saved batch" in command.refused("replay", str(trained / "model_final.pth"))


def test_what_is_said() -> None:
    fine = Replay(5, 7, {"loss": 1.0}, {"loss": 1.0}, "", "", (), ())
    text = "\n".join(_lines(fine))
    assert "Everything is finite now" in text and "weights of iteration 7" in text
    names = tuple(f"p{i}" for i in range(10))
    one = {"loss": 1.0}
    text = "\n".join(_lines(Replay(5, 5, one, one, "3e+27 (a.weight)", "", names, (("a.jpg", one),))))
    assert "p7 and 2 more" in text and "ok  a.jpg  loss=1" in text and "Everything" not in text
    assert "largest weight before the step: 3e+27 (a.weight)" in text
