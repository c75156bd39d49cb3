"""Does it pay to review the cases that `mine --review` puts first? The same number of others, at random, is the control.

    python examples/evidence/review_gain.py errors DATASET STORE [--cases N]        # how wrong the proposals are, by rank
    python examples/evidence/review_gain.py prepare DATASET STORE OUT [--cases N]   # OUT/ranked, OUT/random-1, ...: to train on

DATASET has the hidden truth of its unlabeled cases, which stands for what a person would correct. Drawn at random are images in
which something was found, as among those that are ranked. `prepare` writes a review of each choice, puts the truth in the place of
its masks, and takes them back with `samsemi prepare --labels`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import samsemi
from samsemi.data.dataset import IGNORE, Dataset, read_case_label, read_dataset
from samsemi.data.masks import write_mask
from samsemi.mining.policy import Policy
from samsemi.mining.review import Doubt, propose_label, rank_doubts, write_review
from samsemi.mining.store import Store

DRAWS = 3
"""Random choices that are trained on."""
MANY = 1000
"""Random choices whose errors are averaged."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("errors", "prepare"))
    parser.add_argument("dataset", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--cases", type=int, default=20)
    arguments = parser.parse_args()
    dataset, store = read_dataset(arguments.dataset), Store(arguments.store)
    policy = Policy.from_json(store.provenance.policy, str(store.path))
    doubts = rank_doubts(store, policy)
    if arguments.what == "errors":
        wrong = np.array([share_wrong(doubt, store, dataset, policy) for doubt in doubts])
        print(describe_errors(wrong, arguments.cases))
        return
    for name, chosen in choose(doubts, arguments.cases).items():
        review = arguments.out / f"review-{name}"
        write_review(review, chosen, store, dataset, policy)
        for doubt in chosen:
            write_mask(review / "masks" / f"{doubt.name}.png", read_truth(dataset, doubt.name))
        samsemi.prepare(images=arguments.dataset, labels=review, by="hidden truth", confirm=True, out=arguments.out / name, quiet=True)
        print(arguments.out / name)


def choose(doubts: Sequence[Doubt], count: int) -> dict[str, list[Doubt]]:
    """The first ones, and others at random."""
    rng = np.random.default_rng(0)
    draws = {f"random-{k}": [doubts[i] for i in rng.choice(len(doubts), count, replace=False)] for k in range(1, DRAWS + 1)}
    return {"ranked": [*doubts[:count]], **draws}


def read_truth(dataset: Dataset, name: str) -> np.ndarray:
    case = dataset.cases[name]
    return read_case_label(case, case.truth, len(dataset.classes))


def share_wrong(doubt: Doubt, store: Store, dataset: Dataset, policy: Policy) -> float:
    """Pixels of the proposal that are wrong, as a share of the image."""
    truth, proposal = read_truth(dataset, doubt.name), propose_label(store.read(doubt.name), policy, len(dataset.classes))
    known = truth != IGNORE
    return float((truth != proposal)[known].sum() / max(known.sum(), 1))


def describe_errors(wrong: np.ndarray, count: int) -> str:
    """``wrong`` in the order of the ranking: its first part against as many at random."""
    rng = np.random.default_rng(0)
    drawn = [rng.choice(wrong, count, replace=False).mean() for _ in range(MANY)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return (
        f"{len(wrong)} images; wrong pixels of the proposals: the first {count} {wrong[:count].mean():.2%}, {count} at random "
        f"{np.mean(drawn):.2%} [{low:.2%}, {high:.2%}], the last {count} {wrong[-count:].mean():.2%}"
    )


if __name__ == "__main__":
    main()
