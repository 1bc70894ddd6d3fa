"""Fits a line by least squares. It is called by the step "fit" of IsolationFlow.

Artifacts come as files from $STEPWELL_IN and go to $STEPWELL_OUT.
"""

import json
import os
import sys


def read(name):
    with open(os.path.join(os.environ["STEPWELL_IN"], name)) as f:
        return json.load(f)


def write(name, content):
    with open(os.path.join(os.environ["STEPWELL_OUT"], name), "w") as f:
        f.write(content)


def fit(points):
    n = len(points)
    if n < 2:
        raise ValueError(f"a line needs two points, there are {n}")
    mean_x = sum(p["x"] for p in points) / n
    mean_y = sum(p["y"] for p in points) / n
    slope = sum((p["x"] - mean_x) * (p["y"] - mean_y) for p in points) / sum((p["x"] - mean_x) ** 2 for p in points)
    return {"slope": slope, "intercept": mean_y - slope * mean_x}


points = read("points.json")
print(f"fitting {len(points)} points", file=sys.stderr)
model = fit(points)
write("model.json", json.dumps(model))
write("report", f"y = {model['slope']:.3f} x + {model['intercept']:.3f}\n")
