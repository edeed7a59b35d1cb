"""The mean of several checkpoints of one run, as a shipped folder.

    python3 average.py --out DIR LAST:0.65 EARLIER:0.35

Shares are made to sum to one. Points of one training run whose learning rate had fallen average to a model that reads questions it has
not seen better than the last of them (../nano/README.md has the figures): what each has learnt by heart differs.
"""
import argparse

import evaluate
import export


def mean(states, shares):
    """{name: tensor} of state dicts of one shape."""
    total = sum(shares)
    return {name: sum(share / total * state[name] for state, share in zip(states, shares)) for name in states[0]}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", required=True)
    ap.add_argument("parts", nargs="+", metavar="MODEL:SHARE")
    args = ap.parse_args()
    parts = [p.rpartition(":") for p in args.parts]
    models = [evaluate.load_model(folder, "cpu") for folder, _, _ in parts]
    models[0].load_state_dict(mean([m.state_dict() for m in models], [float(share) for _, _, share in parts]))
    export.write(models[0], args.out)


if __name__ == "__main__":
    main()
