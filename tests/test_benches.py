"""Benchmarks start: a short form of each that has one, in this process."""

import sys

from tests.bench import bench_best


def test_the_bench_of_best_mappings_says_what_both_mappings_take(monkeypatch, capsys):
    """Two points of the smallest network."""
    monkeypatch.setattr(sys, "argv", ["bench_best", "small", "--number", "2"])
    bench_best.main()
    points, sweep = capsys.readouterr().out.splitlines()
    assert points.startswith("mlp_digits on edge_dual, 2 points: fixed ")
    assert " ms a point, best " in points
    assert sweep.startswith("  10,000 points of best on 2 cores: ")
