from __future__ import annotations

from session_manager.domain.histogram import BOUNDS, Histogram


def test_each_bound_counts_shorter_durations():
    histogram = Histogram()
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, 1.0, BOUNDS[-1], BOUNDS[-1] + 1):
        histogram.observe(seconds)
    counted = dict(histogram.cumulative())
    assert [counted["0.0005"], counted["0.001"], counted["0.5"], counted["1.0"], counted["600.0"]] == [2, 3, 3, 4, 5]
    assert list(counted)[-1] == "+Inf"
    assert counted["+Inf"] == 6
    assert histogram.sum == 0.0 + BOUNDS[0] * 2.01 + 1.0 + BOUNDS[-1] * 2 + 1
