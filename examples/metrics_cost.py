"""What measuring costs, in CPU seconds of one thread: all metrics of drawn cases of 512 x 512, and the intervals and tests of 1,000.

OMP_NUM_THREADS=1 python examples/metrics_cost.py [--cases 60] [--classes 1]
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from samsemi.evaluations import Scores, compare_scores, summarize_scores
from samsemi.metrics import count_reliability, measure

SIDE = 512
ALL = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--classes", type=int, default=1, help="above background")
    options = parser.parse_args()
    names, spent, scores = ("background", *(f"class {k + 1}" for k in range(options.classes))), 0.0, {}
    for number, (probs, truth) in enumerate(draw_cases(options.cases, options.classes)):
        begin = time.process_time()
        label = probs.argmax(axis=0).astype(np.uint8)
        scores[str(number)] = measure(label, truth, names, None, 2.0, count_reliability(probs, truth))
        spent += time.process_time() - begin
    begin = time.process_time()
    repeated: Scores = {str(i): scores[str(i % options.cases)] for i in range(ALL)}
    groups = {name: name for name in repeated}
    summarize_scores(repeated, groups, names[1:], 0)
    summary = time.process_time() - begin
    compare_scores(repeated, {name: scores[str((int(name) + 1) % options.cases)] for name in repeated}, groups, 0)
    compared = time.process_time() - begin - summary
    total = spent / options.cases * ALL + summary + compared
    print(f"measuring {1000 * spent / options.cases:.0f} ms a case; of {ALL} cases: intervals {summary:.0f} s, tests {compared:.0f} s")
    print(f"{ALL} cases of {SIDE} x {SIDE}, {options.classes} classes: {total:.0f} s of CPU")


def draw_cases(count: int, classes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Probabilities (K, SIDE, SIDE) and a true label map, of blobs all over the image, on about a tenth of it."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        fields = ndimage.zoom(rng.normal(size=(2, classes, 12, 12)), (1, 1, SIDE / 12, SIDE / 12), order=1)
        logits = 4 * (fields[0] - 0.6 - 0.2 * classes)
        noisy = np.concatenate([np.zeros((1, SIDE, SIDE)), logits + fields[1]])
        probs = np.exp(noisy - noisy.max(axis=0))
        truth = np.where(logits.max(axis=0) > 0, logits.argmax(axis=0) + 1, 0)
        yield (probs / probs.sum(axis=0)).astype(np.float32), truth.astype(np.uint8)


if __name__ == "__main__":
    main()
