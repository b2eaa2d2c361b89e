"""The arguments of training scripts."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.engine.defaults.arguments import OverrideParser, Parser, default_argument_parser


def test_defaults() -> None:
    args = default_argument_parser().parse_args([])
    assert vars(args) == {
        "config_file": "",
        "resume": False,
        "eval_only": False,
        "num_gpus": 1,
        "num_machines": 1,
        "machine_rank": 0,
        "dist_url": "auto",
        "opts": [],
    }


@pytest.mark.parametrize(
    ("line", "opts"),
    [
        ("--num-gpus 2 MODEL.WEIGHTS a.pth SOLVER.BASE_LR 0.1", ["MODEL.WEIGHTS", "a.pth", "SOLVER.BASE_LR", "0.1"]),
        ("MODEL.WEIGHTS a.pth --num-gpus 2", ["MODEL.WEIGHTS", "a.pth"]),
        ("A=1 --num-gpus=2 B=2", ["A=1", "B=2"]),
        ("A -1e-4 --num-gpus 2 B -.5 C -inf", ["A", "-1e-4", "B", "-.5", "C", "-inf"]),
        ("--num-g 2 A 1", ["A", "1"]),
        ("--num-gpus 2 -- A 1", ["A", "1"]),
    ],
)
def test_overrides_and_flags_in_any_order(line: str, opts: list[str]) -> None:
    args = default_argument_parser().parse_args(line.split())
    assert args.num_gpus == 2 and args.opts == opts


FLAGS = [["--resume"], ["--eval-only"], ["--num-gpus", "2"], ["--config-file=c.yaml"], ["--dist-url", "tcp://h:1"]]
PAIRS = [["SOLVER.BASE_LR", "-1e-3"], ["MODEL.WEIGHTS=x.pth"], ["SEED", "-1"], ["DATASETS.TRAIN", "('a','b')"]]


@given(st.permutations(FLAGS + PAIRS))
def test_any_order_means_the_same(groups: list[list[str]]) -> None:
    args = default_argument_parser().parse_args([token for group in groups for token in group])
    assert (args.resume, args.eval_only, args.num_gpus) == (True, True, 2)
    assert (args.config_file, args.dist_url) == ("c.yaml", "tcp://h:1")
    assert args.opts == [token for group in groups if group in PAIRS for token in group]


def test_scripts_add_their_own() -> None:
    parser = default_argument_parser()
    parser.add_argument("--wandb", action="store_true")
    parser.add_argument("-n", type=int)
    parser.add_argument("--sizes", nargs="+", type=int)
    parser.add_argument("--pair", nargs=2)
    args = parser.parse_args(["A", "1", "-n5", "--sizes", "1", "2", "--wandb", "--pair", "x", "y", "B=2"])
    assert (args.n, args.sizes, args.wandb, args.pair, args.opts) == (5, [1, 2], True, ["x", "y"], ["A", "1", "B=2"])
    assert parser.parse_args(["-n", "-3", "A=1"]).n == -3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--rezume", ("'--rezume'", "'--resume'")),
        ("A 1 --num-gpus", ("--num-gpus",)),
        ("--num-gpus two", ("--num-gpus", "'two'")),
        ("--num 2", ("'--num'",)),
        ("-x", ("'-x'",)),
    ],
)
def test_mistakes_are_one_sentence(line: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        default_argument_parser().parse_args(line.split())
    err = capsys.readouterr().err
    assert end.value.code == 2 and err.count("\n") == 1 and all(word in err for word in words)


def test_help_shows_examples_or_the_given_end(capsys: pytest.CaptureFixture[str]) -> None:
    for epilog, word in ((None, "--num-gpus 2 --config-file"), ("my examples: 100%", "my examples: 100%")):
        with pytest.raises(SystemExit) as end:
            default_argument_parser(epilog).parse_args(["--help"])
        assert end.value.code == 0 and word in capsys.readouterr().out


def test_parsers_are_argparse_parsers() -> None:
    assert isinstance(default_argument_parser(), argparse.ArgumentParser)
    assert issubclass(OverrideParser, Parser)
    args, rest = default_argument_parser().parse_known_args(["--resume", "A", "1"])
    assert args.resume and args.opts == ["A", "1"] and rest == []
