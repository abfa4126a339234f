"""The chi-square distribution, where scipy would be too heavy to load."""

import math


def chi_square_tail(value: float, freedom: int) -> float:
    """Chance that a chi-square of `freedom` degrees exceeds `value`.

    Source: M. Abramowitz, I. Stegun, "Handbook of mathematical functions" (1964), 26.4.4 and 26.4.5.
    """
    half = max(value, 0.0) / 2
    shape, found = (1.0, math.exp(-half)) if freedom % 2 == 0 else (0.5, math.erfc(math.sqrt(half)))
    while shape < freedom / 2:
        found += half**shape * math.exp(-half) / math.gamma(shape + 1)
        shape += 1
    return found


def chi_square_quantile(level: float, freedom: int) -> float:
    """The value that a chi-square exceeds with a chance of `level`."""
    low, high = 0.0, float(freedom)
    while chi_square_tail(high, freedom) > level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if chi_square_tail(middle, freedom) > level:
            low = middle
        else:
            high = middle
    return high
