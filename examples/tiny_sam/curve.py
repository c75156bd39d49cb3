"""The loss curve of a training in pieces, and its score on held-out images, as a picture.

    python examples/tiny_sam/curve.py OUT.png HISTORY.csv...

Each piece starts from the weights in which the one before it ended.
"""

import csv
import sys
from pathlib import Path

from PIL import Image, ImageDraw

WIDTH, HEIGHT, MARGIN = 900, 320, 50  # px, of each of the two panels
COLORS = {
    "loss": (60, 60, 60),
    "val_box": (200, 60, 40),
    "val_jittered_box": (230, 150, 40),
    "val_box_point": (60, 140, 70),
    "val_point": (50, 90, 200),
}


def read_curves(files: list[Path]) -> dict[str, list[tuple[int, float]]]:
    """Column -> iteration, counted through all pieces, and value."""
    curves: dict[str, list[tuple[int, float]]] = {name: [] for name in COLORS}
    before = 0
    for file in files:
        rows = list(csv.DictReader(file.open()))
        for row in rows:
            for name, points in curves.items():
                if row.get(name):
                    points.append((before + int(row["iteration"]), float(row[name])))
        before += int(rows[-1]["iteration"])
    return curves


def draw_panel(curves: dict[str, list[tuple[int, float]]]) -> Image.Image:
    """Curves over the iterations, with their least and greatest value at the left, and their names."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    values = [value for points in curves.values() for _, value in points]
    low, high, last = min(values), max(values), max(x for points in curves.values() for x, _ in points)

    def place(point: tuple[int, float]) -> tuple[float, float]:
        x = MARGIN + point[0] / last * (WIDTH - 2 * MARGIN)
        return x, HEIGHT - MARGIN - (point[1] - low) / (high - low) * (HEIGHT - 2 * MARGIN)

    pen.rectangle((MARGIN, MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN), outline="lightgray")
    for value in (low, high):
        pen.text((5, place((0, value))[1] - 5), f"{value:.3f}", "black")
    for iteration in range(0, last + 1, 200):
        pen.text((place((iteration, low))[0] - 8, HEIGHT - MARGIN + 8), str(iteration), "black")
    for i, (name, points) in enumerate(curves.items()):
        pen.line([place(point) for point in points], COLORS[name], 2)
        pen.text((MARGIN + 130 * i, 20), name.replace("_", " "), COLORS[name])
    return image


def main() -> None:
    curves = read_curves([Path(name) for name in sys.argv[2:]])
    panels = [draw_panel({"loss": curves.pop("loss")}), draw_panel(curves)]
    picture = Image.new("RGB", (WIDTH, 2 * HEIGHT))
    for i, panel in enumerate(panels):
        picture.paste(panel, (0, i * HEIGHT))
    picture.save(sys.argv[1])


if __name__ == "__main__":
    main()
