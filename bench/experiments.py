"""A/B tests of prompts as they are run, looked at after every outcome: false winners, and how soon a true one is named.

`python -m bench.experiments --json`: for shares of 10 % and 50 % and several base rates, 2,000 tests of a variant that
is no better (how many ever name a winner), and tests of one that is ten points better.
"""

import argparse
import json
import random
import time
from statistics import median, quantiles
from typing import Any

from domain.experiments import Arm, SafeTest

RATES = (0.5, 0.7, 0.95)
SHARES = (0.1, 0.5)
GAIN = 0.1


def named_after(control: float, variant: float, share: float, samples: int, chance: random.Random) -> int | None:
    """After how many outcomes a test first refutes "no difference"; None: not within `samples`."""
    test = SafeTest(share)
    for count in range(1, samples + 1):
        in_variant = chance.random() < share
        test.add(Arm.VARIANT if in_variant else Arm.CONTROL, chance.random() < (variant if in_variant else control))
        if test.refuted:
            return count
    return None


def measure(tests: int, samples: int, seed: int) -> dict[str, Any]:
    """Both measurements."""
    chance = random.Random(seed)
    started = time.monotonic()
    false_winners, needed = {}, {}
    for share in SHARES:
        for rate in RATES:
            found = [named_after(rate, rate, share, samples, chance) for _ in range(tests)]
            false_winners[f"share {share}, rate {rate}"] = sum(one is not None for one in found) / tests
        better = [named_after(0.7, 0.7 + GAIN, share, 40_000, chance) or 40_000 for _ in range(tests // 10)]
        needed[f"share {share}, 0.7 to 0.8"] = {"median": median(better), "nine_in_ten": quantiles(better, n=10)[8]}
    return {
        "null_tests": tests,
        "samples_each": samples,
        "false_winners": false_winners,
        "false_winners_worst": max(false_winners.values()),
        "samples_until_winner": needed,
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.experiments", description=__doc__)
    parser.add_argument("--tests", type=int, default=2_000, help="null tests for each setting (default 2000)")
    parser.add_argument("--samples", type=int, default=3_000, help="outcomes of each null test (default 3000)")
    parser.add_argument("--seed", type=int, default=1, help="of all chance (default 1)")
    parser.add_argument("--json", action="store_true", help="one JSON line (it is the only form)")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.tests, arguments.samples, arguments.seed)))


if __name__ == "__main__":
    main()
